"""Interventions on a dictionary's features, as edits of the residual stream, and their effect on accuracy.

h is the residual stream of model m at layer ℓ and one token. It is changed so:

1. Codes f = encode(a_base, a_distilled) of what both models read at ℓ in the same tokens; for a sparse autoencoder,
   encode(h). The other model is never edited, and an edit at ℓ moves only what lies above ℓ: so f depends on the tokens
   alone, and is what the unedited models give (but for rounding, which may lift a code over its threshold).
   Teacher-forced, the other model takes one more forward pass of the text; while generating, it takes every token of
   every row as well.
2. Wanted codes f′, which differ from f in the chosen features K alone: `zero` 0 · `scale` c·f · `steer` f + β, β in
   units of the code · `patch` the partner's codes (below) · `reconstruct` f′ = f, the control; K is empty.
3. With the error kept, h ← h + Σ_K (f′_k − f_k)·W_dec,k^(m) / scale_m, summed in float64. What the dictionary does not
   explain stays in. Else (`replace`; the published variant) h ← the reconstruction of f′: with a poor dictionary that
   alone ruins the model, whatever K is, and only `reconstruct` beside it tells.

**The partner's codes.** A crosscoder has one f for both models, so "the other model's f" has to be said. Here it is
encode with the other model's scaled activation in both models' places: the codes if this model had read in the text
what the other did. Two equal models patch nothing. (Encoding the other's activation alone, with nothing in this model's
place, halves what the encoders of a shared feature add up to: most would be patched to 0 whether or not the models
differ.) Between models of unequal width it is refused: what one has does not fit the other's place.

A row of h in which no code changes is given back bit for bit: scale by 1, β = 0, zeroing what does not fire. Rows are
encoded 16 at a time, so that a row's last bits do not depend on how many others there are (see `sampling`). The first
token is never changed by `everywhere`: it is an attention sink, which dictionaries never see.

Source: "Decoding R1's CoT: Crosscoder Diffing and Steering Impact" (`replace`).
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from backend.cot.answers import extract_answer
from backend.cot.degeneration import compression_ratio, is_degenerate, reflection_words, repetition
from backend.cot.thinking_tokens import Spent, spent
from backend.cot.thoughts import closing_tag
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.shards import require_one_tokenizer
from backend.crosscoder.trials import Change
from backend.ids import seed_for
from backend.models.continuation import continuation_text
from backend.models.edits import Edit
from backend.models.interventions import InterventionError
from backend.models.sampling import ROW_MULTIPLE, SampleRequest, SamplingParameters, sampled_in_steps

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class FeatureIntervention:
    """One change of one model. Raises InterventionError for what does not exist or contradicts itself."""

    dictionary: Dictionary = field(repr=False)
    model: int  # which of the dictionary's models is changed: 0 base, 1 distilled
    layer: int  # 0-based block, of both models
    operation: str
    features: tuple[int, ...] = ()
    factor: float | None = None  # of scale
    beta: float | None = None  # of steer, in units of the code
    keep_error: bool = True  # False: `replace`

    def __post_init__(self) -> None:
        change = Change(self.operation, self.features, self.factor, self.beta, self.keep_error)
        n_models, named = self.dictionary.n_models, self.dictionary.facts.get("layer")
        if n_models > 2 or not 0 <= self.model < n_models:
            raise InterventionError(
                f"Model {self.model} of a dictionary of {n_models}; expected 0 of one model, or 0 or 1 of two."
            )
        if self.layer < 0 or (isinstance(named, int) and self.layer != named):
            wanted = f"{named}, which the dictionary is of" if isinstance(named, int) else "a block's number from 0 on"
            raise InterventionError(f"The layer is {self.layer}; expected {wanted}.")
        change.require(n_models, self.dictionary.n_features, self.dictionary.widths)

    @property
    def needs_partner(self) -> bool:
        """Whether what the other model reads is needed. Steering with the error kept depends on no code."""
        return self.dictionary.n_models == 2 and self._needs_codes

    @property
    def _needs_codes(self) -> bool:
        return not (self.operation == "steer" and self.keep_error)

    @cached_property
    def change(self) -> Callable[..., Tensor]:
        """`changed`, as one object: rows of a batch whose edits have the same change are encoded together."""
        return self.changed

    def edit(self, positions: Sequence[int], partner: "LoadedModel | None" = None, *, onward: bool = False) -> Edit:
        """The edit of model `model` at `positions`; `partner` is the other of the dictionary's models, read with the
        same tokens.
        """
        if self.needs_partner and partner is None:
            raise InterventionError(
                f"{self.operation} needs the codes of both models; pass the other model as the partner."
            )
        return Edit(self.layer, tuple(positions), self.change, onward, partner if self.needs_partner else None)

    def everywhere(self, n_tokens: int, partner: "LoadedModel | None" = None) -> Edit:
        """At every token but the first of a text of `n_tokens`, and at all that are generated after it."""
        if n_tokens < 2:
            raise InterventionError(
                f"The text has {n_tokens} tokens; expected 2 or more, as the first is never changed."
            )
        return self.edit(range(1, n_tokens), partner, onward=True)

    def changed(self, h: Tensor, other: Tensor | None = None) -> Tensor:
        """h (n, d_model) after the intervention, row by row; `other` (n, d_model) is the other model's residual stream,
        where needed.
        """
        activations = self._activations(h, other)
        blocks = torch.nn.functional.pad(activations, (0, 0, 0, 0, 0, -len(h) % ROW_MULTIPLE)).split(ROW_MULTIPLE)
        if not self.keep_error:
            return torch.cat([self._rebuilt(block) for block in blocks])[: len(h)].to(h)
        steps = [self._code_steps(block) for block in blocks]
        added = torch.cat([step.double() @ self._rows for step in steps])[: len(h)].to(h.device)
        is_changed = torch.cat(steps)[: len(h)].ne(0).any(1).to(h.device)
        return torch.where(is_changed[:, None], (h.double() + added).to(h.dtype), h)

    def _activations(self, h: Tensor, other: Tensor | None) -> Tensor:
        """(n, models, d_model) of what is there; steering with the error kept reads this model's alone, and no code."""
        own = {self.model: h} if other is None else {self.model: h, 1 - self.model: other}
        for model, stream in own.items():
            if stream.shape[-1] != (width := self.dictionary.width(model)):
                wanted = f"the dictionary's {width}"
                raise InterventionError(f"A residual stream has {stream.shape[-1]} values; expected {wanted}.")
        device = self.dictionary.encoder.device
        streams = [own[model].to(device, torch.float32) for model in sorted(own)]
        return streams[0][:, None] if other is None else self.dictionary.side_by_side(streams)

    def partner_codes(self, activations: Tensor) -> Tensor:
        """Codes (n, D) with the other model's activation in both models' places, from raw activations (n, 2,
        d_model)."""
        theirs, scale = activations[:, 1 - self.model], self.dictionary.scale
        both = activations.clone()
        both[:, self.model] = theirs * (scale[1 - self.model] / scale[self.model])  # the same once it is scaled
        return self.dictionary.encode(both)

    def _wanted(self, activations: Tensor, codes: Tensor) -> Tensor:
        """f′ of the chosen features, (n, |K|), from f (n, D)."""
        now = codes[:, list(self.features)]
        match self.operation:
            case "zero":
                return torch.zeros_like(now)
            case "scale":
                assert self.factor is not None  # of this operation, which is refused without it
                return self.factor * now
            case "steer":
                assert self.beta is not None
                return now + self.beta
            case "patch":
                return self.partner_codes(activations)[:, list(self.features)]
            case _:
                return now

    def _code_steps(self, activations: Tensor) -> Tensor:
        """f′ − f of the chosen features, (n, |K|)."""
        if not self._needs_codes:
            assert self.beta is not None  # of steering, which is refused without it
            return activations.new_full((len(activations), len(self.features)), self.beta)
        codes = self.dictionary.encode(activations)
        return self._wanted(activations, codes) - codes[:, list(self.features)]

    def _rebuilt(self, activations: Tensor) -> Tensor:
        """The model's part of the reconstruction of f′, (n, d_model)."""
        codes = self.dictionary.encode(activations)
        codes[:, list(self.features)] = self._wanted(activations, codes)
        return self.dictionary.reconstruction(codes, self.model)

    @cached_property
    def _rows(self) -> Tensor:
        """(|K|, the model's width) float64: the chosen features' decoder rows, in units of raw activations."""
        rows = self.dictionary.decoder[self.model, list(self.features), : self.dictionary.width(self.model)]
        return rows.double() / self.dictionary.scale[self.model].double()


def as_much(change: Change, own: Sequence[int], dictionary: Dictionary, twin: Dictionary, model: int) -> Change:
    """The change for features of a twin, which writes as much as it does for the features `own` of the dictionary: β of
    steering times the mean norm of theirs over that of the twin's rows. Other changes follow from codes and stay.
    """
    if change.beta is None:
        return change
    norms = [
        float(one.raw_rows(model)[list(some)].double().norm(dim=1).mean())
        for one, some in ((dictionary, own), (twin, change.features))
    ]
    return replace(change, beta=change.beta * norms[0] / norms[1])


# Accuracy runs


@dataclass(frozen=True)
class ArmSamples:
    """One unit of an accuracy run: all samples of one problem under one arm, in order of their number."""

    problem_id: str
    arm: str
    samples: tuple[Mapping[str, Any], ...]


def accuracy_run(
    models: Sequence["LoadedModel"],
    model: int,
    prompts: Mapping[str, str],
    arms: Mapping[str, Sequence[FeatureIntervention]],
    parameters: SamplingParameters,
    *,
    n: int,
    seed: int,
    done: Container[tuple[str, str]] = (),
    rows: int = 128,
    should_stop: Callable[[], bool] | None = None,
    watch: Callable[[int, Sequence[Mapping[str, Any]]], None] | None = None,
) -> Iterator[ArmSamples]:
    """`n` samples of model `model` for each problem under each arm, a unit as soon as it is whole, without those
    (problem, arm) in `done`.

    `models` are the dictionary's, the base model first; `prompts` maps problem ids to whole prompts. An arm is the
    interventions that its samples are under, taken in turn, each problem beginning with one that follows from its id
    and the seed; an empty one is without an edit. They hold at every token but the first. Sample k of a problem draws
    with the same random numbers in every arm and in both models, whatever else is sampled and whether the run is
    resumed.

    `watch` is told after every step how many tokens were drawn in it and which samples ended, units that are not whole
    yet included.

    Samples are not judged: `answer` is as written, None where there is none. A sample has problem_id, arm, sample,
    seed, features (changed in it), text, answer, finish, n_tokens, n_thinking, n_answer, thought, reflection_words,
    repetition, compression_ratio and degenerate.
    """
    require_one_tokenizer(models)
    loaded, partner = models[model], models[1 - model] if len(models) == 2 else None
    for arm, interventions in arms.items():
        if strangers := [one for one in interventions if one.model != model]:
            raise InterventionError(f"Arm {arm} changes model {strangers[0].model}, but model {model} is sampled.")
    sequences: dict[str, list[int]] = {}
    edits: dict[str, list[Edit]] = {}
    asked: dict[str, tuple[str, str, int, tuple[int, ...]]] = {}
    requests = []
    for problem, prompt in prompts.items():
        tokens = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        first = seed_for(seed, "first of an arm", problem)
        for arm, interventions in arms.items():
            if (problem, arm) in done:
                continue
            for number in range(n):
                turn = (first + number) % max(1, len(interventions))
                intervention = interventions[turn] if interventions else None
                name = f"{problem} {arm} {turn}"
                if name not in sequences:
                    sequences[name] = tokens
                    edits[name] = [intervention.everywhere(len(tokens), partner)] if intervention else []
                random_numbers = seed_for(seed, "feature intervention", problem, number)
                requests.append(SampleRequest(f"{problem} {arm} {number}", name, len(tokens), random_numbers))
                asked[requests[-1].request_id] = problem, arm, number, intervention.features if intervention else ()
    by_id = {request.request_id: request for request in requests}
    written: dict[tuple[str, str], list[dict[str, Any]]] = {}
    n_drawn = 0

    def count(n_rows: int) -> None:
        nonlocal n_drawn
        n_drawn += n_rows

    for ended in sampled_in_steps(
        loaded, sequences, requests, parameters, edits=edits, rows=rows, should_stop=should_stop, drawn=count
    ):
        found: list[dict[str, Any]] = []
        for drawn in ended:
            problem, arm, number, features = asked[drawn.request_id]
            request = by_id[drawn.request_id]
            text = continuation_text(loaded.tokenizer, sequences[request.sequence_id], drawn.token_ids)
            found.append(
                {
                    "problem_id": problem,
                    "arm": arm,
                    "sample": number,
                    "seed": request.seed,
                    "features": list(features),
                    "text": text,
                    "answer": extract_answer(text),
                    "finish": drawn.finish,
                    "n_tokens": len(drawn.token_ids),
                    **_spent(loaded, sequences[request.sequence_id], drawn.token_ids, prompts[problem]).row(),
                    "reflection_words": reflection_words(text),
                    "repetition": repetition(text),
                    "compression_ratio": compression_ratio(text),
                    "degenerate": is_degenerate(text),
                }
            )
        if watch is not None:
            watch(n_drawn, found)
            n_drawn = 0
        for row in found:
            unit = written.setdefault((row["problem_id"], row["arm"]), [])
            unit.append(row)
            if len(unit) == n:
                written.pop((row["problem_id"], row["arm"]))
                yield ArmSamples(row["problem_id"], row["arm"], tuple(sorted(unit, key=lambda one: one["sample"])))


def _spent(loaded: "LoadedModel", before: Sequence[int], drawn: Sequence[int], prompt: str) -> Spent:
    """Where the tokens of a solution went."""
    tag = closing_tag("", prompt)
    return spent(
        lambda k: continuation_text(loaded.tokenizer, before, drawn[:k], tag=tag), len(drawn), prompt=prompt, before=""
    )
