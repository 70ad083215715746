"""The parts of the Crosscoder page: how good the dictionary is, how many features are of one model, and which ones."""

import json
from dataclasses import replace

import pandas as pd
import streamlit as st

from app.figures.crosscoder import frequency_histogram, nrn_and_scaling, nrn_histogram, training_curves
from app.shared import chosen_dictionary, feature_filters
from app.shared.clicks import boxes, picked_row
from app.shared.feature_filters import COLUMNS, NOT_KNOWN, Between, Filter, Filters
from app.shared.feature_rows import NORMS
from app.shell import keys, selection, studies
from app.shell.missing import Missing, command, say
from app.shell.numbers import interval, number
from app.shell.progress import duration
from app.shell.untrusted import for_markdown, one_line, show, show_exactly
from app.shell.vocabulary import CATEGORIES, category
from backend.crosscoder.class_counts import beyond, class_counts
from backend.crosscoder.loss_recovered import loss_recovered
from backend.store.store import Store

MOST_ROWS = 20_000  # of a table or marks of a chart that a browser is given
SCALINGS = {"nu_eps": "ν^ε, of the error", "nu_r": "ν^r, of the reconstruction"}
_TURN = "feature_chart_turn"
RULE = (
    "Classes, by L2 norms (bounds of Minder et al. 2025): distilled only where NRN > 5/6, |ν^ε| < 0.2 and |ν^r| < 0.5;"
    " base only where NRN < 1/6 and the same holds of 1/ν; suspect where the norms say one model, and latent scaling"
    " finds the feature in the other too (faked by shrinkage or decoupling); shared between 1/6 and 5/6."
)


# How it was trained, and how good it is


def unfinished_trainings(store: Store) -> None:
    """What is being trained now: a training without a dictionary yet."""
    runs = store.dictionary_trainings()
    for run in runs[runs["dictionary_id"].isna()].itertuples():
        with st.container(border=True):
            st.markdown("**In training**")
            _training(store, run)


def quality(store: Store, dictionary: pd.Series) -> None:
    """For each model what is explained of its activations, and recovered of its loss; and the training."""
    st.dataframe(quality_table(store, dictionary), hide_index=True, height="content", row_height=30)
    if pd.isna(dictionary.n_judged):
        say(Missing("It has not been measured on the study's chains of thought.", command(store.path, "features")))
    else:
        st.caption(
            f"On n = {int(dictionary.n_judged):,} tokens of the study's CoTs, without prompts: L0"
            f" {number(dictionary.l0)} features a token, {dictionary.dead_share:.1%} of {dictionary.n_features:,}"
            " features fire on none. Losses: nats a token, with the reconstruction in place of the residual stream;"
            " recovered: 1 costs nothing, 0 costs as much as zero (or the mean) in its place. Intervals: bootstrap"
            " over problems."
        )
    runs = store.dictionary_trainings()
    for run in runs[runs["dictionary_id"] == dictionary.dictionary_id].itertuples():
        with st.expander("How it was trained"):
            _training(store, run)
    if not isinstance(dictionary.training_id, str):
        st.caption(
            f"It was read from a file ({for_markdown(str(dictionary.source), 60)}); how it was trained is not known"
            " here."
        )


def quality_table(store: Store, dictionary: pd.Series) -> pd.DataFrame:
    """One row a model, in words: unknown is said to be unknown."""
    losses, rows = store.spliced_losses(dictionary.dictionary_id), []
    for model_id, role in chosen_dictionary.roles(dictionary).items():
        side = "distilled" if role == "distilled" else "base"
        own = losses[losses["model_id"] == model_id]
        against_zero, against_mean = loss_recovered(own), loss_recovered(own, "loss_averaged")
        rows.append(
            {
                "model": one_line(str(dictionary[side]), 60),
                "role": role,
                "variance explained": number(dictionary[f"variance_explained_{side}"]),
                "loss": number(dictionary[f"loss_{side}"]),
                "spliced": number(dictionary[f"loss_spliced_{side}"]),
                "zeroed": number(dictionary[f"loss_zeroed_{side}"]),
                "mean": number(dictionary[f"loss_averaged_{side}"]),
                "recovered, of zero": _with_interval(against_zero),
                "recovered, of mean": _with_interval(against_mean),
                "n": (
                    f"{against_zero.n_tokens:,} tokens of {against_zero.n_cots} CoTs,"
                    f" {against_zero.n_problems} problems"
                ),
            }
        )
    return pd.DataFrame(rows)


def _with_interval(recovered) -> str:
    return "unknown" if pd.isna(recovered.value) else f"{number(recovered.value)} {interval(*recovered.interval)}"


def _training(store: Store, run) -> None:
    settings = json.loads(run.parameters).get("settings", {})
    done = "no step yet" if pd.isna(run.n_steps) else f"step {int(run.n_steps):,}"
    of = f" of {settings['steps']:,}" if isinstance(settings.get("steps"), int) else ""
    took = "" if pd.isna(run.seconds) else f" · {duration(run.seconds)}"
    show(
        f"{run.kind}, {done}{of} · {_count(run.n_tokens)} tokens · {_count(run.n_weights)} weights{took} · seed"
        f" {_count(run.seed)}"
    )
    points = studies.ask(store.dictionary_training_curve, training_id=run.training_id)
    st.plotly_chart(
        training_curves(points), key=keys.of(f"training_{run.training_id}"), config={"displayModeBar": False}
    )
    if len(points):
        st.caption(
            f"Each point: the mean of {int(points['n_steps'].max())} steps, on the training's own batches and not the"
            " study's CoTs."
        )
    with st.popover("All that shaped it"):
        record = {"parameters": json.loads(run.parameters), "versions": json.loads(run.versions)}
        show_exactly(json.dumps(record, indent=1, ensure_ascii=False), height=300)


def _count(n: object) -> str:
    return "unknown" if pd.isna(n) else f"{int(n):,}"


# The features


def counts(rows: pd.DataFrame, norm: str) -> None:
    """How many are base only, shared and distilled only, by the stated rule and by decoder norms at other bounds."""
    unknown = rows["class"].isna()
    never = f"{int((unknown & (rows['frequency'] == 0)).sum()):,} of them never fire"
    cards = [(row["class"], row.n, _share(row)) for _, row in class_counts(rows["class"]).iterrows()]
    cards.append(("class unknown", unknown.sum(), never))
    for column, (name, n, words) in zip(st.columns(len(cards)), cards, strict=True):
        column.metric(name, f"{n:,}", border=True, delta=words, delta_color="off", delta_arrow="off")
    silent = int((rows["class"].eq("shared") & (rows["frequency"] == 0)).sum())
    st.caption(
        f"Shares of the {int(rows['class'].notna().sum()):,} features whose class is known. {RULE}"
        + (f" {silent:,} of the shared ones never fire on the study's tokens." if silent else "")
        + " Intervals: Wilson's 95 %, as if features were independent draws; another training of the dictionary may"
        " differ by more."
    )
    with st.expander(f"Beyond other bounds of NRN ({norm.upper()}): how many survive latent scaling"):
        st.dataframe(beyond_table(rows, norm), hide_index=True, height="content", row_height=30)
        st.caption(
            "Confirmed: |ν^ε| < 0.2 and |ν^r| < 0.5 (for base only, of 1/ν), of those beyond the bound whose ν are"
            " known. A feature that never fires on the study's tokens has none."
        )


def beyond_table(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Rows of `class_counts.beyond` in words."""
    found = beyond(rows, norm=norm)
    return pd.DataFrame(
        {
            "NRN": [
                f"< {row.bound:.3g}" if row.side == "base only" else f"> {1 - row.bound:.3g}"
                for row in found.itertuples()
            ],
            "side": found["side"],
            "features": found["n_beyond"],
            "ν known": found["of"],
            "confirmed": found["n"],
            "share": [number(share) for share in found["share"]],
            "95 % interval": [interval(row.low, row.high) for row in found.itertuples()],
        }
    )


def _share(row: pd.Series) -> str:
    return "unknown" if pd.isna(row.share) else f"{row.share:.1%} [{row.low * 100:.1f}, {row.high * 100:.1f}]"


def how_compared() -> tuple[str, str]:
    """The decoder norm and the latent scaling that the charts show."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        norm = selection.pick("norm", "Decoder norm of NRN", list(NORMS), show=NORMS.__getitem__, width=260)
        scaling = selection.pick(
            "scaling",
            "Latent scaling",
            list(SCALINGS),
            show=SCALINGS.__getitem__,
            width=260,
            help=(
                "ν = β(base) / β(distilled), β being how much of the feature's direction a model's activations hold"
                " when it fires: 0 distilled only, 1 shared, ±∞ base only. Drawn as 1 / (1 + ν), on the scale of NRN."
            ),
        )
    return norm, scaling


# Charts that filter and open


def compared(
    rows: pd.DataFrame, kept: pd.DataFrame, dictionary: pd.Series, *, norm: str, scaling: str, filters: Filters
) -> None:
    """NRN as a histogram to drag over, and against latent scaling, to click."""
    left, right = st.columns(2, gap="medium")
    column, turn = f"nrn_{norm}", st.session_state.get(_TURN, 0)
    with left:
        histogram = keys.of(f"nrn_histogram_{turn}")
        st.plotly_chart(
            nrn_histogram(rows, norm=norm, chosen=_chosen(filters, column, 0.0, 1.0)),
            key=histogram,
            selection_mode="box",
            on_select=lambda: _brushed(histogram, x=column),
        )
        st.caption(
            "Drag over a range to keep only its features in the chart beside and in the table. Dashed: 0.5, equal"
            " norms."
        )
    with right:
        drawn, scatter = kept.head(MOST_ROWS), f"nrn_and_scaling_{turn}"
        share = {"nu_eps": "share_eps", "nu_r": "share_r"}[scaling]
        st.plotly_chart(
            nrn_and_scaling(drawn, norm=norm, scaling=scaling, selected=chosen_dictionary.feature(dictionary)),
            key=scatter,
            selection_mode=("points", "box"),
            config={"scrollZoom": True},
            on_select=lambda: _taken(scatter, dictionary, x=column, y=share),
        )
        left_out = f" Only the first {MOST_ROWS:,} of {len(kept):,} are drawn." if len(kept) > len(drawn) else ""
        st.caption(
            "Click a mark to open its feature; the toolbar's box keeps what is in it. Shaded: the norms say one model"
            " only and this ν finds the feature in both: faked. A class asks both ν and reads L2 norms: a few marks"
            " stand outside their shade." + left_out
        )


def alone(rows: pd.DataFrame, filters: Filters) -> None:
    """For a dictionary of one model: how often features fire."""
    st.caption("This dictionary reads one model. NRN, latent scaling and classes compare two: here they are unknown.")
    key = keys.of(f"frequency_histogram_{st.session_state.get(_TURN, 0)}")
    st.plotly_chart(
        frequency_histogram(rows, chosen=_chosen(filters, "frequency", 0.0, 1.0)),
        key=key,
        selection_mode="box",
        on_select=lambda: _brushed(key, x="frequency", logarithmic=True),
    )
    st.caption("Drag over a range to keep only its features in the table.")


def _chosen(filters: Filters, column: str, lowest: float, highest: float) -> tuple[float, float] | None:
    """The bounds of a filter, to be shaded; None where there are none."""
    given = filters.get(column)
    if given in (None, Between()):
        return None
    return lowest if given.low is None else given.low, highest if given.high is None else given.high


def _brushed(key: str, *, x: str, y: str | None = None, logarithmic: bool = False) -> None:
    """Filter by the box that was drawn on the chart `key`; the next chart starts without it."""
    if not (drawn := boxes(key)):
        return
    filters = chosen_filters()
    for column, side in ((x, "x"), (y, "y")):
        if column is not None:
            low, high = (round(float(end), 6) for end in sorted(drawn[0][side])[:: len(drawn[0][side]) - 1])
            filters[column] = Between(10**low, 10**high) if logarithmic else Between(max(0.0, low), min(1.0, high))
    _choose(filters)
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1


def _taken(key: str, dictionary: pd.Series, *, x: str, y: str) -> None:
    if boxes(key):
        _brushed(key, x=x, y=y)
    else:
        chosen_dictionary.open_clicked(key, dictionary)


# Filters


def chosen_filters() -> Filters:
    """Those of the selection. A text that is none is forgotten, and noted."""
    text = selection.get("filters")
    if text is None:
        return {}
    try:
        return feature_filters.parse(text)
    except ValueError:
        selection.forget_unknown("filters")
        return {}


def filter_controls(rows: pd.DataFrame, dictionary: pd.Series) -> Filters:
    """Which columns are filtered by, and how; returns the filters in force."""
    columns = columns_of(dictionary)
    filters = {column: given for column, given in chosen_filters().items() if column in columns}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.multiselect(
            "Filter by",
            columns,
            format_func=lambda name: COLUMNS[name].label,
            placeholder="anything known of a feature",
            width=420,
            **selection.following("filter_columns", list(filters), _choose_columns, initial="default"),
        )
        for column, given in filters.items():
            _FILTER_WIDGETS[COLUMNS[column].kind](column, given, rows)
        if filters:
            st.button("Clear", on_click=lambda: _choose({}), icon=":material/close:", key=keys.of("clear_filters"))
    return filters


def columns_of(dictionary: pd.Series) -> list[str]:
    """What can be known of its features."""
    return [name for name, column in COLUMNS.items() if chosen_dictionary.compares(dictionary) or not column.compares]


def _bounds(column: str, given: Between, rows: pd.DataFrame) -> None:
    for end, words in (("low", "at least"), ("high", "at most")):

        def take(value: float | None, end: str = end) -> None:
            _change(column, replace(chosen_filters().get(column, Between()), **{end: value}))

        followed = selection.following(f"filter_{column}_{end}", getattr(given, end), take)
        st.number_input(
            f"{COLUMNS[column].label} {words}", format="%g", step=0.01, width=150, placeholder="any", **followed
        )


def _words(column: str, given: tuple[str, ...], rows: pd.DataFrame) -> None:
    options = [*sorted(rows[column].dropna().unique()), NOT_KNOWN]
    followed = selection.following(
        f"filter_{column}",
        [word for word in given if word in options],
        lambda words: _change(column, tuple(words)),
        initial="default",
    )
    st.multiselect(COLUMNS[column].label, options, format_func=_word, width=280, placeholder="any", **followed)


def _text(column: str, given: str, rows: pd.DataFrame) -> None:
    followed = selection.following(f"filter_{column}", given, lambda words: _change(column, words))
    st.text_input(f"{COLUMNS[column].label} contains", max_chars=60, width=220, **followed)


_FILTER_WIDGETS = {"number": _bounds, "word": _words, "text": _text}


def _choose_columns(columns: list[str]) -> None:
    before = chosen_filters()
    _choose({column: before.get(column, feature_filters.nothing(column)) for column in columns})


def _change(column: str, given: Filter) -> None:
    _choose(chosen_filters() | {column: given})


def _choose(filters: Filters) -> None:
    selection.choose(filters=feature_filters.as_text(filters) or None)


# The table


def table(kept: pd.DataFrame, n: int, dictionary: pd.Series, *, norm: str, filters: Filters) -> None:
    """The features that pass the filters, to sort by a click on a head, and to open by a click on a row."""
    order = [f"nrn_{norm}", "frequency"] if chosen_dictionary.compares(dictionary) else ["frequency"]
    rows = kept.sort_values([*order, "feature"], ascending=[False] * len(order) + [True], na_position="last").head(
        MOST_ROWS
    )
    key = keys.of(f"features_{dictionary.dictionary_id}_{norm}_{feature_filters.as_text(filters)}")

    def go() -> None:
        if (picked := picked_row(key, len(rows))) is not None:
            chosen_dictionary.open_feature(rows["feature"].iloc[picked])

    columns = columns_of(dictionary)
    shown = rows[["feature", *(column for column in columns if column != "feature")]].reset_index(drop=True)
    words = [column for column in columns if COLUMNS[column].kind == "word"]
    shown = shown.assign(
        **{column: [_word(value) if isinstance(value, str) else None for value in shown[column]] for column in words}
    )
    st.markdown(f"**{len(kept):,} of {n:,} features**")
    st.dataframe(
        shown,
        hide_index=True,
        height=460,
        row_height=30,
        key=key,
        on_select=go,
        selection_mode="single-row",
        column_config={column: _column(column) for column in shown.columns},
    )
    cut = f" Only the first {MOST_ROWS:,} are listed." if len(kept) > len(rows) else ""
    st.caption(
        "Click the box before a row to open its feature, a head to sort. Empty: unknown. A lift is a ratio of"
        " frequencies." + cut
    )


def _column(name: str):
    column = COLUMNS[name]
    if column.kind != "number":
        return st.column_config.TextColumn(column.label, help=column.meaning)
    shape = {"feature": "%d", "frequency": "percent"}.get(name, "%.1f" if name.endswith("_lift") else "%.3f")
    return st.column_config.NumberColumn(column.label, help=column.meaning, format=shape, pinned=name == "feature")


def _word(name: str) -> str:
    return "not known" if name == NOT_KNOWN else category(name) if name in CATEGORIES else name
