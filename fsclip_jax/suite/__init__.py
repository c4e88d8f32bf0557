"""Many comparisons from one configuration, and one table of them."""
