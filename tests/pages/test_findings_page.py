"""The page Findings: answers first, each with its control and a way in; and what it says of a study without them."""

import duckdb
import pytest

from app import views
from app.findings.cards import finding_of, in_words
from app.findings.views import FINDINGS
from app.shell import navigation, selection
from app.shell.fields import FIELDS
from app.shell.untrusted import for_markdown
from backend.findings.finding import Finding, Number
from backend.findings.kinds import KINDS
from backend.schema.migrations import later_columns, later_tables
from backend.store.store import Store
from tests.pages.conftest import words


def test_it_is_the_first_page_and_the_study_s_facts_are_the_last(opened, whole):
    test = opened("findings", whole)
    assert test.title[0].value == "Findings" and not test.exception
    assert [*navigation.PAGES][:: len(navigation.PAGES) - 1] == ["findings", "overview"]
    assert opened("overview", whole).title[0].value == "About this study"


@pytest.mark.parametrize("which", ["whole", "everything", "running", "imported"])
def test_every_kind_has_its_card_with_what_it_shows_or_what_makes_it(opened, request, which):
    study = request.getfixturevalue(which)
    test = opened("findings", study, study="small")
    assert not test.exception
    said, store = words(test), Store(study)
    for name, view in FINDINGS.items():
        found = KINDS[name].find(store)
        assert view.title in said
        assert (found.statement if isinstance(found, Finding) else found.what) in said
        if isinstance(found, Finding):
            assert for_markdown(found.control, 800) in said
            assert all(one in said or for_markdown(one, 800) in said for one in map(in_words, found.numbers))
    store.close()


def test_every_way_in_selects_what_the_page_it_leads_to_takes(everything):
    views.registered()  # of which each declares what it offers
    store, ways = Store(everything), []
    for kind in KINDS.values():
        found = kind.find(store)
        if isinstance(found, Finding):
            ways += [found.way, *(one.way for one in found.examples if one.way)]
    store.close()
    assert len(ways) >= 5
    for way in ways:
        assert way.page in navigation.PAGES
        for name, value in way.chosen.items():
            assert name in FIELDS
            assert FIELDS[name].allowed is None or FIELDS[name].takes(value), (name, value)


def test_a_way_in_counts_in_a_session_that_is_open_and_once(opened, whole):
    store = Store(whole)
    chunk = store.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id DESC LIMIT 1")["chunk_id"].iloc[0]
    store.close()
    test = opened("findings", whole, study="small")
    test.switch_page("../pages/chains_of_thought.py")
    test.query_params.update({"study": "small", "chunk": chunk, selection.FOLLOWED: "yes"})
    test.run()
    assert not test.exception and test.session_state["selection"]["chunk"] == chunk
    assert selection.FOLLOWED not in test.query_params
    test.query_params.update({"chunk": "another", selection.FOLLOWED: "yes"})  # an old URL that is still sent
    test.run()
    assert test.session_state["selection"]["chunk"] == chunk


def test_a_study_of_an_older_schema_has_its_findings(opened, everything, tmp_path):
    old = tmp_path / "small.duckdb"
    old.write_bytes(everything.read_bytes())
    with duckdb.connect(str(old)) as connection:
        for table in later_tables(7):
            connection.execute(f'DROP TABLE "{table}"')
        for table, columns in later_columns(7).items():
            for column in columns if table not in later_tables(7) else ():
                connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
    test = opened("findings", old, study="small")
    assert not test.exception and "Where the models part" in words(test)


def test_without_a_study_it_says_how_to_make_one(opened):
    assert "python -m precompute run studies/quick.toml" in words(opened("findings"))


def test_a_finding_is_looked_for_once_in_a_generation(opened, whole, monkeypatch):
    opened("findings", whole, study="small")
    store = Store(whole)
    monkeypatch.setattr(type(store), "known_importances", None)
    assert finding_of(store, "important_chunks") is not None
    store.close()


def test_texts_of_the_study_are_text(opened, everything):
    test = opened("findings", everything, study="small")
    assert not any("tracker.invalid" in str(one.value) for one in (*test.markdown, *test.caption))


def test_a_number_is_said_with_its_interval_control_n_and_q():
    one = Number("moved", -0.25, -0.5, 0.1, "16 and 16 answers", "nats", q=0.02, control=0.1)
    assert in_words(one) == "moved: −0.25 nats · 95 % [−0.5, 0.1] · control 0.1 · n = 16 and 16 answers · q = 0.02"
    assert in_words(Number("it", float("nan"), float("nan"), float("nan"), "0 chunks")) == "it: unknown · n = 0 chunks"
