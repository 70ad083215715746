"""β where none is chosen moves the predictions, and is the same step whatever it is counted in."""

import math

import numpy as np
import pytest

from app.steering.controls import USUAL_CODES, USUAL_RMS, Codes, _reach, usual_beta
from backend.geometry.sweep import Predictions, noise_floor, predicting_positions
from backend.models.edits import encode
from backend.models.interventions import UNITS, Intervention
from tests import intervened_study

TOKENS, SPAN, LAYER = tuple(range(5, 29)), (12, 18), 1


@pytest.fixture(scope="module")
def read(tiny):
    loaded = tiny("llama")
    return loaded, encode(loaded, TOKENS)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("place", ["anchor", "chunk", "onward"])
@pytest.mark.parametrize("kind", ["feature", "another"])
def test_the_usual_beta_moves_the_predictions_well_beyond_the_noise_floor(read, unit, place, kind):
    loaded, encoded = read
    row = (intervened_study.weights(loaded.d_model).decoder[0, 3] / 0.8).double().numpy()
    norm = float(np.linalg.norm(row))
    rms = float(encoded.residual(LAYER)[SPAN[0] - 1].double().square().mean().sqrt())
    codes = Codes(norm, mean=1.5, largest=4.0) if kind == "feature" else None
    beta = usual_beta(unit, loaded.d_model, rms, codes)
    change = Intervention((LAYER,), place, "add", (row / norm).astype(np.float32), beta, unit)
    predicting = predicting_positions(SPAN)
    kl = float(Predictions(encoded, predicting).kl([change.edits(SPAN, n_prompt=4)]).mean())
    assert kl > 100 * noise_floor(loaded, TOKENS, {"c": SPAN}, encoded=encoded)["c"] and kl > 0


@pytest.mark.parametrize("codes", [None, Codes(2.0, mean=1.5, largest=4.0), Codes(2.0, math.nan, math.nan)])
def test_it_is_one_step_in_every_unit(codes):
    d_model, rms = 64, 7.0
    of_rms, of_norm, absolute = (usual_beta(unit, d_model, rms, codes) for unit in ("rms", "norm", "absolute"))
    assert absolute == pytest.approx(of_rms * rms, rel=0.01)
    if codes is not None:
        assert absolute == pytest.approx(of_norm * rms * math.sqrt(d_model), rel=0.01)
        mean = 1.0 if math.isnan(codes.mean) else codes.mean
        assert absolute == USUAL_CODES * mean * codes.norm
    else:
        assert of_rms == USUAL_RMS


def test_beta_reaches_twice_the_usual_of_a_feature_and_else_what_its_unit_has():
    codes = Codes(2.0, mean=1.5, largest=4.0)
    usual = usual_beta("absolute", 64, 7.0, codes)
    assert _reach("absolute", usual, codes) == (2 * usual, usual / 8)
    assert _reach("absolute", -usual, codes)[0] == 2 * usual  # where a linear dictionary's mean code is below 0
    assert _reach("rms", 8.0, None) == (UNITS["rms"].most, UNITS["rms"].step)
    assert _reach("rms", 13.2, codes)[0] >= 13.2


def test_a_step_is_said_in_codes():
    assert Codes(2.0, mean=1.5, largest=4.0).in_words(12.0) == "4 × its mean code"
    assert Codes(2.0, mean=1.5, largest=4.0).in_words(-6.0) == "-2 × its mean code"
    assert Codes(2.0, math.nan, math.nan).in_words(8.0) == "a code of 4"
