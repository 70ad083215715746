"""Latent reasoning: models that think in continuous thoughts, one hidden state fed back at a time."""
