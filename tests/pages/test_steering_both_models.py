"""Both models of a crosscoder are steered along β by one feature: two runs that are kept and found by their link."""

import json

import numpy as np
import pytest

from app.shared import live
from backend.store.experiments import Experiments
from tests import intervened_study
from tests.pages.conftest import settled, words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
SELECTED = {
    "study": "small",
    "own_text": "yes",
    "own_question": "What is 12 + 30?",
    "own_chain": "First we add. So it is 42.",
    "own_answer": "42",
    "direction": "feature",
    "feature": "3",
    "run_tokens": "8",
    "both_samples": "2",
    "both_random": "2",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return intervened_study.make(folder / "small", intervened_study.make_pair(folder))


@pytest.mark.parametrize("rows", ["same", "own"])
def test_the_two_runs_have_the_same_vector_or_each_its_own_and_the_link_shows_their_figure(opened, study, rows):
    test = opened("steering", study, **SELECTED, both_rows=rows)
    test = settled(test, lambda t: any(b.key == "both_button" for b in t.button))
    test.button(key="both_button").click().run()
    chosen = test.session_state["selection"]
    runs = [chosen["run"], chosen["second_run"]]
    settled(test, lambda t: all(Experiments(study).get(run) is not None for run in runs))
    base, distilled = (Experiments(study).get(run) for run in runs)
    assert (base["model_id"], distilled["model_id"]) != (base["model_id"],) * 2
    decoder = intervened_study.weights(64).decoder[:, 3].double().numpy()
    expected = [decoder[1], decoder[1]] if rows == "same" else [decoder[0], decoder[1]]
    for kept, row in zip((base, distilled), expected, strict=True):
        assert kept["vector"] @ row / np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    norms = [json.loads(kept["direction"])["norm"] for kept in (base, distilled)]
    assert (norms[0] == norms[1]) == (rows == "same")
    samples = Experiments(study).samples(runs[0])
    assert samples.groupby(["arm", "beta"]).size().to_dict() == {
        **{("changed", beta): 2 for beta in samples.loc[samples["arm"] == "changed", "beta"].unique()},
        **{("random", beta): 4 for beta in samples.loc[samples["arm"] == "random", "beta"].unique()},
    }
    assert 0.0 not in set(samples.loc[samples["arm"] == "random", "beta"])
    by_number = samples.set_index(["arm", "sample"])["seed"].groupby(level=[0, 1]).first()
    assert by_number["random", 2] == by_number["changed", 0] == by_number["random", 0]  # of the second random row
    link = dict(test.session_state["selection"])
    live.service().close()
    live.service.clear()  # nothing is remembered but what the store has
    again = settled(opened("steering", study, **link), lambda t: "Baek & Tegmark (2025) report" in words(t))
    assert "at +4 × its mean code the base thinks" in words(again) and not again.exception


def test_where_the_direction_is_no_feature_nothing_is_offered(opened, study):
    test = opened("steering", study, **{**SELECTED, "direction": "random"})
    test = settled(test, lambda t: any(b.key == "run_button" for b in t.button))
    assert not any(b.key == "both_button" for b in test.button) and not test.exception
