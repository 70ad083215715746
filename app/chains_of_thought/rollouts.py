"""The rollouts at the selected chunk, and the answers before and after it."""

import pandas as pd
import streamlit as st

from app.chains_of_thought.tokens import has_tokens
from app.figures.chunk import answers_before_and_after
from app.shared.answer_shares import answered, part_of
from app.shared.views import Here
from app.shell import keys, selection
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import no_rollouts, say
from app.shell.untrusted import one_line, show_exactly
from backend.importance.estimates import SIMILARITY_THRESHOLD
from backend.store.answered import FORCED_AT_CAP
from backend.store.store import Store

_ROLLOUTS = {"resample": "Sampled to the end", "forced": "Answer forced right here"}
KIND = declare(Field("rollout_kind", "kind of rollouts", _ROLLOUTS))


_SHOWN_ROLLOUTS = 12


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    rows = store.rollouts_at(where.chunk)
    if rows.empty:
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=has_tokens(here)))
        return
    kinds = [kind for kind in _ROLLOUTS if (rows["kind"] == kind).any()]
    if len(kinds) == 1:
        kind = kinds[0]
    else:
        kind = selection.pick(
            KIND,
            "Kind",
            kinds,
            show=_ROLLOUTS.__getitem__,
            widget=st.segmented_control,
            required=True,
            label_visibility="collapsed",
        )
    data_figure(
        answers_before_and_after(store.outcomes_around(where.chunk, kind)),
        key=keys.of("outcomes"),
        config={"displayModeBar": False},
    )
    rows = rows[rows["kind"] == kind]
    if kind == "forced":
        _rollout_table(rows, "Forced answers")
        return
    similar = rows["similarity"] >= SIMILARITY_THRESHOLD
    _rollout_table(rows[similar.fillna(False)], f"Similar (cosine ≥ {SIMILARITY_THRESHOLD})")
    _rollout_table(
        rows[(~similar).fillna(False) & rows["similarity"].notna()], f"Dissimilar (cosine < {SIMILARITY_THRESHOLD})"
    )
    _rollout_table(rows[rows["similarity"].isna()], "Similarity unknown")


def answers_of(rows: pd.DataFrame) -> str:
    """What became of the answers of these rows of `Store.rollouts_at`, and how many were drawn later."""
    without, forced = int(rows["answer"].isna().sum()), int((rows["answer_source"] == FORCED_AT_CAP).sum())
    n_added = int(rows["added_id"].notna().sum())
    words = answered(len(rows), without, forced, of="rollouts")
    return words + (f", {n_added} of them drawn later at this chunk" if n_added else "")


def _rollout_table(rows: pd.DataFrame, title: str) -> None:
    if rows.empty:
        return
    judged = rows["is_correct"].dropna()
    verdicts = f"{part_of(int(judged.sum()), len(judged))} judged are correct" if len(judged) else "none judged"
    st.markdown(f"**{title}** · {answers_of(rows)}; {verdicts}")
    shown = pd.DataFrame(
        {
            "cosine": rows["similarity"],
            "answer": rows["answer"].fillna("none"),
            "counts as": rows["cluster"].fillna("–"),
            "answer is": rows["answer_source"].fillna("–"),
            "drawn": ["with the study" if pd.isna(added) else "later" for added in rows["added_id"]],
            "verdict": ["not judged" if pd.isna(v) else "correct" if v else "wrong" for v in rows["is_correct"]],
            "tokens": rows["n_tokens"],
            "resampled chunk": [
                one_line(text, 200) for text in rows["resampled_chunk"].fillna(rows["text"]).fillna("")
            ],
        }
    )
    if judged.empty and rows["answer"].isna().all():
        shown = shown.drop(columns=["answer", "counts as", "answer is", "verdict"])
    alike = [name for name in ("answer is", "drawn") if name in shown and shown[name].nunique() < 2]
    shown = shown.drop(columns=alike + [name for name in ("cosine", "tokens") if shown[name].isna().all()])
    key = keys.of(f"rollouts_{title}_{rows['rollout_id'].iloc[0]}")
    event = data_table(
        shown,
        hide_index=True,
        height="content" if len(shown) <= _SHOWN_ROLLOUTS else 420,
        row_height=30,
        key=key,
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "cosine": st.column_config.NumberColumn(format="%.2f", width="small"),
            "resampled chunk": st.column_config.TextColumn(width="large"),
        },
    )
    if event.selection.rows:
        row = rows.iloc[event.selection.rows[0]]
        show_exactly("The continuation's text was not published." if pd.isna(row["text"]) else row["text"], height=240)
        if not pd.isna(row["forced_text"]):
            st.caption("Cut there by the token cap without an answer; what was then forced of it:")
            show_exactly(row["forced_text"], height=90)
