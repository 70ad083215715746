"""Every metric of the selected chunk."""

from collections.abc import Iterator

import pandas as pd
import streamlit as st

from app.chains_of_thought.metric_table import metric_table
from app.chains_of_thought.tokens import has_tokens
from app.shared.answer_shares import answered
from app.shared.views import Here
from app.shell import studies
from app.shell.data_table import data_table
from app.shell.missing import no_rollouts, say
from app.shell.numbers import number
from app.shell.untrusted import show
from backend.importance.conventions import PUBLISHED
from backend.importance.saved import most_until, saved
from backend.importance.two_rules import TwoRules, two_rules
from backend.store.store import Store


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    rows = store.importance_of_chunk(where.chunk)
    if rows.empty:
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=has_tokens(here)))
        return
    table = metric_table(rows)
    empty = [column for column in table.columns if table[column].isin(["", "unknown"]).all()]
    table = table.drop(columns=empty)
    data_table(table, hide_index=True, height="content" if len(table) <= 18 else 560, row_height=30)
    st.caption(" ".join(_legend(table)))
    if words := rules_line(two_rules(studies.ask(store.under_two_rules))):
        show(words)
    st.caption(" ".join(answers_around(store.answers_in_cot(where.cot), where.chunk)))
    if (most := most_until(store.runs())) and (words := saved(store.tokens_by_chunk(where.cot), most)):
        st.caption(f"This chain: {words}")


def rules_line(found: TwoRules) -> str:
    """The difference that it makes to ask for the same numbers; empty where that was not looked at."""
    if not found.n_rollouts:
        return ""
    moved = found.moves
    words = (
        f"Similar by the rule numbers (the same numbers and operators too): {found.n_moved:,} of the study's"
        f" {found.n_rollouts:,} resampled rollouts with a first chunk are similar by their embeddings alone."
    )
    if moved.n:
        words += (
            f" Counterfactual importance (JSD) moves in {moved.n_moved} of {moved.n} chunks, the farthest by"
            f" {moved.largest:+.2f} nats (Spearman's ρ {number(moved.rho)}), and is known of {moved.n_gained} more."
        )
    return words


def answers_around(counts: pd.DataFrame, chunk: str) -> Iterator[str]:
    """What became of the answers of the rollouts at the chunk and at the next one; `counts` are rows of
    `Store.answers_in_cot`.
    """
    at = counts["chunk_id"].tolist().index(chunk)
    for where, row in zip(
        ("before this chunk", "before the next one"), counts.iloc[at : at + 2].itertuples(), strict=False
    ):
        if row.n:
            later = f", {row.n_added} of them drawn later" if row.n_added else ""
            words = answered(row.n, row.n_without_answer, row.n_forced, of="rollouts")
            yield f"From {where}: {words}{later}."


def _legend(table: pd.DataFrame) -> Iterator[str]:
    """What the signs of this `metric_table` stand for, those that are in it alone."""
    if "n" in table:
        yield "n: rollouts of the side that is named first, that took part; against n: of the other."
    yield "i is this chunk; rollouts at i sample it anew, those at i+1 keep it."
    if "convention" in table and {PUBLISHED} < set(table["convention"]):
        yield "Published values stand below the convention of the same direction and comparator."
    if "95 % interval" in table and (table["95 % interval"] != "unknown").any():
        yield "Intervals: bootstrap over rollouts; of a JSD, from its posterior."
    if "q" in table:
        yield "q decides (Benjamini–Hochberg over the study's chunks, of a permutation's p); a JSD's interval does not."
