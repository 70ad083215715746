"""The device that tests stand in for a GPU with notices every transfer that nobody asked for."""

import numpy as np
import pytest
import torch

from tests.checking_device import DEVICE, checking

CPU = torch.arange(6.0).view(2, 3)


@pytest.fixture
def waits():
    with checking() as counted:
        yield counted


def there() -> torch.Tensor:
    return CPU.to(DEVICE)


REFUSED = "mixes a tensor|without being asked|on the same device|convert checked:0 device"
PLANTED = {
    "a sum with a tensor that stayed behind": lambda x: x + CPU,
    "the same the other way round": lambda x: CPU + x,
    "a product": lambda x: torch.matmul(x, CPU.T),
    "what a factory makes without a device": lambda x: x * torch.ones(3),
    "an index tensor": lambda x: x[torch.tensor([0, 1])],
    "a mask": lambda x: x[CPU > 1],
    "a gathered index": lambda x: x.gather(1, torch.zeros(2, 1, dtype=torch.long)),
    "an assignment": lambda x: x.__setitem__((slice(None), 0), torch.ones(2)),
    "an assignment from it": lambda x: CPU.clone().__setitem__(0, x[0]),
    "a choice": lambda x: torch.where(x > 1, x, CPU),
    "an output": lambda x: torch.mul(x, 2, out=torch.empty(2, 3)),
    "an array": lambda x: x.numpy(),
    "an array by numpy": np.asarray,
    "a list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_transfer_is_refused(waits, planted):
    with pytest.raises((AssertionError, RuntimeError, TypeError), match=REFUSED):
        planted(there())


def test_transfers_that_are_asked_for_and_numbers_pass(waits):
    x = there()
    assert x.device.type != "cpu" and torch.equal(x.cpu(), CPU) and x.cpu().tolist() == CPU.tolist()
    assert torch.equal((x * 2 + torch.tensor(1.0)).to("cpu"), CPU * 2 + 1)  # a number may stand anywhere
    assert torch.equal(x[[1, 0]].cpu(), CPU[[1, 0]]) and torch.equal(x[x > 1].cpu(), CPU[CPU > 1])
    assert torch.equal(torch.tensor([1.0, 2.0], device=DEVICE).cpu(), torch.tensor([1.0, 2.0]))
    assert torch.empty(2, 3).copy_(x).equal(CPU)


def test_views_write_through_and_results_are_the_cpus(waits):
    x = there()
    x[0, 1:].mul_(5)
    x.T[2, 1] = 9
    assert x.cpu().tolist() == [[0.0, 5.0, 10.0], [3.0, 4.0, 9.0]]
    assert torch.equal(x.softmax(-1).cpu(), x.cpu().softmax(-1))
    assert torch.equal(x.topk(2).indices.cpu(), x.cpu().topk(2).indices)


def test_waits_for_the_device_are_counted(waits):
    x = there()
    assert (x + 1).sum().shape == () and not waits  # nothing waits until somebody asks for a value
    assert bool((x > 0).any()) and float(x[0, 1]) == 1 and x.cpu().sum() == 15 and len(x[x > 2]) == 3
    assert waits == {"_local_scalar_dense": 2, "cpu": 1, "nonzero": 1}


def test_derivatives_are_taken_on_it(waits):
    x = there().requires_grad_()
    (x**3).sum().backward()
    assert torch.equal(x.grad.cpu(), 3 * CPU**2)
    moved = torch.func.jvp(lambda a: a.sin(), (there(),), (torch.ones(2, 3, device=DEVICE),))[1]
    assert torch.allclose(moved.cpu(), CPU.cos())
