"""The stage that reads latents: what it stores is what the library finds, for each sibling."""

from contextlib import closing

import numpy as np
import pytest

from backend.latent.lenses import SUBSETS
from backend.latent.loading import load_latent
from backend.latent.question_parts import SPLITS
from backend.latent.reading_rows import subsets_of
from backend.latent.recording import record_all
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.latent_models import drawn
from precompute.pipeline import run_study
from precompute.stages import latent_readings, latents
from tests.latent_study import latent_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return latent_study(tmp_path_factory.mktemp("models"), latents=4, named=["hops"])


@pytest.fixture(scope="module")
def store(study, tmp_path_factory):
    folder = StudyFolder(tmp_path_factory.mktemp("store") / "l")
    run_study(study, folder, stages=[latents, latent_readings])
    with closing(Store(folder.path)) as opened:
        yield opened


def test_every_problem_is_read_by_every_lens_of_each_model(store):
    counts = store.frame(
        "SELECT m.sibling, r.lens, r.layer, count(*) AS n, max(len(token_ids)) AS steps FROM latent_readings r JOIN"
        " latent_models m USING (model_id) GROUP BY ALL"
    )
    steps = counts.set_index(["sibling", "lens", "layer"])["steps"].to_dict()
    recurrent = {("logit", 0): 5, ("logit", 1): 5, ("tuned", 0): 5, ("tuned_alone", 0): 5, ("difference", 0): 4}
    recurrent |= {("difference", 1): 4, ("embedding", -1): 4, ("embedding", 2): 5}
    expected = {(sibling, *key): n for sibling in ("latent", "pause") for key, n in recurrent.items()}
    alone = {("logit", 0), ("logit", 1), ("tuned", 0), ("tuned_alone", 0), ("embedding", 2)}
    assert steps == expected | {("none", *key): 1 for key in alone}
    assert set(counts["n"]) == {12}


def test_a_stored_reading_is_that_of_the_model(study, store):
    model = load_latent(study.its_latent.models[0].name)
    problem = drawn(study.its_latent, study.seed).scored[3]
    row = store.latent_readings("logit")
    row = row[(row["model_id"] == model.model_id) & (row["problem_id"] == problem.problem_id) & (row["layer"] == 1)]
    log_p = model.model.lm_head(record_all(model, [problem], 4).h)[0].double().log_softmax(-1)
    stored = row.iloc[0]
    assert stored["token_ids"].tolist() == log_p.argmax(-1).tolist()
    roles = stored["roles"].tolist()
    assert roles == ["answer", "other", "operand", "intermediate 1", "word hops"]
    for role, word in (("answer", problem.answer), ("intermediate 1", problem.intermediates[0]), ("word hops", "hops")):
        own = np.asarray(stored["log_probs"]).reshape(len(roles), 5)[roles.index(role)]
        np.testing.assert_allclose(own, log_p[:, model.tokenizer.convert_tokens_to_ids(word)], rtol=0, atol=1e-3)


def test_the_stored_difference_of_even_and_odd_steps_is_that_of_the_stored_readings(store):
    parity = store.latent_parity("all").set_index(["model_id", "lens", "layer", "role", "measure"])
    for model_id, of_model in store.latent_readings("logit").groupby("model_id"):
        entropy = np.stack(of_model.loc[of_model["layer"] == 0, "entropies"])
        if entropy.shape[1] == 1:
            assert model_id not in parity.index.get_level_values(0)
            continue
        even, odd = entropy[:, [2, 4]].mean(), entropy[:, [1, 3]].mean()
        row = parity.loc[(model_id, "logit", 0, "cell", "entropy")]
        assert (row["even"], row["odd"]) == (pytest.approx(even, abs=1e-5), pytest.approx(odd, abs=1e-5))
        assert row["n_divisions"] == 6 and row["n_problems"] == 12


def test_what_a_pause_sibling_is_fed_says_nothing_of_the_problem(store):
    models = store.latent_models().set_index("model_id")["sibling"]
    found = store.latent_components()
    between = found.assign(sibling=found["model_id"].map(models)).query("space == 'z'").groupby("sibling")
    assert between["between_steps"].min()["pause"] == pytest.approx(1)
    assert between["between_steps"].max()["latent"] < 1
    places = store.latent_projections("h", 2)
    assert places.groupby("model_id").size().tolist() == [12, 12, 12]


@pytest.mark.parametrize("split", SPLITS)
def test_attention_on_all_parts_is_all_of_it_for_heads_and_for_their_mean(store, split):
    found = store.latent_attention("all", split)
    sums = found.groupby(["model_id", "layer", "head", "step"])["share"].sum()
    assert np.allclose(sums, 1, atol=1e-5) and sums.index.get_level_values("head").min() == -1
    mean = found[found["head"] == -1].set_index(["model_id", "layer", "step", "part"])["share"]
    heads = found[found["head"] >= 0].groupby(["model_id", "layer", "step", "part"])["share"].mean()
    assert np.allclose(mean.sort_index(), heads.sort_index(), atol=1e-6)


def test_every_token_that_is_named_has_its_text(store):
    named = store.frame(
        "SELECT DISTINCT model_id, unnest(token_ids) AS token_id FROM latent_readings UNION SELECT model_id,"
        " unnest(opposite_ids) FROM latent_difference_readings"
    )
    assert len(named.merge(store.latent_tokens(), how="left").dropna()) == len(named)


def test_lenses_are_measured_at_every_step_on_scored_problems_alone(store):
    found = store.latent_lens_quality()
    assert set(found["n_problems"]) == {12} and (found["n_fitted"] + found["n_validation"] == 10).all()
    assert {len(own) for _, own in found.groupby("model_id")} == {6 * 5, 2 * 1}


def test_near_misses_are_counted_at_every_step(store):
    found = store.latent_near_misses()
    assert set(found["kind"]) == {"twice", "operand", "close", "any"}
    assert set(found.query("lens == 'difference'")["step"]) == {1, 2, 3, 4}


def test_subsets_are_by_answers_with_no_latents_and_with_all():
    found = subsets_of([True, False, None, True], [True, True, True, False])
    assert set(found) == set(SUBSETS)
    assert found["needs_latents"].tolist() == [False, True, True, False]
    assert found["without_latents"].tolist() == [True, False, False, True]
