"""Tasks and the on-device sampler that draws them from a feature bank."""
