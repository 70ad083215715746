"""Whether a later sentence is written only where an earlier one was kept, on rollouts with a planted answer."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from backend.influence.resampled import FEWEST, resampled_influences
from backend.statistics.intervals import newcombe

WORDS = ("Apples", "Pears", "Plums", "Figs", "Limes", "Other", "Else")
CHUNKS = {f"c_{n:04d}": f"{word} are counted here. " for n, word in enumerate(WORDS[:5])}
N = 12


def encode(texts):
    """One direction a first word: sentences are alike where they begin alike."""
    return np.array([[float(text.startswith(word)) for word in WORDS] for text in texts])


def text(*words: str) -> str:
    return " ".join(f"{word} are counted here." for word in words)


def rollouts(by_chunk: dict[int, list[tuple[str, float | None, str]]]) -> pd.DataFrame:
    rows = [
        {"chunk_id": f"c_{number:04d}", "text": written, "similarity": similarity, "finish": finish}
        for number, own in by_chunk.items()
        for written, similarity, finish in own
    ]
    return pd.DataFrame(rows)


def by_pair(found):
    return {(int(row["source_chunk_id"][-1]), int(row["target_chunk_id"][-1])): row for row in found}


@pytest.fixture
def planted() -> pd.DataFrame:
    """Figs (3) is written only after Pears (1); Plums (2) always; Limes (4) never."""
    kept = (text("Plums", "Figs"), 0.9, "eos")
    replaced, same = (text("Other", "Plums", "Else"), 0.2, "eos"), (text("Pears", "Plums", "Figs"), 0.95, "eos")
    return rollouts({1: [replaced] * N + [same] * 4, 2: [kept] * (N - 1) + [(text("Plums", "Else"), 0.9, "eos")]})


def test_a_sentence_that_is_written_only_after_another_depends_on_it(planted):
    row = by_pair(resampled_influences(CHUNKS, planted, encode))[1, 3]
    assert (row["kept"], row["replaced"]) == (11 / 12, 0.0) and row["effect"] == 11 / 12
    assert (row["n_kept"], row["n_replaced"]) == (12, 12)  # the 4 that wrote the same again are on neither side
    assert row["low"] > 0.5 and row["p"] == pytest.approx(fisher_exact([[11, 1], [0, 12]]).pvalue)
    assert row["convention"] == "embedding"


def test_one_that_is_written_anyway_or_never_does_not(planted):
    found = by_pair(resampled_influences(CHUNKS, planted, encode))
    for target, share in ((2, 1.0), (4, 0.0)):
        row = found[1, target]
        assert (row["kept"], row["replaced"], row["effect"], row["p"]) == (share, share, 0.0, 1.0)
        assert row["low"] < 0 < row["high"]


def test_pairs_whose_source_or_what_follows_has_no_rollouts_have_no_row(planted):
    assert set(by_pair(resampled_influences(CHUNKS, planted, encode))) == {(1, 2), (1, 3), (1, 4)}


def test_a_rollout_that_was_cut_or_has_no_text_or_an_unknown_first_sentence_takes_no_part(planted):
    odd = [(text("Other", "Figs"), 0.1, "cap"), (None, 0.1, "eos"), (text("Figs"), None, "eos")]
    more = pd.concat([planted, rollouts({1: odd, 2: odd[:2]})], ignore_index=True)
    assert resampled_influences(CHUNKS, more, encode) == resampled_influences(CHUNKS, planted, encode)


def test_too_few_rollouts_are_unknown_with_their_number(planted):
    few = planted.drop(planted.index[planted["similarity"] < 0.5][FEWEST - 1 :])
    row = by_pair(resampled_influences(CHUNKS, few, encode))[1, 3]
    assert [row[name] for name in ("kept", "replaced", "effect", "low", "high", "p")] == [None] * 6
    assert (row["n_kept"], row["n_replaced"]) == (12, FEWEST - 1)


def test_where_all_rollouts_wrote_the_same_again_nothing_was_replaced(planted):
    same = planted[planted["similarity"] > 0.5]
    row = by_pair(resampled_influences(CHUNKS, same, encode))[1, 3]
    assert row["effect"] is None and row["n_replaced"] == 0


def test_each_distinct_sentence_is_embedded_once(planted):
    calls = []
    resampled_influences(CHUNKS, planted, lambda texts: calls.append(list(texts)) or encode(texts))
    assert len(calls) == 1 and len(calls[0]) == len(set(calls[0])) == 7


def test_no_rollouts_give_no_rows():
    none = rollouts({}).reindex(columns=["chunk_id", "text", "similarity", "finish"])
    assert resampled_influences(CHUNKS, none, encode) == []


def test_newcombes_interval_of_two_shares_is_that_of_his_paper():
    """Newcombe 1998, table II, row (a) 56/70 − 48/80, method 10: 0.0524 to 0.3339."""
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert newcombe(5, 10, 2, 8).low == pytest.approx(-newcombe(2, 8, 5, 10).high)
    assert np.isnan(newcombe(0, 0, 1, 2)).all()
