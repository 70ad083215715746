"""Do the ways agree, beyond what distance alone gives? And the pairs on which two of them disagree most, to read."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.figures import influence as figures
from app.shared import chosen_chunk
from app.shared.chunk_list import three_digits
from app.shared.clicks import picked_row
from app.shared.influence_ways import WAYS, identical_words, part_words
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, navigation, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from backend.influence.over_study import FEWEST_PAIRS, disagreements
from backend.store.store import Store

WRITER = declare(Field("influence_writer", "who wrote the chains, for the agreement of methods", None))
PAIR = declare(Field("influence_pair", "two measures of influence", None))
READ_BY = declare(Field("influence_read_by", "model that reads, for the agreement of methods", None))
_LISTED = 40


def compared(here: Here) -> Missing | None:
    """Ways that were set against each other."""
    rows = studies.ask(here.store.influence_agreement)
    return undone(here.store.path, "influence_agreement") if rows.empty else None


def draw(here: Here, store: Store) -> None:
    """Every two ways, as a figure and a table."""
    rows = studies.ask(store.influence_agreement)
    writers = {
        str(row.writer_id): "any model" if row.writer_id == "all" else called(store, row.writer_id)
        for row in rows[["writer_id", "writer"]].drop_duplicates().itertuples(index=False)
    }
    writer = next(iter(writers))
    if len(writers) > 1:
        writer = selection.pick(WRITER, "Chains written by", list(writers), show=writers.__getitem__, width=260)
    own = rows[rows["writer_id"] == writer]
    own = own.assign(
        pair=[pair_words(row.first, row.second) for row in own.itertuples()],
        model=["no model" if row.model_id == "none" else called(store, row.model_id) for row in own.itertuples()],
    )
    data_figure(figures.agreement(own), key=keys.of("influence_agreement"))
    show(in_words(own))
    table = agreement_table(own)
    data_table(
        table,
        hide_index=True,
        row_height=28,
        key=keys.of("influence_agreement_rows"),
        column_config=three_digits(table),
    )
    st.caption(
        "Spearman's rank correlation over the pairs of a CoT that both methods know, mean over CoTs; interval: 95 %,"
        " problems drawn anew. Nearness moves every method alike, so that a correlation above 0 is no agreement by"
        " itself: the grey tick is what remains when, at each distance, the pairs of a CoT are dealt anew, and p"
        " (one-sided) is of that null. The p are not corrected for the number of rows."
    )
    if words := identical_words(studies.ask(store.receiver_heads)):
        st.caption(
            "Rows of the base and of the reasoner are no replications of each other where they rest on attention."
            f" {words}"
        )


def pair_words(first: str, second: str) -> str:
    return " – ".join(
        WAYS[name].label.lower() if name in WAYS else part_words(name) for name in (first, second)
    ).capitalize()


def in_words(own: pd.DataFrame) -> str:
    """Which two ways agree beyond distance, and which are not shown to."""
    said = {True: [], False: []}  # type: dict[bool, list[str]]
    for row in own.dropna(subset=["spearman", "p"]).itertuples():
        beyond = row.p <= 0.05 and row.spearman > row.at_distance
        said[beyond].append(
            f"{row.pair.lower()} ({row.model}: {number(row.spearman)} against {number(row.at_distance)})"
        )
    parts = [f"beyond distance agree {', '.join(said[True])}" if said[True] else ""]
    parts += [f"not shown to agree beyond distance {', '.join(said[False])}" if said[False] else ""]
    words = "; ".join(filter(None, parts))
    return f"In this study, {words}." if words else "No two methods know enough of the same pairs to be compared."


def agreement_table(own: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "methods": own["pair"].tolist(),
            "read by": own["model"].tolist(),
            "correlation": [_rounded(value) for value in own["spearman"]],
            "95 % interval": [interval(*pair) for pair in zip(own["low"], own["high"], strict=True)],
            "distance alone": [_rounded(value) for value in own["at_distance"]],
            "p": [_rounded(value) for value in own["p"]],
            "CoTs": own["n_cots"].tolist(),
            "problems": own["n_problems"].tolist(),
            "pairs": own["n_pairs"].tolist(),
        }
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(f"{value:.3g}")


# Pair by pair


def draw_disagreements(here: Here, store: Store) -> None:
    """The pairs that stand highest by one way and lowest by another; one that is picked is read."""
    readings = studies.ask(store.influence_readings)
    readings = readings[readings["n_pairs"] > 0]
    names = [name for name in WAYS if name in set(readings["way"])]
    pairs = [f"{a}:{b}" for number_, a in enumerate(names) for b in names[number_ + 1 :]]
    if not pairs:
        st.caption("Only one method is known in this study, so that there is nothing to disagree.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        pair = selection.pick(PAIR, "Two methods", pairs, show=lambda pair: pair_words(*pair.split(":")), width=280)
        model = _choose_model(store, readings)
    first, second = pair.split(":")
    both = disagreements(
        studies.ask(
            store.influence_by_both,
            first=(first, _usual_part(readings, first)),
            second=(second, _usual_part(readings, second)),
            model_id=model,
        ),
        _LISTED,
    )
    if both.empty:
        st.caption(f"No CoT has {FEWEST_PAIRS} pairs that both methods know.")
        return
    texts = store.texts_of(sorted({*both["source_chunk_id"], *both["target_chunk_id"]})).set_index("chunk_id")["text"]
    table = disagreement_table(both, texts, first, second)
    data_table(
        table,
        column_config=three_digits(table),
        hide_index=True,
        row_height=28,
        height=min(420, 40 + 28 * len(both)),
        key=(key := keys.of(f"influence_disagree_{pair}_{model}")),
        on_select="rerun",
        selection_mode="single-row",
    )
    st.caption(
        "Percentiles among the pairs of the same CoT. Many of the first lie far apart or next to each other, as the"
        " methods fall with distance at different rates: read them before a conclusion is drawn. Pick a row to read"
        " both chunks."
    )
    if (picked := picked_row(key, len(both))) is not None:
        _one_pair(both.iloc[picked], texts)


def _choose_model(store: Store, readings: pd.DataFrame) -> str:
    words = {
        row.model_id: called(store, row.model_id)
        for row in readings[readings["model_id"] != ""].itertuples(index=False)
    }
    if not words:
        return ""
    default = list(words)[-1]
    return selection.pick(READ_BY, "Read by", list(words), default=default, show=words.__getitem__, width=200)


def _usual_part(readings: pd.DataFrame, way: str) -> str:
    return str(readings.loc[readings["way"] == way, "part"].iloc[0])


def disagreement_table(both: pd.DataFrame, texts: pd.Series, first: str, second: str) -> pd.DataFrame:
    a, b = (WAYS[name].label.lower() for name in (first, second))
    return pd.DataFrame(
        {
            f"{a}, percentile": [round(100 * rank) for rank in both["first_rank"]],
            f"{b}, percentile": [round(100 * rank) for rank in both["second_rank"]],
            "from": (both["source_index"] + 1).tolist(),
            "acts": [one_line(str(texts[name]), 110) for name in both["source_chunk_id"]],
            "on": (both["target_index"] + 1).tolist(),
            "is acted on": [one_line(str(texts[name]), 110) for name in both["target_chunk_id"]],
            a: [_rounded(value) for value in both["first_value"]],
            b: [_rounded(value) for value in both["second_value"]],
        }
    )


def _one_pair(pair: pd.Series, texts: pd.Series) -> None:
    roles: Sequence[tuple[str, str]] = (("source", "Acts"), ("target", "Is acted on"))
    for column, (role, title) in zip(st.columns(2, gap="medium"), roles, strict=True):
        chunk = str(pair[f"{role}_chunk_id"])
        with column:
            st.markdown(f"**{title}** · chunk {pair[f'{role}_index'] + 1}")
            show(str(texts[chunk]).strip())
            if st.button(
                "Open in the workspace", icon=":material/arrow_forward:", key=keys.of(f"influence_open_{role}")
            ):
                chosen_chunk.go(chunk)
                selection.choose(dock="influence")
                navigation.go_to(navigation.CHAINS)
