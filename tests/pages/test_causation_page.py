"""The page Causation: the answer in words, every pair, what was answered; and what it says where nothing is there."""

import duckdb
import pytest

from app.causation import answer
from app.shared.estimates import in_words as in_words_of
from backend.findings import steering
from backend.importance.causation import CONTRASTS, compared, in_words
from backend.importance.steered_effects import ANSWERS_CHANGED
from backend.store.store import Store
from tests.pages.conftest import words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture
def store(whole):
    store = Store(whole)
    yield store
    store.close()


def effects(store: Store, quantity: str, convention: str = "all"):
    rows = store.causation_effects(store.causation_pairs()["model_id"][0])
    return rows[(rows["quantity"] == quantity) & (rows["convention"] == convention)]


def test_it_answers_in_words_computed_from_the_stored_rows(opened, whole, store):
    page = opened("causation", whole)
    assert not page.exception
    expected = in_words(compared(effects(store, ANSWERS_CHANGED), ANSWERS_CHANGED), ANSWERS_CHANGED)
    said = words(page)
    assert expected in said and "5 pairs" in expected and "of 3 problems" in expected
    assert "5 pairs: an anchor (counterfactual importance ≥ 0.2 nats, convention fl)" in said and "Dawes (2025" in said
    table = page.dataframe[0].value
    assert table["contrast"].tolist() == [one.words for one in CONTRASTS.values()]


def test_samples_without_an_answer_and_forced_ones_are_counted(opened, whole):
    said = words(opened("causation", whole))
    assert "Of 240 samples 20 (8.3%) were cut by the token cap and made to answer, and 10 (4.2%) have no answer" in said


def test_another_effect_can_be_chosen_with_its_convention_and_stays_in_the_link(opened, whole, store):
    page = opened("causation", whole, steering_effect="counterfactual_importance_kl", steering_convention="paper")
    assert not page.exception
    rows = effects(store, "counterfactual_importance_kl", "paper")
    assert in_words(compared(rows, "counterfactual_importance_kl"), "counterfactual_importance_kl") in words(page)
    assert page.session_state["selection"]["steering_convention"] == "paper"


def test_a_pair_that_is_picked_shows_its_chunks_and_answers_and_opens_them(opened, whole, store):
    page = opened("causation", whole)
    at = answer.Asked(store.causation_pairs(), effects(store, ANSWERS_CHANGED), ANSWERS_CHANGED, "all")
    table = answer.pair_table(at.pairs, at)
    assert (
        len(table) == 5
        and table["same CoT"].all()
        and table["counterfactual importance (fl), nats"].is_monotonic_decreasing
    )
    first = at.pairs.iloc[0]
    answers = answer.answer_table(store.causation_answers(first.pair_id).query("role == 'anchor'"))
    assert answers[["from", "arm"]].to_numpy().tolist() == [
        [start, arm] for start in ("before", "after") for arm in ("unsteered", "steered", "random")
    ]
    assert "no answer × 1" in answers["answers"][2]
    assert not page.exception


def test_the_difference_in_a_row_of_the_figure_is_that_of_its_effects(store):
    at = answer.Asked(store.causation_pairs(), effects(store, ANSWERS_CHANGED), ANSWERS_CHANGED, "all")
    rows, value = answer.difference_rows(at), at.effects.set_index(["pair_id", "role", "arm"])["value"]
    assert len(rows) == 10
    for row in rows.itertuples():
        expected = value[row.pair_id, "anchor", row.arm] - value[row.pair_id, "match", row.arm]
        assert row.difference == pytest.approx(expected)


def test_the_card_s_way_in_shows_its_pair_with_the_same_counts_nats_and_q(opened, whole, store):
    found = steering.find(store)
    example = found.examples[0]
    page = opened("causation", whole, **example.way.chosen)
    assert not page.exception and not page.session_state["selection_notes"]
    said = words(page)
    assert in_words_of(example.number) in said and f"{example.about}: right unsteered" in said
    assert "Pick a row" not in said and "only continuations from after the chunk" in said
    assert page.selectbox(key="pick_steering_effect").value == "outcome_shift_jsd"
    moved = next(one.value for one in page.dataframe if "moved, nats" in one.value).set_index(["chunk", "from"])
    row = moved.loc[(example.way.chosen["steered_role"], example.way.chosen["steered_from"])]
    assert row["moved, nats"] == example.number.value and row["q"] == example.number.q
    assert f"right {row['right']}" in said and row["right"] in found.statement + said


def test_what_an_effect_counts_is_said(store):
    for quantity in ("outcome_shift_kl", "counterfactual_importance_kl"):
        at = answer.Asked(store.causation_pairs(), effects(store, quantity, "fl"), quantity, "fl")
        assert ("only continuations from after" in answer.counted(at)) == (quantity == "outcome_shift_kl")
        assert "nats" in answer.counted(at) and "fl" in answer.counted(at)


def test_a_pair_that_the_study_has_not_is_noted(opened, whole):
    page = opened("causation", whole, steered_pair="nobody", steered_from="before")
    assert not page.exception and "steered_pair" not in page.session_state["selection"]


def test_a_study_without_steered_pairs_says_what_to_run(opened, running):
    said = words(opened("causation", running))
    assert "Put a table [causation] into the study file" in said and "--stage causation" in said


def test_a_store_of_before_these_tables_says_so_too(opened, everything, tmp_path):
    old = tmp_path / "old.duckdb"
    old.write_bytes(everything.read_bytes())
    with duckdb.connect(str(old)) as connection:
        for table in ("pairs", "samples", "effects"):
            connection.execute(f"DROP TABLE causation_{table}")
        connection.execute("UPDATE about SET value = '7' WHERE name = 'schema_version'")
    assert "Put a table [causation] into the study file" in words(opened("causation", old))
