"""Many requests at once: checked, put in order, and sampled the way that the model's family allows."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from backend.models.edits import Edit, Encoded, models_beside
from backend.models.families import continues_prefix
from backend.models.memory import within_memory
from backend.models.sampling.plain import sample_plainly
from backend.models.sampling.requests import Sample, SampleRequest, SamplingError, SamplingParameters, require_end
from backend.models.sampling.shared import rollout_copy, sample_shared

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


def sample(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: Iterable[SampleRequest],
    parameters: SamplingParameters,
    *,
    edits: Mapping[str, Sequence[Edit]] | None = None,
    encoded: Mapping[str, Encoded] | None = None,
    rows: int = 128,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Sample]:
    """One Sample for each request, yielded as it ends, in no particular order.

    `sequences` maps ids to token ids (prompt + CoT); a rollout's last bits depend on its whole sequence, so pass the
    same one when a run is resumed. `edits` names, by sequence, edits made together on it and on what is generated from
    it: such a sequence is continued from its end. `encoded` may give, by sequence, an encoding of a text that begins
    with it, which is then not computed again. `rows` bounds the batch (memory and speed, never results); where memory
    is missing, half as many are tried, and that is said. `should_stop` is asked before every step; once it says yes the
    iterator ends and unfinished rollouts are dropped: ask for them again. Raises SamplingError for a request that does
    not fit its sequence or the model's positions, a request id given twice, and logits that are not finite; EditError
    for an edit that cannot be made.
    """
    for finished in sampled_in_steps(
        loaded, sequences, requests, parameters, edits=edits, encoded=encoded, rows=rows, should_stop=should_stop
    ):
        yield from finished


def sampled_in_steps(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: Iterable[SampleRequest],
    parameters: SamplingParameters,
    *,
    edits: Mapping[str, Sequence[Edit]] | None = None,
    encoded: Mapping[str, Encoded] | None = None,
    rows: int = 128,
    should_stop: Callable[[], bool] | None = None,
    drawn: Callable[[int], None] | None = None,
) -> Iterator[list[Sample]]:
    """As `sample`, but gives control back after every step, with the samples that ended in it, and after every
    sequence's encoding: for whoever has other things to do. `drawn` is told after each step how many rows drew a token
    in it.
    """
    requests = list(requests)
    edits, encoded = edits or {}, encoded or {}
    _check(loaded, sequences, requests, parameters, rows, edits)
    order = {sequence_id: turn for turn, sequence_id in enumerate(dict.fromkeys(r.sequence_id for r in requests))}
    requests.sort(
        key=lambda r: order[r.sequence_id]
    )  # rows of one sequence share matrix products and its encoding's lifetime
    way = sample_shared if all(map(uses_shared_prefixes, _readers(loaded, edits))) else sample_plainly
    told, stops = drawn or (lambda _: None), should_stop or (lambda: False)
    yield from within_memory(
        loaded.model,
        requests,
        rows,
        lambda left, rows: way(loaded, sequences, left, parameters, rows, stops, edits, encoded, told),
    )


def uses_shared_prefixes(loaded: "LoadedModel") -> bool:
    """Whether this model's rollouts share what they continue (`families.continues_prefix`)."""
    return continues_prefix(loaded.model.config)


def _readers(loaded: "LoadedModel", edits: Mapping[str, Sequence[Edit]]) -> "list[LoadedModel]":
    """The model and those that its edits ask for."""
    return [loaded, *(other for other, _ in models_beside(itertools.chain(*edits.values())).values())]


def prepare(loaded: "LoadedModel") -> None:
    """Makes now what the first sampling would make: the private copy with its packed weights, a second or so."""
    if uses_shared_prefixes(loaded):
        rollout_copy(loaded.model)


def _check(
    loaded: "LoadedModel",
    sequences: Mapping[str, Sequence[int]],
    requests: list[SampleRequest],
    parameters: SamplingParameters,
    rows: int,
    edits: Mapping[str, Sequence[Edit]],
) -> None:
    if rows < 1:
        raise SamplingError(f"rows is {rows}, expected 1 or more.")
    require_end(loaded)
    limits = [
        getattr(reader.model.config.get_text_config(), "max_position_embeddings", None)
        for reader in _readers(loaded, edits)
    ]
    limit = min((limit for limit in limits if limit is not None), default=None)
    seen = set()
    for request in requests:
        if request.request_id in seen:
            raise SamplingError(f"request id {request.request_id!r} is given twice.")
        seen.add(request.request_id)
        if request.sequence_id not in sequences:
            raise SamplingError(
                f"request {request.request_id!r} continues {request.sequence_id!r}, which is not among the sequences."
            )
        length = len(sequences[request.sequence_id])
        if not 1 <= request.prefix_length <= length:
            raise SamplingError(
                f"request {request.request_id!r} keeps {request.prefix_length} tokens of {request.sequence_id!r}, which"
                f" has {length}; expected 1 to all of them."
            )
        if edits.get(request.sequence_id) and request.prefix_length != length:
            raise SamplingError(
                f"request {request.request_id!r}: an edited sequence is continued from its end, {length} tokens."
            )
        more = len(request.given) + request.most(parameters)
        if limit is not None and max(length, request.prefix_length + more) > limit:
            raise SamplingError(
                f"request {request.request_id!r}: a sequence of {length} tokens, continued from {request.prefix_length}"
                f" by up to {more}, does not fit the model's {limit} positions. Lower"
                " max_new_tokens or shorten the sequence."
            )
