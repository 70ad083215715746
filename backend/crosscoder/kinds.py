"""The kinds of dictionary: how each makes its codes, and when a code counts as firing. Importing this costs no torch.

In a sparse kind a code is 0 where its feature does not fire, and above 0 where it does. A `linear` code is never 0 and
may be below 0, so that firing has to be said: **it fires where |f_k| · Σ_m ‖decoder_m,k‖₂ exceeds the dictionary's
threshold**, set in training so that k features a token do, on average. That is batchtopk's gate, with the size of the
code in the place of the code; it counts, and drops nothing: codes below it stay in reconstructions, splices, ablations
and interventions. Frequency, L0, dead features, categories, examples and histograms are counted so, and means and
largest codes are of |f|. Without a penalty a linear crosscoder's features are known up to a mixing alone: for any
invertible M, codes f·M and decoder M⁻¹·W reconstruct the same, and with it norms, NRN and what fires change.

Source of `linear`: "Decoding R1's CoT: Crosscoder Diffing and Steering Impact", whose crosscoder has no ReLU. Whether
it was penalised, and what counted as firing, is not known to us: k and the penalty are said with every dictionary.
"""

import json
from dataclasses import dataclass

from backend.errors import AnchorscopeError
from backend.registry import Registry


class DictionaryError(AnchorscopeError):
    """Weights, activations or codes that do not fit each other, and files that hold no dictionary that can be used
    here.
    """


@dataclass(frozen=True)
class Kind:
    name: str
    words: str  # how codes are made
    has_threshold: bool
    needs_k: bool
    is_signed: bool  # codes may be below 0 and none is 0: what fires is counted by the threshold
    settings: frozenset[str] | None  # of training, that not every kind has; None: it is read from files alone


KINDS: Registry[Kind] = Registry(
    "dictionary of kind",
    Kind("l1", "relu, trained with a penalty", False, False, False, frozenset({"penalty", "aux", "aux_k"})),
    Kind(
        "batchtopk",
        "relu, kept above a threshold that leaves k a token on average",
        True,
        False,
        False,
        frozenset({"k", "aux", "aux_k"}),
    ),
    Kind("relu", "relu", False, False, False, None),
    Kind(
        "topk",
        "relu, the k largest of each token kept",
        False,
        True,
        False,
        frozenset({"k", "aux", "aux_k"}),
    ),
    Kind("jumprelu", "relu, kept above the feature's threshold", True, False, False, None),
    Kind(
        "linear",
        "no activation function: codes of either sign, none of them 0",
        True,
        False,
        True,
        frozenset({"k", "penalty"}),
    ),
    error=DictionaryError,
)
TRAINED = {kind.name: kind.settings for kind in KINDS.values() if kind.settings is not None}
SOME_KINDS_SETTINGS = frozenset().union(*TRAINED.values())


@dataclass(frozen=True)
class Firing:
    """When a code of a signed dictionary counts as firing."""

    above: float  # of the gate
    by_norms: bool  # the gate is |f_k| · Σ_m ‖decoder_m,k‖₂, else |f_k|

    @property
    def words(self) -> str:
        gate = "|f| · Σ‖W_dec‖₂" if self.by_norms else "|f|"
        return (
            "This dictionary is linear: no code is ever 0, and codes have either sign. A feature is said to fire where"
            f" {gate} exceeds {self.above:.3g}; means and largest codes are of |f|. What lies below counts as silent"
            " here, and stays in reconstructions, ablations and interventions."
        )


def firing_of(kind: str, parameters: str) -> Firing | None:
    """Of a row of `dictionaries`; None of a kind in which a code fires where it is not 0."""
    found = KINDS.get(kind)
    if found is None or not found.is_signed:
        return None
    said = json.loads(parameters)["fires"]
    return Firing(float(said["above"]), bool(said["by_norms"]))
