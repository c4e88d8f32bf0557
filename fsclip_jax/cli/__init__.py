"""The commands. Heavy imports are inside functions, so that help answers at once."""
