"""Protocols, selection, metrics and the report."""
