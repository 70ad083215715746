"""The function of each chunk (Thought Anchors' tags), by the shipped classifier or by a chat model."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from backend.cot.categories import CategoryClassifier, Chain, Tags, label_with_chat_model
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.units import Context, Finished, Unit

NAME, UNIT = "categories", "CoT"
RULE = 1  # of tagging: raise it when it changes
_TAG_SECONDS, _LOAD_SECONDS = 0.006, 0.2  # a chunk, and the classifier


def units(context: Context) -> list[Unit]:
    labeller = context.study.categories.labeller
    version = CategoryClassifier.load().source if labeller == "classifier" else labeller
    cots = dict.fromkeys(chunk["cot_id"] for chunk in context.store.chunks_to_tag())
    rules = chunks_stage.rules(context)
    return [Unit(cot, {"labeller": version, "chunks": rules[cot]}) for cot in cots]


def estimate(of: Quantities) -> Estimate:
    return of.line(NAME, of.n_cots, gigabytes=of.n_chunks * 1e-7, seconds=_LOAD_SECONDS + of.n_chunks * _TAG_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    by_cot: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for chunk in context.store.chunks_to_tag():
        by_cot[chunk["cot_id"]].append(chunk)
    tag, source = _labeller(context)
    for unit in units:
        chunks = by_cot[unit.unit_id]
        rows = [
            {"chunk_id": chunk["chunk_id"], "source": source, "rank": rank, "category": category, "score": score}
            for chunk, tags in zip(chunks, tag(chunks), strict=True)
            for rank, (category, score) in enumerate(tags)
        ]
        yield Finished(unit, {"categories": rows}, {"labeller": source})


def _labeller(context: Context) -> tuple[Any, str]:
    """A function from a CoT's chunks to their tags, and the name it is stored under."""
    name = context.study.categories.labeller
    if name == "classifier":
        from backend.models.sentences import load_encoder

        classifier, encoder = CategoryClassifier.load(), load_encoder()

        def tag(chunks: Sequence[dict[str, Any]]) -> list[Tags]:
            texts = [chunk["text"] for chunk in chunks]
            return classifier.predict(Chain.encoded(encoder.encode, texts, chunks[0]["question"]))

        return tag, classifier.source
    from backend.models.loading import load_model

    loaded = load_model(name)
    return lambda chunks: label_with_chat_model(loaded, [chunk["text"] for chunk in chunks]), f"labeller {loaded.name}"
