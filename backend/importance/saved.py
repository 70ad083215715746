"""What rollouts that go on until known have cost, against as many at every chunk."""

import json

import pandas as pd

from backend.schema.provenance import OF_A_STUDY_FILE


def most_until(runs: pd.DataFrame) -> int | None:
    """Of `Store.runs`: the most rollouts at a chunk, where the newest study file has them go on until known."""
    for parameters in runs.loc[runs["command"].isin(OF_A_STUDY_FILE), "parameters"]:
        asked = json.loads(parameters).get("rollouts", {})
        return None if asked.get("until") is None else int(asked["n"])
    return None


def saved(rows: pd.DataFrame, most: int) -> str:
    """Of `Store.tokens_by_chunk`, in words; empty where there is none. A chunk's rollouts that were not drawn are taken
    to be as long as those that were.
    """
    if rows.empty:
        return ""
    n, tokens, reaching = (int(rows[name].sum()) for name in ("n", "tokens", "n_reaching"))
    full = float((rows["tokens"] / rows["n"] * most).sum())
    return (
        f"{n:,} rollouts until known, {tokens:,} tokens: {100 * tokens / full:.0f} % of what {most} at each of"
        f" {len(rows)} chunks would be; {reaching:,} of them reach a later chunk and count there too."
    )
