"""Few-shot methods, one small file each."""
