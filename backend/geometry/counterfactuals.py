"""Steering just before an anchor and just after it, from what it says towards what the model says in its place.

1. a is the anchor's activation: its mean residual stream at layer ℓ. a_counter is the same of what stands in its place
   in its *dissimilar* rollouts: each rollout's first chunk, read by the model in its own context (prompt + the chunks
   before the anchor + that chunk, one tokenisation of the whole), mean over the rollouts. A text that several rollouts
   wrote is read once and counts as often as it was written.
2. The direction is v = a − a_counter, and β counts lengths of v: h ← h + β·v at one token. β = −1 takes the anchor's
   activation to the counterfactual one, β = 0 changes nothing. β runs over [−1, 0].
3. Place j of the CoT is the last token of its first j chunks: an anchor i is steered just before it at place i (token
   s−1) and just after it at place i+1 (token e−1). `kl_rest` is the mean of KL(steered ‖ base) over the predictions of
   the CoT's tokens after the anchor, the same tokens for both; at places behind it, over those after the place.
   `kl_answer` is over the answer's tokens. Beside each stands the same along random directions, v's length long.
4. Single alternatives are first chunks of the rollouts, each by itself: v_k = a − a_k. An anchor's are steered at every
   place of the CoT at β = −1, each beside a random direction of its length: from them it is told whether what they do
   falls along the CoT gradually or in a step (`anchor_effects.py`).
5. Attention to the anchor: mean weight that the CoT's tokens after it pay to its tokens, over heads, at each layer
   above ℓ; unsteered, and steered before and after at β = −1, along v and along the random directions.

Source: what is measured is proposed in Dawes 2025, "Features and Logits"; the controls are ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.chunking import chunk_spans, token_spans
from backend.errors import AnchorscopeError
from backend.geometry import directions
from backend.geometry.before_after import floors_of_the_rest, kl_at
from backend.geometry.directions import Direction, Refused, unit
from backend.ids import chunk_index, stable_id

if TYPE_CHECKING:
    from backend.models.edits import Edit, Encoded
    from backend.models.loaded import LoadedModel

# What a chunk is steered along: v, a random direction of v's length, one alternative's v_k, a random one of v_k's.
TOWARDS, RANDOM, ALTERNATIVE, RANDOM_ALTERNATIVE = "counterfactual", "random", "alternative", "random_alternative"
ARMS = (TOWARDS, RANDOM, ALTERNATIVE, RANDOM_ALTERNATIVE)
UNSTEERED = "unsteered"  # of attention
BEFORE, AFTER, NOWHERE = "before", "after", "none"  # sides


class CounterfactualError(AnchorscopeError):
    """Counterfactuals that cannot be read as asked."""


@dataclass(frozen=True)
class Alternative:
    """What rollouts wrote in a chunk's place, in its context."""

    token_ids: tuple[int, ...]  # prompt + chunks before + this one
    span: tuple[int, int]  # its tokens there
    n: int  # rollouts that wrote it


@dataclass(frozen=True)
class Anchor:
    """A chunk to steer before and after: an anchor, or what is compared with one."""

    chunk_id: str
    span: tuple[int, int]
    alternatives: tuple[Alternative, ...]  # what the most rollouts wrote first
    everywhere: bool  # its alternatives are steered at every place of the CoT


@dataclass(frozen=True)
class Text:
    """A chain of thought as the model reads it."""

    token_ids: tuple[int, ...]  # those of `before_after.tokens_read`
    spans: Mapping[str, tuple[int, int]]  # of all chunks that have tokens, in reading order
    n_prompt: int
    answer: tuple[int, int] | None  # that of `before_after.answer_span`


@dataclass(frozen=True)
class Wanted:
    """How chunks are steered."""

    layers: tuple[int, ...]
    betas: tuple[float, ...]  # lengths of v
    n_random: int  # random directions of v's length
    n_alternatives: int  # of an anchor, steered at every place
    seed: int  # of the random directions


@dataclass(frozen=True)
class CounterfactualRows:
    """Rows of the tables `directions`, `counterfactuals`, `anchor_steering` and `anchor_attention`."""

    directions: list[dict[str, Any]] = field(default_factory=list)
    counterfactuals: list[dict[str, Any]] = field(default_factory=list)
    anchor_steering: list[dict[str, Any]] = field(default_factory=list)
    anchor_attention: list[dict[str, Any]] = field(default_factory=list)


def first_chunk_written(rollout: Mapping[str, Any], chunk_text: str) -> str:
    """A rollout's first chunk with the white space around it, as the model wrote it; where only the stripped sentence
    is known, behind the white space that the chunk in its place begins with.
    """
    if rollout["text"] is not None:
        return str(rollout["text"])[slice(*chunk_spans(rollout["text"])[0])]
    return chunk_text[: len(chunk_text) - len(chunk_text.lstrip())] + str(rollout["resampled_chunk"])


def alternatives(tokenizer: Any, context: str, texts: Mapping[str, int]) -> tuple[Alternative, ...]:
    """Each text read after `context` (prompt + chunks before), the most frequent first; `texts` says how many rollouts
    wrote each. One in which no token starts is left out.
    """
    found = []
    for text, n in sorted(texts.items(), key=lambda one: (-one[1], one[0])):
        encoded = tokenizer(context + text, add_special_tokens=False, return_offsets_mapping=True)
        ((start, end),) = token_spans([(0, len(text))], encoded["offset_mapping"], len(context))
        if start < end:
            found.append(Alternative(tuple(encoded["input_ids"]), (start, end), n))
    return tuple(found)


def counterfactuals_cot(
    loaded: "LoadedModel", text: Text, anchors: Sequence[Anchor], wanted: Wanted
) -> CounterfactualRows:
    """All rows of one CoT. A chunk whose v cannot be had (its activation is the counterfactual one) has its row in
    `counterfactuals` and no others.

    Raises CounterfactualError for a span that is none of the CoT's, or alternatives with another context.
    """
    from backend.geometry.sweep import check_float32, noise_floor
    from backend.models.edits import encode

    check_float32(loaded)
    _check(text, anchors)
    rows = CounterfactualRows()
    if not anchors:
        return rows
    encoded = encode(loaded, text.token_ids, layers=wanted.layers)
    floors = floors_of_the_rest(noise_floor(loaded, text.token_ids, text.spans, encoded=encoded), text.spans)
    for anchor in anchors:
        read = [_activations(encoded, one, wanted.layers) for one in anchor.alternatives]
        for layer in wanted.layers:
            steered = _Steered.of(loaded, encoded, anchor, [one[layer] for one in read], layer, wanted)
            rows.counterfactuals.append(steered.row() | {"noise_floor": floors[anchor.chunk_id]})
            rows.directions.extend(one.row() for one in steered.made)
            if steered.towards is not None:
                rows.anchor_steering.extend(_steering(encoded, text, steered, wanted))
                rows.anchor_attention.extend(_attention(encoded, text, steered, wanted))
    return rows


def _activations(encoded: "Encoded", one: Alternative, layers: Sequence[int]) -> dict[int, np.ndarray]:
    """Mean residual stream over the alternative's tokens, (d_model,) float64, by layer. What it begins with of the
    encoded text is not read again.
    """
    (start, end), pairs = one.span, zip(one.token_ids[:-1], encoded.token_ids, strict=False)
    shared = next((k for k, (own, base) in enumerate(pairs) if own != base), None)
    shared = min(len(one.token_ids) - 1, len(encoded.token_ids)) if shared is None else shared
    if shared == 0:
        raise CounterfactualError(
            "What was resampled begins with another token than its chain of thought; both must be read with the"
            " tokenizer of the model that the study's chunks were made for."
        )
    stream = encoded.continued(shared, one.token_ids[shared:], layers)
    means = {}
    for layer in layers:
        parts = encoded.residual(layer)[start:shared], stream[layer][max(start - shared, 0) : end - shared]
        means[layer] = np.concatenate([part.double().cpu().numpy() for part in parts]).mean(0)
    return means


@dataclass(frozen=True)
class _Steered:
    """A chunk at one layer with all that it is steered along."""

    anchor: Anchor
    layer: int
    model_id: str
    towards: Direction | None  # v; None where it points nowhere
    single: tuple[Direction, ...]  # v_k
    random: tuple[Direction, ...]
    cosine: float  # of a and a_counter
    own_norm: float  # of a
    why_not: str | None

    @classmethod
    def of(
        cls,
        loaded: "LoadedModel",
        encoded: "Encoded",
        anchor: Anchor,
        counter: Sequence[np.ndarray],
        layer: int,
        wanted: Wanted,
    ) -> "_Steered":
        """`counter` are the alternatives' activations, (d_model,) each."""
        start, end = anchor.span
        own = encoded.residual(layer)[start:end].double().mean(0).cpu().numpy()
        place: dict[str, Any] = {"model_id": loaded.model_id, "layer": layer, "chunk_id": anchor.chunk_id}
        weights = np.array([one.n for one in anchor.alternatives], float)
        mean = weights @ np.array(counter) / weights.sum()
        texts = [stable_id("t", one.token_ids[one.span[0] :], one.n) for one in anchor.alternatives]
        about = {"texts": stable_id("s", *texts), "n_texts": len(texts), "n_rollouts": int(weights.sum())}
        made = unit(TOWARDS, own - mean, **place, parameters=about)
        n_random = max(wanted.n_random, wanted.n_alternatives if anchor.everywhere else 0)
        random = directions.random(n_random, len(own), model_id=loaded.model_id, layer=layer, seed=wanted.seed).made
        single = [
            unit(TOWARDS, own - one, **place, parameters={"alternative": text})
            for one, text in zip(counter[: wanted.n_alternatives], texts, strict=False)
            if anchor.everywhere
        ]
        return cls(
            anchor,
            layer,
            loaded.model_id,
            None if isinstance(made, Refused) else made,
            tuple(one for one in single if isinstance(one, Direction)),
            random,
            float(own @ mean / (np.linalg.norm(own) * np.linalg.norm(mean))),
            float(np.linalg.norm(own)),
            made.reason if isinstance(made, Refused) else None,
        )

    @property
    def made(self) -> tuple[Direction, ...]:
        return (*((self.towards,) if self.towards else ()), *self.single, *self.random)

    def row(self) -> dict[str, Any]:
        """Of the table `counterfactuals`, as far as it is about the vector."""
        return {
            "chunk_id": self.anchor.chunk_id,
            "model_id": self.model_id,
            "layer": self.layer,
            "direction_id": self.towards and self.towards.direction_id,
            "norm": self.towards and self.towards.norm,
            "activation_norm": self.own_norm,
            "cosine": self.cosine,
            "n_rollouts": sum(one.n for one in self.anchor.alternatives),
            "n_texts": len(self.anchor.alternatives),
            "why_not": self.why_not,
        }

    def along(self, n_random: int) -> Iterator["_Arm"]:
        """v and the random directions of its length."""
        assert self.towards is not None
        yield _Arm(TOWARDS, 0, self.towards, self.towards.norm)
        for number, one in enumerate(self.random[:n_random]):
            yield _Arm(RANDOM, number, one, self.towards.norm)

    def along_alternatives(self) -> Iterator["_Arm"]:
        """Each v_k and a random direction of its length."""
        for number, (one, other) in enumerate(zip(self.single, self.random, strict=False)):
            yield _Arm(ALTERNATIVE, number, one, one.norm)
            yield _Arm(RANDOM_ALTERNATIVE, number, other, one.norm)


@dataclass(frozen=True)
class _Arm:
    name: str  # one of ARMS
    number: int
    direction: Direction
    norm: float  # of the step at β = −1

    def edits(self, encoded: "Encoded", at: int, betas: Sequence[float]) -> "list[Edit]":
        """One for each β, at the token before position `at`."""
        from backend.geometry.sweep import steering_edits

        steps = [beta * self.norm for beta in betas]
        return steering_edits(encoded, (at, at), self.direction, "anchor", steps, "absolute")


def _steering(encoded: "Encoded", text: Text, steered: _Steered, wanted: Wanted) -> Iterator[dict[str, Any]]:
    from backend.geometry.sweep import predicting_positions

    index, (_, end) = chunk_index(steered.anchor.chunk_id), steered.anchor.span
    cot_end = max(last for _, last in text.spans.values())
    for place, at in _places(text.spans).items():
        asked = [(arm, beta) for arm in steered.along_alternatives() for beta in (-1.0,)]
        if place in (index, index + 1):
            asked = [(arm, beta) for arm in steered.along(wanted.n_random) for beta in wanted.betas] + asked
        rest = predicting_positions((max(end, at), cot_end))
        answer = predicting_positions(text.answer) if text.answer is not None and text.answer[0] >= at else []
        edits = [edit for arm, beta in asked for edit in arm.edits(encoded, at, [beta])]
        positions = sorted({*rest, *answer})
        kl = kl_at(encoded, edits, positions)
        of_rest, of_answer = np.isin(positions, rest), np.isin(positions, answer)
        for (arm, beta), values in zip(asked, kl, strict=True):
            yield {
                "chunk_id": steered.anchor.chunk_id,
                "model_id": steered.model_id,
                "layer": steered.layer,
                "arm": arm.name,
                "number": arm.number,
                "place": place,
                "beta": beta,
                "direction_id": arm.direction.direction_id,
                "norm": arm.norm,
                "kl_rest": float(values[of_rest].mean()) if rest else None,
                "n_rest": len(rest),
                "kl_answer": float(values[of_answer].mean()) if answer else None,
                "n_answer": len(answer),
            }


def _places(spans: Mapping[str, tuple[int, int]]) -> dict[int, int]:
    """By place (chunks of the CoT before it), the first token behind it."""
    before = {chunk_index(chunk): start for chunk, (start, _) in spans.items()}
    return dict(sorted(({chunk_index(chunk) + 1: end for chunk, (_, end) in spans.items()} | before).items()))


def _attention(encoded: "Encoded", text: Text, steered: _Steered, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """None of a model in which it cannot be had, above its last layer, and where nothing follows the chunk."""
    from backend.models.edits import Edit

    (start, end), cot_end = steered.anchor.span, max(last for _, last in text.spans.values())
    if not encoded.is_shared_prefix or end == cot_end or steered.layer + 1 == len(encoded.parts.blocks):
        return
    sides = ((BEFORE, start), (AFTER, end))
    arms = [(side, at, arm) for side, at in sides for arm in steered.along(wanted.n_random)]
    unsteered = Edit(steered.layer, (start - 1,), lambda h: h)
    edits = [unsteered, *(edit for _, at, arm in arms for edit in arm.edits(encoded, at, [-1.0]))]
    found = encoded.attention(edits, layer=steered.layer, keys=(start, end), queries=(end, cot_end))
    names = [(NOWHERE, UNSTEERED, 0), *((side, arm.name, arm.number) for side, _, arm in arms)]
    for (side, name, number), by_layer in zip(names, found.double().cpu().numpy(), strict=True):
        yield {
            "chunk_id": steered.anchor.chunk_id,
            "model_id": steered.model_id,
            "layer": steered.layer,
            "side": side,
            "arm": name,
            "number": number,
            "attention": float(by_layer.mean()),
            "by_layer": by_layer.tolist(),
            "n_keys": end - start,
            "n_queries": cot_end - end,
        }


def _check(text: Text, anchors: Sequence[Anchor]) -> None:
    for anchor in anchors:
        if text.spans.get(anchor.chunk_id) != anchor.span:
            raise CounterfactualError(
                f"Chunk {anchor.chunk_id} has token span {list(anchor.span)}, which is none of the chain's chunks."
            )
        if not max(1, text.n_prompt) <= anchor.span[0] < anchor.span[1] or not anchor.alternatives:
            raise CounterfactualError(
                f"Chunk {anchor.chunk_id} needs tokens after the prompt, and at least one dissimilar rollout; it has"
                f" token span {list(anchor.span)} and {len(anchor.alternatives)} texts."
            )
