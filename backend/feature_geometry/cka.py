"""Linear CKA of two representations of the same points, without the bias that makes random ones look alike.

HSIC is the unbiased estimator of Song et al. (2012, JMLR 13, 1393), of kernel matrices without their diagonal; CKA made
of it is the debiased one of Murphy et al. (2024, arXiv:2405.01012). The usual one is high for independent
representations where there are fewer points than dimensions.

With linear kernels K = X Xᵀ and L = Y Yᵀ, k_i = ‖x_i‖² and l_i = ‖y_i‖², all of it follows from sums over points, which
are added and taken away a group of points at a time; no matrix of points by points is made:
- tr K̃L̃ = ‖XᵀY‖² − Σ k l
- 1ᵀK̃1 = ‖Σx‖² − Σ k
- 1ᵀK̃L̃1 = Σxᵀ (XᵀY) Σy − Σx·Σ l x − Σy·Σ k y + Σ k l
"""

import math
from dataclasses import dataclass, fields

import numpy as np

_FEWEST = 4  # points that the estimator needs


@dataclass(frozen=True, eq=False)
class Products:
    """Sums over points of two representations, all in float64."""

    n: int
    xy: np.ndarray  # (d, e): Σ x yᵀ
    x: np.ndarray  # (d,): Σ x
    y: np.ndarray
    k: float  # Σ ‖x‖²
    l: float  # noqa: E741  # Σ ‖y‖²
    kl: float  # Σ ‖x‖² ‖y‖²
    lx: np.ndarray  # (d,): Σ ‖y‖² x
    ky: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Products":
        """Of points x (n, d) and y (n, e), row by row the same ones."""
        k, l = (x * x).sum(1), (y * y).sum(1)  # noqa: E741
        turned = np.ascontiguousarray(x.T)  # so that x with itself is multiplied as x with any other: bit for bit
        return cls(
            len(x), turned @ y, x.sum(0), y.sum(0), float(k.sum()), float(l.sum()), float(k @ l), turned @ l, y.T @ k
        )

    def __add__(self, other: "Products") -> "Products":
        return Products(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __sub__(self, other: "Products") -> "Products":
        return Products(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))

    @property
    def scatter(self) -> np.ndarray:
        """(d, e): Σ (x − mean)(y − mean)ᵀ."""
        return self.xy - np.outer(self.x, self.y / max(self.n, 1))

    @property
    def hsic(self) -> float:
        """The unbiased estimate; NaN of fewer than 4 points."""
        n = self.n
        if n < _FEWEST:
            return math.nan
        trace = float(np.vdot(self.xy, self.xy)) - self.kl
        both = (float(self.x @ self.x) - self.k) * (float(self.y @ self.y) - self.l)
        rows = float(self.x @ self.xy @ self.y) - float(self.x @ self.lx) - float(self.y @ self.ky) + self.kl
        return (trace + both / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


@dataclass(frozen=True, eq=False)
class Pair:
    """The sums of two representations with each other, and of each with itself."""

    xy: Products
    xx: Products
    yy: Products

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "Pair":
        return cls(Products.of(x, y), Products.of(x, x), Products.of(y, y))

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(self.xy + other.xy, self.xx + other.xx, self.yy + other.yy)

    def __sub__(self, other: "Pair") -> "Pair":
        return Pair(self.xy - other.xy, self.xx - other.xx, self.yy - other.yy)

    @property
    def cka(self) -> float:
        """Debiased linear CKA, in [−1, 1], 1 exactly of equal representations; NaN of fewer than 4 points, and where
        one representation does not vary."""
        own = self.xx.hsic * self.yy.hsic
        return self.xy.hsic / math.sqrt(own) if own > 0 and self.xx.hsic > 0 else math.nan


def unpaired(n: int) -> tuple[float, float]:
    """Mean and standard deviation of debiased CKA over all pairings of n points at random: 0 and √(2 / n(n − 3)),
    whatever the representations are, because a matrix without diagonal whose rows sum to 0 leaves nothing else."""
    return (0.0, math.sqrt(2 / (n * (n - 3)))) if n >= _FEWEST else (math.nan, math.nan)
