"""What a search finds, beside the same conditions worked out row by row in Python, with three truths."""

import operator
import random
from contextlib import closing

import duckdb
import numpy as np
import pandas as pd
import pytest

from backend.search.columns import known_columns
from backend.search.language import parse
from backend.store.search_queries import Compares, Every, IsKnown, IsOneOf, IsTrue, Not, Says, Some
from backend.store.store import Store
from tests import small_dictionary, small_study

SIGNS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
NAMES = ("importance", "q", "level", "tokens", "rollouts", "place", "steepness", "fires@1", "correct", "tag", "text")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("search") / "small")
    small_study.add_divergence(folder, [(k, 0.3 - k / 20, (k + 1) / 40) for k in range(9)])
    small_dictionary.add(folder)
    return Store(folder)


@pytest.fixture(scope="module")
def known(store):
    return known_columns(store)


def truth(condition, row) -> bool | None:
    """None: it cannot be said."""
    match condition:
        case Every(parts):
            found = [truth(part, row) for part in parts]
            return False if False in found else None if None in found else True
        case Some(parts):
            found = [truth(part, row) for part in parts]
            return True if True in found else None if None in found else False
        case Not(part):
            found = truth(part, row)
            return None if found is None else not found
        case IsKnown(column):
            return not pd.isna(row[column.name])
    value = row[condition.column.name]
    if pd.isna(value):
        return None
    match condition:
        case Compares(_, sign, number):
            return bool(SIGNS[sign](float(value), number))
        case IsOneOf(_, words):
            return bool(set(row["tags"]) & set(words))
        case IsTrue(_, yes):
            return bool(value) == yes
        case Says(_, text):
            return text.lower() in value.lower()


def queries(n: int) -> list[str]:
    rng = random.Random(3)
    atoms = [
        lambda: f"importance {rng.choice(list(SIGNS))} {rng.uniform(-0.2, 0.3):.3f}",
        lambda: f"q <= {rng.uniform(0, 0.3):.3f}",
        lambda: f"level:{rng.randint(1, 4)}",
        lambda: f"steepness > {rng.uniform(0, 0.02):.4f}",
        lambda: f"tokens >= {rng.randint(1, 12)}",
        lambda: f"place < {rng.random():.2f}",
        lambda: rng.choice(("rollouts:yes", "rollouts:no", "correct:yes", "correct:no", "fires:1", "fires@1 > 1")),
        lambda: f"tag:{rng.choice(('self_checking', 'plan_generation', 'unknown'))}",
        lambda: rng.choice(('"wait"', '"the"', '"84"')),
        lambda: f"known:{rng.choice(('importance', 'steepness', 'correct', 'tag'))}",
    ]

    def one(depth: int) -> str:
        sign = rng.choice(("", "", "-"))
        if depth and rng.random() < 0.4:
            return f"{sign}({rng.choice((' ', ' or ')).join(one(depth - 1) for _ in range(2))})"
        return sign + rng.choice(atoms)()

    return [rng.choice((" ", " or ")).join(one(2) for _ in range(rng.randint(1, 3))) for _ in range(n)]


@pytest.fixture(scope="module")
def every(store, known):
    found = store.search(Every(), [known[name] for name in NAMES])
    tags = store.frame(
        "SELECT chunk_id, category FROM categories WHERE source = $source", source=store.tag_sources()[0]
    )
    its = tags.groupby("chunk_id")["category"].agg(list)
    return found.assign(tags=[its.get(chunk, []) for chunk in found["chunk_id"]])


def test_random_queries_find_the_chunks_that_meet_them_and_count_what_is_unknown(store, known, every):
    some = 0
    for query in queries(60):
        condition = parse(query, known)
        truths = [truth(condition, row) for _, row in every.iterrows()]
        wanted = every["chunk_id"][[found is True for found in truths]]
        found = store.search(condition, [])
        assert found["chunk_id"].tolist() == wanted.tolist(), query
        counts = store.search_counts(condition)
        assert (counts["n"][0], counts["n_all"][0]) == (len(wanted), len(every)), query
        open_ = every[[found is None for found in truths]]
        for row in counts[counts["name"].notna()].itertuples():
            assert row.n_unknown == open_[row.name].isna().sum(), query
        some += 0 < len(wanted) < len(every)
    assert some > 20


def test_a_cot_is_found_where_any_of_its_chunks_meets_the_query_or_it_does_itself(store, known, every):
    for query in queries(30):
        condition = parse(query, known)
        met = every[[truth(condition, row) is True for _, row in every.iterrows()]]
        columns = [known["importance"], known["q"], known["text"]]
        found = store.search(condition, columns, level="cots").set_index("cot_id")
        assert set(found.index) >= set(met["cot_id"]), query
        assert found["n_matching"].sum() == len(met), query
        largest = met.groupby("cot_id")["importance"].max()
        assert found.loc[largest.index, "importance"].astype(float).equals(largest.astype(float)), query
        smallest = met.groupby("cot_id")["q"].min()
        assert found.loc[smallest.index, "q"].astype(float).equals(smallest.astype(float)), query
        counts = store.search_counts(condition, level="cots")
        assert (counts["n"][0], counts["n_all"][0]) == (len(found), every["cot_id"].nunique())
    both = parse('"restate the question" "seven times twelve"', known)
    assert store.search(both, []).empty and len(store.search(both, [], level="cots"))
    alone = store.search(both, [], level="cots").iloc[0]
    assert alone["n_matching"] == 0 and pd.isna(alone["chunk_id"])


def test_a_comparison_with_an_unknown_value_is_never_met_nor_its_negation_and_is_counted(store, known, every):
    n_unknown = int(every["steepness"].isna().sum())
    assert 0 < n_unknown < len(every)
    more, less = (store.search(parse(query, known), []) for query in ("steepness > 0", "-steepness > 0"))
    assert len(more) + len(less) == len(every) - n_unknown
    counts = store.search_counts(parse("steepness > 0", known))
    assert counts.to_dict("records") == [
        {"name": "steepness", "n_unknown": n_unknown, "n": len(more), "n_all": len(every)}
    ]
    # one that another condition rules out anyway is not left out for that
    assert store.search_counts(parse("steepness > 0 chunk > 1000", known))["n_unknown"].tolist() == [0, 0]


def test_rows_are_sorted_with_unknown_ones_last_both_ways_and_pages_add_up(store, known, every):
    for falling in (True, False):
        found = store.search(Every(), [], sort=known["steepness"], falling=falling)["steepness"]
        values = found.dropna().tolist()
        assert values == sorted(values, reverse=falling) and found.iloc[len(values) :].isna().all()
    whole = store.search(Every(), [known["importance"]], sort=known["importance"])
    parts = [
        store.search(Every(), [known["importance"]], sort=known["importance"], limit=7, offset=k)
        for k in range(0, len(whole), 7)
    ]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)


def test_values_of_a_column_are_those_of_its_table(store, known):
    values = store.column_values(known["counterfactual_importance_kl@ta"]).set_index("chunk_id")["value"]
    rows = store.frame(
        "SELECT chunk_id, value FROM importance WHERE metric = 'counterfactual_importance_kl' AND convention = 'ta'"
    ).set_index("chunk_id")["value"]
    assert len(values) == store.counts()["chunks"][0]
    assert values[rows.index].astype(float).equals(rows.astype(float)) and values.drop(rows.index).isna().all()


def test_a_feature_fires_where_its_codes_say(store, known):
    values = store.column_values(known["fires@1"]).set_index("chunk_id")["value"]
    codes = store.frame("SELECT * FROM cot_codes ORDER BY cot_id")
    chunks = store.frame("SELECT * FROM chunks ORDER BY cot_id, chunk_index")
    for row in chunks.itertuples():
        of = codes[codes["cot_id"] == row.cot_id]
        if of.empty or pd.isna(row.token_start):
            assert np.isnan(values[row.chunk_id])
            continue
        one = of.iloc[0]
        at = [
            code
            for place, feature, code in zip(one["positions"], one["features"], one["codes"], strict=True)
            if feature == 1 and row.token_start <= place < row.token_end
        ]
        assert values[row.chunk_id] == pytest.approx(max(at, default=0))


def test_a_hundred_thousand_chunks_are_searched_by_one_query(tmp_path):
    folder = small_study.make(tmp_path / "small")
    generation = folder / "generations" / (folder / "CURRENT").read_text().strip()
    with duckdb.connect(str(generation)) as connection:
        connection.execute(
            "INSERT INTO chunks SELECT one.* REPLACE ('many' || i AS chunk_id, 100 + i AS chunk_index) FROM (SELECT *"
            " FROM chunks ORDER BY chunk_id LIMIT 1) one, range(100000) r(i)"
        )
        connection.execute(
            "INSERT INTO importance SELECT one.* REPLACE ('many' || i AS chunk_id, i / 100000 AS value) FROM (SELECT *"
            " FROM importance WHERE metric = 'counterfactual_importance_kl' AND convention = 'ta' LIMIT 1) one,"
            " range(0, 100000, 2) r(i)"
        )
    with closing(Store(folder)) as store:
        known = known_columns(store)
        condition = parse("counterfactual_importance_kl@ta >= 0.9 chunk > 100", known)
        column = known["counterfactual_importance_kl@ta"]
        found = store.search(condition, [column], sort=column, limit=100, offset=100)
        assert found["chunk_id"].tolist() == [f"many{i}" for i in range(99998 - 200, 99998 - 400, -2)]
        counts = store.search_counts(condition)
        assert counts["n"][0] == 5000 and counts["n_unknown"].max() == 50_000
