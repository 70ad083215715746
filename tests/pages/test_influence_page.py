"""Influence without a browser: the panel of a chain and the page of a study, whole, empty, old and imported."""

import io
import shutil

import duckdb
import pandas as pd
import pytest

from app.chains_of_thought import influence_links
from app.chains_of_thought.influence_links import Links
from app.influence import heads, study
from app.influence.views import PARTS
from app.shared.influence_ways import WAYS, pairs_csv
from backend.models import embedded
from backend.schema.tables import TABLES
from backend.store.store import Store, generation_of
from tests import influence_study, small_dictionary, small_study, steerable_study
from tests.pages.conftest import settled, words

pytestmark = pytest.mark.usefixtures("no_embedded_model")


@pytest.fixture(scope="module")
def influenced(tmp_path_factory):
    """The small study with a base and a distilled model, and rows of influence by both."""
    folder = small_study.make(tmp_path_factory.mktemp("influenced") / "small")
    small_dictionary.add(folder)  # with it comes the distilled model
    influence_study.add(folder).close()
    with duckdb.connect(str(generation_of(folder))) as connection:
        connection.execute("UPDATE models SET role = 'base' WHERE role = 'model'")
    return folder


@pytest.fixture
def shown(monkeypatch):
    """The links that were drawn, run by run."""
    seen: list[Links] = []
    real = influence_links.draw_links

    def noted(links):
        seen.append(links)
        real(links)

    monkeypatch.setattr("app.chains_of_thought.influence.draw_links", noted)
    return seen


def panel(opened, where, **link):
    test = opened("chains_of_thought", where, study="small", chunk_panel="influence", **link)
    assert not test.exception, test.exception
    return test


def chunk_at(where, index: int, *, tokens: bool = True) -> str:
    known = "IS NOT NULL" if tokens else "IS NULL"
    return (
        Store(where)
        .frame(
            f"SELECT chunk_id FROM chunks WHERE chunk_index = $i AND token_start {known} ORDER BY chunk_id LIMIT 1",
            i=index,
        )["chunk_id"]
        .iloc[0]
    )


# The chain's panel


def test_the_arcs_are_the_links_from_the_threshold_on_and_the_link_keeps_it(opened, influenced, shown):
    chunk = chunk_at(influenced, 2)
    test = panel(opened, influenced, chunk=chunk, influence_above="0.3")
    (links,) = shown
    assert links.way is WAYS["suppression"] and links.threshold == 0.3 and links.selected == chunk
    assert (links.shown["value"] >= 0.3).all() and 0 < len(links.shown) < len(links.pairs)
    assert "those of at least 0.3 nats" in words(test)
    key = next(one.key for one in test.number_input if "influence_above" in one.key)
    test.number_input(key=key).set_value(0.05).run()
    assert test.session_state["selection"]["influence_above"] == "0.05" and shown[-1].threshold == 0.05
    assert len(shown[-1].shown) > len(links.shown)


def test_a_pair_at_the_noise_floor_is_drawn_as_nothing(opened, influenced, shown):
    floored = Store(influenced).frame(
        "SELECT source_chunk_id AS id FROM influences WHERE kl <= $n AND suppressed = 'all' LIMIT 1",
        n=influence_study.NOISE,
    )["id"][0]
    panel(opened, influenced, chunk=floored, influence_above="0")
    pairs = shown[0].pairs
    assert (pairs.loc[~pairs["is_found"], "value"] <= influence_study.NOISE).all()
    assert (shown[0].shown["value"] > influence_study.NOISE).all()


def test_the_difference_of_two_models_is_of_pairs_that_both_read(opened, influenced, shown):
    chunk = chunk_at(influenced, 1)
    for reader in ("difference", *(Store(influenced).models()["model_id"])):
        panel(opened, influenced, chunk=chunk, influence_reader=reader, influence_shown="map")
    difference, base, distilled = (links.pairs["value"] for links in shown)
    assert difference.tolist() == pytest.approx((distilled - base).tolist())
    assert shown[0].reader == "reasoner − base" and shown[0].scale.kind == "signed log"
    assert shown[1].scale == shown[2].scale  # so that the models compare
    assert "base" in shown[0].pairs["by_model"].iloc[0] and "reasoner" in shown[0].pairs["by_model"].iloc[0]


@pytest.mark.parametrize("part", influence_study.PARTS)
def test_a_part_of_the_model_has_its_own_pairs(opened, influenced, shown, part):
    panel(opened, influenced, chunk=chunk_at(influenced, 1), influence_part=part)
    assert shown[0].part == part and shown[0].pairs["value"].notna().all()


def test_ways_side_by_side_have_the_same_chain_and_each_says_what_it_cannot(opened, influenced, monkeypatch):
    panels = []
    monkeypatch.setattr("app.chains_of_thought.influence.draw_ways", lambda given, links: panels.extend(given) or None)
    said = words(panel(opened, influenced, chunk=chunk_at(influenced, 1), influence_shown="ways"))
    assert [one.title.split(" ·")[0] for one in panels] == ["Suppression", "Attention", "Resampling", "Published"]
    assert not panels[1].pairs.empty and panels[3].pairs.empty and panels[3].without == "no pair of this chain"
    assert "Limits." in said


def test_the_tables_of_a_chunk_name_its_strongest_links_and_what_it_does_in_all(opened, influenced):
    chunk = chunk_at(influenced, 3)
    test = panel(opened, influenced, chunk=chunk)
    said = words(test)
    assert "**This chunk influences**" in said and "**Influenced by** · 3 of 3 chunks" in said
    assert "earlier ones do" in said and "Noise floor 1e-06 nats" in said
    onward = test.dataframe[-2].value
    assert onward["KL divergence"].is_monotonic_decreasing and (onward["chunk"] > 4).all()


@pytest.mark.parametrize("way", ["attention", "resampling"])
def test_the_other_ways_have_their_own_unit(opened, influenced, shown, way):
    said = words(panel(opened, influenced, chunk=chunk_at(influenced, 1), influence_way=way))
    assert shown[0].way.name == way and WAYS[way].unit in said
    if way == "resampling":
        assert shown[0].scale.kind == "linear" and "whose interval holds 0" in said


def test_published_importance_alone_is_shown_as_it_was(opened, imported, shown):
    chunk = Store(imported).frame("SELECT source_chunk_id AS id FROM step_importance ORDER BY id LIMIT 1")["id"][0]
    said = words(panel(opened, imported, chunk=chunk))
    assert shown[0].way.name == "published" and "This chunk influences" in said
    assert "it cannot be made for another chain" in said


def test_a_study_without_any_says_what_makes_it(opened, running):
    said = words(panel(opened, running))
    assert "does not suppress attention" in said and "--stage influence" in said


def test_a_study_of_before_these_tables_says_the_same(opened, tmp_path, influenced):
    folder = shutil.copytree(influenced, tmp_path / "small")
    with duckdb.connect(str(generation_of(folder))) as connection:
        for name in (name for name, table in TABLES.items() if table.since > 11):
            connection.execute(f'DROP TABLE "{name}"')
        connection.execute("UPDATE about SET value = '11' WHERE name = 'schema_version'")
    assert "--stage influence" in words(panel(opened, folder, chunk=chunk_at(folder, 1)))
    published = panel(opened, folder, chunk=chunk_at(folder, 1, tokens=False))
    assert "This chunk influences" in words(published)
    for part in PARTS:
        test = opened("influence", folder, study="small", influence_page=part)
        assert not test.exception and words(test).strip()


def test_a_chain_of_which_nothing_is_stored_is_read_now_by_a_model_that_is_here(opened, tmp_path, tiny, shown):
    where = steerable_study.make(tmp_path / "small", tiny("llama"))
    assert not embedded.is_ready()  # so that the tiny model is the only one here
    test = panel(opened, where)
    (button,) = [one for one in test.button if "Compute for this chain" in one.label]
    button.click().run()
    settled(
        test,
        lambda _: bool(shown) and not [one for one in test.button if one.label == "Stop"],
        240,  # the worker reads torch and the model first
    )
    links = shown[-1]
    n = len(links.chunks)
    assert links.pairs["value"].notna().any() and len(links.pairs) == n * (n - 1) / 2
    assert links.in_all["noise"].notna().any() and "that is kept as long as the dashboard runs" in words(test)


# The page


def open_page(opened, where, part: str, **link):
    test = opened("influence", where, study="small", influence_page=part, **link)
    assert not test.exception, test.exception
    return test


def test_categories_stand_beside_what_their_places_give(opened, influenced):
    test = open_page(opened, influenced, "study")
    said = words(test)
    assert said.index("base, ") < said.index("reasoner, ") and "By how many chunks away: base" in said
    table = test.dataframe[0].value
    assert {"mean", "95 % interval", "other CoTs there", "dealt anew, 95 %", "p", "p, Holm", "chunks"} <= set(table)
    assert set(table["read by"]) == {"base", "reasoner"}
    assert (test.dataframe[1].value["difference"] > 0).mean() > 0.5  # the second model's are twice the first's


@pytest.mark.parametrize("quantity", ["last_reader", "answer_kl"])
def test_what_a_chunk_does_is_chosen(opened, influenced, quantity):
    test = open_page(opened, influenced, "study", influence_of_chunk=quantity)
    assert len(test.dataframe[0].value) and "with about as many chunks after them" in words(test)


def test_a_head_is_chosen_by_the_link_and_its_curve_is_of_the_chosen_chain(opened, influenced):
    chunk = chunk_at(influenced, 1)
    test = open_page(opened, influenced, "heads", influence_head="1.0", chunk=chunk)
    said = words(test)
    assert "Layer 1, head 0: what each chunk of the chain receives" in said and "Chunk 2, selected:" in said
    assert "Ranked in two halves of the problems, 3 times, heads correlate by 0.6 (0.5 to 0.7)" in said
    unkept = words(open_page(opened, influenced, "heads", influence_head="2.1", chunk=chunk))
    assert "is not kept for this chain" in unkept


def test_the_words_about_heads_count_those_above_both_nulls(influenced):
    rows = Store(influenced).receiver_heads()
    own = rows[rows["model_id"] == rows["model_id"].iloc[0]]
    said = heads.in_words(own, Store(influenced).receiver_reliability().iloc[:0])
    assert "Of 6 heads 2 have an interval above" in said and "2 of these above" in said and "unknown" in said


def test_blocks_in_which_both_models_attend_alike_are_said_not_to_replicate(opened, influenced, tmp_path):
    assert "attend identically up to block 2: the 6 heads of blocks 0 to 2" in words(
        open_page(opened, influenced, "heads")
    )
    folder = shutil.copytree(influenced, tmp_path / "small")
    with duckdb.connect(str(generation_of(folder))) as connection:
        connection.execute(
            "UPDATE receiver_heads SET kurtosis = kurtosis + 0.1 * head WHERE layer > 0 AND model_id IN (SELECT"
            " model_id FROM models WHERE role = 'distilled')"
        )
    said = words(open_page(opened, folder, "heads"))
    assert "attend identically up to block 0: the 2 heads of that block have equal values in both" in said
    assert "of each model in later blocks, 4 are the same, where chance gives 4." in said
    assert "replicates nothing" in words(open_page(opened, folder, "agreement"))


@pytest.mark.parametrize("way", ["suppression", "attention", "resampling", "published"])
def test_all_pairs_of_a_way_are_a_csv_a_line_each(opened, influenced, way):
    test = open_page(opened, influenced, "study", influence_way=way)
    (button,) = test.get("download_button")
    assert button.proto.label == f"All pairs of the study as CSV: {way}"
    store = Store(influenced)
    read = pd.read_csv(io.StringIO(pairs_csv(store, WAYS[way])))
    assert read["source_chunk_id"].tolist() == store.influence_everywhere(way)["source_chunk_id"].tolist()
    assert read["value"].notna().any() and set(read["way"]) == {way}


def test_agreement_says_what_goes_beyond_distance_and_a_pair_can_be_read(opened, influenced):
    test = open_page(opened, influenced, "agreement")
    said = words(test)
    assert "beyond distance agree suppression – attention (base: 0.6 against 0.2)" in said
    assert "not shown to agree beyond distance" in said
    table = test.dataframe[-1].value
    apart = (table["suppression, percentile"] - table["attention, percentile"]).abs()
    assert apart.diff().max() <= 1 and apart.iloc[0] > 60  # whole percentiles, so that neighbours may change places


@pytest.mark.parametrize("part", ["study", "heads", "agreement"])
def test_a_page_without_rows_says_what_makes_them(opened, running, part):
    said = words(open_page(opened, running, part))
    assert "python -m precompute run" in said and "[influence]" in said


def test_every_way_says_what_it_cannot(opened, influenced):
    said = words(open_page(opened, influenced, "says"))
    assert all(way.cannot_say in said for way in WAYS.values()) and "In this study: " in said


def test_too_few_problems_are_not_called_no_difference(influenced):
    rows = pd.DataFrame(
        {
            "model": "base",
            "label": ["A", "B"],
            "n_problems": [3, 3],
            "p": 0.5,
            "p_holm": 1.0,
            "mean": 1.0,
            "null_mean": 1.0,
        }
    )
    assert "no category is known in 6 problems" in study.in_words(rows)
    told = study.in_words(rows.assign(n_problems=9, p_holm=[0.01, 0.02], mean=[2.0, 0.5]))
    assert "acting further than like places: a; less far: b" in told
