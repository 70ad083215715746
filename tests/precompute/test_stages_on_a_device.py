"""Every stage that has a model runs where nothing moves to or from the device unasked."""

import io
from contextlib import closing

import pytest
import torch
from rich.console import Console

from backend.models import embedded
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import STAGES
from precompute.study import Study
from tests.checking_device import DEVICE, checking

ON_THE_CPU = ("categories", "resilience", "maps", "neighbourhoods", "evidence")  # they read rows alone

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(not embedded.is_ready(), reason="the sentence encoder is not in the cache; `make model`"),
]


def study_of(model: str) -> Study:
    made = Study.model_validate(
        {
            "name": "away",
            "seed": 3,
            "models": [{"name": model}],
            "prompts": [{"name": "plain"}],
            "problems": {"per_level": 1, "levels": [1]},
            "sampling": {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16, "forced_max_tokens": 4},
            "rollouts": {"n": 2, "forced": 1, "cots": 1, "min_chunks": 1, "max_chunks": 2},
            "activations": {"layers": [2]},
            "map": {"n_neighbors": 4, "layers": [2]},
            "sweep": {
                "layers": [2],
                "kinds": ["per_chunk", "random"],
                "random": 1,
                "points": 5,
                "positions": ["anchor"],
            },
            "geometry": {"probes": 2, "spectra": 0, "eigen": 1, "before_after": 1, "positions": ["anchor"]},
            "crosscoder": {"layer": 2, "generated": 2, "n_features": 16, "steps": 3, "batch": 16, "k": 4, "warmup": 1},
            "engine": {"workers": 1, "rows": 16},
        }
    )
    return made.model_copy(update={"engine": made.engine.model_copy(update={"device": DEVICE})})


def test_every_stage_with_a_model_asks_for_each_of_its_transfers(tiny_folder, tmp_path):
    folder = StudyFolder(tmp_path / "away")
    stages = [stage for stage in STAGES if stage.NAME not in ON_THE_CPU]
    with checking() as waits:
        run_study(study_of(str(tiny_folder("llama"))), folder, stages=stages, console=Console(file=io.StringIO()))
    assert waits["cpu"] > 0
    with closing(Store(folder.path)) as store:
        for table in ("rollouts", "activations", "kl_curves", "fisher", "local_geometry", "before_after", "cot_codes"):
            assert not store.frame(f"SELECT 1 FROM {table} LIMIT 1").empty, table
        assert all(torch.isfinite(torch.tensor(kl)).all() for kl in store.frame("SELECT kl FROM kl_curves")["kl"])
