"""From a trained adapter, or a fitted classifier, to files that work without this package."""
