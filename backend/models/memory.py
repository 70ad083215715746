"""Work in batches that fit into memory: where it is missing, half as many rows at a time, until they fit.

The rows of a batch never shape a result (`sampling`), so what is finished stays and only the rest is asked for again.
"""

import gc
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from backend.faults import is_out_of_memory

_log = logging.getLogger(__name__)
_fitted: WeakKeyDictionary[Any, int] = (
    WeakKeyDictionary()
)  # rows that were too many for a model once are not tried again


class Named(Protocol):
    @property
    def request_id(self) -> str: ...


Request = TypeVar("Request", bound=Named)
Result = TypeVar("Result", bound=Named)


def within_memory(
    model: Any, requests: Sequence[Request], rows: int, attempt: Callable[[list[Request], int], Iterator[list[Result]]]
) -> Iterator[list[Result]]:
    """What `attempt(requests, rows)` yields; where memory is missing, `attempt` of the requests without a result, with
    half the rows.

    Raises what `attempt` does, and its error of memory where a single row does not fit.
    """
    left, rows = list(requests), min(rows, _fitted.get(model, rows))
    while True:
        done: set[str] = set()
        try:
            for finished in attempt(left, rows):
                done.update(one.request_id for one in finished)
                yield finished
            return
        except Exception as error:  # missing memory has many types, some of them RuntimeError; all else is raised again
            if rows == 1 or not is_out_of_memory(error):
                raise
        left = [
            one for one in left if one.request_id not in done
        ]  # here the error and all that its frames hold are gone
        rows = _fitted[model] = max(1, min(rows, len(left)) // 2)
        _log.warning(
            "There is not enough memory for this batch: going on with %d rows at a time. Results do not depend on it.",
            rows,
        )
        _release()


def _release() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
