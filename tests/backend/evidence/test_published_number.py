"""The published notebook prints ρ = 0.027, p = 0.73, n = 171 (Dawes 2025). Its steepness was not published, so ρ cannot
be had again; this can: its n and its p. Were its chunks independent, and steered with their own vectors, the 95 %
interval of ρ would be [−0.12, 0.18].
"""

import itertools
import json
import math

import pytest
from scipy.stats import t

from tests.shared_data import shared_folder

RHO, P, N = 0.027, 0.73, 171


@pytest.fixture(scope="module")
def n_values():
    (path,) = shared_folder("seed_study").glob("generated_data_annotated_*.json")
    return [len(entry["counterfactual_importance_kl"]) for entry in json.loads(path.read_text())]


def test_its_n_is_that_of_cots_steered_with_the_vectors_of_the_cot_before(n_values):
    assert sum(n_values) == 209
    assert n_values[0] + sum(min(own, before) for before, own in itertools.pairwise(n_values)) == N


def test_its_p_takes_chunks_for_independent():
    statistic = RHO * math.sqrt((N - 2) / (1 - RHO**2))
    assert 2 * t.sf(statistic, N - 2) == pytest.approx(P, abs=0.005)
