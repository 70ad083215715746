"""Which features are strongest, in two ways that answer different questions.

1. **Strongest over all problems**, as "Decoding R1's CoT: Crosscoder Diffing and Steering Impact" lists its top 20: by
   mean activation. Here that is, for each problem, the mean size of a feature's code over the tokens of its chains
   (prompts left out, 0 where it does not fire), and the mean of that over problems; the document's weighting is not
   known to us. Such a list rewards features that fire nearly everywhere: one is called **dense** where it fires on more
   than 10 % of tokens, and those of the list are counted, beside how many of all features are.
2. **Specific to one problem**: lift, the mean size in its chains over that in all other problems' chains. Its interval
   (95 %) draws the problem's chains anew, and the other problems; with a single chain, or fewer than two others, it is
   unknown. Features are ranked by its lower end, so that a few tokens of one chain do not lead.
3. **Specific to a category**: lift, the mean size on its tokens over that on all tokens. From stored counts: it has no
   interval, and says on how many tokens it rests.

A feature must fire on LEAST_FIRED tokens there to be listed as specific.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from backend.ids import seed_for

DENSE = 0.1  # share of tokens
EVERYWHERE = 0.5  # share of tokens beyond which a feature is never what is shown first
LEAST_FIRED = 5  # tokens
N_TOP = 20
_REPLICATES, _BLOCK = 1000, 256  # draws, and features at once


@dataclass(frozen=True)
class Listed:
    """The published list, and what it is made of."""

    rows: pd.DataFrame  # feature, mean, frequency, dense; strongest first
    n_problems: int
    n_tokens: int
    n_dense: int  # of the listed
    share_dense: float  # of all features that fire
    n_most_frequent: int  # of the listed, those among as many that fire most often


def strongest(sums: pd.DataFrame, tokens: pd.DataFrame, frequency: pd.Series, n: int = N_TOP) -> Listed:
    """`sums`: cot_id, feature, total (Σ|f| over the chain's tokens), n_fired; `tokens`: cot_id, problem_id, n_tokens.
    `frequency` by feature, of those that fire at all or not.
    """
    by_problem = _means_by_problem(sums, tokens)
    means = by_problem.mean(axis=0).sort_values(ascending=False, kind="stable")
    top = means.head(n)
    often = frequency.reindex(top.index)
    most = set(frequency.sort_values(ascending=False, kind="stable").head(len(top)).index)
    rows = pd.DataFrame(
        {
            "feature": top.index,
            "mean": top.to_numpy(),
            "frequency": often.to_numpy(),
            "dense": (often > DENSE).to_numpy(),
        }
    )
    fires = frequency[frequency > 0]
    return Listed(
        rows,
        n_problems=len(by_problem),
        n_tokens=int(tokens["n_tokens"].sum()),
        n_dense=int(rows["dense"].sum()),
        share_dense=float((fires > DENSE).mean()) if len(fires) else np.nan,
        n_most_frequent=len(most & set(top.index)),
    )


def specific_to_problem(
    sums: pd.DataFrame, tokens: pd.DataFrame, problem: str, *, n: int = N_TOP, seed: int = 0
) -> pd.DataFrame:
    """feature, mean (in the problem), elsewhere (mean over the other problems), lift, low, high, n_fired (tokens of the
    problem), n_chains; the largest lower ends first, then the largest lifts. Of a feature that fires nowhere else lift
    and interval are NaN: those come last.
    """
    own = tokens[tokens["problem_id"] == problem]
    here = sums[sums["cot_id"].isin(own["cot_id"])]
    fired = here.groupby("feature")["n_fired"].sum()
    features = fired[fired >= LEAST_FIRED].index
    if not len(features):
        return pd.DataFrame(columns=["feature", "mean", "elsewhere", "lift", "low", "high", "n_fired", "n_chains"])
    totals = _wide(here, features, own["cot_id"])
    others = _means_by_problem(sums, tokens[tokens["problem_id"] != problem]).reindex(columns=features, fill_value=0.0)
    mean, elsewhere = totals.sum(0) / own["n_tokens"].sum(), others.to_numpy().mean(0) if len(others) else np.nan
    low, high = _lift_interval(totals, own["n_tokens"].to_numpy(float), others.to_numpy(), seed)
    is_here_alone = ~(np.broadcast_to(elsewhere, mean.shape) > 0)
    low, high = (np.where(is_here_alone, np.nan, bound) for bound in (low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = np.where(elsewhere > 0, mean / elsewhere, np.nan)
    rows = pd.DataFrame(
        {
            "feature": features,
            "mean": mean,
            "elsewhere": elsewhere,
            "lift": lift,
            "low": low,
            "high": high,
            "n_fired": fired[features].to_numpy(),
            "n_chains": len(own),
        }
    )
    return rows.sort_values(["low", "lift", "feature"], ascending=[False, False, True], ignore_index=True).head(n)


def specific_to_category(on_category: pd.DataFrame, features: pd.DataFrame, n: int = N_TOP) -> pd.DataFrame:
    """feature, mean (on the category's tokens), elsewhere (on all tokens), lift, n_fired, n_tokens; largest lift first.
    `on_category` are rows of feature_categories of one category, `features` those of features.
    """
    rows = on_category[on_category["n_fired"] >= LEAST_FIRED].merge(
        features[["feature", "frequency", "mean_activation"]], on="feature", suffixes=("", "_all")
    )
    mean, elsewhere = rows["frequency"] * rows["mean_activation"], rows["frequency_all"] * rows["mean_activation_all"]
    found = rows.assign(mean=mean, elsewhere=elsewhere, lift=mean / elsewhere.where(elsewhere > 0))
    found = found.sort_values(["lift", "feature"], ascending=[False, True], ignore_index=True).head(n)
    return found[["feature", "mean", "elsewhere", "lift", "n_fired", "n_tokens"]]


def _wide(sums: pd.DataFrame, features: pd.Index, cots: pd.Series) -> np.ndarray:
    """(n_cots, n_features) of totals; 0 where a feature does not fire in a chain."""
    wide = sums.pivot(index="cot_id", columns="feature", values="total")
    return wide.reindex(index=cots, columns=features).fillna(0.0).to_numpy()


def _means_by_problem(sums: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    """One row a problem with tokens, one column a feature that fires in any of them: mean size of its code."""
    known = tokens[tokens["n_tokens"] > 0]
    joined = sums.merge(known[["cot_id", "problem_id"]], on="cot_id")
    totals = joined.groupby(["problem_id", "feature"])["total"].sum().unstack("feature")
    n_tokens = known.groupby("problem_id")["n_tokens"].sum()
    return totals.reindex(n_tokens.index).fillna(0.0).div(n_tokens, axis=0)


def _lift_interval(
    totals: np.ndarray, n_tokens: np.ndarray, others: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n_features,) each: the problem's chains and the other problems drawn anew, independently."""
    n_features = totals.shape[1]
    if len(totals) < 2 or len(others) < 2:
        return np.full(n_features, np.nan), np.full(n_features, np.nan)
    rng = np.random.default_rng(seed_for("lift", seed))
    chains = rng.multinomial(len(totals), np.full(len(totals), 1 / len(totals)), size=_REPLICATES).astype(float)
    problems = rng.multinomial(len(others), np.full(len(others), 1 / len(others)), size=_REPLICATES) / len(others)
    low, high = np.empty(n_features), np.empty(n_features)
    for first in range(0, n_features, _BLOCK):
        block = slice(first, first + _BLOCK)
        mean = (chains @ totals[:, block]) / (chains @ n_tokens)[:, None]
        elsewhere = problems @ others[:, block]
        with np.errstate(divide="ignore", invalid="ignore"):
            lifts = np.where(elsewhere > 0, mean / elsewhere, np.inf)
        low[block], high[block] = np.quantile(lifts, [0.025, 0.975], axis=0, method="nearest")
    return low, high
