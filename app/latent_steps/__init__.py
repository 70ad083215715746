"""Latent steps: models that think in latents, run, read and steered."""
