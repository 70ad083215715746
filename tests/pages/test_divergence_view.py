"""Where the models part, on the page Geometry and beside what chooses a layer on every other."""

from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest

from app.geometry.divergence import in_words
from app.geometry.views import PART
from app.shared import parting
from app.shell import fields
from tests import parted_study
from tests.pages.conftest import words

PAGE = {"study": "small", PART.name: parting.PART}
pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(parted_study.rows("a", "b"))


def test_the_page_says_where_they_part_beside_control_and_null(opened, everything):
    test = opened("geometry", everything, **PAGE)
    assert not test.exception, test.exception
    said = words(test)
    assert "base and reasoner are equal, bit for bit, up to layer 9" in said
    assert "at most 0.4 [0.38, 0.42] at layer 29, where the base alone differs by 0.5" in said
    assert "n = 2,800 positions of 17 problems; lenses at 256 of them" in said
    assert "Merchant et al." in said and len(test.get("plotly_chart")) == 1


def test_a_study_without_it_says_which_command_makes_it(opened, whole):
    test = opened("geometry", whole, **PAGE)
    assert not test.exception
    assert "at which layers the base and the distilled model part" in words(test) and "--stage diverge" in words(test)


def test_what_is_said_is_of_the_rows(rows):
    said = in_words(rows)
    assert "The relative norm of the difference is 0.1 [0.095, 0.105] at layer 14 and at most 0.4" in said
    assert "CKA falls to 0.9 [0.895, 0.905] at layer 29" in said and "at random gives 0 ± 0.01" in said
    assert "of the 2 largest components are apart by at most 30° [28.5, 31.5] at layer 29" in said
    assert "by 1.5 nats [1.43, 1.57] (reversed 1.25; the same token elsewhere in the base 1)" in said
    assert "0.2 [0.19, 0.21] in prompts and 0.48 [0.456, 0.504] in chains of thought." in said
    overlap = rows.assign(low=rows["low"] - 1, high=rows["high"] + 1)
    assert "the intervals overlap, so that no difference is shown" in in_words(overlap)


def test_equal_models_and_unknown_ones_are_said_so(rows):
    same = rows.assign(value=(rows["measure"] == "cka").astype(float))
    assert "the two are equal, bit for bit, at all of the 30 layers" in in_words(same)
    assert "nothing is known of any layer" in in_words(rows.assign(value=float("nan")))
    assert "apart from the first layer on" in in_words(rows[rows["layer"] > 9])
    bare = rows.assign(low=float("nan"), high=float("nan"), control=float("nan"), null=float("nan"))
    assert "at most 0.4 unknown at layer 29." in in_words(bare)


def test_the_line_beside_a_picker_is_of_its_layer(rows):
    def line(layer):
        return parting.in_words(rows[(rows["layer"] == layer) & (rows["positions"] == "all")])

    assert line(9) == "Base and reasoner are equal here, bit for bit."
    assert line(19) == "Base and reasoner differ here by 0.2 (relative norm), CKA 0.95."
    assert line(30) is None
    two = pd.DataFrame({"measure": ["relative_norm", "relative_norm"], "value": [0.0, 0.25]})
    assert parting.in_words(two) == "Base and reasoner differ here by 0 to 0.25 (relative norm)."


@pytest.mark.parametrize(("page", "link"), [("latent_map", {}), ("chains_of_thought", {"chunk_panel": "neighbours"})])
def test_a_picker_of_layers_says_it_with_the_way_to_all_layers(opened, everything, page, link):
    test = opened(page, everything, study="small", layer="15", **link)
    assert not test.exception, test.exception
    (said,) = {box.help for box in test.selectbox if box.help and "relative norm" in box.help}
    names, _, said = said.rpartition("\n\n")
    assert "embedded" in names, "models by their whole names"
    assert said.startswith("Base and reasoner differ here by 0.12 (relative norm), CKA 0.97. [Where the models part](")
    way = urlsplit(said.partition("](")[2].rstrip(")"))
    assert way.path == "geometry"
    chosen = fields.read(dict(parse_qsl(way.query)))
    assert chosen[PART.name] == parting.PART and chosen["layer"] == "15" and chosen["study"] == "small"
    assert PART.takes(parting.PART)


def test_a_study_without_it_has_no_such_line(opened, whole):
    test = opened("latent_map", whole, study="small")
    assert not test.exception and not [box for box in test.selectbox if box.help and "relative norm" in box.help]
