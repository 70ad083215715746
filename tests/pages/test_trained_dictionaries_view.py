"""Small autoencoders and their nulls on the page Geometry: what is found, and what chance does."""

import json

import duckdb
import numpy as np
import pytest

from app.geometry import trained
from backend.feature_geometry.middle_layers import is_middle
from backend.store.store import generation_of
from tests import small_study
from tests.pages.conftest import words

PAGE, N_LAYERS, LAYERS = "geometry", 30, range(0, 30, 3)


def fill(study, *, step, null_step, seeds=3, clouds=("gaussian", "random_weights")):
    """Trainings whose tails are `step` heavier in the middle, as a logarithm, and those of clouds `null_step`."""
    rng = np.random.default_rng(0)
    with duckdb.connect(str(generation_of(study))) as connection:
        (model,) = connection.execute("SELECT model_id FROM models").fetchone()
        connection.execute("UPDATE models SET n_layers = 30")
        for name, n, own in (("model", seeds, step), *((cloud, 1, null_step) for cloud in clouds)):
            for layer in LAYERS:
                for seed in range(n):
                    size = 1.0 + own * is_middle(layer, N_LAYERS) + 0.02 * rng.normal()
                    sae_id = f"{name}.{layer}.{seed}"
                    connection.execute(
                        "INSERT INTO saes BY NAME SELECT ? sae_id, ? model_id, ? layer, ? seed, ? trained_on, 2048"
                        " n_features, 32 k, 500000 tokens, 250000 distinct_tokens, 16384 held_out_tokens, 0.7"
                        " variance_explained, 31.9 l0, 0.02 dead, ? parameters",
                        [sae_id, model, layer, seed, name, json.dumps({})],
                    )
                    for rows in trained.ROWS:
                        connection.execute(
                            "INSERT INTO sae_tails VALUES (?, ?, 1e-3, 0.137, 2000, 1999000, ?)",
                            [sae_id, rows, 1e-3 * float(np.exp(size))],
                        )
    return study


@pytest.fixture
def study(tmp_path):
    return small_study.make(tmp_path / "small")


@pytest.mark.parametrize(
    ("step", "null_step", "conclusion"),
    [
        (
            0.5,
            0.0,
            "cluster more than those before and those after them, and training on clouds without features does not"
            " do that.",
        ),
        (0.5, 0.5, "lie nearer together, but not more so than training on a cloud without features may make them."),
        (0.0, 0.0, "So the middle layers of this model do not cluster more than the others."),
    ],
)
def test_what_the_middle_layers_do_is_said_beside_what_training_on_clouds_does(
    opened, study, step, null_step, conclusion
):
    test = opened(PAGE, fill(study, step=step, null_step=null_step), study="small", geometry_part="trained")
    assert not test.exception, test.exception
    said = words(test)
    assert conclusion in said
    assert "in the 3 layers of the middle third ×" in said and "in the 7 others (3 seeds a layer)" in said
    assert "Trained on Gaussian clouds, pairs lie beyond" in said and "training alone clusters decoder rows" in said
    assert "Trained on activations of random weights, pairs lie beyond" in said
    assert "(250,000 different ones, each read 2.0 times)" in said
    if not step:
        assert "would have been in 80 % of cases" in said


def test_clouds_whose_rows_lie_nearer_together_are_named(opened, study):
    filled = fill(study, step=0.5, null_step=0.0)
    with duckdb.connect(str(generation_of(filled))) as connection:
        connection.execute("UPDATE sae_tails SET share = 20 * share WHERE sae_id LIKE 'gaussian%'")
    said = words(opened(PAGE, filled, study="small", geometry_part="trained"))
    assert "but rows trained on Gaussian clouds lie nearer together than the model's own do." in said
    assert "and the model's own do ×0.0" in said


def test_with_one_seed_nothing_is_concluded(opened, study):
    test = opened(PAGE, fill(study, step=0.5, null_step=0.0, seeds=1), study="small", geometry_part="trained")
    assert "Whether the middle layers cluster is not said without seeds and trained nulls." in words(test)


def test_without_nulls_nothing_is_concluded_and_a_rarer_threshold_without_pairs_says_so(opened, study):
    filled = fill(study, step=0.5, null_step=0.0, clouds=())
    test = opened(PAGE, filled, study="small", geometry_part="trained")
    assert "is not said without seeds and trained nulls" in words(test)
    test = opened(PAGE, filled, study="small", geometry_part="trained", sae_exceedance="1e-6", sae_rows="all")
    assert not test.exception and "None of its dictionaries has a pair of these rows beyond" in words(test)


def test_a_study_without_them_says_which_command_makes_them(opened, study):
    test = opened(PAGE, study, study="small", geometry_part="trained")
    assert not test.exception
    assert "No small autoencoder was trained" in words(test) and "--stage saes" in words(test)
