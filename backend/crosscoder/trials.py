"""What can be asked of a dictionary's features, and the arms that answer it: plain records, made without torch.

A trial is one change of some features (`interventions` says what each operation does), and problems that each model
solves under it. Its arms, for each model of the dictionary:

- `base` without an edit · `changed` · `reconstruct`, where the reconstruction replaces the residual stream and no
  feature is changed: what the dictionary's error does by itself · `random`, the same change of other features that fire
  about as often, several sets of them, which samples take in turn · `twin`, the same of as many sets of features of the
  dictionary's frozen-decoder twin that do, where it was trained and the error is kept (replacing by the twin's
  reconstruction would be another model). A change that leaves every code as it is has neither of the last two.

Matched is how often features fire, feature by feature. What zeroing, scaling and patching write follows from codes and
rows; `steer` writes β times rows, whose norms differ between dictionaries: the twin's β is the one that writes as much,
by the mean norm of its set's rows and of the changed features'.

The id of an arm follows from all that shapes its samples, and from nothing else: trials that share a control share its
samples.

**The published surprise.** "Decoding R1's CoT: Crosscoder Diffing and Steering Impact" scaled features by 1.5 and by
0.5, replacing the residual stream by the reconstruction, and saw accuracy fall to 0 either way, without a run of the
reconstruction alone. `surprise` asks for the same with the reconstruction and with the error kept, and for the factor
1, which changes nothing but what replacing does.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from backend.cot.prompts import BOXED, Prompt
from backend.ids import seed_for, stable_id
from backend.models.interventions import InterventionError
from backend.schema.provenance import commit, versions

OPERATIONS = ("zero", "scale", "steer", "patch", "reconstruct")
ARMS = ("base", "changed", "reconstruct", "random", "twin")
BASE = "base"  # the arm without an edit
SURPRISES = (1.5, 0.5)  # factors, both published as ruin
MOST_FEATURES, MOST_SAMPLES, MOST_NEW_TOKENS, MOST_SETS = 512, 64, 2048, 16
_RULE = 1  # of sampling under an arm: raise it when it changes


@dataclass(frozen=True)
class Change:
    """What is done to features, in one model. Raises InterventionError for what contradicts itself."""

    operation: str
    features: tuple[int, ...] = ()
    factor: float | None = None  # of scale
    beta: float | None = None  # of steer, in units of the code
    keep_error: bool = True  # False: `replace`

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise InterventionError(
                f"There is no operation {self.operation!r}; expected one of {', '.join(OPERATIONS)}."
            )
        if len(set(self.features)) < len(self.features) or (self.operation == "reconstruct") != (not self.features):
            wanted = (
                "none, as reconstruct changes none"
                if self.operation == "reconstruct"
                else "one or more different features"
            )
            raise InterventionError(f"{self.operation} was given {len(self.features)} features; expected {wanted}.")
        for name, value, operation in (("factor", self.factor, "scale"), ("beta", self.beta, "steer")):
            if (value is not None) != (self.operation == operation) or not math.isfinite(value or 0):
                wanted = "a finite number" if self.operation == operation else f"None, as only {operation} has one"
                raise InterventionError(f"The {name} of {self.operation} is {value}; expected {wanted}.")
        if self.operation == "reconstruct" and self.keep_error:
            raise InterventionError("reconstruct with the error kept changes nothing; say keep_error=False.")

    def require(self, n_models: int, n_features: int, widths: Sequence[int] | None = None) -> None:
        """Raise InterventionError where a dictionary of so many models and features cannot do it; `widths` are the
        models' where they differ.
        """
        if strangers := [k for k in self.features if not 0 <= k < n_features]:
            raise InterventionError(
                f"Feature {strangers[0]} does not exist: the dictionary has features 0 to {n_features - 1}."
            )
        if self.operation == "patch" and widths is not None:
            raise InterventionError(
                f"patch puts one model's activations in the other's place, but their widths are"
                f" {' and '.join(map(str, widths))}. Use zero, scale or steer."
            )
        if self.operation == "patch" and n_models == 1:
            raise InterventionError(
                "patch takes codes from the other of two models, but the dictionary is of one. Use a crosscoder."
            )

    @property
    def is_idle(self) -> bool:
        """Whether it leaves every code as it is."""
        return self.operation == "reconstruct" or self.factor == 1 or self.beta == 0

    @property
    def short(self) -> str:
        """For example: ×1.5, error kept."""
        if self.operation == "reconstruct":
            return "reconstruction alone"
        amount = {"scale": f"×{self.factor or 0:g}", "steer": f"code {self.beta or 0:+g}"}.get(
            self.operation, self.operation
        )
        return f"{amount}, {'error kept' if self.keep_error else 'replaced'}"

    @property
    def sentence(self) -> str:
        """For example: scale 3 features by 1.5, the error kept."""
        which = f"feature {self.features[0]}" if len(self.features) == 1 else f"{len(self.features)} features"
        what = {
            "zero": f"zero {which}",
            "scale": f"scale {which} by {self.factor:g}" if self.factor is not None else "",
            "steer": f"add {self.beta:g} to the code of {which}" if self.beta is not None else "",
            "patch": f"patch {which} with the other model's codes",
            "reconstruct": "the reconstruction alone",
        }[self.operation]
        kept = "the error kept" if self.keep_error else "the residual stream replaced by the reconstruction"
        return what if self.operation == "reconstruct" else f"{what}, {kept}"


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.6
    top_p: float = 0.95
    max_new_tokens: int = 384
    dtype: str | None = None  # of the passes that sample; None: each model's

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2 and 0 < self.top_p <= 1):
            raise InterventionError(
                f"Temperature {self.temperature} (0 to 2) and top-p {self.top_p} (above 0, at most 1)."
            )
        if not 1 <= self.max_new_tokens <= MOST_NEW_TOKENS:
            raise InterventionError(
                f"{self.max_new_tokens} new tokens were asked for; 1 to {MOST_NEW_TOKENS} are possible."
            )

    @property
    def inputs(self) -> dict[str, Any]:
        """What samples depend on. A dtype that is left out is not named: ids of before there was one stay valid."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("dtype", None)}


@dataclass(frozen=True, eq=False)
class Twin:
    """A frozen-decoder twin of a dictionary, whose features may stand in for its own."""

    null_id: str
    frequency: np.ndarray  # (D,): share of tokens on which each fires


@dataclass(frozen=True)
class Trial:
    """A change, and the problems that each of the dictionary's models solves under it. Raises InterventionError."""

    dictionary_id: str
    change: Change
    problems: tuple[str, ...]
    chosen_by: str = ""  # how the features were chosen, in words
    n_samples: int = 1  # of each problem
    n_random: int = 4  # sets of random features
    seed: int = 1
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if not self.problems or len(set(self.problems)) < len(self.problems):
            raise InterventionError(f"{len(self.problems)} problems were given; expected one or more different ones.")
        if len(self.change.features) > MOST_FEATURES:
            raise InterventionError(
                f"{len(self.change.features)} features were chosen; at most {MOST_FEATURES} can be changed at once."
            )
        for name, least, most in (("n_samples", 1, MOST_SAMPLES), ("n_random", 0, MOST_SETS), ("seed", 0, 2**53)):
            if not least <= getattr(self, name) <= most:
                raise InterventionError(f"{name} is {getattr(self, name)}; expected {least} to {most}.")

    @property
    def intervention_id(self) -> str:
        facts = {name: value for name, value in asdict(self).items() if name != "chosen_by"}
        return stable_id("i", _RULE, facts | {"sampling": self.sampling.inputs})

    def row(self) -> dict[str, Any]:
        """Its row of feature_interventions."""
        change = self.change
        parameters = {**self.sampling.inputs, "n_random": self.n_random, "rule": _RULE}
        return {
            "intervention_id": self.intervention_id,
            "dictionary_id": self.dictionary_id,
            "created_at": datetime.now(UTC).replace(tzinfo=None),
            "sentence": change.sentence,
            "operation": change.operation,
            "features": list(change.features),
            "chosen_by": self.chosen_by,
            "factor": change.factor,
            "beta": change.beta,
            "keep_error": change.keep_error,
            "problems": list(self.problems),
            "n_samples": self.n_samples,
            "seed": self.seed,
            "parameters": json.dumps(parameters, sort_keys=True),
            "versions": json.dumps(versions(), sort_keys=True),
            "commit": commit(),
        }

    def arms(
        self,
        model_ids: Sequence[str],
        frequency: np.ndarray,
        prompts: Mapping[str, Prompt] | None = None,
        *,
        twin: Twin | None = None,
    ) -> list[dict[str, Any]]:
        """Its rows of feature_intervention_arms. `model_ids` are those of the dictionary, the base first; `frequency`
        (D,) matches the random features and those of the `twin`; `prompts` has by model what the problems are asked
        under, left out: boxed.
        """
        change = self.change
        sets: dict[str, list[tuple[int, ...]]] = {BASE: [], "changed": [change.features], "reconstruct": [()]}
        change.require(len(model_ids), len(frequency))
        if change.operation == "reconstruct":
            del sets["changed"]
        elif self.n_random and not change.is_idle:
            sets["random"] = matched_features(frequency, change.features, self.n_random, seed=self.seed)
            if twin is not None and change.keep_error and len(change.features) <= (twin.frequency > 0).sum():
                sets["twin"] = matched_features(
                    frequency, change.features, self.n_random, twin=twin.frequency, seed=self.seed
                )
        rows = []
        for model_id in model_ids:
            prompt = (prompts or {}).get(model_id, BOXED)
            asked = [prompt.wording, prompt.settings] if prompt.settings else prompt.wording
            shared = [_RULE, asked, self.sampling.inputs, self.n_samples, self.seed]
            for arm, own in sets.items():
                null_id = twin.null_id if twin is not None and arm == "twin" else None
                made: list[object] = (
                    []
                    if arm == BASE
                    else [self.dictionary_id, _essence(_RECONSTRUCT if arm == "reconstruct" else change), own]
                )
                if null_id is not None:
                    made += [null_id, list(change.features)]
                rows.append(
                    {
                        "intervention_id": self.intervention_id,
                        "model_id": model_id,
                        "arm": arm,
                        "arm_id": stable_id("a", model_id, *shared, *made),
                        "feature_sets": json.dumps([list(some) for some in own]),
                        "null_id": null_id,
                    }
                )
        return rows


_RECONSTRUCT = Change("reconstruct", keep_error=False)


def _essence(change: Change) -> dict[str, Any]:
    """The change without its features."""
    return {name: value for name, value in asdict(change).items() if name != "features"}


def surprise(trial: Trial, factor: float) -> list[Trial]:
    """The published scaling by `factor` and by 1, each with the error kept and with the reconstruction in its place, of
    the features, problems and samples of `trial`.
    """
    return [
        replace(trial, change=Change("scale", trial.change.features, factor=by, keep_error=keep_error))
        for by in (factor, 1.0)
        for keep_error in (True, False)
    ]


def change_of(row: Mapping[str, Any]) -> Change:
    """The change of a row of feature_interventions. Raises InterventionError where it contradicts itself."""
    numbers = {name: None if pd.isna(row[name]) else float(row[name]) for name in ("factor", "beta")}
    return Change(
        row["operation"], tuple(int(k) for k in row["features"]), **numbers, keep_error=bool(row["keep_error"])
    )


def changes_of_arm(change: Change, arm: str, feature_sets: str) -> tuple[Change, ...]:
    """What the samples of an arm are under, in turn; empty without an edit. `feature_sets` is that of its row."""
    sets = json.loads(feature_sets)
    if arm == "reconstruct":
        return (_RECONSTRUCT,)
    return tuple(replace(change, features=tuple(some)) for some in sets)


# Choosing features and problems


def by_rule(features: pd.DataFrame, top: int, *, above: float | None = None, norm: str = "l1") -> tuple[int, ...]:
    """The `top` features that fire most often among those with NRN above `above` (all, where it is None); `features`
    are rows of the table.

    Features that never fire, or whose NRN or frequency is unknown, are none of them. `norm` is that of NRN: l1 or l2.
    """
    known = features[features["frequency"] > 0]
    if above is not None:
        known = known[known[f"nrn_{norm}"] > above]
    ranked = known.sort_values(["frequency", "feature"], ascending=[False, True])
    return tuple(int(k) for k in ranked["feature"].head(top))


def rule_in_words(top: int, *, above: float | None = None, norm: str = "l1") -> str:
    """What `by_rule` chooses, in words."""
    beyond = "" if above is None else f" with NRN ({norm.upper()}) above {above:g}"
    return f"the {top} most frequent features{beyond}" if top > 1 else f"the most frequent feature{beyond}"


def typed(words: str) -> tuple[int, ...]:
    """Feature numbers as a person writes them: 3, 17 40-43. Raises InterventionError naming what is none."""
    found: dict[int, None] = {}
    for word in words.replace(",", " ").replace(";", " ").split():
        first, dash, last = word.replace("–", "-").partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) < 10 for end in ends):
            raise InterventionError(
                f"“{word[:20]}” is no feature number; expected numbers and ranges, as in 3, 17, 40-43."
            )
        start, end = int(ends[0]), int(ends[-1])
        if end - start >= MOST_FEATURES or len(found) > MOST_FEATURES:
            raise InterventionError(f"At most {MOST_FEATURES} features can be changed at once.")
        found |= dict.fromkeys(range(start, end + 1))
    return tuple(found)


def drawn_problems(problems: pd.DataFrame, n: int, *, seed: int = 0) -> tuple[str, ...]:
    """`n` of the problems (rows with problem_id and level), as many of each level as can be, easier levels first; the
    same for a seed, and for a smaller n the first of them.
    """
    drawn = problems.assign(draw=[seed_for("problems", seed, name) for name in problems["problem_id"]]).sort_values(
        "draw"
    )
    drawn["turn"] = drawn.groupby("level", dropna=False).cumcount()
    return tuple(drawn.sort_values(["turn", "level", "draw"])["problem_id"].head(n))


def sampling_of(runs: pd.DataFrame) -> Sampling:
    """How the study's CoTs were sampled, as far as is possible here, by the newest of its runs (rows of `Queries.runs`)
    that says so; else the usual.
    """
    for parameters in runs["parameters"]:
        try:
            said = json.loads(parameters)["sampling"]
            longest = min(int(said["max_new_tokens"]), MOST_NEW_TOKENS)
            return Sampling(float(said["temperature"]), float(said["top_p"]), longest, said.get("dtype"))
        except (ValueError, KeyError, TypeError):  # an import, or a run of another version
            continue
    return Sampling()


# Controls


def matched_features(
    frequency: np.ndarray,
    features: Sequence[int],
    n_sets: int,
    *,
    twin: np.ndarray | None = None,
    seed: int = 0,
    nearest: int = 20,
) -> list[tuple[int, ...]]:
    """`n_sets` random sets, each of as many other features as `features`, that fire about as often.

    `frequency` (D,) is each feature's share of tokens on which it fires. Each chosen feature, in random order, gets one
    of the `nearest` features that are nearest to it in frequency, not among the chosen and not taken yet in this set.
    With `twin`, the shares of another dictionary's features, the sets are of those: any of them that fires.
    """
    frequency, there = (np.asarray(shares, np.float64) for shares in (frequency, frequency if twin is None else twin))
    own = np.asarray(features, np.int64)
    if frequency.ndim != 1 or np.isnan(frequency).any() or np.isnan(there).any():
        raise InterventionError(
            "Features are matched by how often they fire, but frequencies are missing. Measure them first."
        )
    others = np.setdiff1d(np.arange(len(frequency)), own) if twin is None else np.flatnonzero(there)
    if len(others) < len(own):
        raise InterventionError(
            f"{len(own)} of {len(frequency)} features are chosen; there are not as many others for a random control."
            if twin is None
            else f"{len(own)} features are chosen, but only {len(others)} of the twin fire."
        )
    sets = []
    for number in range(n_sets):
        rng = np.random.default_rng(seed_for("matched features", seed, number))
        free, taken = others, []
        for feature in rng.permutation(own):
            distance = np.abs(there[free] - frequency[feature])
            near = np.argpartition(distance, nearest - 1)[:nearest] if nearest < len(free) else np.arange(len(free))
            at = rng.choice(np.sort(near))
            taken.append(int(free[at]))
            free = np.delete(free, at)
        sets.append(tuple(sorted(taken)))
    return sets
