"""Where memory is missing, half as many rows go on, and nothing else is different."""

import pytest
import torch

from backend.models import memory, sampling
from backend.models.memory import within_memory
from backend.models.sampling import SampleRequest, SamplingParameters, sample


def asked(n: int) -> list[SampleRequest]:
    return [SampleRequest(f"r{number}", "s", 1, number) for number in range(n)]


class Model:
    """Anything that can be remembered."""


def attempts(most: int, error: Exception, tried: list[int]):
    """An attempt that finishes one request after the other in batches, for which more than `most` rows are too many."""

    def attempt(left, rows):
        tried.append(rows)
        for start in range(0, len(left), rows):
            if len(left[start : start + rows]) > most:
                raise error
            yield left[start : start + rows]

    return attempt


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
            " bytes."
        ),
        RuntimeError("bad allocation: std::bad_alloc"),
    ],
)
def test_batches_are_halved_until_they_fit_and_each_request_has_one_result(error, caplog, monkeypatch):
    collected = []
    monkeypatch.setattr(memory.gc, "collect", lambda: collected.append(1))  # of what a suite holds it takes a second
    tried, model = [], Model()
    finished = [one for some in within_memory(model, asked(40), 32, attempts(5, error, tried)) for one in some]
    assert sorted(one.request_id for one in finished) == sorted(one.request_id for one in asked(40))
    assert tried == [32, 16, 8, 4] and "4 rows at a time" in caplog.text
    assert len(collected) == 3
    again = []
    list(within_memory(model, asked(3), 32, attempts(5, error, again)))
    assert again == [4]  # what was too much once is not tried again


def test_one_row_that_does_not_fit_and_every_other_error_are_raised():
    with pytest.raises(MemoryError):
        list(within_memory(Model(), asked(4), 4, attempts(0, MemoryError(), [])))
    with pytest.raises(RuntimeError, match="shape"):
        list(within_memory(Model(), asked(4), 4, attempts(0, RuntimeError("shape mismatch"), [])))


def test_what_is_sampled_does_not_depend_on_memory(tiny, monkeypatch, caplog):
    loaded, sequences = tiny("llama"), {"s": [5, 9, 11, 40, 7]}
    requests = [SampleRequest(f"r{number}", "s", 1 + number % 5, number) for number in range(12)]
    parameters = SamplingParameters(4.0, 0.95, 6)
    whole = {one.request_id: one for one in sample(loaded, sequences, requests, parameters, rows=12)}
    real, steps = sampling.SharedRows.step, []

    def scarce(self):
        steps.append(len(self.rows))
        if len(self.rows) > 4 and len(steps) > 2:  # in the middle of a batch
            raise MemoryError
        return real(self)

    monkeypatch.setattr(sampling.SharedRows, "step", scarce)
    try:
        assert {one.request_id: one for one in sample(loaded, sequences, requests, parameters, rows=12)} == whole
    finally:
        memory._fitted.pop(loaded.model, None)
    assert "3 rows at a time" in caplog.text and max(steps[-3:]) <= 3
