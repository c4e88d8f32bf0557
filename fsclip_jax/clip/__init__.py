"""The CLIP towers in Flax, their tokenizer, preprocessing and weights."""
