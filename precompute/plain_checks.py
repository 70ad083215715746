"""What is computed here of one chunk, beside the same by the model's own forward pass and a plain forward hook.

Nothing of this project's passes is in the plain side: blocks are found as the list of `num_hidden_layers` modules, the
residual stream is what a hook on a block is given, a step is added in such a hook, and a KL is that of two rows of
logits in float64. The hooks hang on a private copy and are gone afterwards.

Rounding sets the bounds: residuals and logits of each token within 1e-4 of their length (a first token may be a
thousand times longer than the others), a KL within 1 % and 1e-7 nats.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.cot.chunking import chunk_spans, token_spans
from backend.geometry.directions import Direction, random
from backend.geometry.sweep import Predictions, predicting_positions, steering_edits
from backend.models.edits import encode
from backend.models.kl import kl_reference
from backend.models.layers import private_copy
from backend.models.residuals import record_residuals
from backend.models.sampling import SampleRequest, SamplingParameters, end_tokens, sample

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

COT = (
    "There are 12 boxes, and each holds 7 pens.\nSo there are 12 * 7 = 84 pens in all.\n"
    "Wait, let me check that again: 10 * 7 = 70 and 2 * 7 = 14, so 70 + 14 = 84.\nThe final answer is \\boxed{84}."
)
_SHARE, _KL_SHARE, _KL_LEAST = 1e-4, 1e-2, 1e-7
_STEPS = 4  # tokens that are continued greedily
_BETA = 1.0
_FORWARD_TOKENS, _SAMPLED_TOKENS, _MOST_ROWS = 512, 16, 32


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    what: str
    found: str
    fault: str | None = None  # why it is not as it should be


@dataclass(frozen=True)
class Chunk:
    """A text as the study would have it, and the chunk that is looked at."""

    token_ids: list[int]
    span: tuple[int, int]  # its tokens


def chunk_of(loaded: "LoadedModel", prompt: str) -> Chunk:
    """The second chunk of a short chain of thought after the prompt."""
    read = loaded.tokenizer(prompt + COT, add_special_tokens=False, return_offsets_mapping=True)
    spans = token_spans(chunk_spans(COT), read["offset_mapping"], len(prompt))
    return Chunk(list(read["input_ids"]), spans[1])


def checks(loaded: "LoadedModel", chunk: Chunk, layers: Sequence[int], *, seed: int) -> Iterator[Check]:
    """Of one model. Raises what the passes raise: a pass that fails is a fault too, of whoever asks."""
    yield _logits(loaded, chunk)
    for layer in layers:
        yield _residual(loaded, chunk, layer)
    for layer in layers:
        direction = random(1, loaded.d_model, model_id=loaded.model_id, layer=layer, seed=seed).made[0]
        yield _steered(loaded, chunk, direction)
        yield _unsteered(loaded, chunk, direction)
    yield _greedy(loaded, chunk)


@torch.inference_mode()
def _logits(loaded: "LoadedModel", chunk: Chunk) -> Check:
    ours = encode(loaded, chunk.token_ids, layers=[]).base_logits(range(len(chunk.token_ids)))
    plain = _forward(loaded.model, chunk.token_ids)
    return _close("logits against transformers' own pass", ours, plain)


@torch.inference_mode()
def _residual(loaded: "LoadedModel", chunk: Chunk, layer: int) -> Check:
    ours = record_residuals(loaded, chunk.token_ids, [layer])[layer]
    return _close(f"residual stream at layer {layer} against a hook", ours, _hooked(loaded, chunk, layer))


@torch.inference_mode()
def _steered(loaded: "LoadedModel", chunk: Chunk, direction: Direction) -> Check:
    """One step of β = 1 RMS at the token before the chunk."""
    layer, position = direction.layer, chunk.span[0] - 1
    where = predicting_positions(chunk.span)
    encoded = encode(loaded, chunk.token_ids, layers=[layer])
    edits = steering_edits(encoded, chunk.span, direction, "anchor", [_BETA], "rms")
    ours = float(Predictions(encoded, where).kl(edits).mean())
    h = _hooked(loaded, chunk, layer)[position].double()
    vector = torch.as_tensor(direction.vector, device=h.device).double()
    step = (_BETA * h.square().mean().sqrt() * vector).to(loaded.model.dtype)

    def add(residual: torch.Tensor) -> torch.Tensor:
        moved = residual.clone()
        moved[0, position] += step
        return moved

    model = private_copy(loaded.model)
    base = _forward(model, chunk.token_ids)
    with _hook(model, layer, add):
        steered = _forward(model, chunk.token_ids)
    plain = float(kl_reference(steered[where], base[where]).mean())
    what = f"KL of a step at layer {layer} against a hook"
    off = abs(ours - plain)
    fault = None if off <= _KL_SHARE * plain + _KL_LEAST else f"{ours:.6g} nats here, {plain:.6g} by the hook"
    return Check(what, f"{ours:.4g} nats, off by {off:.1g}", fault)


@torch.inference_mode()
def _unsteered(loaded: "LoadedModel", chunk: Chunk, direction: Direction) -> Check:
    encoded, where = encode(loaded, chunk.token_ids, layers=[direction.layer]), predicting_positions(chunk.span)
    edits = steering_edits(encoded, chunk.span, direction, "anchor", [0.0], "rms")
    same = torch.equal(encoded.logits(edits, where)[0], encoded.base_logits(where))
    kl = float(Predictions(encoded, where).kl(edits).abs().max())
    fault = None if same and kl == 0 else f"a step of size 0 moves the predictions (KL {kl:.3g})"
    return Check(f"a step of size 0 at layer {direction.layer}", "equal bit for bit", fault)


@torch.inference_mode()
def _greedy(loaded: "LoadedModel", chunk: Chunk) -> Check:
    """A few tokens continued greedily; where the two largest logits are equal but for rounding either may come."""
    from transformers import GenerationConfig

    ids, n = chunk.token_ids[: chunk.span[1]], chunk.span[1]
    parameters = SamplingParameters(0.0, 1.0, _STEPS)
    (ours,) = sample(loaded, {"text": ids}, [SampleRequest("greedy", "text", n, 0)], parameters)
    ends = end_tokens(loaded)
    how = GenerationConfig(
        max_new_tokens=_STEPS,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=sorted(ends),
        pad_token_id=min(ends),
    )
    tokens = torch.tensor([ids], device=loaded.model.device)
    written = private_copy(loaded.model).generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=how)
    plain = [token for token in written[0, n:].cpu().tolist() if token not in ends]
    here = list(ours.token_ids)
    what = f"{_STEPS} tokens against generate, greedy"
    if here == plain:
        return Check(what, f"the same: {loaded.tokenizer.decode(here)!r}")
    k = next((k for k, pair in enumerate(zip(here, plain, strict=False)) if pair[0] != pair[1]), len(plain))
    two = _forward(loaded.model, [*ids, *plain[:k]])[-1].topk(2).values
    if float(two[0] - two[1]) <= _SHARE * float(two[0].abs()):
        return Check(what, f"the same up to a tie at token {k + 1}")
    words = f"{loaded.tokenizer.decode(here)!r} here, {loaded.tokenizer.decode(plain)!r} by generate"
    return Check(what, words, f"they part at token {k + 1}: {words}")


def training_step(residuals: Sequence[torch.Tensor], settings: dict[str, Any], *, device: str) -> Check:
    """One step of a dictionary on what the models read in the chunk's text, `residuals` (n_tokens, d_model) of each."""
    from backend.crosscoder.train import Settings, Trainer

    widths = tuple(residual.shape[-1] for residual in residuals)
    n = min(len(residual) for residual in residuals)
    rows = torch.zeros(n, len(residuals), max(widths), device=device)
    for number, residual in enumerate(residuals):
        own = residual[:n].float().to(device)
        rows[:, number, : widths[number]] = own / own.square().sum(-1).mean().sqrt()
    own_widths = widths if len(set(widths)) > 1 else None
    trainer = Trainer(Settings(n_models=len(widths), width=max(widths), widths=own_widths, **settings), device=device)
    first = trainer.step(rows).loss
    second = trainer.step(rows).loss
    fault = None if torch.isfinite(torch.tensor([first, second])).all() else f"its loss is {first}, then {second}"
    return Check("two steps of the dictionary", f"loss {first:.4g}, then {second:.4g}", fault)


def throughput(loaded: "LoadedModel", chunk: Chunk, *, rows: int) -> Iterator[Check]:
    """Tokens a second through a forward pass, and drawn in a batch."""
    ids = (chunk.token_ids * (_FORWARD_TOKENS // len(chunk.token_ids) + 1))[:_FORWARD_TOKENS]
    encode(loaded, ids[:64], layers=[])
    seconds = _seconds(loaded, lambda: encode(loaded, ids, layers=[]))
    yield Check("reading", f"{len(ids) / seconds:,.0f} tokens a second ({len(ids)} tokens)")
    n = min(rows, _MOST_ROWS)
    requests = [SampleRequest(f"r{k}", "text", chunk.span[1], k) for k in range(n)]
    drawn = 0

    def draw() -> None:
        nonlocal drawn
        parameters = SamplingParameters(1.0, 1.0, _SAMPLED_TOKENS)
        drawn = sum(len(one.token_ids) + 1 for one in sample(loaded, {"text": chunk.token_ids}, requests, parameters))

    seconds = _seconds(loaded, draw)
    yield Check("sampling", f"{drawn / seconds:,.0f} tokens a second ({n} rows)")


def _seconds(loaded: "LoadedModel", work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if loaded.model.device.type == "cuda":
        torch.cuda.synchronize(loaded.model.device)
    return time.perf_counter() - started


def _close(what: str, ours: torch.Tensor, plain: torch.Tensor) -> Check:
    """Rows (n_tokens, n) against one another, each by its own length."""
    off = float(((ours.double() - plain.double()).norm(dim=-1) / plain.double().norm(dim=-1)).max())
    fine = off <= _SHARE  # not of what is NaN
    return Check(what, f"off by {off:.1g} of it", None if fine else f"they differ by {off:.2g} of it at some token")


def _forward(model: nn.Module, token_ids: Sequence[int]) -> torch.Tensor:
    device = next(model.parameters()).device
    return model(input_ids=torch.tensor([list(token_ids)], device=device), use_cache=False).logits[0]


def _hooked(loaded: "LoadedModel", chunk: Chunk, layer: int) -> torch.Tensor:
    found: list[torch.Tensor] = []
    model = private_copy(loaded.model)
    with _hook(model, layer, lambda residual: found.append(residual[0].clone())):
        _forward(model, chunk.token_ids)
    return found[0]


@contextmanager
def _hook(model: Any, layer: int, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """A plain forward hook on a block; what `change` gives, if anything, takes the residual stream's place."""
    n_layers = model.config.get_text_config().num_hidden_layers
    blocks = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers)

    def hook(_block: nn.Module, _given: Any, output: Any) -> Any:
        changed = change(output if isinstance(output, torch.Tensor) else output[0])
        if changed is None or isinstance(output, torch.Tensor):
            return changed
        return (changed, *output[1:])

    handle = blocks[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
