"""The grids that are drawn, from what the worker sends."""

import numpy as np
import pytest

from backend.lens.grid import CUTS, UNKNOWN, grid
from backend.lens.quantities import QUANTITIES
from backend.live.jobs import Reader
from backend.live.lens_map import under_lens
from backend.live.requests import LensMap
from backend.live.service import merge
from tests.backend.live.test_jobs import TEXT


@pytest.fixture(scope="module")
def parts(tiny):
    reader = Reader(tiny("llama"))
    return [payload for kind, payload in under_lens(reader, LensMap(TEXT, chosen=("Wait",))) if kind == "part"]


def after(parts, n: int) -> dict:
    found: dict = {}
    for part in parts[:n]:
        merge(found, part)
    return found


def test_every_token_from_the_last_one_of_the_prompt_on_is_a_column(parts):
    found = after(parts, len(parts))
    made = grid(found, CUTS["token"])
    assert [place.start for place in made.places] == list(range(found["n_prompt"] - 1, len(found["token_ids"])))
    assert np.array_equal(made.token[1], found["windows"][0]["rows"][1]["token"]) and made.n_layers == 4
    assert np.array_equal(made.log_prob[0, 2], found["windows"][0]["rows"][2]["log_prob"][0])


def test_a_column_of_a_chunk_is_its_first_or_last_token_in_the_map_of_tokens(parts):
    found = after(parts, len(parts))
    whole, spans = grid(found, CUTS["token"]), list(found["spans"].values())
    for name, at in (("first", [start for start, _ in spans]), ("last", [end - 1 for _, end in spans])):
        cut, columns = grid(found, CUTS[name]), [position - (found["n_prompt"] - 1) for position in at]
        assert np.array_equal(cut.token, whole.token[:, columns]) and [p.chunk for p in cut.places] == [1, 2, 3, 4]
        assert np.allclose(cut.kl, whole.kl[:, columns], rtol=1e-5, atol=1e-9)


def test_what_has_not_come_yet_is_unknown_and_what_has_come_is_there(parts):
    early = after(parts, 2)  # facts and the first picture
    assert (grid(early, CUTS["last"]).token != UNKNOWN).all()
    tokens, ends = grid(early, CUTS["token"]), early["first"]["places"]
    known = (tokens.token != UNKNOWN).all(0)
    assert [place.start for place, is_known in zip(tokens.places, known, strict=True) if is_known] == ends
    assert np.isnan(tokens.kl[:, ~known]).all() and (tokens.rank[0][:, ~known] == UNKNOWN).all()


@pytest.mark.parametrize("name", QUANTITIES)
def test_no_quantity_takes_what_has_not_come_for_a_number(parts, name):
    made = grid(after(parts, 2), CUTS["token"])
    values = QUANTITIES[name].values(made)
    known = made.token != UNKNOWN
    assert np.isnan(values[~known]).all() and np.isfinite(values[known]).all()
    assert values[known].max() <= QUANTITIES[name].most(384) + 5 and values[known].min() >= 0


def test_the_rank_of_the_top_token_is_drawn_as_0_on_the_log_scale(parts):
    made = grid(after(parts, len(parts)), CUTS["token"])
    assert (QUANTITIES["rank"].values(made)[made.rank[0] == 1] == 0).all()
    assert QUANTITIES["followed"].values(made) == pytest.approx(np.exp(made.log_prob[0]))
