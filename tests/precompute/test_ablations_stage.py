"""The ablation figure's rows, from CoTs of a tiny pair to effects: what zeroing in the models gives, whatever kill came
between.
"""

import io
import json
import math
import shutil
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from backend.cot.reasoning import TARGETS, target_starts
from backend.crosscoder.ablations import drawn_targets
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.feature_interventions import FeatureIntervention
from backend.crosscoder.files import save
from backend.models.edits import encode
from backend.models.loading import load_model
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.plan import plan_study
from precompute.stages import ablations, codes, crosscoder, features, firing_ablations
from precompute.study import Study
from precompute.units import Context
from tests.conftest import make_tiny_model, tune
from tests.written_cots import Written

LAYER, N_FEATURES, SEED = 1, 40, 5
STAGES = (Written, crosscoder, codes, features, ablations, firing_ablations)


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory) -> tuple[str, str]:
    folder = make_tiny_model("llama", tmp_path_factory.mktemp("distilled"))
    loaded = load_model(str(folder))
    tune(loaded.model)
    loaded.model.save_pretrained(folder)
    return str(tiny_folder("llama")), str(folder)


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    """Half of its features have NRN 0.75."""
    draw = torch.Generator().manual_seed(4)
    decoder = 0.3 * torch.randn(N_FEATURES, 64, generator=draw)
    return Dictionary(
        kind="batchtopk",
        encoder=0.2 * torch.randn(2, 64, N_FEATURES, generator=draw),
        encoder_bias=torch.zeros(N_FEATURES),
        decoder=torch.stack([decoder, decoder * torch.where(torch.arange(N_FEATURES) % 2 == 0, 3.0, 0.5)[:, None]]),
        decoder_bias=torch.zeros(2, 64),
        scale=torch.tensor([0.8, 1.3]),
        threshold=torch.tensor(0.5),
        k=6,
        weighted=False,
        subtract=False,
        facts={"layer": LAYER},
    )


@pytest.fixture(scope="module")
def study(pair, dictionary, tmp_path_factory) -> Study:
    file = tmp_path_factory.mktemp("published")
    save(dictionary, file)
    return Study.model_validate(
        {
            "name": "pair",
            "seed": SEED,
            "models": [{"name": pair[0], "role": "base"}, {"name": pair[1], "role": "distilled"}],
            "problems": {"per_level": 1, "levels": [1]},
            "sweep": {"layers": [1]},
            "engine": {"workers": 1},
            "crosscoder": {"layer": LAYER, "dictionary": file, "ablation_targets": 5, "ablation_nrn": [0.5, 0.9]},
        }
    )


def run(study: Study, folder: StudyFolder, stages=STAGES) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=stages, console=Console(file=said, width=200))
    return said.getvalue()


@pytest.fixture(scope="module")
def judged(study, tmp_path_factory) -> StudyFolder:
    """All but the ablations."""
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "judged")
    run(study, folder, STAGES[:-2])
    return folder


@pytest.fixture(scope="module")
def finished(study, judged, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(shutil.copytree(judged.path, tmp_path_factory.mktemp("stores") / "pair"))
    run(study, folder)
    return folder


@pytest.fixture(scope="module")
def store(finished):
    with closing(Store(finished.path)) as store:
        yield store


@pytest.fixture(scope="module")
def rows(store) -> pd.DataFrame:
    return store.whole_table("feature_ablations").to_pandas()


def test_every_choice_has_a_row_for_each_model_control_and_measure(rows):
    assert len(rows) == 2 * 3 * 2 * 2 * 6 * 2 * 2  # nobody writes Alternatively
    assert set(rows["category"]) == {"self-reflection", "deductive", "contrastive"}
    assert set(rows["top_percent"]) == {0.5, 1, 2, 5, 10, 20} and set(rows["nrn_above"]) == {0.5, 0.9}
    nothing = rows[rows["n_features"] == 0]
    assert set(nothing["nrn_above"]) >= {0.9} and nothing[
        ["effect", "ci_low", "ci_high", "frequency", "removed"]
    ].isna().all(axis=None)
    assert rows[rows["n_features"] > 0]["effect"].notna().all() and (rows["n_targets"] <= 5).all()
    assert json.loads(rows["parameters"][0])["layer"] == LAYER and (rows["seed"] == SEED).all()


def test_features_are_those_above_the_threshold_that_fire_most_on_the_targets(rows, store, dictionary):
    name = dictionary.dictionary_id
    nrn = store.features(name)["nrn_l1"]
    for found in rows[(rows["control"] == "features") & (rows["n_features"] > 0)].itertuples():
        rates = store.category_frequencies(name, found.scheme)
        rates = (
            rates[rates["category"] == found.category]
            .set_index("feature")["frequency"]
            .reindex(range(N_FEATURES))
            .fillna(0)
        )
        chosen, bound = set(found.features), rates.nlargest(math.ceil(N_FEATURES * found.top_percent / 100)).min()
        able = rates[(nrn > found.nrn_above) & (rates > 0)]
        assert (
            set(able.index[able > bound]) <= chosen <= set(able.index[able >= bound])
            and len(chosen) == found.n_features
        )


def test_of_those_that_fire_each_k_takes_its_share_and_all_of_them_at_100(store, dictionary, pair):
    """Against a plain loop over the features that fire on the category's tokens."""
    rows, name = store.whole_table("firing_ablations").to_pandas(), dictionary.dictionary_id
    nrn = store.features(name)["nrn_l1"].to_numpy()
    assert set(rows["top_percent"]) == {0.5, 1, 2, 5, 10, 20, 50, 100}
    for found in rows[rows["control"] == "features"].itertuples():
        rates = store.category_frequencies(name, found.scheme)
        rates = rates[(rates["category"] == found.category) & (rates["n_fired"] > 0)]
        order = sorted(rates.itertuples(), key=lambda one: (-one.frequency, -one.mean_activation, one.feature))
        first = order[: math.ceil(len(order) * found.top_percent / 100)]
        assert list(found.features) == sorted(one.feature for one in first if nrn[one.feature] > found.nrn_above)
    sizes = rows[rows["nrn_above"] == 0.5].groupby("top_percent")["n_features"].max()
    assert sizes[100] > sizes[50] > sizes[10]  # k is felt, where k % of all features are all that fire
    both = store.feature_ablations(name)
    assert set(both["ranked"]) == {"firing", "all"} and (both.loc[both["ranked"] == "all", "n_ranked"] == 40).all()
    ranked = both[(both["ranked"] == "firing") & (both["scheme"] == "reasoning")].groupby("category")["n_ranked"].max()
    for category, n in ranked.items():
        rates = store.category_frequencies(name, "reasoning")
        assert n == ((rates["category"] == category) & (rates["n_fired"] > 0)).sum()
    tokenizer = load_model(pair[0]).tokenizer
    there = both.loc[(both["scheme"] == "reasoning") & (both["category"] == "self-reflection"), "n_there"]
    assert set(there) == {sum(len(_targets(tokenizer, cot)) for cot in store.tokenised_cots())}


def test_the_same_set_has_the_same_effect_whatever_it_was_ranked_among(rows, store):
    firing = store.whole_table("firing_ablations").to_pandas()
    keys = ["model_id", "category", "scheme", "nrn_above", "measure"]
    known = [
        one.loc[(one["control"] == "features") & (one["n_features"] > 0)].assign(set=lambda t: t["features"].map(tuple))
        for one in (rows, firing)
    ]
    both = known[0].merge(known[1], on=[*keys, "set"], suffixes=("", "_firing"))
    assert len(both) > 20 and both["effect"].to_list() == pytest.approx(both["effect_firing"].to_list(), abs=1e-9)


@pytest.mark.parametrize("place", [0, 1])
def test_the_effect_is_that_of_zeroing_in_the_model(rows, store, pair, dictionary, place):
    loaded = [load_model(name) for name in pair]
    part = rows[
        (rows["model_id"] == loaded[place].model_id)
        & (rows["category"] == "self-reflection")
        & (rows["control"] == "features")
    ]
    part = part[
        (part["top_percent"] == 20) & (part["scheme"] == "before_reasoning") & (part["nrn_above"] == 0.5)
    ].set_index("measure")
    targets = {cot["cot_id"]: _targets(loaded[0].tokenizer, cot) for cot in store.tokenised_cots()}
    changes, before = [], []
    for cot_id, own in drawn_targets(targets, 5, seed=SEED).items():
        tokens = next(cot["token_ids"] for cot in store.tokenised_cots() if cot["cot_id"] == cot_id)
        edit = FeatureIntervention(dictionary, place, LAYER, "zero", tuple(part["features"].iloc[0]))
        encoded, asked = encode(loaded[place], tokens), [target - 1 for target in own]
        after = encoded.logits([edit.everywhere(len(tokens), loaded[1 - place])], asked)[0].double()
        plain = encoded.base_logits(asked).double()
        for row, target in enumerate(own):
            before.append([float(of[row, tokens[target]]) for of in (plain, plain.log_softmax(1))])
            changes.append([float(of[row, tokens[target]]) for of in (after, after.log_softmax(1))])
    wanted = np.mean(np.array(changes) - before, axis=0)
    assert (
        part.loc[["logit", "log_probability"], "effect"].to_list() == pytest.approx(wanted.tolist(), abs=1e-4)
        and abs(wanted[0]) > 1e-3
    )
    assert part.loc[["logit", "log_probability"], "before"].to_list() == pytest.approx(
        np.mean(before, axis=0).tolist(), abs=1e-4
    )
    assert (
        (part["n_targets"] == 5).all()
        and (part["ci_low"] < part["effect"]).all()
        and (part["effect"] < part["ci_high"]).all()
    )


def _targets(tokenizer, cot) -> list[int]:
    """Tokens of the CoT that hold the first letter of Wait."""
    offsets = tokenizer(cot["prompt"] + cot["text"], add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    letters = [len(cot["prompt"]) + start for start in target_starts(cot["text"])["self-reflection"]]
    return [place for place, (start, end) in enumerate(offsets) if any(start <= letter < end for letter in letters)]


def test_the_control_is_other_features_and_both_models_meet_the_same(rows):
    wide = rows[(rows["n_features"] > 0) & (rows["measure"] == "logit")].pivot(
        index=["model_id", "category", "scheme", "nrn_above", "top_percent"],
        columns="control",
        values=["effect", "removed", "frequency"],
    )
    assert (wide["effect"]["features"] != wide["effect"]["random"]).all() and (wide["removed"] > 0).all(axis=None)
    by_model = wide["frequency"].unstack("model_id")
    assert len(by_model) and all((by_model[side].nunique(axis=1) == 1).all() for side in ("features", "random"))


def test_killed_it_goes_on_and_no_row_changes(finished, judged, study, rows, tmp_path, monkeypatch):
    folder = StudyFolder(shutil.copytree(judged.path, tmp_path / "pair"))
    measured, measure = [], ablations.measure

    def until(*given):
        for found in measure(*given):
            measured.append(0)
            if len(measured) == 7:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ablations, "measure", until)
        run(study, folder)
    before = len(folder.ledger().keys("ablations"))
    run(study, folder)
    assert 0 < before < len(folder.ledger().keys("ablations")) == 2 * len(TARGETS)
    with closing(Store(folder.path)) as store:
        pd.testing.assert_frame_equal(store.whole_table("feature_ablations").to_pandas(), rows)
    assert "8 model and category units, all done" in run(study, folder)


def test_no_threshold_and_one_model_have_no_ablations(study, judged, tmp_path):
    with closing(Store(judged.path)) as store:
        without = study.model_copy(
            update={"crosscoder": (study.crosscoder[0].model_copy(update={"ablation_nrn": ()}),)}
        )
        assert (
            ablations.units(Context(without, "r", store, print))
            == []
            != ablations.units(Context(study, "r", store, print))
        )


def test_a_plan_counts_what_is_zeroed(study, judged, finished):
    for folder, done in ((judged, 0), (finished, 8)):
        (line,) = [line for line in plan_study(study, folder)[0] if line.stage == "ablations"]
        assert (line.units, line.done) == (8, done) and line.minutes > 0 and line.tokens > 0
