"""One run of the app: the sidebar that all pages share, the page, and the place where an error meant for people is
shown.
"""

import contextlib
from itertools import groupby
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import views
from app.components import described
from app.components.keyboard import keyboard
from app.findings import tour
from app.shell import failures, progress, selection, shortcuts, studies
from app.shell.fields import FIELDS, STUDY
from app.shell.missing import NO_STUDY, PageEnds, say
from app.shell.navigation import PAGES, ROOT_PAGE, link_to, page_named
from app.shell.untrusted import one_line, show
from backend.errors import AnchorscopeError
from backend.plain import plain
from backend.root import ROOT

_ASSETS = ROOT / "assets"
_INSTEAD = "study_instead"


_LONGEST_NOTE = 2000  # characters of the note at the top, which shows one line of it until somebody points at it


def run() -> None:
    """One run of the app: sidebar, page, and the selection written back to the URL whatever happens."""
    st.set_page_config(page_title="Anchorscope", page_icon=str(_ASSETS / "icon.svg"), layout="wide")
    st.logo(str(_ASSETS / "logo.svg"), size="large", icon_image=str(_ASSETS / "icon.svg"))
    _style()
    unknown = _forget_unknown_path()
    page = st.navigation([page_named(name) for name in PAGES], position="hidden")
    views.registered()  # a link may name what any page has
    selection.begin(page.url_path)
    links, top = st.sidebar.empty(), st.empty()
    with links.container():
        selection.part("pages", _links)
    linked = selection.all_of_it()
    try:
        with failures.said("problem"):
            found = studies.found()
            _sidebar(found)
            _say_it_is_gone(found)
            _say_it_is_older(found)
            with contextlib.suppress(PageEnds):
                _tour(found)
                page.run()
    finally:
        selection.end()
    _say_above(top, unknown)
    if selection.all_of_it() != linked:  # the page has chosen
        with links.container():
            selection.part("pages", _links)
    selection.part("keys", _keys)


def _links() -> None:
    """Links to the pages.

    They carry the selection, so that a page is one step in the browser's history and opens alike in a new tab.
    """
    chosen = selection.values()
    with st.container(gap="xxsmall"):
        for section, names in groupby(PAGES, key=lambda name: PAGES[name].section):
            if section:
                st.caption(section)
            for name in names:
                st.page_link(link_to(name), query_params=chosen, width="stretch")


def _keys() -> None:
    """The keys of this page."""
    page = selection.page()
    keyboard(shortcuts.on(page), lambda key: shortcuts.press(page, key))


def _sidebar(found: dict[str, Path]) -> None:
    with st.sidebar:
        if _gone(found) is not None and found:
            st.selectbox(
                "Study",
                list(found),
                index=None,
                placeholder="Choose another",
                key=_INSTEAD,
                on_change=_choose_instead,
            )
        elif found:
            selection.pick(
                STUDY, "Study", list(found), help="Every study under stores/, and those named in ANCHORSCOPE_STORES."
            )
            progress.watch(found[selection.in_force(STUDY, list(found))])


def _choose_instead() -> None:
    if (name := st.session_state.get(_INSTEAD)) is not None:
        selection.choose({STUDY: name})


def _gone(found: dict[str, Path]) -> str | None:
    """The name of the chosen study where it is not here: never another one in its place."""
    name = selection.get(STUDY)
    return None if name in found else name


def _say_it_is_gone(found: dict[str, Path]) -> None:
    if (name := _gone(found)) is None:
        return
    st.title("Anchorscope")
    show(
        f"There is no study {one_line(plain(name), 100)} here. Its folder was deleted, moved or renamed, its disk is"
        " not mounted, or the link came from another machine. " + ("Choose another one on the left." if found else "")
    )
    if not found:
        say(NO_STUDY)
    raise PageEnds


def _say_it_is_older(found: dict[str, Path]) -> None:
    """A word above every page whose study is shown as it was before its newest results were damaged."""
    name = selection.get(STUDY)
    with contextlib.suppress(AnchorscopeError):  # the page says it
        if name in found and (words := studies.open_store(found[name]).older) is not None:
            with st.container(border=True, key="older"):
                show(words)


def _tour(found: dict[str, Path]) -> None:
    """The step of the tour, above every page while it is on."""
    if selection.get(tour.TOUR) is not None and found:
        with contextlib.suppress(AnchorscopeError):  # the page says it
            tour.strip(studies.open_store(found[selection.in_force(STUDY, list(found))]))


def _forget_unknown_path() -> str | None:
    """Have a path that is no page open the Findings instead of Streamlit's modal; returns it, None where it names a
    page.

    They are served at the root, so that their own name would be unknown too. A page's name counts in either case and
    with hyphens.
    """
    run = get_script_run_ctx()
    if run is None:
        return None
    pages = run.pages_manager
    path = pages.intended_page_name or ""
    if pages.intended_page_script_hash or not path:
        return None
    name = path.strip("/").rpartition("/")[2].lower().replace("-", "_").removesuffix(".py")
    pages.set_script_intent("", name if name in PAGES and name != ROOT_PAGE else "")
    return None if name in PAGES else path


def _say_above(place: DeltaGenerator, unknown: str | None) -> None:
    """One line at the top of the page, where there is something to say of the link or of what stands in for what is
    selected.
    """
    said = [] if unknown is None else [f"There is no page “{one_line(unknown, 60)}”: these are the Findings."]
    if ignored := selection.notes():
        names = ", ".join(FIELDS[name].words for name in ignored)
        said.append(f"The link named something this study does not have ({names}); it was ignored.")
    for name, wanted, shown in selection.stand_ins():
        said.append(f"Not here: {FIELDS[name].before}{wanted}. Shown: {shown}.")
    if said:
        with place.container(key="notes"):
            show(one_line(" ".join(said), _LONGEST_NOTE))


def _style() -> None:
    st.html(Path(__file__).parent / "shell" / "style.css")
    described.describe()
