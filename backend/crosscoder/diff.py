"""What tells two models apart in a crosscoder: decoder norms, latent scaling, and how often and how well its features
fire.

Decoder norms say in which model a feature is written, but L1 training fakes features of one model: it may shrink a
decoder row to zero though the feature is there (complete shrinkage), or keep one feature as two, one for each model
(latent decoupling). **Latent scaling** asks the activations instead. For feature j along the direction d, and for each
model m,

    β = argmin Σ_t ‖y_t − β f_tj d‖² = d·(Σ_t f_tj y_t) / (Σ_t f_tj² · ‖d‖²),

1. error: y = a_m less what the *other* features and the bias reconstruct; feature j's own part of model m stays in.
   Complete shrinkage shows as a base model whose β is not small.
2. reconstruction: y = the whole reconstruction of model m, feature j and the bias included. Latent decoupling shows in
   the same way.
3. ν^ε and ν^r are base over distilled: 0 the distilled model alone has it, 1 both have it alike, ±∞ the base model
   alone has it.

Activations, reconstructions and rows are those the crosscoder works with: scaled, not raw. Sums are in float64.

Source: Minder et al. 2025 (arXiv:2504.02922), in the targets of its published code. It asks only about features that
lean towards the tuned model, along that model's row. Here d is the row of the model in which the feature is longer, so
that features of the base model can be asked too and exchanging the models turns ν into 1/ν; `direction="distilled"` is
theirs for every feature.

**Models of unequal width** share no direction, and their norms no unit. Activations are scaled to a mean norm of √d_m,
so a feature with the same share in both models has rows whose L2 norms are as √d_A to √d_B, and whose L1 norms are as
d_A to d_B: NRN by L1 or L2 then says where the model is wider. The norm `rms` = L2 / √d_m is free of that, and at equal
widths gives the NRN of L2. There each β is along the model's own row, and ν compares β_m · rms(row_m): what a model's
activations hold of its own row. A row that shrank to zero has no direction to be asked along: NaN. Cosines are NaN.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse import csr_array, issparse

from backend.errors import AnchorscopeError

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary

BASE, DISTILLED = 0, 1  # the order of the models in every array
_ERROR, _RECONSTRUCTION = 0, 1  # targets
Order = Literal[1, 2, "rms"]  # of a norm
_TOKENS, _FEATURES = 2048, 1024  # in one product, which bounds memory


class DiffError(AnchorscopeError):
    """A dictionary that is not of two models, and activations and codes that do not belong together."""


def decoder_norms(dictionary: "Dictionary", order: Order = 1) -> np.ndarray:
    """‖decoder_m,k‖ of the models' rows, (m, D) in float64: the L1 norm (Baek & Tegmark 2025; default), L2 (the
    training loss) or rms (L2 over √width).
    """
    rows = _float64(dictionary.decoder)
    if order == "rms":
        return np.linalg.norm(rows, axis=2) / np.sqrt(_widths(dictionary))[:, None]
    if order not in (1, 2):
        raise ValueError(f"order of a decoder norm is 1, 2 or 'rms', got {order}")
    return np.linalg.norm(rows, ord=order, axis=2)


def _widths(dictionary: "Dictionary") -> np.ndarray:
    return np.array([dictionary.width(model) for model in range(dictionary.n_models)], np.float64)


def rdn(dictionary: "Dictionary", order: Order = 1) -> np.ndarray:
    """Relative decoder norm ‖distilled‖ / ‖base‖, (D,), from 0 (base only) to ∞ (distilled only); NaN where both rows
    are zero.
    """
    base, distilled = _two(decoder_norms(dictionary, order))
    with np.errstate(divide="ignore", invalid="ignore"):
        return distilled / base


def nrn(dictionary: "Dictionary", order: Order = 1) -> np.ndarray:
    """Normalised relative norm RDN / (1 + RDN), (D,): 0 base only, 0.5 shared, 1 distilled only; NaN where both rows
    are zero.
    """
    base, distilled = _two(decoder_norms(dictionary, order))
    with np.errstate(invalid="ignore"):
        return distilled / (base + distilled)


def decoder_cosine(dictionary: "Dictionary") -> np.ndarray:
    """Cosine between a feature's rows in the two models, (D,); NaN where one of them is zero, and in models of unequal
    width.
    """
    base, distilled = _two(_float64(dictionary.decoder))
    if dictionary.widths is not None:
        return np.full(len(base), np.nan)
    with np.errstate(invalid="ignore"):
        return (base * distilled).sum(1) / (np.linalg.norm(base, axis=1) * np.linalg.norm(distilled, axis=1))


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Over n tokens.

    What was not measured is NaN: a feature that never fired has a frequency of 0, but no mean, maximum, β or ν.
    """

    n: int
    beta_error: np.ndarray  # (2, D): base, distilled
    beta_reconstruction: np.ndarray  # (2, D)
    nu_eps: np.ndarray  # (D,), base over distilled
    nu_r: np.ndarray  # (D,)
    frequency: np.ndarray  # (D,), share of tokens on which it fires
    mean_activation: np.ndarray  # (D,), |code|, over the tokens on which it fires
    max_activation: np.ndarray  # (D,), largest |code|
    variance_explained: np.ndarray  # (2,): 1 − Σ‖a − â‖² / Σ‖a − mean‖² of base, distilled
    l0: float  # features that fire on a token, mean
    dead_share: float  # features that fire on none


class LatentScaling:
    """Sums over batches of tokens, from which `statistics` takes latent scaling and the rest. What it holds grows with
    D, not with tokens.

    Costs about 12 · d operations for every code that is not zero, and little more: 100,000 tokens of L0 50 at D = 8,192
    and d = 576 take well under a minute on one core.
    """

    def __init__(self, dictionary: "Dictionary") -> None:
        rows = _float64(dictionary.decoder)
        _two(rows)
        _, self._n_features, self._d = rows.shape
        self._scale = _float64(dictionary.scale)[:, None]
        self._rows = rows.transpose(1, 0, 2).copy()  # (D, 2, d): of base, of distilled
        self._bias = _float64(dictionary.decoder_bias).reshape(-1)
        self._widths = None if dictionary.widths is None else _widths(dictionary)
        self._fires_above, self._is_signed = _float64(dictionary.fires_above), dictionary.its_kind.is_signed
        self._n = 0
        self._projected = np.zeros((self._n_features, 2, 2, 2))  # Σ_t f_t y_t · row: target, model, whose row
        self._squares, self._sum, self._max = (np.zeros(self._n_features) for _ in range(3))  # of codes
        self._fired = np.zeros(self._n_features, np.int64)
        self._mean = np.zeros((2, self._d))  # of activations, and Σ‖a − mean‖² of each model
        self._spread, self._residual = np.zeros(2), np.zeros(2)

    def add(self, activations: Any, codes: Any) -> None:
        """Raw activations (n, 2, d) and the codes (n, D) of the same tokens: tensors, arrays, or for codes a SciPy
        sparse array.
        """
        scaled = _float64(activations)
        if scaled.ndim != 3 or scaled.shape[1:] != (2, self._d):
            raise DiffError(f"activations have shape {scaled.shape}; expected (n, 2, {self._d}).")
        sparse = csr_array(codes if issparse(codes) else _array(codes))
        if sparse.shape != (len(scaled), self._n_features):
            raise DiffError(
                f"codes have shape {sparse.shape}; expected ({len(scaled)}, {self._n_features}), one row for each"
                " token."
            )
        sparse = sparse.astype(np.float64)
        is_negative = not self._is_signed and bool((sparse.data < 0).any())
        if is_negative or not np.isfinite(sparse.data).all() or not np.isfinite(scaled).all():
            raise DiffError(
                "activations or codes are NaN or infinite, or codes are negative; expected finite numbers and codes"
                " from 0 up."
            )
        sparse.eliminate_zeros()
        scaled = scaled * self._scale
        for start in range(0, len(scaled), _TOKENS):
            self._add(scaled[start : start + _TOKENS], sparse[start : start + _TOKENS])

    def _add(self, scaled: np.ndarray, codes: csr_array) -> None:
        n = len(scaled)
        rebuilt = (codes @ self._rows.reshape(self._n_features, -1) + self._bias).reshape(scaled.shape)
        errors = scaled - rebuilt
        targets = np.stack([errors, rebuilt], axis=1).reshape(n, -1)  # (n, target · model · d)
        by_feature = codes.T.tocsr()
        for start in range(0, self._n_features, _FEATURES):
            block = slice(start, start + _FEATURES)
            weighted = (by_feature[block] @ targets).reshape(-1, 4, self._d)
            self._projected[block] += (weighted @ self._rows[block].transpose(0, 2, 1)).reshape(-1, 2, 2, 2)
        self._squares += by_feature.power(2).sum(axis=1)
        firing = sizes_where_firing(by_feature, self._fires_above)
        self._fired += np.diff(firing.indptr)
        self._sum += firing.sum(axis=1)
        self._max = np.maximum(self._max, firing.max(axis=1).toarray().reshape(-1))
        self._residual += (errors**2).sum((0, 2))
        mean = scaled.mean(
            0
        )  # means and spreads of two sets of tokens, joined without subtracting large sums (Chan et al. 1979)
        step = mean - self._mean
        joined = self._n + n
        self._spread += ((scaled - mean) ** 2).sum((0, 2)) + (step**2).sum(1) * self._n * n / joined
        self._mean += step * n / joined
        self._n = joined

    def statistics(self, direction: Literal["longer", "distilled"] = "longer") -> FeatureStatistics:
        """`direction` says whose row β is taken along: of the model in which the feature's is longer, or always of the
        distilled model.
        """
        if direction not in ("longer", "distilled"):
            raise ValueError(f"direction is 'longer' or 'distilled', got {direction!r}")
        if self._widths is not None:
            return self._described(*self._along_own_rows(self._widths))
        gram = self._rows @ self._rows.transpose(0, 2, 1)  # (D, 2, 2): products of the two rows
        squared = gram[:, [BASE, DISTILLED], [BASE, DISTILLED]]
        chosen = np.full(self._n_features, DISTILLED)
        if direction == "longer":
            chosen[squared[:, BASE] > squared[:, DISTILLED]] = BASE
        each = np.arange(self._n_features)
        length = squared[each, chosen]
        projected = self._projected[each, :, :, chosen]  # (D, target, model)
        with np.errstate(divide="ignore", invalid="ignore"):
            betas = projected / (self._squares * length)[:, None, None]
            betas[:, _ERROR] += gram[each, chosen] / length[:, None]  # feature j's own part goes back into the error
            betas[~((self._fired > 0) & (length > 0))] = np.nan
            nus = betas[:, :, BASE] / betas[:, :, DISTILLED]
        return self._described(betas, nus)

    def _along_own_rows(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """β (D, target, model) of each model along its own row, and ν (D, target) of β · rms(row)."""
        models = np.arange(2)
        squared = (self._rows**2).sum(2)  # (D, model)
        with np.errstate(divide="ignore", invalid="ignore"):
            betas = self._projected[:, :, models, models] / (self._squares[:, None] * squared)[:, None]
            betas[:, _ERROR] += 1  # its own part of the row is the whole row
            betas[~((self._fired > 0)[:, None] & (squared > 0)).all(1)] = np.nan
            held = betas * np.sqrt(squared / widths)[:, None]
            return betas, held[:, :, BASE] / held[:, :, DISTILLED]

    def _described(self, betas: np.ndarray, nus: np.ndarray) -> FeatureStatistics:
        fired = self._fired > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = 1 - self._residual / np.where(self._spread > 0, self._spread, np.nan)
            mean_activation = np.where(fired, self._sum / self._fired, np.nan)
        unknown = self._n == 0
        return FeatureStatistics(
            n=self._n,
            beta_error=betas[:, _ERROR].T,
            beta_reconstruction=betas[:, _RECONSTRUCTION].T,
            nu_eps=nus[:, _ERROR],
            nu_r=nus[:, _RECONSTRUCTION],
            frequency=np.full(self._n_features, np.nan) if unknown else self._fired / self._n,
            mean_activation=mean_activation,
            max_activation=np.where(fired, self._max, np.nan),
            variance_explained=explained,
            l0=np.nan if unknown else float(self._fired.sum() / self._n),
            dead_share=np.nan if unknown else float((~fired).mean()),
        )


def sizes_where_firing(by_feature: csr_array, fires_above: np.ndarray) -> csr_array:
    """|code| of codes (D, n) that count as firing: above the feature's bound, of `Dictionary.fires_above`."""
    sizes = abs(by_feature)
    sizes.data[sizes.data <= np.repeat(fires_above, np.diff(sizes.indptr))] = 0
    sizes.eliminate_zeros()
    return sizes


def classify(
    nrn: np.ndarray,
    nu_eps: np.ndarray,
    nu_r: np.ndarray,
    *,
    nrn_extreme: float = 1 / 6,
    nu_eps_most: float = 0.2,
    nu_r_most: float = 0.5,
) -> np.ndarray:
    """One of "base only", "shared", "distilled only", "suspect" for each feature, (D,); None where it cannot be known.

    1. nrn_extreme ≤ NRN ≤ 1 − nrn_extreme: *shared*, in whatever proportion. 1/6 is one row shorter than a fifth of the
       other.
    2. NRN above that: *distilled only* where |ν^ε| < nu_eps_most and |ν^r| < nu_r_most, otherwise *suspect* (of
       shrinkage or decoupling).
    3. NRN below that: *base only* where |1/ν^ε| < nu_eps_most and |1/ν^r| < nu_r_most, otherwise *suspect*.
    4. None where NRN is NaN, or where it is extreme and a ν is NaN: nothing was measured that could confirm or refute
       it.

    ν are those along the longer row. The bounds are those of Minder et al. 2025, whose Δnorm > 0.9 is NRN > 5/6 in L2
    norms; it calls features shared between Δnorm 0.4 and 0.6 and gives those in between no name.
    """
    nrn, nu_eps, nu_r = (np.asarray(values, np.float64) for values in (nrn, nu_eps, nu_r))
    if not nrn.shape == nu_eps.shape == nu_r.shape:
        raise DiffError(
            f"NRN and ν have shapes {nrn.shape}, {nu_eps.shape} and {nu_r.shape}; expected one of each for every"
            " feature."
        )
    classes = np.full(nrn.shape, None, dtype=object)
    classes[(nrn >= nrn_extreme) & (nrn <= 1 - nrn_extreme)] = "shared"
    measured = ~(np.isnan(nu_eps) | np.isnan(nu_r))
    for side, leaning in (("distilled only", nrn > 1 - nrn_extreme), ("base only", nrn < nrn_extreme)):
        classes[leaning & measured] = "suspect"
        classes[leaning & confirmed(nu_eps, nu_r, side=side, nu_eps_most=nu_eps_most, nu_r_most=nu_r_most)] = side
    return classes


def confirmed(
    nu_eps: np.ndarray, nu_r: np.ndarray, *, side: str, nu_eps_most: float = 0.2, nu_r_most: float = 0.5
) -> np.ndarray:
    """Whether latent scaling says that a feature is of one model alone, "base only" or "distilled only", (D,); False
    where a ν is NaN. The bounds are those of `classify`.
    """
    if side not in ("base only", "distilled only"):
        raise ValueError(f"side is 'base only' or 'distilled only', got {side!r}")
    with np.errstate(divide="ignore"):
        eps, r = (nu_eps, nu_r) if side == "distilled only" else (1 / nu_eps, 1 / nu_r)
    return (np.abs(eps) < nu_eps_most) & (np.abs(r) < nu_r_most)


def _two(by_model: np.ndarray) -> np.ndarray:
    if len(by_model) != 2:
        raise DiffError(f"the dictionary is of {len(by_model)} models; expected 2, the base model first.")
    return by_model


def _array(values: Any) -> np.ndarray:
    """An array, or a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _float64(values: Any) -> np.ndarray:
    return _array(values).astype(np.float64)
