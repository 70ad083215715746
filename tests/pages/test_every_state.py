"""Every page on every study a person may have, and at every link: it shows what there is, or says in a sentence of ours why there is nothing.

Studies here have lost something: rows of whole tables, every value that may be unknown, or what follows from another table.
"""

import itertools
import shutil
from pathlib import Path

import duckdb
import pytest

from app import evidence_view, navigation, selection
from backend.store.schema import TABLES
from backend.store.store import generation_of
from tests import small_dictionary, small_study
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")
PANELS = ("metrics", "rollouts", "steering", "neighbours", "influence")
VISITS = (
    ("overview", {}), *(("chains_of_thought", {"panel": panel}) for panel in PANELS), ("latent_map", {}),
    *(("steepness", {"view": view}) for view in evidence_view.VIEWS), ("steering", {}), ("crosscoder", {}), ("feature", {}),
    ("features_on_chain", {}), ("categories", {}), ("interventions", {}),
)  # fmt: skip
PAGES = tuple(dict.fromkeys(page for page, _ in VISITS))
FIRST = ("about", "models", "problems", "cots", "chunks")  # without these there is little to see


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """A portable study with rows in every table that pages read."""
    folder = small_study.make(tmp_path_factory.mktemp("everything") / "small")
    small_study.add_training(folder)
    small_dictionary.add(folder)
    file = folder.parent / "small.duckdb"
    shutil.copy(generation_of(folder), file)
    return file


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


def walked(opened, *studies: Path, visits=VISITS, **link: str) -> dict[str, str]:
    """What each page says, by page and part; an exception that is not ours fails."""
    test, said = None, {}
    for page, part in visits:
        if test is None:
            test = opened(page, *studies, **link, **part)
        else:
            test.session_state["selection"].update(part)
            (test.run if page == here else test.switch_page(f"../pages/{page}.py").run)()
        here = page
        assert not test.exception, (page, part, [error.message for error in test.exception])
        said[f"{page} {' '.join(part.values())}".strip()] = words(test)
        assert said[f"{page} {' '.join(part.values())}".strip()].strip(), f"{page} says nothing"
    return said


def test_pages_here_are_all_there_are():
    assert set(PAGES) == set(navigation._TITLES)


def test_a_study_that_has_everything(opened, everything):
    said = walked(opened, everything)
    assert "No results at" not in "".join(said.values())


@pytest.mark.parametrize("turn", range(3))
def test_studies_that_have_lost_every_third_table(opened, changed, turn):
    lost = [name for name in TABLES if name not in FIRST][turn::3]
    walked(opened, changed(*(f'DELETE FROM "{name}"' for name in lost)))


@pytest.mark.parametrize("kept", range(1, len(FIRST)))
def test_studies_that_were_only_begun(opened, changed, kept):
    begun = FIRST[1:][:kept]
    walked(opened, changed(*(f'DELETE FROM "{name}"' for name in TABLES if name not in begun)))


def test_a_study_in_which_all_is_unknown_that_may_be(opened, changed):
    optional = {
        name: [column for column in table.columns if column not in table.key and column not in NEEDED.get(name, ())]
        for name, table in TABLES.items()
    }
    walked(opened, changed(*(
        f'UPDATE "{name}" SET {", ".join(f"""{chr(34)}{column}{chr(34)} = NULL""" for column in columns)}'
        for name, columns in optional.items() if columns
    )))  # fmt: skip


NEEDED = {}
