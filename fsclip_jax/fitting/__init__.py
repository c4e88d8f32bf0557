"""A method and a support in, a classifier out: what chooses, fits and asks a method."""
