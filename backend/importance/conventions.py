"""What each convention of importance computes: one entry a convention, from which the numbers and the words are made.

A difference of accuracies is accuracy(p) − accuracy(q); a KL is KL( outcomes of p ‖ outcomes of q ) in nats. An entry
says which rollouts are p and which are q, what counts as an outcome, and what is added to the count of every outcome.
The metrics themselves are in `metric_registry`.

`ta` is what the published code of Thought Anchors computes (Bogdan et al. 2025; `analyze_rollouts.py`, its functions
`calculate_…_importance_…`): resampling and forced KLs run from i to i+1, against the text's own definition; the
counterfactual KL is against i+1 pooled with the similar rollouts at i, the counterfactual accuracy against i+1 alone;
two answers are one where that code's normalisation makes them the same string. It is followed in all but two things:
where it writes 0.0 for what is undefined, ours is unknown, and where i+1 has no rollouts it goes on to the next chunk
that has some, which is another quantity: ours is unknown there too. `paper` is what the text says. `fl` is that of
"Features and Logits" (Dawes 2025). `jsd` is ours: the Jensen–Shannon divergence of `jsd`, which small samples cannot
break, and `jsd_numbers` the same under the stricter rule of what is similar (`numbers`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from backend.importance.jsd import PRIOR

# Groups of rollouts at chunk i and after it, with the words for them, and for one in which no answer is.
HERE, REACHING_HERE, AFTER, REACHING_AFTER, DISSIMILAR, ANOTHER, SIMILAR, GONE_HERE, FORCED_HERE, FORCED_AFTER = (
    "here",
    "reaching_here",
    "after",
    "reaching_after",
    "dissimilar",
    "another",
    "similar",
    "gone",
    "forced_here",
    "forced_after",
)
GROUPS = {
    HERE: "all rollouts at i",
    REACHING_HERE: "rollouts at i (those from earlier that write the chain up to it token for token too)",
    AFTER: "rollouts at i+1",
    REACHING_AFTER: "rollouts at i+1 (those from earlier that write the chain up to it token for token too)",
    DISSIMILAR: "dissimilar rollouts at i",
    ANOTHER: "dissimilar rollouts at i (those from earlier that write the chain up to it token for token too)",
    SIMILAR: "similar ones at i",
    GONE_HERE: "rollouts at i that say the chunk's content nowhere",
    FORCED_HERE: "answers forced right before i",
    FORCED_AFTER: "answers forced right after i",
}
EMPTY = {
    HERE: "no rollout here has an answer",
    REACHING_HERE: "no rollout here, or from earlier up to here, has an answer",
    AFTER: "no rollout at the next chunk has an answer",
    REACHING_AFTER: "no rollout at the next chunk, or from earlier up to it, has an answer",
    DISSIMILAR: "no dissimilar rollout here has an answer",
    ANOTHER: "no dissimilar rollout here has an answer",
    SIMILAR: "no similar rollout here has an answer",
    GONE_HERE: "no rollout here that says the content nowhere has an answer",
    FORCED_HERE: "no answer was forced right before this chunk",
    FORCED_AFTER: "no answer was forced right after this chunk",
}

WRITTEN, CLUSTERS, CORRECTNESS = "written", "clusters", "correctness"
OUTCOMES = {
    WRITTEN: "answers that are the same string after the published normalisation",
    CLUSTERS: "answers, equal ones as one",
    CORRECTNESS: "correct and wrong",
}

# How answers are compared, and when the first sentence of a rollout is similar to the chunk.
KULLBACK_LEIBLER, JENSEN_SHANNON = "kl", "jsd"
EMBEDDING, NUMBERS = "embedding", "numbers"
SIMILARITIES = {
    EMBEDDING: "similar: cosine at least 0.8",
    NUMBERS: "similar: cosine at least 0.8, and the same numbers and operators",
}

ALL = "all"  # of metrics that no convention changes
PUBLISHED = "published"  # values as others wrote them


@dataclass(frozen=True)
class Sides:
    """p and q of a comparison: names of GROUPS. The first of q must not be empty, whatever else is pooled with it."""

    p: str
    q: tuple[str, ...]

    @property
    def by_similarity(self) -> bool:
        """Whether it matters what is called similar."""
        return bool({self.p, *self.q} & {DISSIMILAR, ANOTHER, SIMILAR, GONE_HERE})

    def words(self) -> tuple[str, str]:
        return GROUPS[self.p], " with the ".join(GROUPS[name] for name in self.q)


@dataclass(frozen=True)
class Convention:
    label: str  # who computes so
    outcomes: str  # one of OUTCOMES: of its divergences
    smoothing: (
        float  # added to the count of every outcome of p and q together (of both, where they are correct and wrong)
    )
    resampling: Sides  # of resampling importance, as a KL
    forced: Sides  # of forced importance, as a KL
    comparator_of_kl: tuple[str, ...]  # q of counterfactual importance
    comparator_of_accuracy: tuple[str, ...]
    divergence: str = KULLBACK_LEIBLER  # how answers are compared: it has no metric that compares them otherwise
    similarity: str = EMBEDDING  # one of SIMILARITIES


_POOLED = (AFTER, SIMILAR)
_RESAMPLING, _FORCED = Sides(AFTER, (HERE,)), Sides(FORCED_AFTER, (FORCED_HERE,))  # as defined in the text
_JSD = Convention(
    "Jensen–Shannon divergence",
    CLUSTERS,
    PRIOR,
    resampling=Sides(AFTER, (REACHING_HERE,)),
    forced=_FORCED,
    comparator_of_kl=(AFTER,),
    comparator_of_accuracy=(AFTER,),
    divergence=JENSEN_SHANNON,
)
CONVENTIONS: Mapping[str, Convention] = {
    "jsd": _JSD,
    "jsd_numbers": replace(_JSD, label="Jensen–Shannon divergence, numbers too", similarity=NUMBERS),
    "ta": Convention(
        "Thought Anchors, as its published code computes",
        WRITTEN,
        1e-9,
        resampling=Sides(HERE, (AFTER,)),
        forced=Sides(FORCED_HERE, (FORCED_AFTER,)),
        comparator_of_kl=_POOLED,
        comparator_of_accuracy=(AFTER,),
    ),
    "fl": Convention(
        "Features and Logits",
        CORRECTNESS,
        1.0,
        resampling=_RESAMPLING,
        forced=_FORCED,
        comparator_of_kl=_POOLED,
        comparator_of_accuracy=_POOLED,
    ),
    "paper": Convention(
        "Thought Anchors, as its text says",
        CLUSTERS,
        1e-9,
        resampling=_RESAMPLING,
        forced=_FORCED,
        comparator_of_kl=(AFTER,),
        comparator_of_accuracy=(AFTER,),
    ),
}


def like(convention: str) -> str:
    """The convention of ours whose direction and comparator a convention's values have: published values come from the
    code of `ta`.
    """
    return "ta" if convention == PUBLISHED else convention


def comparable(one: str, other: str) -> bool:
    """Whether values under two conventions may be set against each other: published ones only beside their like, and
    what all share.
    """
    return PUBLISHED not in (one, other) or ALL in (one, other) or like(one) == like(other)


# The published normalisation, step by step: what two answers must share to count as one outcome under `ta`.
_STEPS = tuple(
    (re.compile(pattern), becomes)
    for pattern, becomes in (
        ("dfrac", "frac"),
        ("tfrac", "frac"),
        (r"\s+", ""),
        (r"\\%", ""),
        (r"\{,\}", ""),
        (r"\\times", "*"),
        (r"\\cdot", "*"),
        (r"(\d+)[.,](\d+)", r"\1.\2"),
        (r"\{([^{}]+)\}", r"\1"),  # once: of nested braces the inner ones go
        (r"\\pi", "pi"),
        (r"\\text\{([^{}]+)\}", r"\1"),
        (r"\\mathrm\{([^{}]+)\}", r"\1"),
        (r"([a-z]+)\\+(\d+)", r"\1\2"),
        (r"\\text", ""),
    )
)


def written_answer(answer: str) -> str | None:
    r"""The string under which `ta` counts an answer; None where nothing is left of it, which that code leaves out.

    It is the published code's rule, faults included: \frac{11}{2} and \frac{1}{12} become the same string, 1,000
    becomes 1.000. Source: Thought Anchors, `utils.py`, `normalize_latex`.
    """
    text = answer.lower()
    for pattern, becomes in _STEPS:
        text = pattern.sub(becomes, text)
    return text or None


def written_answers(answers: pd.Series) -> pd.Series:
    """`written_answer` of each; missing stays missing."""
    return answers.map({answer: written_answer(answer) for answer in answers.dropna().unique()})
