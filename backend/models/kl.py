"""KL( steered ‖ base ) over the whole vocabulary, in nats, without losing what is small.

Naive float32 subtracts two nearly equal sums and turns negative at small perturbations. Here, with p the steered
distribution:
- reference: log-softmax and sums in float64;
- `kl_divergence`: Σ p·(expm1(δ) − δ) with δ = log q − log p. Every term is ≥ 0, so float32 terms summed in float64 keep
  their digits;
- `BaseDistribution.kl`: the same sum without ever holding the logits. With q known, y = Δlogits − (any constant of the
  row), and
  ψ(y) = y·e^y − e^y + 1 ≥ 0:  KL = (Σ q·ψ(y) − ψ(log Z)) / Z,  Z = Σ q·e^y.
  Δlogits is the unembedding of the *change* of the last residual, so small changes keep all their digits, and one block
  of the vocabulary at a time goes through it while it lies in the cache. Rows too close to 0, or too large, for float32
  are done again in float64.
"""

import functools
import math
from dataclasses import dataclass, field

import torch

from backend.errors import AnchorscopeError
from backend.models.linear import linear

_BLOCK_VALUES = 400 * 2048  # values of one block of logits: three such blocks fit the L3 cache of a small machine
_SMALL = 0.02  # |Δlogit| below which three terms of a series have all of float32's digits, without its loss near 0
_FAINT = 1e-8  # nats; below it float32's expm1 has lost digits that the sum needs
_CENTRE_TOKENS = 16  # the row's constant is the mean of Δlogits over the likeliest tokens
_EXACT_ROWS = 16  # rows done in float64 at a time


class KLError(AnchorscopeError):
    """Two distributions that cannot be compared."""


def kl_reference(steered_logits: torch.Tensor, base_logits: torch.Tensor) -> torch.Tensor:
    """KL( softmax(steered) ‖ softmax(base) ) in nats, (…), of logits (…, vocab_size); everything in float64."""
    _check(steered_logits, base_logits)
    log_p = steered_logits.double().log_softmax(-1)
    log_q = base_logits.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_divergence(steered_logits: torch.Tensor, base_logits: torch.Tensor) -> torch.Tensor:
    """KL( softmax(steered) ‖ softmax(base) ) in nats, (…) float64, of logits (…, vocab_size); terms in the logits' own
    precision.

    Never negative; exactly 0 for equal logits. Raises KLError for logits of different shapes or that are NaN or +∞.
    """
    _check(steered_logits, base_logits)
    p = steered_logits.softmax(-1)
    change = base_logits - steered_logits
    # log Σ p·e^change, about the mean change: an error in it enters the result only squared.
    centre = (p * change).sum(-1, keepdim=True)
    shift = centre + torch.log1p((p * torch.expm1(change - centre)).sum(-1, keepdim=True, dtype=torch.float64)).to(
        p.dtype
    )
    delta = change - shift
    terms = p * (torch.expm1(delta) - delta)
    total = terms.sum(-1, dtype=torch.float64)
    # Too faint for float32, or too large: e^δ overflows where the base all but excludes what the steered model does
    # not, or the reverse.
    again = change.any(-1) & (~(total > _FAINT) | ~torch.isfinite(total))
    for some in again.nonzero().split(_EXACT_ROWS):
        row = tuple(some.T)
        steered, base = steered_logits[row].double(), base_logits[row].double()
        total[row] = _exact(base.log_softmax(-1), steered - base)
    return total


def kl_between(log_p: torch.Tensor, p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p ‖ q) in nats, (…) float64, of log-probabilities (…, vocab_size): quick, and good to about 1e-6, which may
    fall below 0 near equality; exactly 0 where both are equal bit for bit. `log_q` is overwritten.
    """
    return torch.sub(log_p, log_q, out=log_q).mul_(p).sum(-1, dtype=torch.float64)


@dataclass(frozen=True)
class BaseDistribution:
    """The unedited model's next-token distribution at some positions, against which many steered ones are compared."""

    normed: torch.Tensor  # (n_positions, d_model), last residual stream after the final norm
    weight: torch.Tensor = field(repr=False)  # unembedding (vocab_size, d_model)
    logits: torch.Tensor = field(repr=False)  # (n_positions, vocab_size)
    probability: torch.Tensor = field(repr=False)  # (n_positions, vocab_size)
    total: torch.Tensor = field(
        repr=False
    )  # (n_positions, 1) float64: the sum of the stored probabilities, 1 but for rounding
    centre: torch.Tensor = field(
        repr=False
    )  # (n_positions, d_model): mean row of the unembedding over the likeliest tokens

    @functools.cached_property
    def _longest(self) -> torch.Tensor:
        """The most that a logit changes, beyond the mean over the likeliest tokens, for each unit of length of a
        change.
        """
        return self.weight.norm(dim=1).max() + self.centre.norm(dim=1).max()

    @torch.inference_mode()
    def kl(self, steered: torch.Tensor) -> torch.Tensor:
        """KL( steered ‖ base ) in nats, (n_rows, n_positions) float64, of normed last residuals (n_rows, n_positions,
        d_model).
        """
        n_rows, n_positions, d_model = steered.shape
        if (n_positions, d_model) != tuple(self.normed.shape):
            raise KLError(
                f"Steered residuals {tuple(steered.shape)} do not match the base's {tuple(self.normed.shape)} at its"
                " positions."
            )
        change = steered - self.normed
        finite, most = torch.isfinite(steered).all(), math.inf
        if on_cpu := change.device.type == "cpu":
            is_finite = bool(finite)
        else:  # one wait: no block of logits changes by more than this, so that none needs to be asked
            is_finite, most = torch.stack([finite, change.norm(dim=-1).max() * self._longest]).cpu().tolist()
        if not is_finite:
            raise KLError("The steered residual stream has values that are NaN or infinite.")
        constant = (change * self.centre).sum(-1, keepdim=True)
        flat = change.view(-1, d_model)
        divergence = torch.zeros(n_rows, n_positions, dtype=torch.float64, device=steered.device)  # Σ q·ψ(y)
        growth = torch.zeros_like(divergence)  # Z − Σ q
        all_small = True
        width = min(len(self.weight), max(64, _BLOCK_VALUES // len(flat)))
        space = torch.empty(
            2, len(flat) * width, dtype=flat.dtype, device=flat.device
        )  # reused: fresh pages cost more than the sums
        for start in range(0, len(self.weight), width):
            q = self.probability[:, start : start + width]
            y = linear(flat, self.weight[start : start + width]).view(n_rows, n_positions, -1).sub_(constant)
            u, psi = (one[: y.numel()].view_as(y) for one in space)
            if (max(map(abs, torch.stack(y.aminmax()).tolist())) if on_cpu else most) < _SMALL:
                torch.mul(y, 1 / 6, out=u).add_(1 / 2).mul_(y).add_(1).mul_(y)  # e^y − 1 = y + y²/2 + y³/6 + …
                torch.mul(y, 1 / 8, out=psi).add_(1 / 3).mul_(y).add_(1 / 2).mul_(y).mul_(
                    y
                )  # ψ(y) = y²/2 + y³/3 + y⁴/8 + …
            else:
                all_small = False
                torch.expm1(y, out=u)
                torch.sub(y, u, out=psi).addcmul_(u, y)  # ψ(y) = (y − u) + u·y
            divergence += psi.mul_(q).sum(-1)
            growth += u.mul_(q).sum(-1)
        excess = growth / self.total.T
        z = self.total.T + growth
        kl = (divergence - self.total.T * ((1 + excess) * torch.log1p(excess) - excess)) / z
        moved = change.any(-1)
        kl[~moved] = 0.0
        again = moved & (~(kl > (0 if all_small else _FAINT)) | ~torch.isfinite(kl))
        for some in again.nonzero().split(_EXACT_ROWS):
            row, position = some.T
            y = linear(change[row, position], self.weight).double()
            kl[row, position] = _exact(self.logits[position].double().log_softmax(-1), y)
        return kl


def _exact(log_q: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Σ p·(expm1(δ) − δ) in float64, from log q and y = Δlogits, both (…, vocab_size) float64: p = q·e^y / Z and δ =
    log Z − y.
    """
    delta = torch.logsumexp(log_q + y, -1, keepdim=True) - y
    p = torch.exp(log_q - delta)
    terms = p * (torch.expm1(delta) - delta)
    # Where p is 0 and e^δ infinite the term is q, of which it is the limit.
    return torch.where(torch.isfinite(terms), terms, log_q.exp() - p * (1 + delta)).sum(-1)


@torch.inference_mode()
def base_distribution(normed: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> BaseDistribution:
    """The distribution softmax(normed · weightᵀ + bias) of last residuals (n_positions, d_model), prepared for
    comparisons.
    """
    weight = weight.detach()
    logits = linear(normed, weight, bias)
    probability = logits.softmax(-1)
    top = probability.topk(min(_CENTRE_TOKENS, len(weight)), dim=-1)
    share = top.values / top.values.sum(-1, keepdim=True)
    centre = (share[..., None] * weight[top.indices]).sum(1)
    total = probability.sum(-1, keepdim=True, dtype=torch.float64)
    return BaseDistribution(normed, weight, logits, probability, total, centre)


def _check(steered_logits: torch.Tensor, base_logits: torch.Tensor) -> None:
    if steered_logits.shape != base_logits.shape:
        raise KLError(
            f"Logits of shapes {tuple(steered_logits.shape)} and {tuple(base_logits.shape)} cannot be compared."
        )
    for name, logits in (("steered", steered_logits), ("base", base_logits)):
        if not torch.isfinite(logits).all():
            raise KLError(f"The {name} logits have values that are NaN or infinite.")
