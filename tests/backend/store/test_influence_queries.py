"""What the store says of influence is what its tables hold: pairs by their chunks' order, one form for all ways."""

import shutil
from itertools import pairwise

import duckdb
import pytest

from backend.store.influence_queries import FIFTHS, SPANS, span_words
from backend.store.store import Store, generation_of
from tests import influence_study, small_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("influenced") / "small")
    influence_study.add(folder).close()
    return folder


@pytest.fixture(scope="module")
def store(study):
    return Store(study)


@pytest.fixture(scope="module")
def cot(store):
    return next(iter(influence_study.read_chunks(store)))


def test_pairs_come_in_reading_order_from_an_earlier_chunk_to_a_later_one(store, cot):
    pairs = store.influence_pairs(cot, "suppression", "all")
    n = len(influence_study.read_chunks(store)[cot])
    assert len(pairs) == n * (n - 1) / 2 and (pairs["source_index"] < pairs["target_index"]).all()
    assert list(zip(pairs["source_index"], pairs["target_index"], strict=True)) == sorted(
        zip(pairs["source_index"], pairs["target_index"], strict=True)
    )
    one = pairs.iloc[3]
    stored = store.frame(
        "SELECT kl, n_tokens FROM influences WHERE source_chunk_id = $s AND target_chunk_id = $t AND suppressed ="
        " 'all'",
        s=one.source_chunk_id,
        t=one.target_chunk_id,
    )
    assert stored["kl"].tolist() == [one.value] and stored["n_tokens"].tolist() == [one.n]


def test_every_way_has_one_form_and_what_a_way_has_not_is_unknown(store, cot):
    attended, resampled = (
        store.influence_pairs(cot, "attention", ""),
        store.influence_pairs(cot, "resampling", "sentence"),
    )
    assert attended["low"].isna().all() and attended["model_id"].ne("").all()
    assert resampled["low"].notna().all() and set(resampled["model_id"]) == {""}
    assert set(resampled["n"]) == {11}  # kept and replaced
    published = store.influence_readings().set_index("way").loc["published"]
    assert published.n_pairs == len(store.frame("SELECT value FROM step_importance WHERE value IS NOT NULL"))


@pytest.mark.parametrize("way", ["suppression", "attention", "resampling", "published"])
def test_all_pairs_of_a_way_leave_with_who_reads_what_was_counted_and_the_noise(store, way):
    found, readings = store.influence_everywhere(way), store.influence_readings()
    assert found["value"].notna().sum() == readings.loc[readings["way"] == way, "n_pairs"].sum()
    assert not found.duplicated(["source_chunk_id", "target_chunk_id", "model_id", "part"]).any()
    assert found["noise"].notna().all() == (way == "suppression") and found["problem_id"].notna().all()
    assert found["n_tokens"].notna().all() == (way in ("suppression", "attention"))
    assert found["n_kept"].notna().all() == found["low"].notna().all() == (way == "resampling")
    assert set(found["read_by"].dropna()) == (
        set(store.models()["name"]) if way in ("suppression", "attention") else set()
    )


def test_what_a_study_has_of_a_way_is_its_range(store):
    found = store.influence_readings().set_index(["way", "part"]).loc[("suppression", "all")]
    kl = store.frame(
        "SELECT kl, s.cot_id FROM influences JOIN chunks s ON s.chunk_id = source_chunk_id WHERE suppressed = 'all'"
    )
    assert found.n_pairs == len(kl) and found.n_cots == kl["cot_id"].nunique()
    assert found.most == kl["kl"].max() and found.noise == influence_study.NOISE
    assert found.upper == pytest.approx(kl["kl"].quantile(0.8)) and not found.is_signed
    assert store.influence_readings().set_index("way").loc["resampling"].is_signed


def test_the_sums_by_source_and_span_are_those_of_the_pairs(store, cot):
    sums = store.influence_by_source("suppression", "all").query("cot_id == @cot")
    pairs = store.influence_pairs(cot, "suppression", "all")
    away = pairs["target_index"] - pairs["source_index"]
    edges = [*SPANS, 10**9]
    span = sum(away.ge(edge).astype(int) for edge in SPANS) - 1
    plain = pairs.assign(span=span).groupby(["source_chunk_id", "span"])["value"].agg(["sum", "count"])
    found = sums.set_index(["chunk_id", "span"]).rename_axis(["source_chunk_id", "span"])
    assert found["n"].to_dict() == plain["count"].to_dict()
    assert found["total"].to_dict() == pytest.approx(plain["sum"].to_dict())
    assert (
        sums["place"].is_monotonic_increasing
        and set(sums["place"]) <= set(range(FIFTHS))
        and all(low < high for low, high in pairwise(edges))
    )


def test_a_span_says_which_distances_it_holds():
    assert [span_words(n) for n in (0, 2, 3, len(SPANS) - 1)] == ["1", "3", "4–5", f"{SPANS[-1]} and more"]


def test_two_ways_meet_at_the_pairs_that_both_know(store, cot):
    both = store.influence_by_both(("suppression", "all"), ("resampling", "sentence"), small_study._MODEL)
    first = store.influence_pairs(cot, "suppression", "all").set_index(["source_chunk_id", "target_chunk_id"])["value"]
    second = store.influence_pairs(cot, "resampling", "sentence").set_index(["source_chunk_id", "target_chunk_id"])[
        "value"
    ]
    own = both[both["cot_id"] == cot].set_index(["source_chunk_id", "target_chunk_id"])
    assert own["first_value"].to_dict() == first[second.index].to_dict()
    assert own["second_value"].to_dict() == second.to_dict()


def test_a_study_of_before_has_none_of_it(study, tmp_path):
    file = tmp_path / "small.duckdb"
    shutil.copy(generation_of(study), file)
    with duckdb.connect(str(file)) as connection:
        for table in (
            "influences",
            "chunk_influences",
            "chunk_attention",
            "receiver_heads",
            "received_attention",
            "receiver_reliability",
            "resampled_influences",
            "influence_agreement",
            "head_attention",
        ):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE about SET value = '11' WHERE name = 'schema_version'")
    old = Store(file)
    assert set(old.influence_readings()["way"]) == {"published"}
    assert old.receiver_heads().empty and old.influence_agreement().empty
    assert old.influence_by_source("suppression", "all").empty and old.chunk_influences_everywhere("all").empty
