"""A dock: views beside the chain, one to four at a time, of all that there are.

Which they are, and in which order, is one choice, so that a link has it. Each is a part of its own: a choice draws
anew those that have read it.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import streamlit as st

from app.shared import views
from app.shared.chosen_chunk import COT, PROBLEM
from app.shared.chosen_stream import LAYER, MODEL
from app.shared.chunk_colours import METRIC, TAGS
from app.shared.geometry_columns import DIRECTION, POSITION, UNIT
from app.shared.views import Here, View
from app.shell import keys, selection
from app.shell.fields import FIELDS, Field, declare
from app.shell.more import cornered
from app.shell.untrusted import one_line, show

MOST = 4  # views at a time
ARRANGED = {"rows": "one below the other", "columns": "side by side"}
DOCK = declare(Field("dock", "views in the dock", None, of=None))
ARRANGEMENT = declare(Field("dock_arranged", "arrangement of two views", ARRANGED, "rows", of=None))
_ABOVE = (PROBLEM, COT, MODEL, LAYER, METRIC, TAGS, DIRECTION, POSITION, UNIT)  # what the bar offers for all views


# What can stand in a dock: a title, and views that belong together, those of other pages by their names.
Offer = tuple[str, tuple[View | str, ...]]
Offers = Mapping[str, Offer]


def obeying_the_bar() -> AbstractContextManager[None]:
    """What the bar offers is followed inside, and not offered again."""
    return selection.offered_above(*_ABOVE)


def chosen(offered: Offers, usual: Sequence[str]) -> list[str]:
    """What stands in the dock; names that nothing has are left out, and noted."""
    given = selection.get(DOCK)
    if given is None:
        return list(usual)
    found = [name for name in dict.fromkeys(given.split(".")) if name in offered][:MOST]
    if not found:
        selection.forget_unknown(DOCK)
    return found or list(usual)


def put(names: Sequence[str]) -> None:
    """Have these in the dock: of more than it holds the last ones."""
    selection.choose({DOCK: ".".join(list(names)[-MOST:])})


def toggle(name: str, offered: Offers, usual: Sequence[str]) -> None:
    """Put a view into the dock, or take it out where it is not the only one."""
    now = chosen(offered, usual)
    put([one for one in now if one != name] or now if name in now else [*now, name])


def add(name: str, offered: Offers, usual: Sequence[str]) -> None:
    """Put a view into the dock, where it does not stand there."""
    now = chosen(offered, usual)
    put(now if name in now else [*now, name])


def pick(offered: Offers, usual: Sequence[str]) -> list[str]:
    """The row of what can stand there."""
    now = chosen(offered, usual)

    def take(picked: list[str]) -> None:
        kept = [name for name in now if name in picked]
        put([*kept, *(name for name in picked if name not in now)] or now[:1])

    words = {
        name: f"{number} {title}" if number < 10 else title
        for number, (name, (title, _)) in enumerate(offered.items(), start=1)
    }
    with st.container(key=keys.of("dock_views")):
        st.pills(
            "Views",
            list(offered),
            selection_mode="multi",
            format_func=words.__getitem__,
            label_visibility="collapsed",
            **selection.following("pick_dock", now, take, initial="default"),
        )
    return now


def beside_chain(shown: Sequence[str]) -> tuple[int, int]:
    """The widths of the chain and the dock, which needs more where views stand side by side."""
    return (4, 7) if _is_beside(shown) else (5, 6)


def _is_beside(shown: Sequence[str]) -> bool:
    return len(shown) > 2 or (len(shown) == 2 and selection.checked(ARRANGEMENT) == "columns")


def draw(offered: Offers, shown: Sequence[str], every: Mapping[str, View]) -> None:
    """The views, each in a frame of a fixed height: what is in it moves nothing else."""
    is_beside = _is_beside(shown)
    rows = [shown[at : at + 2] for at in range(0, len(shown), 2)] if is_beside else [[name] for name in shown]
    height = 860 if len(rows) == 1 else 420
    for row in rows:
        for place, name in zip(st.columns(len(row), gap="small"), row, strict=True):
            title, members = offered[name]
            own = [every[one] if isinstance(one, str) else one for one in members]
            with place.container(border=True, height=height, key=f"dock_{name}"):
                views.alone(f"dock {name}", partial(_draw, title, own))


def _draw(title: str, own: Sequence[View], here: Here) -> None:
    with keys.within(f"dock {own[0].name}"), selection.own_stand_ins() as instead:
        head = st.container(horizontal=True, vertical_alignment="center", gap="small")
        head.markdown(f"**{title}**", width="content")
        above = st.container()  # what is said there is known once the views are drawn
        with cornered(head), obeying_the_bar():
            for number, view in enumerate(own):
                views.show(view, here, quiet=number > 0)
        with above:
            for name, wanted, drawn in dict.fromkeys(instead):
                show(one_line(f"Not here: {FIELDS[name].before}{wanted}. Shown: {drawn}.", 300))
