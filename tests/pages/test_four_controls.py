"""A page that is opened shows four controls at most; the others of a row stand behind a button called More."""

from collections.abc import Iterator

import pytest
from streamlit.testing.v1.element_tree import Block, Element

from app.crosscoder.views import PARTS as CROSSCODER
from app.feature.views import ALONE as FEATURE
from app.geometry.views import PARTS as GEOMETRY
from app.influence.views import PARTS as INFLUENCE
from app.shell.more import LABEL, MOST
from app.shell.navigation import PAGES
from app.steepness.views import PARTS as STEEPNESS
from tests import steerable_study
from tests.pages.conftest import settled, words

ASKS = {
    "button_group",
    "checkbox",
    "multiselect",
    "number_input",
    "radio",
    "select_slider",
    "selectbox",
    "slider",
    "text_area",
    "text_input",
    "toggle",
}
# Pages with a bar and rules of their own.
APART = {"findings", "browse", "chains_of_thought"}
PARTS = {
    "feature": ("feature_part", FEATURE),
    "steepness": ("steepness_part", STEEPNESS),
    "geometry": ("geometry_part", GEOMETRY),
    "influence": ("influence_page", INFLUENCE),
    "crosscoder": ("crosscoder_part", CROSSCODER),
}
OPENED = [
    pytest.param(page, {field: part} if field else {}, id=f"{page}-{part}" if field else page)
    for page in PAGES
    if page not in APART
    for field, parts in [PARTS.get(page, (None, [None]))]
    for part in parts
]


def in_sight(block: Block) -> Iterator[Element]:
    """The controls that ask for a value before any door is opened; a row of titles chooses views, and is none."""
    for node in block.children.values():
        if isinstance(node, Block):
            if node.type not in ("popover", "expander", "expandable"):
                yield from in_sight(node)
        elif node.type in ASKS and not (node.type == "button_group" and node.proto.label_visibility.value):
            yield node


def doors(block: Block) -> Iterator[str]:
    for node in block.children.values():
        if isinstance(node, Block):
            if node.type == "popover":
                yield node.proto.popover.label
            yield from doors(node)


@pytest.mark.parametrize(("page", "selection"), OPENED)
def test_a_page_shows_four_controls_before_more(opened, everything, no_embedded_model, page, selection):
    test = opened(page, everything, **selection)
    assert not test.exception, words(test)
    labels = [control.label for control in in_sight(test.main)]
    assert len(labels) <= MOST, labels


@pytest.mark.parametrize(
    ("page", "is_there"),
    [
        ("steering", lambda test: any(slider.label == "Magnitude β" for slider in test.slider)),
        ("lenses", lambda test: bool(test.get("plotly_chart"))),
    ],
)
def test_so_does_one_with_a_model_at_hand(opened, tmp_path, tiny, no_embedded_model, page, is_there):
    study = steerable_study.make(tmp_path / "kept" / "small", tiny("llama"))
    test = settled(opened(page, study), is_there)
    labels = [control.label for control in in_sight(test.main)]
    assert len(labels) <= MOST, labels


def test_more_says_how_many_of_its_settings_are_not_as_they_are_at_first(opened, everything, no_embedded_model):
    test = opened("steepness", everything)
    assert LABEL in list(doors(test.main))
    test = opened("steepness", everything, geometry_axis="log", importance_intervals="yes")
    assert f"{LABEL} (2)" in list(doors(test.main))
