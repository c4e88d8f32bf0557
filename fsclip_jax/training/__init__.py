"""Meta-training over episodes, and contrastive pretraining of the small CLIP."""
