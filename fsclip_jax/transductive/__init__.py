"""Answers of a method refined by what the other queries look like; results depend on these."""
