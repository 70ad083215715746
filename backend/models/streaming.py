"""Two continuations side by side, token by token, each with what the other would have said.

1. Two arms continue a text: `base` as it is, `changed` under edits of the residual stream (or after an edit of the text
   itself).
2. Both draw with the same random numbers, so they write the same until the change makes a difference.
3. Beside each arm runs a shadow: the other arm's text and edits, fed this arm's tokens. So every token comes with the
   distributions it had in both, after the same tokens, and with KL(changed ‖ base) between them.
4. The four rows share one batch: where matrix products are bounded by reading the weights, they cost what one row
   costs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.models.edits import Edit, Encoded
from backend.models.kl import kl_divergence
from backend.models.sampling import (
    PlainRows,
    SampleRequest,
    SamplingError,
    SamplingParameters,
    SharedRows,
    end_tokens,
    next_tokens,
    require_end,
    uniform,
    uses_shared_prefixes,
)

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel

_CANDIDATES = 16  # tokens of each side that are looked at for the alternatives


@dataclass(frozen=True)
class Arm:
    """What is continued: a text, the edits it is under, and, where there is one, an encoding of a text that begins with
    it.
    """

    token_ids: tuple[int, ...]
    edits: tuple[Edit, ...] = ()
    encoded: Encoded | None = None


@dataclass(frozen=True)
class Drawn:
    """One token of one arm."""

    token_id: int
    # KL(changed ‖ base) of the distributions it was drawn from and would have been drawn from, nats, at temperature 1
    kl: float
    top: tuple[
        tuple[int, float, float], ...
    ]  # token id, probability in base, in changed; the most probable of both, most probable first


@dataclass(frozen=True)
class Pair:
    """One step: what each arm wrote, None for an arm that has ended."""

    base: Drawn | None
    changed: Drawn | None
    finish: dict[str, str]  # arm -> eos or cap, for those that end with this step


def stream(
    loaded: "LoadedModel", base: Arm, changed: Arm, parameters: SamplingParameters, *, seed: int, n_top: int = 8
) -> Iterator[Pair]:
    """Both continuations, one step at a time, until both have ended or the caller stops asking.

    Each arm's tokens depend on the model, its text, its edits, the parameters and the seed alone. Raises SamplingError
    for a text that does not fit the model's positions, EditError for an edit that cannot be made.
    """
    require_end(loaded)
    arms = {"base": base, "changed": changed}
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    for name, arm in arms.items():
        if not arm.token_ids:
            raise SamplingError(f"The {name} text has no tokens; there is nothing to continue.")
        if limit is not None and len(arm.token_ids) + parameters.max_new_tokens > limit:
            raise SamplingError(
                f"The {name} text has {len(arm.token_ids)} tokens; continued by up to {parameters.max_new_tokens} they"
                f" do not fit the model's {limit} positions. Ask for fewer new tokens or shorten the text."
            )
    rows = _rows(loaded, arms, parameters)
    ends = end_tokens(loaded)
    rows_of = {"base": (0, 1), "changed": (2, 3)}  # (the arm's own row, its shadow)
    order = [arms["base"], arms["changed"], arms["changed"], arms["base"]]
    tokens = [arm.token_ids[-1] for arm in order]
    finished: dict[str, str] = {}
    for step in range(parameters.max_new_tokens):
        logits = rows.logits(tokens)
        drawn: dict[str, Drawn | None] = {"base": None, "changed": None}
        ended = {}
        for name, (own, shadow) in rows_of.items():
            if name in finished:
                continue
            token = next_tokens(logits[own : own + 1], [uniform(seed, step)], parameters)[0]
            tokens[own] = tokens[shadow] = token
            if token in ends:
                ended[name] = "eos"
                continue
            in_base, in_changed = (own, shadow) if name == "base" else (shadow, own)
            drawn[name] = _compared(token, logits[in_base], logits[in_changed], n_top)
            if step + 1 == parameters.max_new_tokens:
                ended[name] = "cap"
        finished |= ended
        yield Pair(drawn["base"], drawn["changed"], ended)
        if len(finished) == 2:
            return


@torch.inference_mode()
def _compared(token: int, base: torch.Tensor, changed: torch.Tensor, n_top: int) -> Drawn:
    """`base` and `changed` are logits (vocab_size,) after the same tokens."""
    p, q = base.double().softmax(-1), changed.double().softmax(-1)
    kl = 0.0 if torch.equal(base, changed) else float(kl_divergence(changed[None], base[None])[0])
    likely = torch.cat([one.topk(min(_CANDIDATES, len(one))).indices for one in (p, q)]).cpu().tolist()
    shown = list({token, *likely})
    found = dict(zip(shown, torch.stack([p[shown], q[shown]], 1).cpu().tolist(), strict=True))  # token -> p, q
    ranked = sorted(shown, key=lambda t: (-max(found[t]), t))
    kept = ranked[:n_top] + ([token] if token not in ranked[:n_top] else [])
    return Drawn(token, kl, tuple((t, *found[t]) for t in kept))


class _Separate:
    """Rows on the plain path, one forward pass each: in a batch, a row's last bits may depend on where in the batch it
    stands.
    """

    def __init__(self, rows: Sequence[PlainRows]) -> None:
        self._rows = rows

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.cat([row.logits([token]) for row, token in zip(self._rows, tokens, strict=True)])


def _rows(loaded: "LoadedModel", arms: dict[str, Arm], parameters: SamplingParameters) -> "SharedRows | _Separate":
    """Rows base, changed, changed, base."""
    base, changed = arms["base"], arms["changed"]
    if uses_shared_prefixes(loaded) and all(
        arm.encoded is None or arm.encoded.is_shared_prefix for arm in arms.values()
    ):
        rows = SharedRows(loaded, parameters, 4, multiple=1)
        for name, arm in arms.items():
            rows.encode(name, arm.token_ids, arm.edits, arm.encoded)
        for number, name in enumerate(("base", "changed", "changed", "base")):
            rows.add(SampleRequest(f"{number}", name, len(arms[name].token_ids), 0), arms[name].token_ids[-1])
        return rows
    return _Separate([PlainRows(loaded, arm.token_ids, [arm.edits]) for arm in (base, changed, changed, base)])
