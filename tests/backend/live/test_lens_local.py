"""What the worker says of one cell by its own Jacobian."""

import pytest
import torch

from backend.lens.jacobian import NamedRows, cotangents_of
from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens
from backend.lens.local import local_reading
from backend.live import lens_local as module
from backend.live.jobs import Reader
from backend.live.lens_local import lens_local
from backend.live.requests import LensLocal, UnderLens
from tests.backend.live.test_jobs import TEXT


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


def result_of(reader, request) -> dict:
    return {key: value for _, part in lens_local(reader, request) for key, value in part.items()}


def test_a_cell_is_read_by_its_own_jacobian(reader):
    found = result_of(reader, LensLocal(TEXT, 1, 20, 23, n=5))
    encoded = reader.read(TEXT).encoded
    reading = local_reading(reader.loaded, encoded, 1, range(20, 23))
    assert [token for token, _, _ in found["top"]] == reading.log_probs.topk(5).indices.tolist()
    assert [p for *_, p in found["top"]] == pytest.approx(reading.log_probs.topk(5).values.exp().tolist())
    assert found["words"] == reading.words and found["summed"] == [20, reading.summed.stop]
    assert "agreement" not in found


def test_the_average_that_is_named_is_held_against_it(reader, monkeypatch):
    """Of a matrix and of rows of named tokens alike; where nothing lies above, both carry h to itself."""
    matrices = {layer: torch.eye(64) for layer in range(3)}
    request = LensLocal(TEXT, 3, 20, 21, average=UnderLens("jacobian", "stores/s", "l"))
    named = cotangents_of(reader.loaded, range(5, 9))
    for average in (JacobianLens(4, matrices), NamedRows(4, named, {})):
        monkeypatch.setattr(module, "lens_of", lambda loaded, asked, average=average: average)
        found = result_of(reader, request)["agreement"]
        assert found["cosine"] == pytest.approx(1) and "misleads" not in found["words"]


def test_a_cell_that_is_not_there_is_refused(reader):
    with pytest.raises(LensError, match="layers 0 to 3"):
        result_of(reader, LensLocal(TEXT, 4, 0, 1))
