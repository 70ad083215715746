"""Tiny latent models of every sibling with random weights, in memory and in a folder."""

from pathlib import Path

from backend.latent import files
from backend.latent.fresh import Shape, fresh
from backend.latent.loop import LatentModel
from backend.latent.tasks import PERMUTATIONS

TINY = Shape(d_model=16, n_heads=2, d_mlp=32, d_projection=24, n_latents=6, init_std=0.5)


def tiny_latent(sibling: str = "latent", *, seed: int = 0) -> LatentModel:
    """Width 16, two layers, reads the questions of the permutation task."""
    return fresh(PERMUTATIONS.vocabulary, sibling=sibling, seed=seed, shape=TINY)


def tiny_latent_folder(folder: Path, sibling: str = "latent", *, seed: int = 0) -> Path:
    """The same in our own layout, for `load_latent(str(folder))`."""
    files.save(tiny_latent(sibling, seed=seed), folder)
    return folder
