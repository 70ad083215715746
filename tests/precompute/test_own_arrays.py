"""What a notebook hands over is a study, or a sentence: never a part of one."""

import json
import math
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from anchorscope import open_study
from app.shell.vocabulary import column, metric
from backend.errors import AnchorscopeError
from backend.evidence import pairs
from backend.search.columns import RESERVED, known_columns
from backend.store.unit_files import StudyFolder

N, WIDTH = 4, 6  # chunks of a chain; width


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Curves and mixed models are most of what a pair takes, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "fits", lambda sample, **options: ())
        patch.setattr(pairs, "theil_sen", lambda sample, **options: pairs.NO_SLOPE)
        patch.setattr(pairs.mixed_model, "mixed", lambda sample: pairs.mixed_model.unknown(""))
        yield


def chains(n=6) -> list[dict]:
    return [
        {
            "id": f"run-{number}",
            "problem": f"What is {number // 2} + 2?",
            "model": "mine",
            "chunks": [f"Sentence {index} of {number}. " for index in range(N)],
            "token_ids": [[1, 2], [3], [4, 5, 6], [7]],
            "prompt_token_ids": [9, 9],
            "answer": "4",
            "correct": number % 2 == 0,
            "categories": ["self_checking", None, None, "final_answer_emission"],
        }
        for number in range(n)
    ]


def vectors(n=6, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n * N, WIDTH))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    metric = np.random.default_rng(1).normal(size=6 * N)
    metric[3] = math.nan
    with closing(
        open_study.from_arrays(
            chains(),
            {3: vectors(), 5: list(vectors(seed=1).reshape(6, N, WIDTH))},
            {"mine_too": metric, "mine_too_low": metric - 1, "mine_too_high": metric + 1, "mine_too_n": [8] * 6 * N},
            geometry={"my_bend": {3: vectors()[:, 0]}},
            words={"mine_too": {"label": "Mine <b>too</b>", "unit": "nats", "meaning": "What I measured."}},
            maps={3: vectors()[:, :2], 5: vectors()[:, :3]},
            name="own",
            note="of a test",
            draws=20,
            folder=tmp_path_factory.mktemp("stores"),
        )
    ) as store:
        yield store


def test_chunks_are_the_text_and_its_tokens(made):
    rows = made.frame("SELECT k.*, c.text AS whole, c.token_ids FROM chunks k JOIN cots c USING (cot_id)")
    assert all(row.whole[row.char_start : row.char_end] == row.text for row in rows.itertuples())
    first = rows[rows["chunk_index"] == 2].iloc[0]
    assert list(first["token_ids"][first["token_start"] : first["token_end"]]) == [4, 5, 6]


def test_vectors_values_and_tags_are_those_handed_over(made):
    rows = made.frame("SELECT vector, rms, n_tokens FROM activations WHERE layer = 5 ORDER BY chunk_id")
    ids = made.frame("SELECT chunk_id FROM chunks ORDER BY chunk_id")["chunk_id"].tolist()
    order = [ids.index(chunk) for chunk in made.frame("SELECT chunk_id FROM activations WHERE layer = 5")["chunk_id"]]
    assert sorted(order) == list(range(6 * N)) and rows["rms"].isna().all()
    by_run = made.frame(
        "SELECT a.vector FROM activations a JOIN chunks k USING (chunk_id) JOIN cots c USING (cot_id) JOIN problems p"
        " USING (problem_id) WHERE layer = 5 AND p.question = 'What is 2 + 2?' AND c.sample = 1 AND chunk_index = 3"
    )["vector"][0]
    assert by_run == pytest.approx(vectors(seed=1)[5 * N + 3].astype(np.float32))
    kept = made.frame("SELECT value, ci_low, n, convention FROM importance WHERE metric = 'mine_too' ORDER BY value")
    assert kept["value"].isna().sum() == 1 and set(kept["convention"]) == {"all"} and set(kept["n"]) == {8}
    assert (kept["value"] - kept["ci_low"]).dropna().to_numpy() == pytest.approx(1)
    assert made.frame("SELECT count(*) AS n FROM categories")["n"][0] == 12


def test_evidence_is_there_for_every_layer_and_column(made):
    pairs = made.associations()
    assert {("residual_norm", 3), ("residual_norm", 5), ("my_bend", 3)} <= set(
        zip(pairs["x"], pairs["layer"], strict=True)
    )
    assert set(pairs["metric"]) == {"mine_too"} and set(pairs["n"]) <= set(range(24))
    assert made.frame("SELECT count(*) AS n FROM claims")["n"][0] > 0


def test_own_names_are_in_the_pickers_and_the_search_with_safe_words(made):
    assert {"my_bend", "residual_norm"} <= set(made.geometry_choices()["x"])
    assert metric("mine_too").label == "Mine b too /b" and metric("mine_too").unit == "nats"
    assert "Handed over as an array" in metric("mine_too").meaning and column("my_bend").label == "my bend"
    known = known_columns(made)
    assert known["mine_too"].of == known["my_bend"].of == "chunk"


def test_maps_are_the_given_ones_and_say_so(made):
    maps = made.frame("SELECT layer, method, parameters, seed FROM maps ORDER BY layer")
    assert maps["method"].tolist() == ["umap_2d", "umap_3d"] and maps["seed"].isna().all()
    assert all(json.loads(text) == {"given": "arrays"} for text in maps["parameters"])


def test_the_run_says_that_it_is_of_arrays_and_with_what_libraries(made):
    run = made.frame("SELECT * FROM runs").iloc[0]
    parameters, versions = json.loads(run["parameters"]), json.loads(run["versions"])
    assert run["command"] == "arrays" and parameters["note"] == "of a test" and {"numpy", "pandas"} <= versions.keys()
    assert parameters["arguments"]["activations[3]"]["rows"] == 24


def test_a_frame_by_chain_and_chunk_may_come_in_any_order_and_with_gaps(tmp_path):
    frame = pd.DataFrame({"chain": ["run-1", "run-0"], "chunk": [2, 0], "mine_too": [7.0, 5.0]})
    with closing(open_study.from_arrays(pd.DataFrame(chains(2)), None, frame, name="own", folder=tmp_path)) as store:
        rows = store.frame("SELECT chunk_id, value FROM importance WHERE value IS NOT NULL ORDER BY value")
        assert rows["value"].tolist() == [5.0, 7.0] and [one[-4:] for one in rows["chunk_id"]] == ["0000", "0002"]


def test_torch_in_half_precision_and_a_text_that_is_cut_here_will_do(tmp_path):
    import torch

    text = "First we add two. Then we take one away. That is all."
    cots = [{"problem": "p", "model": "m", "text": text}]
    tensor = torch.ones(3, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    maps = {0: np.zeros((3, 2))}
    with closing(open_study.from_arrays(cots, {0: tensor}, name="own", folder=tmp_path, maps=maps)) as store:
        assert "".join(store.frame("SELECT text FROM chunks ORDER BY chunk_index")["text"]) == text
        assert store.frame("SELECT is_correct, answer FROM cots").isna().all(axis=None)


def but(number: int, **changes) -> list[dict]:
    rows = chains(2)
    rows[number] = {key: value for key, value in (rows[number] | changes).items() if value is not ...}
    return rows


def poked(place, value, values=None) -> np.ndarray:
    found = vectors(2) if values is None else values
    found[place] = value
    return found


FAULTS = {
    "no rows": (lambda: {"cots": []}, "cots is a list of length 0; a DataFrame"),
    "a stranger": (
        lambda: {"cots": but(1, colour="red")},
        r"cots, row 1 \(id 'run-1'\): there is a 'colour'; expected",
    ),
    "no model": (lambda: {"cots": but(0, model=...)}, r"row 0 \(id 'run-0'\): there is no model"),
    "an unsafe id": (lambda: {"cots": but(1, id="../x")}, "row 1 .*id is '../x'; up to 64 letters"),
    "an id twice": (lambda: {"cots": but(1, id="run-0")}, "row 1: the id 'run-0' is that of row 0 too"),
    "an empty chunk": (lambda: {"cots": but(0, chunks=["a", ""])}, "row 0 .*chunk 1 is a str of length 0"),
    "tokens of fewer chunks": (lambda: {"cots": but(0, token_ids=[[1]])}, "row 0 .*token_ids has 1 entries; 4 were"),
    "a token below 0": (lambda: {"cots": but(0, token_ids=[[1], [2], [-3], [4]])}, "chunk 2, place 0: -3 came"),
    "a verdict in words": (lambda: {"cots": but(1, correct="yes")}, "row 1 .*correct is 'yes'; True, False"),
    "no layer": (lambda: {"activations": vectors(2)}, "activations is a ndarray of shape .*names no layer"),
    "a layer in words": (lambda: {"activations": {"last": vectors(2)}}, "activations has the layer 'last'"),
    "a row less": (lambda: {"activations": {3: vectors(2)[1:]}}, r"activations\[3\] has the shape \(7, 6\); \(8, d\)"),
    "a chain less": (lambda: {"activations": {3: [vectors(1)]}}, r"activations\[3\] is a list of 1 arrays; 2 were"),
    "a chunk less in a chain": (
        lambda: {"activations": {3: [vectors(1), vectors(1)[1:]]}},
        r"activations\[3\], row 1: the shape is \(3, 6\); \(4, d\) was expected, a row a chunk of 'run-1'",
    ),
    "NaN": (lambda: {"activations": {3: poked((5, 2), math.nan)}}, "chain 'run-1', chunk 1: value 2 is nan; a finite"),
    "beyond float32": (lambda: {"activations": {3: poked((0, 0), 1e39)}}, "chain 'run-0', chunk 0: value 0 is 1e"),
    "words for numbers": (lambda: {"activations": {3: vectors(2).astype(str)}}, r"activations\[3\] has the dtype <U"),
    "complex numbers": (lambda: {"activations": {3: vectors(2) * 1j}}, r"activations\[3\] has the dtype complex128"),
    "a value less": (
        lambda: {"metrics": {"mine_too": [1.0]}},
        r"metrics\['mine_too'\] has the shape \(1,\); \(8,\) was",
    ),
    "an infinite value": (
        lambda: {"metrics": {"mine_too": poked(6, math.inf, np.zeros(8))}},
        r"metrics\['mine_too'\], chain 'run-1', chunk 2: inf came",
    ),
    "an unknown chain": (
        lambda: {"metrics": pd.DataFrame({"chain": ["run-9"], "chunk": [0], "mine_too": [1.0]})},
        "metrics, row 0: the chain 'run-9' is not in cots; expected is one of run-0, run-1",
    ),
    "an unknown chunk": (
        lambda: {"metrics": pd.DataFrame({"chain": ["run-1"], "chunk": [4], "mine_too": [1.0]})},
        "metrics, row 0: the chain 'run-1' has no chunk 4; expected is one of 0 to 3",
    ),
    "a chunk twice": (
        lambda: {"metrics": pd.DataFrame({"chain": ["run-1"] * 2, "chunk": [1, 1], "mine_too": [1.0, 2.0]})},
        "metrics, row 1: chain 'run-1', chunk 1 is in row 0 too",
    ),
    "an unsafe metric": (
        lambda: {"metrics": {"x'; DROP": [0.0] * 8}},
        'metrics has the name "x\'; DROP"; up to 63 small',
    ),
    "a name of ours": (lambda: {"metrics": {"steepness": [0.0] * 8}}, "'steepness', which is Anchorscope's own"),
    "a map of nothing": (lambda: {"maps": {3: np.zeros((8, 2))}}, r"maps\[3\]: there are no activations of that layer"),
    "words of nothing": (lambda: {"words": {"other": {}}}, "words has 'other'; expected is one of your own: none"),
    "an unsafe study": (lambda: {"name": "../own"}, "name is '../own'; up to 64 letters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_sentence_and_leaves_nothing_behind(fault, tmp_path):
    given, said = FAULTS[fault]
    with pytest.raises(AnchorscopeError, match=said):
        open_study.from_arrays(**{"cots": chains(2), "name": "own", "folder": tmp_path / "stores", **given()})
    assert not (tmp_path / "stores").exists()


def test_a_study_that_is_there_is_replaced_only_when_asked_and_only_where_it_is_of_arrays(tmp_path, monkeypatch):
    open_study.from_arrays(chains(1), name="own", folder=tmp_path).close()
    with pytest.raises(AnchorscopeError, match="is there already; another name, or replace=True"):
        open_study.from_arrays(chains(2), name="own", folder=tmp_path)
    with closing(open_study.from_arrays(chains(2), name="own", folder=tmp_path, replace=True)) as store:
        assert len(store.frame("SELECT * FROM cots")) == 2
    monkeypatch.setattr("precompute.own_arrays.publish", lambda writer: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_study.from_arrays(chains(1), name="own", folder=tmp_path, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["own"] and len(
        StudyFolder(tmp_path / "own").ledger().live
    ) > 1
    with StudyFolder(tmp_path / "other").writing("test") as writer:
        writer.add("runs", "r", {})
    with pytest.raises(AnchorscopeError, match="was not made from arrays"):
        open_study.from_arrays(chains(1), name="other", folder=tmp_path, replace=True)


def test_every_name_that_the_search_has_is_reserved():
    assert {"text", "importance", "q", "fires", "model"} <= RESERVED
