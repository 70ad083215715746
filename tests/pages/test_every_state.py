"""Every page on every study a person may have, and at every link: what there is, or a sentence of ours on why there is
nothing.

Studies here have lost something: rows of whole tables, every value that may be unknown, or what follows from another
table.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from app import views
from app.chains_of_thought.views import DOCK as DOCKED
from app.crosscoder.views import PART as CROSSCODER_PART
from app.crosscoder.views import PARTS as CROSSCODER_PARTS
from app.geometry.views import PART as GEOMETRY_PART
from app.geometry.views import PARTS as GEOMETRY_PARTS
from app.influence.views import PART as INFLUENCE_PART
from app.influence.views import PARTS as INFLUENCE_PARTS
from app.shared.dock import DOCK
from app.shell import navigation
from app.shell.fields import FIELDS
from app.shell.selection import LONGEST
from app.steepness.views import PART, PARTS
from backend.schema.tables import TABLES
from backend.store.store import Store
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PARTS_OF = {  # of a page that shows one at a time
    "chains_of_thought": (DOCK, DOCKED),
    "steepness": (PART, PARTS),
    "geometry": (GEOMETRY_PART, GEOMETRY_PARTS),
    "influence": (INFLUENCE_PART, INFLUENCE_PARTS),
    "crosscoder": (CROSSCODER_PART, CROSSCODER_PARTS),
}
VISITS = tuple(
    (page, part)
    for page in navigation.PAGES
    for part in ([{PARTS_OF[page][0].name: word} for word in PARTS_OF[page][1]] if page in PARTS_OF else [{}])
)
FIRST = ("about", "models", "problems", "cots", "chunks")  # without these there is little to see


@pytest.fixture
def changed(everything, tmp_path):
    """`changed(*statements)`: the portable study after these statements."""

    def make(*statements: str) -> Path:
        file = tmp_path / "small.duckdb"
        shutil.copy(everything, file)
        with duckdb.connect(str(file)) as connection:
            for statement in statements:
                connection.execute(statement)
        return file

    return make


def seen(test) -> str:
    """What the page says in words, labels, options and tables, and in the words of its figures."""
    kinds = ("selectbox", "multiselect", "button_group", "button", "toggle", "metric", "expander", "page_link")
    found = [words(test)]
    for element in (one for kind in kinds for one in test.get(kind)):
        found += [str(getattr(element, "label", "")), *map(str, getattr(element, "options", ()))]
    found += [frame.value.to_csv() for frame in test.dataframe]
    for chart in test.get("plotly_chart"):
        found += _figure_words(json.loads(chart.proto.spec))
    return "\n".join(found)


def _figure_words(node: object, of: str = "") -> Iterator[str]:
    """Names, titles, notes, ticks and hovers; not the ids that marks bear."""
    if isinstance(node, str) and of in ("text", "name", "hovertext", "hovertemplate", "ticktext", "title"):
        yield node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _figure_words(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _figure_words(value, of)


def walked(opened, *studies: Path, visits=VISITS, say: Callable[[AppTest], str] = words, **link: str) -> dict[str, str]:
    """What each page says, by page and part, in one browser; an exception that is not ours fails."""
    (first, _), said = visits[0], {}
    test, here = opened(first, *studies, **link), first
    for page, part in visits:
        test.session_state["selection"].update(part)
        (test if page == here else test.switch_page(f"../pages/{page}.py")).run()
        here, place = page, " ".join((page, *part.values()))
        assert not test.exception, (place, test.exception)
        said[place] = say(test)
        assert said[place].strip(), f"{place} says nothing"
    return said


def test_a_study_that_has_everything_calls_each_model_by_its_one_name(opened, everything):
    models = Store(everything).frame("SELECT model_id, name FROM models").itertuples(index=False)
    names = [name for model in models for name in model]
    said = walked(opened, everything, say=seen)
    assert "No results at" not in "".join(said.values())
    for place, shown in said.items():
        if place != "overview":  # which says what the short names stand for
            assert not re.search("embedded:|[Dd]istilled only|tuned over", shown), place
            assert not [one for one in names if one in shown], place


@pytest.mark.parametrize("turn", range(3))
def test_studies_that_have_lost_every_third_table(opened, changed, turn):
    lost = [name for name in TABLES if name not in FIRST][turn::3]
    walked(opened, changed(*(f'DELETE FROM "{name}"' for name in lost)))


@pytest.mark.parametrize("kept", range(1, len(FIRST)))
def test_studies_that_were_only_begun(opened, changed, kept):
    begun = FIRST[1:][:kept]
    walked(opened, changed(*(f'DELETE FROM "{name}"' for name in TABLES if name not in begun)))


def test_a_study_in_which_all_is_unknown_that_may_be(opened, changed):
    unknown = {
        name: [
            column for column, (_, meaning) in table.columns.items() if column not in table.key and "NULL" in meaning
        ]
        for name, table in TABLES.items()
        if name != "dictionaries"  # without its second model a crosscoder's row contradicts its own scales
    }
    assert {"answer", "is_correct"} <= set(unknown["cots"]) and "value" in unknown["importance"]
    walked(
        opened,
        changed(
            *(
                f'UPDATE "{name}" SET ' + ", ".join(f'"{column}" = NULL' for column in columns)
                for name, columns in unknown.items()
                if columns
            )
        ),
    )


def test_models_of_which_nothing_is_known_and_chains_without_chunks_or_answers(opened, changed):
    walked(
        opened,
        changed(
            "UPDATE models SET n_layers = NULL, d_model = NULL, vocab_size = NULL, dtype = NULL, revision = NULL,"
            " family = NULL",
            "DELETE FROM chunks WHERE cot_id IN (SELECT cot_id FROM cots ORDER BY cot_id LIMIT 3)",
            "UPDATE problems SET answer = NULL, level = NULL, question = ''",
            "UPDATE cots SET answer = NULL, is_correct = NULL, token_ids = NULL",
        ),
    )


@pytest.mark.parametrize("lost", ["models", "problems"])
def test_a_half_written_study_says_so(opened, changed, lost):
    said = walked(opened, changed(f"DELETE FROM {lost}"))
    assert (
        "half written" in said["chains_of_thought metrics"]
        and "python -m precompute publish" in said["chains_of_thought metrics"]
    )


@pytest.mark.parametrize("lost", ["ALTER TABLE cots DROP COLUMN finish", "DROP TABLE kl_curves"])
def test_a_study_without_a_column_or_table_of_its_version_says_so(opened, changed, lost):
    visits = [(page, part) for page, part in VISITS if page in ("overview", "chains_of_thought", "steering")]
    said = walked(opened, changed(lost), visits=visits)
    assert "but lacks " in said["chains_of_thought steering"]
    assert "python -m precompute publish" in said["chains_of_thought steering"]


JUNK = ("-1", "9" * 20, "%00\x00☃:☃:☃", "~lost", "'; DROP TABLE chunks; --", "nan|inf,nrn_l1:nan..e")


@pytest.mark.parametrize("junk", JUNK)
def test_a_link_to_a_study_of_a_name_that_is_junk(opened, everything, junk):
    said = walked(opened, everything, visits=VISITS[:3], **dict.fromkeys(FIELDS, junk))
    assert all("There is no study" in shown for shown in said.values())


@pytest.mark.parametrize("turn", range(2))
def test_a_link_of_nothing_but_junk_opens_every_page_of_its_study(opened, everything, turn):
    views.registered()
    junk = {field: JUNK[(3 * turn + k) % len(JUNK)] for k, field in enumerate(FIELDS) if field != "study"}
    walked(opened, everything, visits=[(page, junk | part) for page, part in VISITS], study="small", **junk)


def test_junk_in_one_field_of_a_link_spoils_no_other(opened, everything):
    link = {"dock": "rollouts", "layer": "5", "feature_filters": "x" * (LONGEST + 1)}
    test = opened("chains_of_thought", everything, study="small", **link)
    chosen = test.session_state["selection"]
    assert (chosen["dock"], chosen["layer"]) == ("rollouts", "5") and "feature_filters" not in chosen
    assert "(filters of the features)" in words(test)
