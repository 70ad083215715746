"""An operation, a place and a unit of β are one entry each: everything else follows from it."""

import numpy as np
import pytest
import torch

from backend.geometry.sweep import check_steering
from backend.live.sentence import sentence
from backend.models.interventions import (
    OPERATIONS,
    PLACES,
    UNITS,
    Intervention,
    InterventionError,
    Operation,
    PositionSet,
    StepUnit,
    changed,
    swept_places,
)
from tests.registering import lists_of, registered

V = np.eye(4, dtype=np.float32)[0]
H = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-5.0, 6.0, 7.0, 8.0]])
FLIP = Operation(
    "flip",
    "turn round the component",
    "turn round the component along {direction} times {amount}",
    lambda h, exact, v, size, beta: (exact - (1 + beta) * (exact @ v)[:, None] * v).to(h.dtype),
    zero_changes_nothing=False,
)
LAST = PositionSet(
    "last",
    "its last token",
    "the last of the {chunk_tokens} of {chunk}",
    lambda span, n: (span[1] - 2,),
    as_swept="end",
)
LARGEST = StepUnit(
    "largest",
    "largest coordinate",
    "largest",
    "times the largest coordinate",
    lambda h: h.abs().max(-1, keepdim=True).values,
    most=2.0,
    usual=1.0,
    step=0.1,
)


def said(intervention: Intervention) -> str:
    return sentence(intervention, "v", source_layer=1, chunk="chunk 7", span=(30, 44), n_prompt=12)


def test_a_new_operation_is_applied_said_and_offered():
    with registered(OPERATIONS, FLIP):
        flipped = Intervention((1,), "anchor", "flip", V, 1.0)
        assert changed(H, intervention=flipped)[:, 0].tolist() == [-1, 5]
        assert said(flipped).startswith("turn round the component along v times +1 RMS at layer 1")
    with pytest.raises(InterventionError, match="There is no operation 'flip'; expected one of add, replace"):
        changed(H, intervention=flipped)


def test_a_new_place_is_steered_said_and_swept(tiny):
    from backend.models.edits import encode

    loaded = tiny("llama")
    with registered(PLACES, LAST):
        there = Intervention((1,), "last", "add", V, 1.0)
        assert there.positions((30, 44), n_prompt=12) == (42,)
        assert said(there).endswith("to the last of the 14 tokens of chunk 7") and "last" in swept_places()
        encoded = encode(loaded, list(range(3, 20)), layers=[1])
        check_steering(loaded, encoded, "c", (5, 9), [], positions=["last"], unit="rms")


def test_the_exact_metric_of_a_new_place_is_that_of_its_tokens(tiny):
    from backend.geometry.fisher import LocalMetric
    from backend.models.edits import encode

    encoded = encode(tiny("llama"), list(range(3, 20)), layers=[1])
    vectors = np.random.default_rng(0).standard_normal((3, encoded.residual(1).shape[-1]))
    every = PositionSet("every", "all", "all", PLACES["chunk"].positions, as_swept="all")
    with registered(PLACES, every), registered(PLACES, LAST):
        metric = LocalMetric(encoded, (5, 9), 1)
        chunk, same, last = (metric.steepness(vectors, [name] * 3) for name in ("chunk", "every", "last"))
    assert np.array_equal(chunk, same) and not np.allclose(chunk, last)


def test_a_new_unit_sizes_the_step_and_is_said():
    with registered(UNITS, LARGEST):
        step = Intervention((1,), "anchor", "add", V, 0.5, "largest")
        assert changed(H, intervention=step)[:, 0].tolist() == [3, -1]
        assert said(step).startswith("add +0.5 times the largest coordinate of v")


@pytest.mark.parametrize(("registry", "entry"), [(OPERATIONS, FLIP), (PLACES, LAST), (UNITS, LARGEST)])
def test_an_entry_without_one_of_its_parts_is_refused(registry, entry):
    from dataclasses import MISSING, fields, replace

    needed = [part.name for part in fields(entry) if part.default is MISSING]
    for name in needed:
        with pytest.raises(InterventionError, match=f"needs {name}"):
            registry.register(replace(entry, **{name: None}))
    assert entry.name not in registry


def test_no_other_module_lists_operations_places_or_units():
    own = ("backend/models/interventions.py",)
    assert lists_of(OPERATIONS.keys(), allowed=own) == []
    # A study's default is the published pair; a link has fields of its own that are called chunk and prompt.
    assert lists_of(PLACES.keys() - {"prompt"}, allowed=(*own, "precompute/study.py")) == []
    assert lists_of(UNITS.keys(), allowed=own) == []
