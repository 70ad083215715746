"""What nulls fire on, are called and do when zeroed: measured by the dictionary's own rules, so that a twin that is the
dictionary has its rows and its effects, to the number.
"""

import io
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from app.categories.ablations import against_twin, beside_twin
from backend.crosscoder import trials
from backend.crosscoder.null_kinds import TWIN
from backend.crosscoder.stored import read_from, twin_of
from backend.statistics.intervals import Interval, beyond, prediction
from backend.store.dictionaries import folder_of, null_folder
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import (
    ablations,
    codes,
    crosscoder,
    features,
    firing_ablations,
    null_evidence,
    null_pairs,
    twin_ablations,
)
from precompute.study import Study
from tests.dictionary_study import LAYER, pair_of
from tests.written_cots import Written

BEFORE = (Written, crosscoder, codes, features)
AFTER = (null_pairs, null_evidence, ablations, firing_ablations, twin_ablations)


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory) -> Study:
    base, distilled = pair_of(tiny_folder, tmp_path_factory)
    learned = {"n_features": 64, "batch": 64, "steps": 40, "warmup": 5, "learning_rate": 4e-3, "k": 4, "aux_k": 8}
    nulls = {"nulls": ["same", TWIN], "ablation_targets": 8, "ablation_nrn": [0.5]}
    return Study.model_validate(
        {
            "name": "pair",
            "seed": 3,
            "models": [{"name": base, "role": "base"}, {"name": distilled, "role": "distilled"}],
            "problems": {"per_level": 1, "levels": [1]},
            "sampling": {"samples": 1, "max_new_tokens": 16, "forced_max_tokens": 4},
            "sweep": {"layers": [1]},
            "engine": {"workers": 1, "rows": 8},
            "crosscoder": {"layer": LAYER, "generated": 4, **learned, **nulls},
        }
    )


def run(study: Study, folder: StudyFolder, stages=(*BEFORE, *AFTER)) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=stages, console=Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(scope="module")
def before(study, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "before")
    run(study, folder, BEFORE)
    return folder


@pytest.fixture(scope="module")
def finished(study, before, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(shutil.copytree(before.path, tmp_path_factory.mktemp("stores") / "finished"))
    run(study, folder)
    return folder


@pytest.fixture(scope="module")
def itself(study, before, tmp_path_factory) -> StudyFolder:
    """A study whose nulls are the dictionary itself, and whose matched features are the chosen ones."""
    folder = StudyFolder(shutil.copytree(before.path, tmp_path_factory.mktemp("stores") / "itself"))

    def trained(null):
        if not null.weights.is_dir():
            shutil.copytree(folder_of(folder.path) / null.row["dictionary_id"], null.weights)
        dictionary = read_from(null.plan.context.store, null.row["dictionary_id"])
        return replace(dictionary, facts={"n_tokens": 1, **dictionary.facts})

    matched = trials.matched_features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(null_pairs, "trained", trained)
        patch.setattr(
            trials,
            "matched_features",
            lambda frequency, chosen, n, *, twin=None, **how: (
                matched(frequency, chosen, n, **how) if twin is None else [chosen] * n
            ),
        )
        run(study, folder)
    return folder


@pytest.fixture(scope="module")
def own(itself):
    with closing(Store(itself.path)) as store:
        yield store


def test_a_twin_that_is_the_dictionary_fires_on_the_same_words(own):
    name = own.dictionary_ids()[0]
    wanted = own.whole_table("feature_categories").to_pandas()
    wanted = wanted[(wanted["scheme"] != "function") & (wanted["n_fired"] > 0)]
    found = own.whole_table("null_categories").to_pandas()
    twin = own.null_dictionaries(name).set_index("null").loc[TWIN, "null_id"]
    columns = ["feature", "scheme", "category", "n_tokens", "n_fired"]
    assert len(wanted) > 20
    pd.testing.assert_frame_equal(
        found.loc[found["null_id"] == twin, columns].sort_values(columns[:3], ignore_index=True),
        wanted[columns].sort_values(columns[:3], ignore_index=True),
        check_dtype=False,
    )
    same = own.null_reasoning(name)
    known = own.reasoning_categories(name).set_index("feature")
    same = same[same["null"] == TWIN].set_index("feature")
    live = own.features(name).set_index("feature")["frequency"] > 0
    assert set(same.index) == set(live.index[live])
    for scheme in ("reasoning", "before_reasoning"):
        pd.testing.assert_series_equal(same[scheme].dropna(), known[scheme].dropna())
        assert np.allclose(same[f"{scheme}_lift"].dropna(), known[f"{scheme}_lift"].dropna())


def test_and_would_be_called_the_same(own):
    name = own.dictionary_ids()[0]
    wanted = own.peak_tokens(name, own.dictionaries()["distilled_model_id"][0])
    found = own.null_peaks(name)[wanted.columns]
    assert len(found) > 5
    for column in found:
        assert [np.asarray(one).tolist() for one in found[column]] == [
            np.asarray(one).tolist() for one in wanted[column]
        ]


def test_zeroing_it_does_the_same_and_no_effect_is_in_excess_or_beyond(own):
    name = own.dictionary_ids()[0]
    rows, twin = own.feature_ablations(name), own.twin_ablations(name)
    found = beside_twin(rows, twin)
    found = found[(found["control"] == "features") & (found["n_features"] > 0)]
    assert len(found) == len(twin) > 50 and set(found["ranked"]) == {"all", "firing"}
    assert np.allclose(found["effect"], found["twin"], atol=1e-9) and np.allclose(
        found["removed"], found["removed_twin"]
    )
    assert (found["effect"].abs() > 1e-6).any()
    assert not any(beyond(row.effect, Interval(row.band_low, row.band_high)) for row in found.itertuples())
    assert "0 of" in (said := against_twin(found)) and " 1 of" not in said
    assert set(twin["null_id"]) == set(own.null_dictionaries(name).query("null == @TWIN")["null_id"])


def test_a_real_twin_has_matched_sets_of_its_own_and_they_give_the_band(finished):
    with closing(Store(finished.path)) as store:
        name = store.dictionary_ids()[0]
        rows, twin = store.feature_ablations(name), store.twin_ablations(name)
        peaks, live = store.null_peaks(name), store.null_features(name)
    live = live[(live["null"] == TWIN) & (live["frequency"] > 0)]
    assert sorted(peaks["feature"]) == sorted(live["feature"]) and (peaks["n_examples"] <= 20).all()
    place = ["role", "ranked", "category", "scheme", "nrn_above", "top_percent", "measure"]
    both = twin.merge(rows[rows["control"] == "features"], on=place, suffixes=("_twin", ""))
    assert len(both) == len(twin) > 0 and (both["n_features_twin"] == both["n_features"]).all()
    assert (both["n_targets_twin"] == both["n_targets"]).all() and (both["removed_twin"] > 0).any()
    assert twin["frequency"].between(live["frequency"].min(), live["frequency"].max()).all()
    for row in twin.itertuples():
        assert len(row.set_effects) == row.n_cots <= 8  # each CoT takes another set
        assert min(row.set_effects) - 1e-9 <= row.effect <= max(row.set_effects) + 1e-9
        low, high = prediction(row.set_effects)
        assert np.isnan(low) == (row.n_cots < 2) and (np.isnan(low) or low <= row.effect <= high)


def test_a_finished_study_is_done_and_without_scratch_there_is_no_twin_to_intervene_with(finished, study, tmp_path):
    folder = StudyFolder(shutil.copytree(finished.path, tmp_path / "again"))
    with closing(Store(folder.path)) as store:
        name = store.dictionary_ids()[0]
        twin = twin_of(store, name)
        assert null_folder(folder.path, twin.null_id).is_dir() and len(twin.frequency) == 64
        shutil.rmtree(folder.path / "scratch")
        assert twin_of(store, name) is None
    assert run(study, folder).count("all done") == len(BEFORE) + len(AFTER)


def test_without_a_frozen_decoder_nothing_is_zeroed_for_it(finished, study):
    from precompute.units import Context

    without = study.crosscoder[0].model_copy(update={"nulls": ("same",)})
    with closing(Store(finished.path)) as store:
        context = Context(study.model_copy(update={"crosscoder": (without,)}), "r", store, print)
        assert twin_ablations.units(context) == [] and len(null_evidence.units(context)) == 1
