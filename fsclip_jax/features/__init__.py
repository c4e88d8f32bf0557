"""The feature bank: every image encoded once, on disk and on device."""
