"""What is open beside what is pinned: up to four chains of one problem from where any two part, two chunks by every
metric, and one chunk at two layers.

Chunks are the same as long as their texts are, spaces at the ends aside. From the first that differs on they stand side
by side in their order, which is no alignment of what they say.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile, zip_longest

import pandas as pd
import streamlit as st

from app.chains_of_thought import compared_layers
from app.shared import chosen_chain, chosen_stream, chunk_colours, pinned, views
from app.shared.chunk_list import three_digits
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.numbers import range_of
from app.shell.untrusted import for_markdown, one_line, show
from app.shell.vocabulary import metric, metric_choice
from backend.store.store import Store

MOST = 4  # chains side by side
BESIDE = declare(Field("compared_cot", "chains that are compared", None, of="problem"))  # one to three, by |
_SIGNS = (":material/keep:", ":material/keep_off:")
_NAMES = ("this", "2nd", "3rd", "4th")
_TWO = ("this chain", "the other")


def draw(here: Here, store: Store) -> None:
    _pinned(here, store)
    _chains(here, store)
    _chunks(here, store)
    compared_layers.draw(here, store)


def draw_pin(store: Store, then: Callable[[], None] = lambda: None, *, words: tuple[str, str] = ("", "")) -> None:
    """The button that pins all that is open, or lets go of it, with `words` for the two; `then` follows its press."""

    def press() -> None:
        pinned.pin(store)
        then()
        selection.redraw()

    is_pinned = pinned.is_pinned(store)
    st.button(
        words[is_pinned] or _SIGNS[is_pinned],
        icon=_SIGNS[is_pinned] if words[is_pinned] else None,
        type="tertiary",
        on_click=press,
        key=keys.of("pin"),
        help="Let go of what is pinned (key p)"
        if is_pinned
        else "Pin what is open, chain, chunk, model, layer and run, to compare with it (key p)",
    )


def _pinned(here: Here, store: Store) -> None:
    """What is pinned, and the way to let go of it."""
    chunk, at, run = pinned.chunk(store), pinned.stream(store), pinned.run(store)
    words = [] if chunk is None else [_in_words(store, chunk)]
    words += [] if at is None else [chosen_stream.in_words(store, at)]
    words += [] if run is None else [f"a run, {one_line(str(run['sentence']), 100)}"]
    if words:
        st.caption(for_markdown(f"Pinned: {'; '.join(words)}.", 400))
    else:
        st.caption("Nothing is pinned: pin what is open, and go on to what you want to set beside it.")
    with st.container(horizontal=True, gap="medium"):
        draw_pin(store, words=("Pin what is open", "Let go of what is pinned"))
        if words and not pinned.is_pinned(store):
            st.button("Let go of what is pinned", type="tertiary", on_click=_let_go, key=keys.of("let_go"))


def _let_go() -> None:
    pinned.let_go()
    selection.redraw()


def _in_words(store: Store, chunk: str) -> str:
    place = store.chunk_place(chunk).iloc[0]
    return f"{chosen_chain.in_words(store, place.cot_id)}, chunk {place.chunk_index + 1}"


# Chains


def _chains(here: Here, store: Store) -> None:
    where = here.chunk
    others = _others(store, where.cot, pinned.chunk(store))
    if not others:
        st.caption("The problem of this chain has no other one.")
        return
    with views.controls():
        beside = selection.pick_several(
            BESIDE,
            "Beside",
            others,
            usual=others[:1],
            show=lambda cot: chosen_chain.in_words(store, cot),
            max_selections=MOST - 1,
        )
    choices = chunk_colours.importance_options(store)
    choice = chunk_colours.metric_in_force(choices) if choices else ":"
    name, _, convention = choice.partition(":")
    cots = [where.cot, *beside[: MOST - 1]]
    chains = [chunk_colours.chunks(store, cot, "", name, convention) for cot in cots]
    n_same = shared(*(chain["text"].tolist() for chain in chains))
    named = [chosen_chain.in_words(store, cot) for cot in cots]
    said = f"{named[0]}, beside {named[1]}. " if len(cots) == 2 else _numbered(named)
    show(said + parted(n_same, *map(len, chains)))
    rest = [chain.iloc[n_same:] for chain in chains]
    rows = side_by_side(*rest) if len(cots) == 2 else several(rest)
    _table(rows, "compared_chains", texts=(130, 74) if len(cots) == 2 else (88, 92))
    if choices:
        less = "this less the other" if len(cots) == 2 else "“this −” is this chain's value less that of the other one"
        st.caption(f"Values: {metric_choice(choice)}; an empty cell is unknown. Difference: {less}.")


def _numbered(named: Sequence[str]) -> str:
    return " ".join(f"{name.capitalize()}: {words}." for name, words in zip(_NAMES, named, strict=False)) + " "


def _table(rows: pd.DataFrame, key: str, *, texts: tuple[int, int] | None = None) -> None:
    """`texts`: how wide columns of a chain's texts are, and how high rows, so that these are read on several lines."""
    width, height = texts or (None, 30)
    chains = [name for name in rows if name in (*_TWO, *_NAMES)] if texts else []
    data_table(
        rows,
        hide_index=True,
        row_height=height,
        height="content" if len(rows) * height <= 600 else 560,
        key=keys.of(key),
        column_config=three_digits(rows)
        | {name: st.column_config.TextColumn(width=width) for name in chains}
        | ({"chunk": st.column_config.NumberColumn(width=50)} if chains else {}),
    )


def _others(store: Store, cot: str, beside: str | None) -> list[str]:
    """What can stand beside the chain: first that of the pinned chunk, then the problem's of another verdict, then of
    another model, then the rest.
    """
    cots = studies.ask(store.cot_index)
    own = cots[cots["cot_id"] == cot].iloc[0]
    there = cots[(cots["problem_id"] == own.problem_id) & (cots["cot_id"] != cot) & (cots["n_chunks"] > 0)]
    ranked = there.assign(
        alike=(there["is_correct"].astype(object) == own.is_correct).astype(int),
        own_model=(there["model_id"] == own.model_id).astype(int),
    ).sort_values(["alike", "own_model", "sample", "cot_id"], kind="stable")
    first = [] if beside is None else store.chunk_place(beside)["cot_id"].tolist()
    return [one for one in dict.fromkeys([*first, *ranked["cot_id"]]) if one != cot]


def shared(*texts: list[str]) -> int:
    """How many chunks from the beginning on are the same in all of them."""
    return sum(1 for _ in takewhile(lambda row: len({text.strip() for text in row}) == 1, zip(*texts, strict=False)))


def parted(n_same: int, *lengths: int) -> str:
    """Where chains of these lengths part, in words."""
    if {n_same} == set(lengths):
        return f"All {n_same} chunks are the same."
    if not n_same:
        return "They part at the first chunk."
    return f"The first {n_same} chunk{'s are' if n_same > 1 else ' is'} the same; they part at chunk {n_same + 1}."


def side_by_side(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Chunks (`number`, `text`, `value`, `ci_low`, `ci_high`) in their order, row by row; empty where one chain has
    ended.
    """
    rows = [
        {
            "chunk": None if one is None else one.number,
            "this chain": None if one is None else one_line(one.text, 160),
            "the other": None if two is None else one_line(two.text, 160),
            "value": None if one is None else one.value,
            "other's": None if two is None else two.value,
            "difference": None if one is None or two is None else one.value - two.value,
            "95 %": None if one is None else range_of(one.ci_low, one.ci_high),
            "other's 95 %": None if two is None else range_of(two.ci_low, two.ci_high),
        }
        for one, two in zip_longest(own.itertuples(), other.itertuples())
    ]
    columns = ["chunk", *_TWO, "value", "other's", "difference", "95 %", "other's 95 %"]
    found = pd.DataFrame(rows, columns=columns)
    return found.astype({name: "float64" for name in ("value", "other's", "difference")})


def several(chains: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Chunks (`number`, `text`, `value`) of more than two chains, row by row, short: the texts, the value of the first
    chain, and its value less each other's.
    """
    names = _NAMES[: len(chains)]
    rows = []
    for row in zip_longest(*(chain.itertuples() for chain in chains)):
        values = [None if one is None or pd.isna(one.value) else float(one.value) for one in row]
        found = {"chunk": next(one.number for one in row if one is not None)}
        found |= {name: None if one is None else one_line(one.text, 60) for name, one in zip(names, row, strict=True)}
        found |= {"value": values[0]} | {
            f"this − {name}": None if values[0] is None or value is None else values[0] - value
            for name, value in zip(names[1:], values[1:], strict=True)
        }
        rows.append(found)
    differences = [f"this − {name}" for name in names[1:]]
    columns = ["chunk", *names, "value", *differences]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(["value", *differences], "float64"))


# Chunks


def _chunks(here: Here, store: Store) -> None:
    """This chunk and the pinned one, where they are two."""
    where, other = here.chunk, pinned.chunk(store)
    if other in (None, where.chunk):
        return
    st.markdown("**This chunk, and the pinned one**")
    _table(of_chunks(store.importance_of_chunk(where.chunk), store.importance_of_chunk(other)), "compared_chunks")
    st.caption(
        "n: rollouts of the one and of the other. A difference has no interval of its own: the rollouts of two chunks"
        " are not paired."
    )


def of_chunks(own: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Store.importance_of_chunk` of two chunks, by metric and convention, with their difference."""
    columns = ["metric", "convention", "value", "ci_low", "ci_high", "n"]
    both = own[columns].merge(other[columns], on=columns[:2], how="outer", suffixes=("", "_other"))
    values = both[["value", "value_other"]].astype("float64")
    return pd.DataFrame(
        {
            "metric": [
                metric(row.metric).short + ("" if row.convention == "all" else f" · {row.convention}")
                for row in both.itertuples()
            ],
            "this": values["value"],
            "pinned": values["value_other"],
            "difference": values["value"] - values["value_other"],
            "95 %": [range_of(*ends) for ends in zip(both["ci_low"], both["ci_high"], strict=True)],
            "pinned's 95 %": [
                range_of(*ends) for ends in zip(both["ci_low_other"], both["ci_high_other"], strict=True)
            ],
            "n": both["n"].astype("Int64"),
            "pinned's n": both["n_other"].astype("Int64"),
        }
    )
