"""An intervention in words says everything that shapes it."""

import numpy as np
import pytest

from backend.live.sentence import sentence
from backend.models.interventions import Gate, Intervention

UNIT = np.eye(4, dtype=np.float32)[0]


def said(*, layers=(15,), source_layer=15, betas=(), seed=None, **change) -> str:
    intervention = Intervention(
        layers, **({"place": "chunk", "operation": "add", "vector": UNIT, "beta": 4.0} | change)
    )
    where = {"chunk": "chunk 7", "span": (30, 44), "n_prompt": 12}
    return sentence(intervention, "self_checking − rest", source_layer=source_layer, **where, betas=betas, seed=seed)


def test_the_sentence_names_amount_direction_layer_place_and_seed():
    assert (
        said(seed=3) == "add +4 RMS of self_checking − rest at layer 15 to the 14 tokens that predict chunk 7, seed 3"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beta": -2.5, "unit": "norm"}, "add -2.5 norms of the residual stream of"),
        ({"operation": "ablate"}, "remove the component along self_checking − rest at"),
        ({"operation": "replace"}, "set the component along self_checking − rest to +4 RMS at"),
        ({"operation": "cap"}, "cap the component along self_checking − rest at +4 RMS at"),
        ({"operation": "rotate"}, "turn towards self_checking − rest by +4 RMS, keeping the norm, at"),
        ({"layers": (12, 13, 14)}, "(made at layer 15) at layers 12 to 14"),
        ({"place": "anchor"}, "to the token before chunk 7"),
        ({"place": "onward"}, "every token from the one before chunk 7 on, what is written included"),
        ({"place": "prompt"}, "the 11 tokens of the prompt after its first"),
        ({"gate": Gate(UNIT, 0.5, "it leans to self_checking")}, ", only while it leans to self_checking"),
        ({"betas": (-10.0, 0.0, 10.0)}, "add -10 to +10 RMS of"),
    ],
)
def test_every_part_of_it_is_said(change, words):
    assert words in said(**change)
