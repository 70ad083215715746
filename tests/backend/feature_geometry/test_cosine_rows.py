"""What is stored of a set's cosines says what the set is."""

from dataclasses import replace

import numpy as np
import pytest

from backend.feature_geometry.clusters import Pair, clusters
from backend.feature_geometry.cosine_rows import About, Asked, Beside, marks, measured
from backend.feature_geometry.cosine_tails import LINKED, directions, tails
from backend.feature_geometry.exact_law import exceedance
from backend.schema.tables import TABLES
from tests.backend.feature_geometry.test_cosine_tails import clustered

D, N = 48, 300
ABOUT = About("dictionary", "m1", "tiny", "base", 3, source="w1")
ASKED = Asked(nulls=("rows", "activations"), most_rows=1000, pairs=2, links=1000, seed=5)
FREQUENCIES = np.where(np.arange(N) % 10 == 4, 0, (np.arange(N) + 1) / N)  # a tenth of the features is dead
DEAD = np.flatnonzero(FREQUENCIES == 0)


@pytest.fixture(scope="module")
def stored():
    activations = np.random.default_rng(2).standard_normal((40, D)).astype(np.float32)
    return measured(clustered(), ABOUT, ASKED, Beside(FREQUENCIES, activations, lambda row: f"token {row}"))


def of(stored, table: str, **values):
    return [row for row in stored[table] if all(row[name] == value for name, value in values.items())]


def test_the_rows_are_those_of_the_schema_and_their_keys_are_unique(stored):
    for table, rows in stored.items():
        assert set(rows[0]) == set(TABLES[table].columns)
        keys = [tuple(row[name] for name in TABLES[table].key) for row in rows]
        assert len(set(keys)) == len(keys)


def test_dead_rows_and_duplicates_are_counted_and_left_out(stored):
    (row,) = of(stored, "cosine_sets", drawn_from=None)
    # Row 7 is zero; 20 and 22 repeat row 3, and of them none is dead.
    assert (row["n_total"], row["n_rows"], row["n_zero"], row["n_dead"], row["n_duplicates"]) == (N, N, 1, len(DEAD), 2)
    subsets = {line["subset"]: line for line in of(stored, "cosine_tails", set_id=row["set_id"])}
    n_live = N - 1 - len(DEAD)
    assert {name: subsets[name]["n_rows"] for name in ("all", "live", "distinct")} == {
        "all": N - 1,
        "live": n_live,
        "distinct": n_live - 2,
    }
    quarters = [subsets[f"fired {number}"] for number in (1, 2, 3, 4)]
    assert sum(line["n_rows"] for line in quarters) == n_live
    bounds = [bound for line in quarters for bound in (line["frequency_low"], line["frequency_high"])]
    assert bounds == sorted(bounds) and bounds[0] > 0
    kept = np.setdiff1d(np.arange(N), [7, 20, 22, *DEAD])
    plain = tails(directions(clustered()[kept]), marks(D))
    (line,) = of(stored, "cosine_exceedances", set_id=row["set_id"], subset="distinct", mark="0.1")
    assert line["n_beyond"] == plain.beyond["0.1"].n
    assert subsets["distinct"]["positive"] == np.trim_zeros(plain.positive, "b").tolist()


def test_each_threshold_has_its_share_and_what_isotropic_rows_would_have(stored):
    set_id = ABOUT.set_id
    lines = {line["mark"]: line for line in of(stored, "cosine_exceedances", set_id=set_id, subset="all")}
    assert set(lines) == {"0.1", "1e-3", "1e-6"}
    for mark, line in lines.items():
        assert line["expected"] == pytest.approx(exceedance(0.1, D) if mark == "0.1" else float(mark))
        assert line["ci_low"] < line["share"] < line["ci_high"]
        assert line["share"] == line["n_beyond"] / ((N - 1) * (N - 2) / 2) and sum(line["group_rows"]) == N - 1
    assert lines["1e-6"]["share"] > 100 * lines["1e-6"]["expected"]  # the rows are clustered


def test_a_null_is_a_set_of_its_own_without_clusters(stored):
    nulls = [row for row in stored["cosine_sets"] if row["drawn_from"]]
    assert [row["drawn_from"] for row in nulls] == ["rows", "activations"]
    for row in nulls:
        assert row["null_of"] == ABOUT.set_id != row["set_id"] and row["n_total"] == N - 1
        (line,) = of(stored, "cosine_exceedances", set_id=row["set_id"], mark="1e-6")
        (own,) = of(stored, "cosine_exceedances", set_id=ABOUT.set_id, mark="1e-6", subset="all")
        assert line["subset"] == "all" and line["share"] < own["share"] / 3
    assert not of(measured(clustered(), ABOUT, ASKED, Beside()), "cosine_sets", drawn_from="activations")


def test_kept_pairs_are_of_their_rows_and_links_know_the_clusters_of_live_rows(stored):
    pairs = stored["cosine_pairs"]
    units = dict(zip(*[(one := directions(clustered())).numbers, one.units], strict=True))
    for row in pairs:
        assert row["a"] < row["b"] and row["token_b"] == f"token {row['b']}" and (row["is_drawn"] or row["is_link"])
        exact = float(units[row["a"]] @ units[row["b"]])
        assert row["cosine"] == round(row["cosine"], 5) and -1e-6 < abs(row["cosine"]) - abs(exact) < 1.1e-5
    (about,) = of(stored, "cosine_sets", drawn_from=None)
    assert about["linked_above"] == LINKED
    kept = np.setdiff1d(np.arange(N), [7, *DEAD])
    own = tails(directions(clustered()[kept]), {}, linked=True).links
    plain = [Pair(int(kept[pair.a]), int(kept[pair.b]), pair.cosine) for pair in own]
    links = [Pair(row["a"], row["b"], row["cosine"]) for row in pairs if row["is_link"]]
    assert clusters(links, 0.5) == clusters(plain, 0.5)


def test_few_links_are_the_strongest_and_say_from_where_they_are_whole():
    stored = measured(clustered(), ABOUT, replace(ASKED, nulls=(), links=5), Beside())
    (row,) = stored["cosine_sets"]
    links = sorted((line["cosine"] for line in stored["cosine_pairs"] if line["is_link"]), reverse=True)
    assert len(links) == 5 and row["linked_above"] == pytest.approx(links[-1], abs=1.1e-5) and row["n_dead"] is None
    bare = measured(clustered(), ABOUT, replace(ASKED, nulls=(), links=0, pairs=0), Beside())
    assert bare["cosine_pairs"] == [] and bare["cosine_sets"][0]["linked_above"] is None
    assert bare["cosine_sets"][0]["n_duplicates"] == 2


def test_of_a_large_set_some_rows_stand_for_it_the_same_of_every_model():
    asked = replace(ASKED, nulls=(), most_rows=50)
    stored = measured(clustered(), ABOUT, asked, Beside())
    (row,) = stored["cosine_sets"]
    assert (row["n_total"], row["n_rows"]) == (N, 50)
    other = measured(2 * clustered(), replace(ABOUT, model_id="m2", role="tuned"), asked, Beside())
    assert [line["a"] for line in other["cosine_pairs"]] == [line["a"] for line in stored["cosine_pairs"]]
    assert other["cosine_sets"][0]["set_id"] != row["set_id"]
