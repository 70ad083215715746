"""No number in a study file is without bounds: a slip or an infinity is refused before anything runs."""

import math
import types
import typing

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from precompute.study import Study, StudyError, load_study

BASE = 'name = "s"\n[[models]]\nname = "m"\n[problems]\nper_level = 1\n[sweep]\nlayers = [0]\n'


def unbounded(annotation, metadata, where: str):
    """Places below `annotation` where a number has no finite lower or upper bound, or a list no greatest length."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = [
            part for extra in arguments[1:] for part in (extra.metadata if isinstance(extra, FieldInfo) else [extra])
        ]
        yield from unbounded(arguments[0], [*metadata, *inner], where)
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from unbounded(argument, metadata, where)
    elif origin is tuple:
        if not any(isinstance(one, annotated_types.MaxLen) for one in metadata) and Ellipsis in arguments:
            yield f"{where}: a list of any length"
        for argument in arguments:
            yield from unbounded(argument, [], f"{where}[]")
    elif annotation in (int, float):
        lower = [
            getattr(one, name) for one in metadata for name in ("ge", "gt") if getattr(one, name, None) is not None
        ]
        upper = [
            getattr(one, name) for one in metadata for name in ("le", "lt") if getattr(one, name, None) is not None
        ]
        if not any(map(math.isfinite, lower)) or not any(map(math.isfinite, upper)):
            yield f"{where}: a number without bounds"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from unbounded(field.annotation, field.metadata, f"{where}.{name}")


def test_every_number_of_a_study_has_finite_bounds_and_every_list_of_numbers_a_length():
    found = [line for line in unbounded(Study, [], "study") if "number" in line or "layers" in line or "scale" in line]
    assert found == []


def test_the_walk_finds_what_it_looks_for():
    class Part(BaseModel):
        free: int
        half: float | None = None
        tied: typing.Annotated[int, annotated_types.Ge(0), annotated_types.Le(5)] = 1

    class Whole(BaseModel):
        parts: tuple[Part, ...]

    assert [line.split(":")[0] for line in unbounded(Whole, [], "w")] == ["w.parts", "w.parts[].free", "w.parts[].half"]


@pytest.mark.parametrize(
    "key",
    [
        "beta_max = inf",
        "beta_max = 1e30",
        "beta_max = nan",
        "beta_max = -inf",
        "beta_max = -1",
        "beta_max = 1e-300",
        "points = 10001",
        "random = 1_000_000_000_000",
        "anchor_threshold = inf",
        "anchor_threshold = nan",
        "layers = [100000000000000000000]",
        "layers = [-1]",
        "layers = []",
    ],
)
def test_a_number_beyond_all_sense_is_refused_by_name_before_anything_runs(tmp_path, key):
    file = tmp_path / "study.toml"
    name = key.partition(" ")[0]
    file.write_text(BASE.replace("layers = [0]", key if name == "layers" else f"layers = [0]\n{key}"))
    with pytest.raises(StudyError, match=rf"sweep\.{name}"):
        load_study(file)


@pytest.mark.parametrize(
    "line",
    [
        "seed = -1",
        "seed = 9223372036854775808",
        "seed = 1e400",
        "[rollouts]\nn = 1_000_000_000",
        "[sampling]\ntemperature = nan",
        "[sampling]\ntemperature = 1e-300",
        "[sampling]\nsamples = 99999999999",
        "[engine]\nrows = 1_000_000",
        "[engine]\nworkers = 100_000",
        "[geometry]\nn_bootstrap = 10_000_000_000",
        "[crosscoder]\nlayer = 0\nn_features = 10_000_000_000_000",
        "[crosscoder]\nlayer = 0\nlearning_rate = inf",
        "[crosscoder]\nlayer = 0\nablation_nrn = [nan]",
    ],
)
def test_of_every_part(tmp_path, line):
    file = tmp_path / "study.toml"
    file.write_text(f"{line}\n{BASE}" if line.startswith("seed") else f"{BASE}{line}\n")
    with pytest.raises(StudyError, match=line.split("\n")[-1].partition(" ")[0]):
        load_study(file)


def test_a_study_file_nested_without_end_is_a_sentence(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text("name = " + "[" * 100_000)
    with pytest.raises(StudyError, match="is not TOML"):
        load_study(file)


def test_a_value_of_any_length_is_quoted_in_short(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(BASE.replace('name = "s"', f'name = "{"x" * 100_000}"'))
    with pytest.raises(StudyError) as error:
        load_study(file)
    assert len(str(error.value)) < 1000
