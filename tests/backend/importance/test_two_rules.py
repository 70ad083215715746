from contextlib import closing

import pytest

from app.chains_of_thought.metrics import rules_line
from backend.importance.two_rules import two_rules
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_study

SHARE, JSD = "different_trajectories_fraction", "counterfactual_importance_jsd"
# By chunk: dissimilar of n by the embeddings and by the numbers, and the divergence under either rule.
CHUNKS = [((5, 10), (8, 10), (0.1, 0.3)), ((0, 10), (2, 10), (None, 0.2)), ((3, 6), (3, 6), (0.2, 0.2))]


@pytest.fixture
def store(tmp_path):
    study = small_study.make(tmp_path / "small")
    with closing(Store(study)) as before:
        chunks = before.frame(
            f"SELECT chunk_id FROM chunks WHERE chunk_id NOT IN (SELECT chunk_id FROM importance WHERE"
            f" metric = '{SHARE}') ORDER BY chunk_id"
        )["chunk_id"]
    rows = []
    for chunk, (plain, strict, values) in zip(chunks, CHUNKS, strict=False):
        for metric, (k, n) in ((SHARE, plain), (f"{SHARE}_numbers", strict)):
            rows.append({"chunk_id": chunk, "metric": metric, "convention": "all", "value": k / n, "n": n})
        for convention, value in zip(("jsd", "jsd_numbers"), values, strict=True):
            rows.append({"chunk_id": chunk, "metric": JSD, "convention": convention, "value": value, "n": 5})
    blank = dict.fromkeys(TABLES["importance"].columns)
    with StudyFolder(study).writing("test") as writer:
        writer.add("importance", "two rules", {"importance": [blank | row for row in rows]})
        publish(writer)
    with closing(Store(study)) as store:
        yield store


def test_rollouts_that_change_side_and_how_far_the_estimates_move(store):
    found = two_rules(store.under_two_rules())
    assert (found.n_rollouts, found.n_moved) == (26, 5)
    assert (found.moves.n, found.moves.n_moved, found.moves.n_gained) == (2, 1, 1)
    assert found.moves.largest == pytest.approx(0.2)
    words = rules_line(found)
    assert "5 of the study's 26 resampled rollouts" in words and "in 1 of 2 chunks, the farthest by +0.20 nats" in words


def test_a_study_without_the_rule_says_nothing_of_it(tmp_path):
    with closing(Store(small_study.make(tmp_path / "small", rollouts=False))) as store:
        assert rules_line(two_rules(store.under_two_rules())) == ""
