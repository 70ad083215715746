"""What the arms wrote, over all pairs: accuracy, and what has no answer."""

import pandas as pd
import streamlit as st

from app.causation.answer import asked
from app.shared.views import Here
from app.shell import keys, studies
from app.shell.data_table import data_table
from app.shell.numbers import interval
from backend.statistics.intervals import wilson
from backend.store.store import Store

_ARMS = {"base": "unsteered", "steered": "steered", "random": "random directions"}


def draw(here: Here, store: Store) -> None:
    at = here.once(asked)
    arms = studies.ask(store.causation_arms, model_id=str(at.pairs["model_id"].iloc[0]))
    data_table(arm_table(arms), hide_index=True, row_height=28, key=keys.of("causation_arms"))
    st.caption(f"Wilson's 95 % intervals over samples, which are not independent within a chunk. {answered(arms)}")


def arm_table(arms: pd.DataFrame) -> pd.DataFrame:
    """One row a role, start and arm."""
    shares = [wilson(int(row.n_correct), int(row.n_judged)) for row in arms.itertuples()]
    return pd.DataFrame(
        {
            "chunk": arms["role"],
            "from": arms["start"],
            "arm": [_ARMS.get(arm, arm) for arm in arms["arm"]],
            "accuracy": [
                "unknown" if not row.n_judged else f"{row.n_correct / row.n_judged:.0%} {interval(*share)}"
                for row, share in zip(arms.itertuples(), shares, strict=True)
            ],
            "samples": arms["n"],
            "forced at the cap": arms["n_forced"],
            "without an answer": arms["n"] - arms["n_answered"],
            "tokens": arms["n_tokens"].round(1),
            "similarity of the first sentence": arms["similarity"].round(2),
        }
    )


def answered(arms: pd.DataFrame) -> str:
    """How many samples take no part, and how many were made to answer."""
    n, without, forced = int(arms["n"].sum()), int((arms["n"] - arms["n_answered"]).sum()), int(arms["n_forced"].sum())
    if not n:
        return "No sample is there."
    return (
        f"Of {n} samples {forced} ({forced / n:.1%}) were cut by the token cap and made to answer, and {without}"
        f" ({without / n:.1%}) have no answer: these take no part."
    )
