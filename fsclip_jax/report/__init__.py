"""Everything that is shown: rows in, pages out. Nothing here computes with JAX."""
