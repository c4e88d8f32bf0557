"""Where images come from: the bundled emoji, folders of pictures, and their splits."""
