"""Activations of the pair on disk, as far as a stage needs them: scratch, which may be deleted whenever no run goes on.

`scratch/` in the study's folder is nobody's ledger: what is missing there is recorded again by the stage that needs it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from precompute import models
from precompute.study import Study

if TYPE_CHECKING:
    from backend.crosscoder.shards import Text
    from backend.models.loaded import LoadedModel


@dataclass
class Recorder:
    """Records texts at one layer, and in the same passes at those `beside` it; the models are loaded when the first
    text is missing.
    """

    study: Study
    layer: int
    folder: Path
    dtype: str
    max_tokens: int
    beside: Mapping[int, Path] = field(default_factory=dict)  # folders of other layers
    _pair: "list[LoadedModel] | None" = None

    def ensure(self, texts: "Sequence[Text]") -> None:
        """Records those of `texts` that are missing; when this returns they are on disk."""
        from backend.crosscoder.shards import record, recorded

        folders, names = {self.layer: self.folder, **self.beside}, {text.text_id for text in texts}
        if all(names <= recorded(folder) for folder in folders.values()):
            return
        if self._pair is None:
            self._pair = loaded_pair(self.study, *folders)
        for _ in record(self._pair, texts, folders, dtype=self.dtype, max_tokens=self.max_tokens):
            pass


def loaded_pair(study: Study, *layers: int) -> "list[LoadedModel]":
    """The pair's models, on the study's device. Raises AnchorscopeError for a layer that one of them lacks."""
    from backend.models.loading import load_model

    pair = [
        load_model(one.name, revision=one.revision, dtype=one.dtype, device=study.engine.device) for one in study.pair
    ]
    for one in pair:
        models.require_layers(layers, one.n_layers, f"crosscoder.layer, for {one.name},")
    return pair


@contextmanager
def all_cores(study: Study) -> Iterator[None]:
    """Inside, one process has the threads of all of the study's workers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(study.engine.workers * study.engine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
