"""How many problems each model solves under each prompt, and what of a difference is the model's and what the prompt's.

1. A chain of thought solves its problem if its answer is correct; one without an answer, even a forced one, does not;
   one whose answer could not be judged takes no part and is counted.
2. A problem's value in a cell (a model under a prompt) is the mean over its chains, and the cell's accuracy is the mean
   over problems: chains of one problem are alike, so problems are what is drawn. Intervals are 95 %: Wilson's where
   every problem has one chain, or all of them agree; else a bootstrap over problems.
3. Two cells are compared problem by problem. Where every problem's value is 0 or 1 on both sides, by McNemar's test
   with Newcombe's interval; else by the mean of the differences with its bootstrap and sign flips. Differences that are
   all alike have no interval.
4. The interaction of two models and two prompts is the difference of differences: by how much more one model gains from
   the prompt than the other. It needs all four cells, and without it "the model is better" may be a sentence about the
   prompt.
"""

import math
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from backend.ids import seed_for
from backend.statistics.intervals import UNKNOWN, Interval, bootstrap_mean, bootstrap_percentile, wilson
from backend.statistics.paired import Paired, mcnemar, paired_difference

CONTRASTS = {
    "prompts": "between prompts, within a model",
    "models": "between models, under a prompt",
    "interaction": "difference of differences",
}
CONTRAST_COLUMNS = (
    "contrast",
    "model_id",
    "other_model_id",
    "prompt_name",
    "other_prompt_name",
    *(field.name for field in fields(Paired)),
    "q",
)


def solved_by_problem(chains: pd.DataFrame) -> pd.DataFrame:
    """Each problem's share of solved chains, one column a cell (model_id, prompt_name), one row a problem; NaN where
    nothing is known.

    `chains` has one row a CoT: problem_id, model_id, prompt_name, answered, is_correct (NA: not judged).
    """
    solved = chains["is_correct"].astype("boolean").mask(~chains["answered"].astype(bool), False)
    shares = (
        chains.assign(solved=solved.astype("Float64"))
        .groupby(["problem_id", "model_id", "prompt_name"])["solved"]
        .mean()
    )
    return shares.unstack(["model_id", "prompt_name"]).astype(float)


def cells(chains: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a model and prompt, in the order they come: accuracy with low and high, n (problems), n_chains that took
    part, and of all its chains n_without_answer, n_forced and n_unjudged. `chains` has `forced` too.
    """
    by_problem, rows = solved_by_problem(chains), []
    for (model, prompt), own in chains.groupby(["model_id", "prompt_name"], sort=False):
        values = by_problem[model, prompt].dropna()
        unjudged = own["answered"].astype(bool) & own["is_correct"].isna()
        taking_part = own[~unjudged]
        single = len(taking_part) == taking_part["problem_id"].nunique()
        rows.append(
            {
                "model_id": model,
                "prompt_name": prompt,
                "accuracy": float(values.mean()) if len(values) else math.nan,
                **_interval(values, single=single)._asdict(),
                "n": len(values),
                "n_chains": len(taking_part),
                "n_without_answer": int((~own["answered"].astype(bool)).sum()),
                "n_forced": int(own["forced"].astype(bool).sum()),
                "n_unjudged": int(unjudged.sum()),
            }
        )
    return rows


def lengths(chains: pd.DataFrame, *, n_bootstrap: int = 2000, seed: int = 0) -> list[dict[str, Any]]:
    """One row a model and prompt, in the order they come: the `median` tokens of its chains with low and high (95 %:
    problems are drawn anew, each with all its chains; unknown with fewer than two), n problems, n_chains, and of those
    n_capped, n_without_answer and n_forced; `thinks`: all, none or some are thoughts between tags. `chains` has
    n_tokens (NA: unknown), finish and thinks too.
    """
    rows = []
    for (model, prompt), own in chains.groupby(["model_id", "prompt_name"], sort=False):
        known = own.dropna(subset="n_tokens")
        thinks = own["thinks"].astype(bool)
        rows.append(
            {
                "model_id": model,
                "prompt_name": prompt,
                "thinks": "all" if thinks.all() else "some" if thinks.any() else "none",
                "median": float(known["n_tokens"].median()) if len(known) else math.nan,
                **_median_interval(known, n_bootstrap, seed)._asdict(),
                "n": own["problem_id"].nunique(),
                "n_chains": len(own),
                "n_capped": int((own["finish"] == "cap").sum()),
                "n_without_answer": int((~own["answered"].astype(bool)).sum()),
                "n_forced": int(own["forced"].astype(bool).sum()),
            }
        )
    return rows


def _median_interval(known: pd.DataFrame, n_bootstrap: int, seed: int) -> Interval:
    by_problem = [part.to_numpy(dtype=float) for _, part in known.groupby("problem_id")["n_tokens"]]
    if len(by_problem) < 2:
        return UNKNOWN
    drawn = np.random.default_rng(seed_for("lengths by prompt", seed)).integers(
        len(by_problem), size=(n_bootstrap, len(by_problem))
    )
    return bootstrap_percentile(np.array([np.median(np.concatenate([by_problem[k] for k in some])) for some in drawn]))


def contrasts(chains: pd.DataFrame, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every comparison the cells allow: rows of contrast (of CONTRASTS), model_id and other_model_id, prompt_name and
    other_prompt_name (the other − the first; the other is None where it is the same), a `Paired` over problems, and q
    over all with a p.

    An interaction is (other model: other prompt − prompt) − (model: other prompt − prompt).
    """
    from scipy.stats import false_discovery_control

    by_problem = solved_by_problem(chains)
    models, prompts = (list(dict.fromkeys(chains[name])) for name in ("model_id", "prompt_name"))
    there = set(by_problem.columns)
    rows = []
    for model in models:
        for one, other in combinations(prompts, 2):
            if {(model, one), (model, other)} <= there:
                found = _compared(by_problem[model, one], by_problem[model, other], seed=seed)
                rows.append(_row("prompts", (model, None), (one, other), found))
    for prompt in prompts:
        for one, other in combinations(models, 2):
            if {(one, prompt), (other, prompt)} <= there:
                found = _compared(by_problem[one, prompt], by_problem[other, prompt], seed=seed)
                rows.append(_row("models", (one, other), (prompt, None), found))
    for pair in combinations(models, 2):
        for one, other in combinations(prompts, 2):
            if {(model, prompt) for model in pair for prompt in (one, other)} <= there:
                gains = [by_problem[model, other] - by_problem[model, one] for model in pair]
                rows.append(_row("interaction", pair, (one, other), _compared(*gains, seed=seed)))
    known = [row for row in rows if not math.isnan(row["p"])]
    for row, q in zip(known, false_discovery_control([row["p"] for row in known]) if known else (), strict=True):
        row["q"] = float(q)
    return rows


def told_apart(chains: pd.DataFrame) -> bool:
    """Whether two models were asked under the same two prompts, so that a difference can be called the model's or the
    prompt's.
    """
    cells = set(zip(chains["model_id"], chains["prompt_name"], strict=True))
    models, prompts = ({cell[side] for cell in cells} for side in (0, 1))
    return any(
        {(model, prompt) for model in pair for prompt in two} <= cells
        for pair in combinations(models, 2)
        for two in combinations(prompts, 2)
    )


def _row(
    contrast: str, models: tuple[str, str | None], prompts: tuple[str, str | None], found: Paired
) -> dict[str, Any]:
    return {
        "contrast": contrast,
        "model_id": models[0],
        "other_model_id": models[1],
        "prompt_name": prompts[0],
        "other_prompt_name": prompts[1],
        **vars(found),
        "q": math.nan,
    }


def _interval(values: pd.Series, *, single: bool) -> Interval:
    if len(values) and (single or (values.isin((0.0, 1.0)).all() and values.nunique() == 1)):
        return wilson(round(values.sum()), len(values))
    return bootstrap_mean(values)


def _compared(base: pd.Series, changed: pd.Series, *, seed: int) -> Paired:
    """changed − base, one value a problem on each side; problems without a value on either side are left out and
    counted.
    """
    both = pd.concat([base, changed], axis=1).dropna(how="all")
    sides = [[None if pd.isna(value) else float(value) for value in both.iloc[:, side]] for side in (0, 1)]
    complete = both.dropna()
    if complete.isin((0.0, 1.0)).all(axis=None) and len(complete):
        return mcnemar(*([None if value is None else bool(value) for value in side] for side in sides))
    found = paired_difference(*sides, seed=seed)
    if (complete.iloc[:, 1] - complete.iloc[:, 0]).round(12).nunique() < 2:
        return Paired(found.n, found.n_left_out, found.difference, *UNKNOWN, found.p, found.test)
    return found
