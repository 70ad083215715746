"""Everything known about one chunk, beside the text it stands in."""

from collections.abc import Iterator

import pandas as pd
import streamlit as st

from app.figures.chunk import answers_before_and_after, kl_curves
from app.shared import chosen_chunk, chosen_stream
from app.shared.chosen_chunk import ChosenChunk
from app.shared.chunk_table import count, interval, metric_table, number, why_unknown
from app.shared.clicks import picked_row
from app.shared.geometry_columns import pick_unit
from app.shell import keys, navigation, selection
from app.shell.missing import Missing, command, no_activations, no_rollouts, no_tokens, say
from app.shell.untrusted import for_markdown, one_line, show_exactly
from app.shell.vocabulary import (
    CATEGORIES,
    category,
    definition,
    metric,
    metric_choice,
    position_words,
    smoothing_decides,
    studied_words,
)
from backend.importance.conventions import PUBLISHED
from backend.importance.metrics import SIMILARITY_THRESHOLD
from backend.models.interventions import PLACES
from backend.store.store import Store

_PARTS = {
    "metrics": "Metrics",
    "rollouts": "Rollouts",
    "steering": "Steering",
    "neighbours": "Neighbours",
    "influence": "Influence",
}
_ROLLOUTS = {"resample": "Sampled to the end", "forced": "Answer forced right here"}
_SHOWN_ROLLOUTS = 12


def panel(store: Store, where: ChosenChunk, chunks: pd.DataFrame, name: str | None, convention: str | None) -> None:
    """The selected chunk, one part at a time."""
    chunk = chunks[chunks["chunk_id"] == where.chunk].iloc[0]
    st.markdown(f"#### Chunk {chunk.number} of {len(chunks)}")
    st.caption(" · ".join(category(tag) if tag in CATEGORIES else "another tag" for tag in chunk.tags) or "Not tagged")
    if where.metric:
        st.caption(f"Opened here: the study's largest {metric_choice(f'{where.metric}:{where.convention}')}.")
    if name:
        _headline(store, chunk, name, convention)
    part = selection.pick(
        "panel",
        "About this chunk",
        list(_PARTS),
        show=_PARTS.__getitem__,
        widget=st.segmented_control,
        required=True,
        label_visibility="collapsed",
    )
    {
        "metrics": _metrics,
        "rollouts": _rollouts,
        "steering": _steering,
        "neighbours": _neighbours,
        "influence": _influence,
    }[part](store, where, chunk)


def steering(curves: pd.DataFrame) -> None:
    """KL(β) of a chunk at one layer and position."""
    st.plotly_chart(kl_curves(curves), key=keys.of("kl_curves"), config={"displayModeBar": False})
    if len(curves):
        st.caption(
            f"n = {len(curves)} curves, each KL a mean over {int(curves['n_tokens'].max())} tokens. Lines:"
            " least-squares quadratics, whose |a| is the steepness. Hollow: at or below the noise floor, the KL of the"
            " same forward pass repeated."
        )


def _headline(store: Store, chunk: pd.Series, name: str, convention: str | None) -> None:
    words = metric(name)
    st.metric(
        f"{words.axis} · {convention}",
        number(chunk.value),
        border=True,
        help=words.meaning,
        delta=None if pd.isna(chunk.ci_low) else f"95 % {interval(chunk.ci_low, chunk.ci_high)}",
        delta_color="off",
        delta_arrow="off",
    )
    st.caption(f"{for_markdown(definition(name, convention or ''), 400)}.")
    if pd.isna(chunk.value):
        rows = store.importance_of_chunk(chunk.chunk_id)
        for row in rows[(rows["metric"] == name) & (rows["convention"] == convention)].itertuples():
            st.caption(for_markdown(f"Unknown: {why_unknown(row)}.", 400))
    if smoothing_decides(name, convention, chunk.value):
        st.caption(
            "So large a KL says that answers of one side were never seen on the other: its size is set by the 1e-9 that"
            " stands in for them, not by how far the answers moved. The convention fl, or the difference of accuracies,"
            " has no such jump."
        )


def _metrics(store: Store, where: ChosenChunk, chunk: pd.Series) -> None:
    rows = store.importance_of_chunk(where.chunk)
    if rows.empty:
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=pd.notna(chunk.token_start)))
        return
    table = metric_table(rows)
    empty = [column for column in table.columns if table[column].isin(["", "–"]).all()]
    table = table.drop(columns=empty)
    st.dataframe(table, hide_index=True, height="content" if len(table) <= 18 else 560, row_height=30)
    st.caption(" ".join(_legend(table)))


def _legend(table: pd.DataFrame) -> Iterator[str]:
    """What the signs of this `metric_table` stand for, those that are in it alone."""
    if "n" in table:
        yield "n: rollouts of the side that is named first, that took part; against n: of the other."
    yield "i is this chunk; rollouts at i sample it anew, those at i+1 keep it."
    if "convention" in table and {PUBLISHED} < set(table["convention"]):
        yield "Published values stand below the convention of the same direction and comparator."
    if (table["95 % interval"] != "unknown").any():
        yield "Intervals: bootstrap over rollouts."


def _rollouts(store: Store, where: ChosenChunk, chunk: pd.Series) -> None:
    rows = store.rollouts_at(where.chunk)
    if rows.empty:
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=pd.notna(chunk.token_start)))
        return
    kinds = [kind for kind in _ROLLOUTS if (rows["kind"] == kind).any()]
    if len(kinds) == 1:
        kind = kinds[0]
    else:
        kind = selection.pick(
            "rollouts",
            "Kind",
            kinds,
            show=_ROLLOUTS.__getitem__,
            widget=st.segmented_control,
            required=True,
            label_visibility="collapsed",
        )
    st.plotly_chart(
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


def _rollout_table(rows: pd.DataFrame, title: str) -> None:
    if rows.empty:
        return
    judged = rows["is_correct"].dropna()
    verdicts = f"{int(judged.sum())} of {len(judged)} judged are correct" if len(judged) else "none judged"
    st.markdown(f"**{title}** · {len(rows)} rollouts, {verdicts}")
    shown = pd.DataFrame(
        {
            "cosine": rows["similarity"],
            "answer": rows["answer"].fillna("none"),
            "counts as": rows["cluster"].fillna("–"),
            "verdict": [
                {True: "correct", False: "wrong"}.get(None if pd.isna(v) else bool(v), "not judged")
                for v in rows["is_correct"]
            ],
            "tokens": rows["n_tokens"],
            "resampled chunk": [
                one_line(text, 200) for text in rows["resampled_chunk"].fillna(rows["text"]).fillna("")
            ],
        }
    )
    if judged.empty and rows["answer"].isna().all():
        shown = shown.drop(columns=["answer", "counts as", "verdict"])
    shown = shown.drop(columns=[name for name in ("cosine", "tokens") if shown[name].isna().all()])
    key = keys.of(f"rollouts_{title}_{rows['rollout_id'].iloc[0]}")
    event = st.dataframe(
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
        text = rows["text"].iloc[event.selection.rows[0]]
        show_exactly("The continuation's text was not published." if pd.isna(text) else text, height=240)


def _steering(store: Store, where: ChosenChunk, chunk: pd.Series) -> None:
    st.page_link(
        navigation.page_named(navigation.STEERING),
        label="Steer this chunk live",
        icon=":material/tune:",
        query_params=selection.values(),
    )
    curves = store.kl_curves_of(where.chunk)
    if curves.empty:
        has_tokens = pd.notna(chunk.token_start)
        say(
            Missing("This chunk has not been steered: no KL(β), no steepness.", command(store.path, "sweep"))
            if has_tokens
            else no_tokens(store.path)
        )
        return
    names = store.models().set_index("model_id")["name"]
    with st.container(horizontal=True):
        stream = chosen_stream.pick(store, curves.assign(model=curves["model_id"].map(names)), "Steered", width=240)
        here = chosen_stream.at(curves, stream)
        positions = sorted(set(here["position"]))
        position = selection.pick("position", "At", positions, elsewhere=PLACES, show=position_words, width=220)
        chosen = pick_unit(here[here["position"] == position])
    steering(chosen)
    st.dataframe(
        pd.DataFrame(
            {
                "direction": [studied_words(kind) for kind in chosen["kind"]],
                "steepness |a|": [number(v) for v in chosen["steepness"]],
                "R²": [number(v) for v in chosen["r2"]],
                "pure square": [number(v) for v in chosen["amplitude"]],
                "points": [count(v) for v in chosen["n_betas"]],
                "below floor": [("unknown" if pd.isna(v) else "yes" if v else "no") for v in chosen["below_floor"]],
            }
        ),
        hide_index=True,
        height="content",
        row_height=30,
    )


def _neighbours(store: Store, where: ChosenChunk, chunk: pd.Series) -> None:
    found = store.activations_of(where.chunk)
    if found.empty:
        if store.activation_places().empty or pd.isna(chunk.token_start):
            say(
                no_activations(store.coverage().iloc[0], store.path)
                if store.activation_places().empty
                else no_tokens(store.path)
            )
        else:
            st.caption("No model has read this chunk, so it has no activation.")
        return
    stream = chosen_stream.pick(store, found, width=240)
    near = store.neighbours(where.chunk, stream.model, stream.layer, 12)
    st.caption(
        f"The {len(near)} chunks whose mean residual stream at layer {stream.layer} has the largest cosine with this"
        " one's, over all chunks. Choose a row to go there."
    )
    go_table(
        near,
        {"cosine": near["cosine"].astype(float).round(3)},
        key=keys.of(f"neighbours_{where.chunk}_{stream.id}"),
        own=where.cot,
    )


def _influence(store: Store, where: ChosenChunk, chunk: pd.Series) -> None:
    onward, back = store.influence_of(where.chunk), store.influence_on(where.chunk)
    if onward.empty and back.empty:
        st.caption(
            "Step importance (how much a sentence matters for each later one) comes with published data, and this chunk"
            " has none."
        )
        return
    for title, rows in (("This chunk influences", onward), ("Influenced by", back)):
        st.markdown(f"**{title}** · {len(rows)} chunks")
        strongest = rows.sort_values("value", ascending=False, kind="stable").head(15)
        go_table(strongest, {"importance": strongest["value"]}, key=keys.of(f"{title}_{where.chunk}"), own=where.cot)


def go_table(rows: pd.DataFrame, values: dict, *, key: str, own: str) -> None:
    """Chunks to go to: choosing a row selects its chunk."""

    def go() -> None:
        if (picked := picked_row(key, len(rows))) is not None:
            chosen_chunk.go(rows["chunk_id"].iloc[picked])

    texts = [one_line(text, 160) for text in rows["text"]]
    where = {"CoT": ["this one" if cot == own else "another" for cot in rows["cot_id"]]} if "cot_id" in rows else {}
    st.dataframe(
        pd.DataFrame({**values, "chunk": (rows["chunk_index"] + 1).tolist(), **where, "text": texts}),
        hide_index=True,
        row_height=30,
        height="content" if len(rows) <= 15 else 480,
        key=key,
        on_select=go,
        selection_mode="single-row",
    )
