"""A kind of direction is one entry: what makes it, what it needs, its words, its colour. Nothing falls through."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from backend.geometry import directions
from backend.geometry.direction_kinds import (
    DIRECTION_KINDS,
    ByHand,
    DirectionKind,
    DirectionSpec,
    SpecError,
    StudyChunks,
    Swept,
    kinds_by_hand,
    kinds_of_importance,
    swept_kinds,
)
from tests.registering import lists_of, registered


def doubled(vectors, **of) -> directions.Directions:
    """Twice each activation."""
    return directions.collect(
        directions.unit("doubled", 2 * vector, chunk_id=chunk, parameters={"times": 2}, **of)
        for chunk, vector in vectors.items()
    )


DOUBLED = DirectionKind(
    "doubled",
    words="twice the activation",
    help="2·a",
    colour="#123456",
    swept=Swept(lambda study: doubled(study.activations, **study.place)),
    by_hand=ByHand(
        "twice {chunk_id}",
        needs=("chunk_id",),
        make=lambda spec, given: doubled(
            {spec.chunk_id: given.activation(spec.chunk_id)}, model_id=spec.model_id, layer=spec.layer
        ),
    ),
)


def study_of(kinds):
    from precompute.study import Study

    data = {"name": "s", "models": [{"name": "m"}], "problems": {"per_level": 1}, "sweep": {"layers": [1]}}
    data["sweep"]["kinds"] = kinds
    return Study.model_validate(data)


def test_a_new_kind_is_allowed_in_a_study_file_and_an_unknown_one_is_refused_with_those_that_are():
    with pytest.raises(
        ValueError, match="'doubled'; allowed are per_chunk, centered, diff_in_means, on_manifold, random"
    ):
        study_of(["doubled"])
    with registered(DIRECTION_KINDS, DOUBLED):
        assert study_of(["doubled"]).sweep.kinds == ("doubled",)
    with pytest.raises(ValueError, match="'pair'; allowed"):  # made by hand alone
        study_of(["pair"])


def test_a_tangent_of_a_study_is_of_the_reference_sets_nearest_chunks_and_the_one_made_by_hand():
    rng = np.random.default_rng(4)
    vectors = {f"c_{k:04d}": rng.standard_normal(12) * np.linspace(3, 0.5, 12) for k in range(60)}
    vectors |= {f"c_{k:04d}": vectors["c_0000"] + 1e-7 * rng.standard_normal(12) for k in range(1, 25)}  # nearly alike
    vectors["c_0059"] = np.full(12, np.nan)
    reference = {chunk: vector for chunk, vector in vectors.items() if chunk < "c_0050"}
    study = StudyChunks("m", 3, vectors, {}, seed=0, n_random=1, threshold=0.2, reference=reference)
    found = DIRECTION_KINDS["on_manifold"].swept.make(study)
    assert [one.chunk_id for one in found.refused] == ["c_0059"] and len(found.made) == 59
    for made in found.made:
        around = reference | {made.chunk_id: vectors[made.chunk_id]}
        (by_hand,) = directions.on_manifold(around, made.chunk_id, component=1, model_id="m", layer=3).made
        assert made == by_hand and np.array_equal(made.vector, by_hand.vector)


def test_where_there_are_too_few_chunks_a_study_has_no_tangents():
    study = StudyChunks("m", 3, {"c_0000": np.ones(4), "c_0001": np.zeros(4)}, {}, seed=0, n_random=1, threshold=0.2)
    refused = DIRECTION_KINDS["on_manifold"].swept.make(study).refused
    assert [one.chunk_id for one in refused] == ["c_0000", "c_0001"] and "neighbours span" in refused[0].reason


def test_a_new_kind_is_swept_along_the_directions_that_it_makes(tiny):
    from backend.geometry.sweep import sweep_cot

    loaded = tiny("llama")
    tokens = torch.randint(3, 384, (12,), generator=torch.Generator().manual_seed(1)).tolist()
    vectors = {"c1": np.arange(1.0, 65), "c2": -np.ones(64)}
    chunks = StudyChunks(loaded.model_id, 1, vectors, {}, seed=0, n_random=1, threshold=0.2)
    with registered(DIRECTION_KINDS, DOUBLED):
        made = DIRECTION_KINDS["doubled"].swept.make(chunks).made
    rows = sweep_cot(loaded, tokens, {"c1": (5, 8)}, made, layers=[1], betas=[-1.0, 0.0, 1.0]).kl_curves
    assert {row["kind"] for row in rows} == {"doubled"} and rows[0]["direction_id"] == made[0].direction_id
    assert made[0].norm == pytest.approx(2 * np.linalg.norm(vectors["c1"])) and rows[0]["kl"][1] == 0


def test_a_new_kind_has_its_words_its_colour_and_its_place_in_every_list():
    from app.figures.chunk import kl_curves
    from app.shell.vocabulary import direction_order, direction_words, studied_words

    betas = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    curve = {"kind": "doubled", "betas": betas, "kl": betas**2, "noise_floor": 0.0, "steepness": 1.0, "unit": "rms"}
    with registered(DIRECTION_KINDS, DOUBLED):
        assert direction_words("doubled") == studied_words("doubled") == "twice the activation"
        assert direction_order(["stored elsewhere", "doubled", "random"]) == ["random", "doubled", "stored elsewhere"]
        assert kl_curves(pd.DataFrame([curve])).data[0].marker.color == "#123456"
    assert direction_words("doubled") == "doubled"  # what another version stored is shown under its name


def test_a_kind_that_only_a_study_makes_is_not_made_by_hand():
    with pytest.raises(SpecError, match="of kind eigen is made by a study alone; choose one of category, per_chunk"):
        DirectionSpec("eigen", "m", 1)


@pytest.mark.parametrize("part", ["name", "words", "help", "colour"])
def test_an_entry_without_one_of_its_parts_is_refused(part):
    with pytest.raises(SpecError, match=f"needs {part}"):
        DIRECTION_KINDS.register(replace(DOUBLED, **{part: ""}))
    for cls in (DirectionKind, Swept, ByHand):
        with pytest.raises(TypeError):
            cls()


def test_every_kind_says_whether_a_study_or_a_hand_makes_it_and_every_need_is_a_field_with_a_control():
    from app.steering.controls import control_of

    assert {name for name in DIRECTION_KINDS if name not in {*swept_kinds(), *kinds_by_hand()}} == {"eigen"}
    for how in kinds_by_hand().values():
        assert set(how.needs) <= set(DirectionSpec.__dataclass_fields__)
        assert all(control_of(need) for need in how.needs)
        assert how.phrase.format(**dict.fromkeys(how.needs, "x"))


def test_anchors_are_chosen_by_the_rollouts_that_importance_rests_on():
    assert "diff_in_means" in kinds_of_importance() and "random" not in kinds_of_importance()


def test_no_other_module_lists_the_kinds():
    words = {"random", "file", "category", "feature", "pair"}  # other things are called so too
    own = ("backend/geometry/direction_kinds.py", "precompute/study.py")  # a study's usual kinds
    assert lists_of(DIRECTION_KINDS.keys() - words, allowed=own) == []
