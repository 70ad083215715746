"""A training of a dictionary that can be stopped anywhere: a killed one goes on from its last checkpoint, and its steps
come out the same.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from backend.crosscoder.train import Settings


class Training:
    """A trainer with its measured steps, whose checkpoints lie in `folder`. `batches` gives, from so many on, places
    among the learned tokens, and `learned` the scaled activations of such.
    """

    def __init__(
        self,
        settings: "Settings",
        folder: Path,
        *,
        device: str,
        batches: "Callable[[int], Iterator[np.ndarray]]",
        learned: "Callable[[np.ndarray], np.ndarray]",
        every: float,
    ) -> None:
        from backend.crosscoder.train import Trainer
        from backend.models import checkpoints

        self.trainer = Trainer(settings, device=device)
        self.steps: list[list[float]] = []  # loss, L0, dead share, learning rate, variance explained of each model
        self._folder, self._device, self._learned, self._every = folder, device, learned, every
        self._started_at, self._before = datetime.now(UTC).isoformat(timespec="seconds"), 0.0
        if (found := checkpoints.load(folder, device=device)) is not None:
            self.trainer.restore(found.tensors)
            self.steps, self._before = found.state["steps"], found.state["seconds"]
            self._started_at = found.state["started_at"]
        self._began = self._saved = time.monotonic()
        self._batches = batches(self.trainer.done)

    @property
    def run(self) -> dict[str, Any]:
        """When it began, and for how long it has computed."""
        return {"started_at": self._started_at, "seconds": self._before + time.monotonic() - self._began}

    def until(self, end: int) -> None:
        """Train so far; what was trained before stays."""
        import torch

        from backend.models import checkpoints

        while self.trainer.done < end:
            activations = torch.from_numpy(self._learned(next(self._batches)))
            measured = self.trainer.step(activations.to(self._device))
            rate = self.trainer.optimizer.param_groups[0]["lr"]
            self.steps.append([measured.loss, measured.l0, measured.dead, rate, *measured.variance_explained])
            is_last = self.trainer.done == self.trainer.settings.steps
            if is_last or time.monotonic() - self._saved > self._every:
                state = {"steps": self.steps, **self.run}
                checkpoints.save(self._folder, self.trainer.done, self.trainer.tensors(), state)
                self._saved = time.monotonic()

    def forget(self) -> None:
        """Delete the checkpoint, once all that it led to is durable."""
        shutil.rmtree(self._folder, ignore_errors=True)
