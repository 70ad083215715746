"""A checkpoint is the last one that was whole, whatever was killed meanwhile."""

import json

import pytest
import torch

from backend.models import checkpoints


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3,), float(step)), "count": torch.tensor(step)}


def test_the_newest_is_found_with_its_state_and_the_others_are_gone(tmp_path):
    assert checkpoints.load(tmp_path) is None
    for step in (5, 10):
        checkpoints.save(tmp_path, step, tensors(step), {"losses": [1.5] * step})
    found = checkpoints.load(tmp_path)
    assert found.state["losses"] == [1.5] * 10 and torch.equal(found.tensors["weight"], torch.full((3,), 10.0))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.json", "step-000010.safetensors"]


def test_a_kill_before_the_state_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 5, tensors(5), {"losses": [1.0]})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 10, tensors(10), {"losses": [2.0]})
    found = checkpoints.load(tmp_path)
    assert found.state["losses"] == [1.0] and found.tensors["count"] == 5


def test_a_state_that_could_not_be_written_does_not_spoil_the_one_there(tmp_path):
    checkpoints.write_json(tmp_path / "state.json", {"a": 1})
    with pytest.raises(TypeError):
        checkpoints.write_json(tmp_path / "state.json", {"a": object()})
    assert json.loads((tmp_path / "state.json").read_text()) == {"a": 1}
