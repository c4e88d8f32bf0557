"""A class for every pixel, from a frozen CLIP and a few labelled objects."""
