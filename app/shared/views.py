"""A view: one panel, with a name, what it needs, and how it is drawn.

It can stand on its own page and beside others anywhere else: it sets no title, counts on no column of a page, and takes
what the person looks at from `Here`. A page shows the views of its folder (`show`); anywhere else one is mounted
(`mount`), with keys of its own.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from app.shared import chosen_chunk, chosen_dictionary, feature_rows
from app.shared.chosen_chunk import ChosenChunk
from app.shell import failures, keys, navigation, parts, selection, studies
from app.shell.fields import Field
from app.shell.missing import Missing, PageEnds, say, say_and_end, there
from app.shell.more import controls as controls
from backend.store.store import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Here:
    """What the person looks at, in one study: found when a view asks for it, and once for all views of one place."""

    store: Store
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[["Here"], T]) -> T:
        """What `make` shows and gives. Controls that several views share are shown by the first that asks, or before
        all of them by the page."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def made(self, make: Callable[["Here"], T]) -> T | None:
        """What `make` gave, where a view or the page has shown it; None where none has."""
        return self._made.get(make)

    def look_at(self, chunk: ChosenChunk) -> None:
        """Have every view look at this chunk."""
        self._made[_chunk] = chunk

    @property
    def chunk(self) -> ChosenChunk:
        return there(self.once(_chunk))

    @property
    def dictionary(self) -> pd.Series:
        return there(self.once(_dictionary))

    @property
    def features(self) -> pd.DataFrame:
        """The features of the dictionary."""
        return there(self.once(_features))


def _chunk(here: Here) -> ChosenChunk | Missing:
    return chosen_chunk.find(here.store)


def _dictionary(here: Here) -> pd.Series | Missing:
    return chosen_dictionary.find(here.store)


def _features(here: Here) -> pd.DataFrame | Missing:
    return feature_rows.find(here.store, here.dictionary)


Need = Callable[[Here], Missing | None]  # what to say where it is not there, and the command that makes it


@dataclass(frozen=True)
class View:
    name: str  # one view's alone; its keys begin with it wherever it is mounted
    title: str
    needs: tuple[Need, ...]  # in the order in which they are made
    draw: Callable[[Here, Store], None]

    def __post_init__(self) -> None:
        if not (self.name and self.title and self.needs and all(map(callable, (*self.needs, self.draw)))):
            raise ValueError(f"view {self.name!r} wants a name, a title, what it needs, and how it is drawn")

    def missing(self, here: Here) -> Missing | None:
        """The first thing that it needs and that is not there."""
        return next(filter(None, (need(here) for need in self.needs)), None)


def here_now() -> Here:
    """Of the chosen study. Where there is none, says how to make one and ends the page."""
    return Here(studies.open_store(navigation.study()))


def title() -> None:
    """The heading of the page: what the sidebar calls it."""
    st.title(navigation.PAGES[selection.page() or navigation.ROOT_PAGE].title)


def show(view: View, here: Here, *, heading: bool = False, quiet: bool = False) -> None:
    """The view on a page, below its title where that is wanted; what it lacks in its stead, unless `quiet`."""
    if (lacks := view.missing(here)) is not None:
        if not quiet:
            say(lacks)
        return
    if heading:
        st.header(view.title)
    view.draw(here, here.store)


def show_all(here: Here, *below: View) -> None:
    """These views one below the other, each below its title; what several of them lack is said once."""
    said = set[Missing]()
    for view in below:
        lacks = view.missing(here)
        show(view, here, heading=True, quiet=lacks in said)
        said |= {lacks} if lacks is not None else set()


def show_beside(here: Here, *row: View) -> None:
    """These views in columns of one row, each below its title."""
    for column, view in zip(st.columns(len(row), gap="medium"), row, strict=True):
        with column:
            show(view, here, heading=True)


def part(field: Field, label: str, titles: Mapping[str, str], *, default: str | None = None) -> str:
    """The part of a page that is shown, behind a row of titles."""
    return selection.pick(
        field,
        label,
        list(titles),
        default=default,
        show=titles.__getitem__,
        widget=st.pills,
        required=True,
        label_visibility="collapsed",
    )


def mount(view: View, store: Store, place: str) -> None:
    """The view by itself, in a place that has a name: beside any other view, or itself a second time."""
    with keys.within(f"{place} {view.name}"), contextlib.suppress(PageEnds):
        show(view, Here(store))


def alone(name: str, draw: Callable[[Here], None]) -> None:
    """A part of the page that runs again by itself where something that it read has changed, with an own look at the
    study."""

    def again() -> None:
        with failures.said(keys.of(f"problem_{name}")):
            draw(here_now())

    selection.part(name, again)


def require_everywhere(*needs: Need) -> None:
    """`require`, before the parts of a page: what is read for it is no reason to draw the page again."""
    with parts.unnoted():
        require(here_now(), *needs)


def require(here: Here, *needs: Need) -> None:
    """Say the first of these that is missing, as all there is to this page."""
    for need in needs:
        if (lacks := need(here)) is not None:
            say_and_end(lacks)


# What views need


def study(here: Here) -> Missing | None:
    """Nothing beyond an open study, which is there."""
    return None


def chunks(here: Here) -> Missing | None:
    """A chain of thought cut into chunks."""
    return _missing(here.once(_chunk))


def dictionary(here: Here) -> Missing | None:
    """A dictionary of activations."""
    return _missing(here.once(_dictionary))


def features(here: Here) -> Missing | None:
    """A dictionary whose features have been measured."""
    return dictionary(here) or _missing(here.once(_features))


def _missing(found: object) -> Missing | None:
    return found if isinstance(found, Missing) else None
