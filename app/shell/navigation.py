"""The pages there are, the way from one to another, and the study that is open on all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.shell import selection, studies
from app.shell.fields import STUDY
from app.shell.missing import NO_STUDY, say_and_end
from backend.root import ROOT

_FILES = ROOT / "pages"
_LINKED: dict[str, st.Page] = {}


@dataclass(frozen=True)
class Page:
    """A script under pages/: what the sidebar calls it, and the heading it stands under there."""

    title: str
    icon: str
    section: str | None = None


ROOT_PAGE, OVERVIEW = "findings", "overview"
PROMPTS, CHAINS, STEERING = "prompts", "chains_of_thought", "steering"
CROSSCODER, FEATURE, GEOMETRY = "crosscoder", "feature", "geometry"
# Every page, in the sidebar's order; a section's pages stand together. The name is that of the script, of its folder
# under app/, and of the page in an address.
PAGES = {
    ROOT_PAGE: Page("Findings", ":material/lightbulb:"),
    CHAINS: Page("Workspace", ":material/segment:"),
    "browse": Page("Browse", ":material/search:"),
    "influence": Page("Influence", ":material/account_tree:"),
    "latent_map": Page("Latent map", ":material/scatter_plot:"),
    "lenses": Page("Lenses", ":material/layers:"),
    "latent_steps": Page("Latent steps", ":material/repeat:"),
    "steepness": Page("Steepness and importance", ":material/show_chart:"),
    STEERING: Page("Steering", ":material/tune:"),
    "direction_library": Page("Direction library", ":material/bookmarks:"),
    PROMPTS: Page("Prompts", ":material/forum:"),
    "causation": Page("Causation", ":material/call_split:"),
    CROSSCODER: Page("Crosscoder", ":material/compare_arrows:", "Features"),
    FEATURE: Page("Feature", ":material/lens_blur:", "Features"),
    "features_on_chain": Page("Features on the chain", ":material/grid_on:", "Features"),
    "categories": Page("Categories", ":material/category:", "Features"),
    GEOMETRY: Page("Geometry", ":material/hub:", "Features"),
    "interventions": Page("Interventions", ":material/science:", "Features"),
    "compare_studies": Page("Compare studies", ":material/bubble_chart:", "Study"),
    OVERVIEW: Page("About this study", ":material/info:", "Study"),
}


def page_named(name: str) -> st.Page:
    page = PAGES[name]
    return st.Page(_FILES / f"{name}.py", title=page.title, icon=page.icon, url_path=name, default=name == ROOT_PAGE)


def link_to(name: str) -> st.Page:
    """The page to link to, not to run: made once, as each one that is made asks the disk for its file."""
    if name not in _LINKED and get_script_run_ctx() is not None:
        _LINKED[name] = page_named(name)
    return _LINKED.get(name) or page_named(name)


def go_to(name: str) -> None:
    """Leave for another page; the selection goes along."""
    st.switch_page(link_to(name), query_params=selection.values())


def way_in(to: str, label: str, chosen: Mapping[str, str]) -> None:
    """A link to another page with these values selected, here and in a new tab. The label is ours: it is Markdown."""
    st.page_link(
        link_to(to),
        label=label,
        icon=":material/arrow_forward:",
        query_params=selection.values_with(chosen) | {selection.FOLLOWED: "yes"},
    )


def study() -> Path:
    """The chosen study. Where there is none, says how to make one and ends the page."""
    found = studies.found()
    if not found:
        st.title("Anchorscope")
        say_and_end(NO_STUDY)
    name = selection.in_force(STUDY, list(found))
    if selection.get(STUDY) is None:
        selection.choose({STUDY: name})
    return found[name]
