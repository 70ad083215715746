"""A change of the rules of cutting makes anew what it can cut differently, and nothing else."""

from types import SimpleNamespace

import pytest

from backend.store.store import Store
from precompute.stages import chunks
from tests import small_study


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    store = Store(small_study.make_imported(tmp_path_factory.mktemp("rules") / "imported"))
    yield SimpleNamespace(store=store)
    store.close()


def of(*cots):
    return SimpleNamespace(store=SimpleNamespace(cot_texts=lambda: list(cots)))


def test_only_texts_that_the_newer_rule_can_cut_have_its_number():
    context = of(("c1", "One sentence. Another one.", True), ("c2", "先数苹果。再数梨。", True))
    assert chunks.rules(context) == {"c1": 1, "c2": 2}
    assert chunks.newest(context) == 2 and chunks.newest(of()) == 1


def test_published_boundaries_are_their_publishers_under_every_rule():
    context = of(("c1", "先数苹果。再数梨。", False), ("c2", "先数苹果。再数梨。", True))
    assert chunks.rules(context) == {"c1": 1, "c2": 2}
    assert [unit.unit_id for unit in chunks.units(context)] == ["c2"]


def test_imported_chains_are_not_cut_again(imported):
    assert len(imported.store.frame("SELECT * FROM chunks")) > 0
    assert set(chunks.rules(imported).values()) == {1} and not any(chunks.rules(imported, own=True))
    assert chunks.units(imported) == []
