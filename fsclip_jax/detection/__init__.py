"""Open-vocabulary detection: regions classified by class embeddings, refined by a few boxes."""
