"""Anchorscope from a notebook: `open_study` opens a study for reading, `open_study.from_arrays` makes one of your own
texts, arrays and numbers, and `keep` stores what you registered with a study.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from backend.store.store import Store

__version__ = "0.1.0"
__all__ = ["keep", "open_study"]


class _OpenStudy:
    """A study opened for reading: by its name, by the path of its folder or portable file, or the shipped demo.

    Names are those of `stores/` here, of ANCHORSCOPE_STORES, and `demo`. The answer has a method for each question that
    the dashboard asks (`help` lists them), and `frame(sql)` for one of your own; both give pandas frames.
    Raises NoStore, which says what studies there are.
    """

    def __call__(self, study: str | Path | None = None) -> "Store":
        from backend.store.known import open_study as opened

        return opened(study)

    @staticmethod
    def from_arrays(
        cots: "pd.DataFrame | Sequence[Mapping[str, Any]]",
        activations: Mapping[int, Any] | None = None,
        metrics: "pd.DataFrame | Mapping[str, Any] | None" = None,
        *,
        name: str,
        geometry: Mapping[str, Mapping[int, Any]] | None = None,
        maps: Mapping[int, Any] | None = None,
        words: Mapping[str, Mapping[str, Any]] | None = None,
        note: str = "",
        seed: int = 0,
        draws: int = 2000,
        folder: str | Path | None = None,
        replace: bool = False,
    ) -> "Store":
        """A study of your own outputs, written to `stores/NAME` (or `folder`/NAME) and opened; the dashboard lists it.

        `cots` has a row a chain of thought: `problem` and `model` (texts), `chunks` (its sentences) or `text` (cut
        here), and where you have them `id`, `prompt`, `token_ids` (a list a chunk), `prompt_token_ids`, `answer`,
        `correct`, `truth`, `level`, `after_text`, `categories`.
        `activations` has for each layer (0-based block) an array (n_chunks, d), all chunks in the order of `cots`, or a
        list of arrays, one a chain; NumPy or torch. `metrics` has for each name a number a chunk, in that order or, as
        a frame with the columns `chain` (the id) and `chunk` (from 0), in any; NaN is unknown. NAME_low, NAME_high and
        NAME_n are its interval and n. `geometry` has numbers a chunk by name and layer, to be set against the metrics.
        `maps` has (n_chunks, 2 or 3) by layer; left out, UMAP and PCA are computed. `words` says a `label`, `unit` and
        `meaning` of your names. `draws` are those of the evidence's intervals and permutations; `replace` makes a study
        from arrays anew. Raises ArraysError, a sentence with the argument, the row and what was expected, before
        anything is written.
        """
        from backend.store.store import Store
        from precompute.own_arrays import study_from_arrays

        made = study_from_arrays(
            cots,
            activations,
            metrics,
            name=name,
            geometry=geometry,
            maps=maps,
            words=words,
            note=note,
            seed=seed,
            draws=draws,
            folder=folder,
            replace=replace,
        )
        return Store(made)


open_study = _OpenStudy()


def keep(study: str | Path, *, steer: bool = False) -> "Store":
    """Compute the metrics, geometry columns and kinds of direction that are registered in this process for a study of
    yours, store them there with their words and the digest of their source, and open it.

    `steer` also steers the study's chunks along the registered kinds of direction, by its model. Whoever opens the
    study without your code has the values and the words. Raises KeepError before anything is written.
    """
    from backend.store.store import Store
    from precompute.own_code import keep as kept

    return Store(kept(study, steer=steer))
