"""A device that this machine does not have is said in one sentence, before weights are read."""

import pytest
import torch

from backend.models.devices import DEVICE, NoDevice, require_device
from backend.models.loading import load_model

ABSENT = "cuda:77"


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda", "cuda:0", "cuda:15"])
def test_a_study_may_name_these(name):
    assert DEVICE.fullmatch(name)


@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:0 ", "cpu:0", "meta"])
def test_and_no_others(name):
    assert not DEVICE.fullmatch(name)


def test_a_device_that_is_not_here_is_said_with_those_that_are():
    require_device("cpu")
    with pytest.raises(
        NoDevice, match=r"'cuda:77', on which nothing can be computed.*there is cpu.*ANCHORSCOPE_DEVICE"
    ):
        require_device(ABSENT)


def test_a_device_without_float64_is_refused(monkeypatch):
    def zeros(*_, **__):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(NoDevice, match="it has no float64"):
        require_device("mps")


def test_no_weights_are_looked_for_where_the_device_is_not_here():
    with pytest.raises(NoDevice):
        load_model("/no/such/model", device=ABSENT)
