"""The shipped demo: as large as it says, and what is in it comes out again when a sample of it is computed anew."""

import numpy as np
import pytest

from backend.cot.answers import Judge
from backend.cot.prompts import BOXED
from backend.evidence.multiple import judged
from backend.evidence.power import N_PLANTED
from backend.evidence.rows import evidence_of
from backend.evidence.verdict import verdict
from backend.geometry.directions import Direction
from backend.importance.metric_registry import metrics_to_compute
from backend.models import embedded
from backend.models.loading import load_model
from backend.root import ROOT
from backend.schema.tables import TABLES
from backend.store.packed import unpack
from backend.store.store import Store
from precompute.refresh import FILLS
from precompute.stages import STAGES, activations, cots, evidence, importance, rollouts, sweep
from precompute.study import load_study
from precompute.units import Context

PACK = ROOT / "assets" / "demo"

pytestmark = pytest.mark.skipif(not PACK.is_dir(), reason="the demo has not been built yet: `make demo`")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(unpack(PACK, tmp_path_factory.mktemp("demo") / "demo.duckdb"))
    yield store
    store.close()


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "studies" / "demo.toml")


@pytest.fixture(scope="module", params=["base", "distilled"])
def reader(request, store):
    """(loaded model, a CoT that it wrote and that has rollouts, with its chunks)."""
    if not embedded.is_ready():
        pytest.skip("the embedded model is not in the cache folder; `make model` fetches it")
    model = store.frame("SELECT * FROM models WHERE role = $role", role=request.param).iloc[0]
    loaded = load_model(model["name"])
    assert loaded.model_id == model["model_id"], "the shipped study was computed with other weights: build it anew"
    soonest = store.frame(
        "SELECT c.cot_id FROM rollouts r JOIN cots c USING (cot_id) WHERE r.kind = 'resample' AND c.model_id = $model"
        " GROUP BY c.cot_id, r.chunk_id ORDER BY max(r.n_tokens), r.chunk_id LIMIT 1",
        model=loaded.model_id,
    )["cot_id"].item()  # where the longest rollout of a chunk is the shortest: the least to draw again
    cot = next(cot for cot in store.tokenised_cots() if cot["cot_id"] == soonest)
    return loaded, cot, store.chunks_of([cot["cot_id"]])[cot["cot_id"]]


def test_it_is_small_enough_to_ship_and_large_enough_to_look_at(store, study):
    assert sum(file.stat().st_size for file in PACK.rglob("*") if file.is_file()) <= 60e6
    size = store.frame(
        "SELECT (SELECT count(DISTINCT problem_id) FROM cots) AS problems, (SELECT count(DISTINCT cot_id) FROM"
        " rollouts) AS cots, (SELECT count(DISTINCT chunk_id) FROM rollouts) AS chunks, (SELECT count(DISTINCT layer)"
        " FROM steepness) AS swept, (SELECT count(DISTINCT layer) FROM maps) AS mapped, (SELECT count(*) FROM"
        " training_metrics WHERE metric = 'loss') AS losses"
    ).iloc[0]
    rollouts_a_chunk = store.frame("SELECT count(*) AS n FROM rollouts WHERE kind = 'resample' GROUP BY chunk_id")["n"]
    assert size["problems"] >= 40 and size["cots"] >= 60 and size["chunks"] >= 600 and rollouts_a_chunk.min() >= 20
    assert size["swept"] >= 3 and size["mapped"] >= 6 and size["losses"] > 0
    assert store.frame("SELECT count(*) AS n FROM rollouts WHERE text IS NULL")["n"].item() == 0


def test_every_stage_was_computed_by_todays_rule(store):
    made = store.rules()
    older = [stage.NAME for stage in STAGES if made.get(stage.NAME, 1) != stage.RULE]
    remedy = f"python -m precompute refresh assets/demo --stages {','.join(name for name in FILLS if name in older)}"
    assert not older, f"the demo holds {', '.join(older)} by an older rule; `{remedy}`, or `make demo` for the others"


def test_both_models_of_the_pair_have_rollouts(store):
    n = store.frame(
        "SELECT role, count(DISTINCT cot_id) AS n FROM rollouts JOIN cots USING (cot_id) JOIN models USING (model_id)"
        " GROUP BY role"
    )
    assert set(n["role"]) == {"base", "distilled"} and n["n"].min() >= 20


def test_importance_follows_from_the_stored_rollouts(store, study):
    """After a metric came in, or its rule was raised: `python -m precompute refresh assets/demo`."""
    cot = store.cots_with_importance()[0]
    texts = {chunk["chunk_id"]: chunk["text"] for chunk in store.chunks_of([cot])[cot]}
    rollouts, seed = store.rollouts_of(cot), importance.seed_of(study, cot)
    with Judge() as judge:
        outcomes = importance.n_outcomes(store, store.cot(cot)["problem_id"].item(), judge)
        made = importance.importance_tables(cot, texts, rollouts, judge, seed=seed, n_outcomes=outcomes)["importance"]
    ours = made.to_pandas().set_index(["chunk_id", "metric", "convention"]).sort_index()
    stored = store.frame("SELECT i.* FROM importance i JOIN chunks USING (chunk_id) WHERE cot_id = $cot", cot=cot)
    stored = (
        stored[stored["metric"].isin(metrics_to_compute())].set_index(["chunk_id", "metric", "convention"]).sort_index()
    )  # another stage has more
    assert list(ours.index) == list(stored.index) and len(ours) > 50
    for column in ("value", "ci_low", "ci_high", "p"):
        assert np.allclose(
            ours[column].astype(float), stored[column].astype(float), rtol=1e-6, atol=1e-9, equal_nan=True
        ), column


def test_every_stored_verdict_is_that_of_todays_rule_on_the_stored_evidence(store):
    rows = store.whole_table("associations").to_pylist()
    judged = [verdict(evidence_of(row)) for row in rows]
    assert len(rows) > 1000 and judged == [row["verdict"] for row in rows]
    assert {row["n_planted"] for row in rows if row["subset"] == "all" and row["within"] is not None} == {N_PLANTED}


def test_no_pair_is_claimed_in_the_pack_that_the_pages_do_not_claim_nor_the_other_way_round(store):
    """Both pages' words, on all stored pairs: the list's verdict, and that of one pair with the q of all."""
    pairs, key = judged(store.associations()).to_dict("records"), TABLES["claims"].key
    listed = {tuple(row[name] for name in key): row["verdict"] for row in pairs}
    alone = {tuple(row[name] for name in key): verdict(evidence_of(row)) for row in pairs}
    assert len(listed) > 1000 and listed == alone
    stored = {tuple(row[name] for name in key): row["verdict"] for row in store.whole_table("claims").to_pylist()}
    assert not stored or stored == listed, "`python -m precompute refresh assets/demo --stages claims`"
    by_itself = {tuple(row[name] for name in key) for row in pairs if row["verdict"] != "none"}
    laws = {
        tuple(row[name] for name in key)
        for row in store.whole_table("associations").to_pylist()
        if row["verdict"] != "none"
    }
    assert by_itself <= laws  # q takes claims away, and never makes one


def test_evidence_follows_from_the_stored_geometry_and_importance(store, study):
    context = Context(study, "r0", store, print)
    unit = evidence.units(context)[-1]
    pair = evidence._pairs(context, unit)[0]
    key = TABLES["associations"].key
    stored = {tuple(row[name] for name in key): row for row in store.whole_table("associations").to_pylist()}
    ((_, rows),) = evidence.measure(None, pair)
    for made in rows:
        kept = stored[tuple(made[name] for name in key)]
        for column in (
            "within",
            "within_low",
            "p",
            "p_problems",
            "partial",
            "partial_p",
            "spearman",
            "planted_found",
            "n_planted",
        ):
            assert made[column] == pytest.approx(kept[column], rel=1e-6), column  # another processor's last bit
        assert made["verdict"] == kept["verdict"]


@pytest.mark.embedded
def test_activations_are_those_of_the_model_to_float16(store, study, reader):
    loaded, cot, chunks = reader
    spans = activations._spans(chunks)
    task = activations.Task(("u",), ((cot["cot_id"], tuple(cot["token_ids"]), spans),), study.activations.layers)
    ((_, fresh),) = activations.record(loaded, task)
    for layer in study.activations.layers:
        names, stored = store.activations(loaded.model_id, layer)
        rows = stored[[names.index(chunk) for chunk, _ in fresh.chunks]]
        assert np.allclose(rows, fresh.vectors[layer], rtol=2**-10, atol=1e-3), layer


@pytest.mark.embedded
def test_curves_are_those_of_the_model_along_the_stored_directions(store, study, reader):
    loaded, cot, chunks = reader
    chunk = min(chunks[1:], key=lambda chunk: chunk["token_end"] - chunk["token_start"])
    rows = store.frame(
        "SELECT * FROM directions WHERE model_id = $model AND layer = $layer AND coalesce(chunk_id, $chunk) = $chunk"
        " AND direction_id IN (SELECT direction_id FROM kl_curves) ORDER BY direction_id",
        model=loaded.model_id,
        layer=study.sweep.layers[1],
        chunk=chunk["chunk_id"],
    )
    made = [
        Direction(
            **{
                **row,
                "chunk_id": row["chunk_id"] or None,
                "seed": None,
                "vector": np.asarray(row["vector"], np.float32),
            }
        )
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
    ]
    wanted = study.sweep
    span = {chunk["chunk_id"]: (chunk["token_start"], chunk["token_end"])}
    task = sweep.Task(
        ("u",),
        ((cot["cot_id"], tuple(cot["token_ids"]), span),),
        tuple(made),
        (wanted.layers[1],),
        wanted.positions,
        wanted.betas,
        wanted.unit,
        frozenset(),
    )
    ((_, fresh),) = sweep.measure(loaded, task)
    stored = store.frame(
        "SELECT curve_id, kl FROM kl_curves WHERE chunk_id = $chunk", chunk=chunk["chunk_id"]
    ).set_index("curve_id")["kl"]
    assert len(fresh.kl_curves) == len(wanted.positions) * len(made) >= 4
    for curve in fresh.kl_curves:
        assert np.allclose(curve["kl"], stored[curve["curve_id"]], rtol=0.02, atol=1e-6), curve[
            "kind"
        ]  # directions are kept in float16


@pytest.mark.embedded
def test_rollouts_come_out_again_from_their_seeds(store, study, reader):
    loaded, cot, chunks = reader
    longest = store.frame(
        "SELECT chunk_id FROM rollouts WHERE cot_id = $cot AND kind = 'resample' GROUP BY ALL ORDER BY max(n_tokens),"
        " chunk_id",
        cot=cot["cot_id"],
    )  # the chunk whose longest rollout is the shortest
    chunk = next(chunk for chunk in chunks if chunk["chunk_id"] == longest["chunk_id"][0])
    point = rollouts.Point(
        chunk["chunk_id"], chunk["char_start"], chunk["char_end"], chunk["token_start"], ("resample",)
    )
    asked = rollouts.CotTask(
        cot["cot_id"], cot["prompt"], cot["text"], cot["think_close"], tuple(cot["token_ids"]), "", (point,)
    )
    task = rollouts.Task((asked,), {"resample": 4}, study.sampling, study.seed, 128, study.rollouts.encoder)
    (drawn,) = rollouts.draw(loaded, task, "resample")
    stored = store.frame(
        "SELECT rollout_id, seed, text FROM rollouts WHERE chunk_id = $c AND kind = 'resample'", c=chunk["chunk_id"]
    )
    texts = dict(zip(stored["rollout_id"], stored["text"], strict=True))
    same = [texts[rollout["rollout_id"]] == rollout["text"] for rollout in drawn.rollouts]
    assert len(same) == 4 and sum(same) >= len(same) - 1  # another processor's last bit may turn one draw


@pytest.mark.embedded
def test_a_chain_of_thought_comes_out_again_from_its_seed(store, study, reader):
    loaded, _, _ = reader
    asked = store.frame(
        "SELECT problem_id, question FROM cots JOIN problems USING (problem_id) WHERE model_id = $model GROUP BY ALL"
        " ORDER BY max(length(text || coalesce(after_text, ''))), problem_id LIMIT 1",
        model=loaded.model_id,
    )  # the problem whose longest chain is the shortest
    ((problem, question),) = asked.itertuples(index=False)
    asked = ((problem, question),)
    task = cots.Task(("u",), asked, BOXED, study.sampling, study.seed, 128, "model", loaded.dtype)
    ((_, written),) = cots.write_cots(loaded, task)
    texts = [sample["text"] for sample in written.cots]
    own = "SELECT text FROM cots WHERE problem_id = $p AND model_id = $m ORDER BY sample"
    stored = store.frame(own, p=problem, m=loaded.model_id)
    assert sum(a == b for a, b in zip(texts, stored["text"], strict=True)) >= len(texts) - 1
