"""Crosscoders: one dictionary of two models' activations, its files, and what tells the models apart."""
