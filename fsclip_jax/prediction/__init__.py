"""From a handful of labelled pictures to predictions for other pictures."""
