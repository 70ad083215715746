"""A study of tiny latent models, small enough for a test."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.latent import reading_rows
from backend.latent.kinds import SIBLINGS
from precompute.study import Study
from tests.latent_models import tiny_latent_folder


def latent_study(folder: Path, siblings: tuple[str, ...] = tuple(SIBLINGS), **settings: Any) -> Study:
    """Models of random weights under `folder`, asked a few problems of two steps; `settings` of its [latent]."""
    names = [str(tiny_latent_folder(folder / sibling, sibling)) for sibling in siblings]
    latent = {
        "models": [{"name": name} for name in names],
        "task": "permutations",
        "steps": [2],
        "problems": 12,
        "means_from": 10,
        "latents": 3,
        "max_tokens": 2,
        "random": 2,
        "spaces": ["kv"],
        "coefficients": [1.0],
        "published": [],
        "fitted": [],
    }
    return Study.model_validate({"name": "l", "latent": latent | settings, "engine": {"workers": 1}})


@contextmanager
def briefly_fitted() -> Iterator[None]:
    """Tuned lenses are fitted for a few steps: enough where it is not asked how good they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_rows, "fit", functools.partial(reading_rows.fit, tokens=1_000))
        yield
