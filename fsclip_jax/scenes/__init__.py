"""Scenes with known boxes and masks, made of the bundled art, and proposals for any picture."""
