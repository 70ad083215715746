"""The store says of every pair what the pages say of it."""

import shutil
from contextlib import closing

import pandas as pd
import pytest

from backend.evidence.multiple import judged
from backend.schema.tables import TABLES
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import claims
from precompute.study import Study
from tests import small_study

KEY = list(TABLES["claims"].key)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_study.make(tmp_path_factory.mktemp("claims") / "small")


@pytest.fixture
def study(tiny_folder) -> Study:
    return Study.model_validate(
        {
            "name": "small",
            "models": [{"name": str(tiny_folder("llama"))}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [0]},
        }
    )


def test_what_is_stored_is_what_the_pages_say_of_every_pair(study, made, tmp_path):
    folder = StudyFolder(shutil.copytree(made, tmp_path / "small"))
    run_study(study, folder, stages=[claims])
    with closing(Store(folder.path)) as store:
        stored = store.frame("SELECT * FROM claims").sort_values(KEY, ignore_index=True)
        said = judged(store.associations())[list(TABLES["claims"].columns)].sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(stored, said, check_dtype=False)
    assert len(stored) > 5
    first = folder.ledger().keys(claims.NAME)
    run_study(study, folder, stages=[claims])
    assert folder.ledger().keys(claims.NAME) == first and len(first) == 1
