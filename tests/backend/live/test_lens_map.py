"""What the worker says of a text under a lens: the request's numbers against the plain way, and its parts."""

import numpy as np
import pytest
import torch

from backend.ids import stable_id
from backend.lens.kinds import LENSES, LensError
from backend.live import lens_map
from backend.live.audit import audit
from backend.live.jobs import Reader
from backend.live.lens_map import under_lens
from backend.live.requests import Lens, LensCell, LensMap, RequestError, Text, UnderLens, experiment_id
from backend.live.service import merge
from backend.models.kl import kl_reference
from backend.models.residuals import chunk_activations, record_residuals
from tests import lensed_study, steerable_study
from tests.backend.live.test_jobs import PROMPT, TEXT, unit

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2", "gemma2")
LAST = 3  # layer of the tiny models


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


def parts_of(reader, request) -> list[dict]:
    return [payload for kind, payload in under_lens(reader, request) if kind == "part"]


def result_of(reader, request) -> dict:
    result: dict = {}
    for part in parts_of(reader, request):
        merge(result, part)
    return result


def own_logits(loaded, ids):
    with torch.inference_mode():
        return loaded.model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_row_of_the_map_is_what_the_model_says_bit_for_bit(tiny, family):
    reader = Reader(tiny(family))
    found = result_of(reader, LensMap(TEXT, chosen=("Wait",), with_prompt=True))
    own = own_logits(reader.loaded, found["token_ids"]).log_softmax(-1)
    row, token = found["windows"][0]["rows"][LAST], found["followed"][0]["id"]
    assert np.array_equal(row["token"], own.argmax(-1).numpy()) and not row["kl"].any()
    assert np.array_equal(row["probability"], own.amax(-1).exp().double().numpy())
    assert np.array_equal(row["log_prob"][0], own[:, token].double().numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_below_is_the_hidden_state_through_the_models_norm_and_head(tiny, family):
    reader = Reader(tiny(family))
    found = result_of(reader, LensMap(TEXT, chosen=("Wait",)))
    loaded, ids, first = reader.loaded, found["token_ids"], found["windows"][0]["first"]
    with torch.inference_mode():
        out = loaded.model(torch.tensor([ids]), output_hidden_states=True)
        norm = loaded.model.transformer.ln_f if family == "gpt2" else loaded.model.model.norm
        logits = loaded.model.lm_head(norm(out.hidden_states[2]))[0, first:]
    if family == "gemma2":
        logits = 30 * torch.tanh(logits / 30)
    row, token = found["windows"][0]["rows"][1], found["followed"][0]["id"]
    assert first == found["n_prompt"] - 1 and np.array_equal(row["token"], logits.argmax(-1).numpy())
    assert np.allclose(row["kl"], kl_reference(out.logits[0, first:], logits).numpy(), rtol=1e-4)
    assert np.allclose(row["log_prob"][0], logits.log_softmax(-1)[:, token].numpy(), atol=1e-4)
    assert np.array_equal(row["rank"][0], (1 + (logits > logits[:, [token]]).sum(-1)).numpy())


def test_the_first_picture_is_the_last_token_of_each_chunk_and_comes_before_any_strip(reader):
    parts = parts_of(reader, LensMap(TEXT))
    order = [next(name for name in ("token_ids", "first", "windows", "cost") if name in part) for part in parts]
    assert order[:2] == ["token_ids", "first"] and set(order[2:-1]) == {"windows"} and order[-1] == "cost"
    found = result_of(reader, LensMap(TEXT))
    first, whole = found["first"], found["windows"][0]
    assert first["places"] == [found["spans"][name][1] - 1 for name in "abcd"]
    for layer in range(LAST + 1):
        for name in ("token", "kl", "entropy", "probability"):
            at = whole["rows"][layer][name][np.array(first["places"]) - whole["first"]]
            assert np.allclose(first["rows"][layer][name], at, rtol=1e-5, atol=1e-9), (layer, name)


def test_the_map_comes_in_strips_of_layers_from_the_top_down(reader, monkeypatch):
    monkeypatch.setattr(lens_map, "_ROWS", 1)
    steps = [payload for kind, payload in under_lens(reader, LensMap(TEXT)) if kind == "part" and "windows" in payload]
    strips = [list(step["windows"][0]["rows"]) for step in steps[1:]]
    assert strips == [[3], [2], [1], [0]]


def test_a_text_whose_predictions_do_not_fit_is_taken_in_windows_and_says_the_same(reader, monkeypatch):
    whole = result_of(reader, LensMap(TEXT, chosen=("42",)))
    monkeypatch.setattr(lens_map, "_OWN_BYTES", 2 * 4 * reader.loaded.vocab_size * 10)
    found = result_of(reader, LensMap(TEXT, chosen=("42",)))
    assert len(found["windows"]) > 1 and found["windows"][1]["first"] == found["windows"][0]["end"]
    for layer in range(LAST + 1):
        for name in ("token", "kl", "rank"):
            joined = np.concatenate([window["rows"][layer][name] for window in found["windows"].values()], -1)
            assert np.allclose(joined, whole["windows"][0]["rows"][layer][name], rtol=1e-5, atol=1e-9)
    assert np.allclose(found["first"]["rows"][1]["kl"], whole["first"]["rows"][1]["kl"], rtol=1e-5)


def test_every_top_token_has_its_word_and_none_is_sent_twice(reader):
    parts = parts_of(reader, LensMap(TEXT))
    sent = [token for part in parts for token in part.get("words", {})]
    rows = result_of(reader, LensMap(TEXT))["windows"][0]["rows"]
    assert len(sent) == len(set(sent)) and set(sent) >= {int(t) for row in rows.values() for t in row["token"]}
    words = result_of(reader, LensMap(TEXT))["words"]
    assert words[sent[0]] == reader.loaded.tokenizer.decode([sent[0]])


def test_means_are_the_lens_of_the_mean_stream_of_each_chunk(reader):
    found = result_of(reader, LensMap(TEXT, means=True))
    ids, spans = found["token_ids"], list(found["spans"].values())
    residuals = record_residuals(reader.loaded, ids, [1, LAST])
    norm, head = reader.loaded.model.model.norm, reader.loaded.model.lm_head
    with torch.inference_mode():
        logits, last = (head(norm(chunk_activations(residuals[layer], spans).mean)) for layer in (1, LAST))
    assert found["means"]["chunks"] == list("abcd") and "windows" not in found
    row = found["means"]["rows"][1]
    assert np.array_equal(row["token"], logits.argmax(-1).numpy())
    assert np.allclose(row["kl"], kl_reference(last, logits).numpy(), rtol=1e-4)


def test_followed_words_are_followed_by_their_first_token(reader):
    tokenizer = reader.loaded.tokenizer
    asked, by_id = result_of(reader, LensMap(TEXT, chosen=("360", "#7")))["followed"]
    ids = tokenizer("360", add_special_tokens=False)["input_ids"]
    assert (asked["id"], asked["n_tokens"], asked["word"]) == (ids[0], len(ids), "3") and len(ids) == 3
    assert by_id == {"asked": "#7", "id": 7, "word": tokenizer.decode([7]), "n_tokens": 1}


def test_a_cell_has_its_likeliest_tokens_with_probability_and_logit(reader):
    at = result_of(reader, LensMap(TEXT))["first"]
    place = at["places"][1]
    found = result_of(reader, LensCell(TEXT, 2, place, place + 1, n=5))
    token, word, probability, _ = found["top"][0]
    row = at["rows"][2]
    assert token == row["token"][1] and word == reader.loaded.tokenizer.decode([token]) and len(found["top"]) == 5
    assert probability == pytest.approx(row["probability"][1], rel=1e-5)
    assert found["entropy"] == pytest.approx(row["entropy"][1], rel=1e-5)
    residual = record_residuals(reader.loaded, reader.read(TEXT).token_ids, [2])[2][place]
    with torch.inference_mode():
        logits = reader.loaded.model.lm_head(reader.loaded.model.model.norm(residual))
    assert [one[3] for one in found["top"]] == pytest.approx(logits.topk(5).values.tolist(), abs=1e-5)


def test_a_text_that_was_read_is_not_read_again(reader, monkeypatch):
    read = result_of(reader, LensMap(TEXT))
    fresh = result_of(Reader(reader.loaded), LensMap(TEXT))
    monkeypatch.setattr(reader, "_encoded", None)
    assert result_of(reader, LensMap(TEXT))["cost"]["gflop"] == read["cost"]["gflop"] < fresh["cost"]["gflop"]


def test_the_floor_counts_the_products_of_the_map(reader):
    found = result_of(reader, LensMap(TEXT))
    cost, d, v, n = found["cost"], 64, 384, len(found["token_ids"])
    places = found["windows"][0]["end"] - found["windows"][0]["first"]
    assert cost["gflop"] * 1e9 == pytest.approx(2 * d * v * (n + 4 + LAST * (places + 4)))
    assert cost["floor_seconds"] == pytest.approx(cost["gflop"] / cost["gflop_a_second"]) and cost["seconds"] > 0


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (lambda: LensMap(TEXT, chosen=("",)), "left empty"),
        (lambda: LensMap(TEXT, chosen=("#9999",)), "knows #0 to #383"),
        (lambda: LensMap(TEXT, chosen=("a",) * 9), "at most 8"),
        (lambda: LensCell(TEXT, 4, 0, 1), "layers 0 to 3"),
        (lambda: LensCell(TEXT, 1, 3, 3), "tokens 3 to 2"),
        (lambda: LensMap(Text(PROMPT, "", ()), means=True), "no means"),
        (lambda: UnderLens("tuned"), "no fit"),
    ],
)
def test_what_cannot_be_read_is_said(reader, request_, words):
    with pytest.raises(RequestError, match=words):
        result_of(reader, request_())


def test_the_lens_belongs_to_what_a_request_is_known_by():
    other = UnderLens("tuned", "/study", stable_id("l", 1))
    assert experiment_id("m", LensMap(TEXT)) != experiment_id("m", LensMap(TEXT, other))


def test_a_text_without_chunks_has_its_last_token_as_the_first_picture(reader):
    found = result_of(reader, LensMap(Text(PROMPT, "", ())))
    assert found["first"]["places"] == [len(found["token_ids"]) - 1]


@pytest.mark.parametrize("kind", LENSES)
def test_every_kind_of_lens_can_be_asked_for(kind):
    assert UnderLens(kind, *(("/study", "l1") if LENSES[kind].is_fitted else ())).kind == kind


# Fitted lenses


@pytest.fixture(scope="module")
def lensed(tmp_path_factory, tiny):
    folder = steerable_study.make(tmp_path_factory.mktemp("lensed") / "s", tiny("llama"))
    lensed_study.add(folder, tiny("llama"))
    return str(folder)


def test_a_tuned_lens_is_read_from_the_study_and_kept_as_it_is_where_the_fit_gained_nothing(reader, lensed):
    under = UnderLens("tuned", lensed, lensed_study.TUNED)
    found, plain = (result_of(reader, LensMap(TEXT, lens)) for lens in (under, UnderLens()))
    first, rows = found["windows"][0]["first"], found["windows"][0]["rows"]
    weight, bias = lensed_study.affine(reader.loaded, 2)
    stream = record_residuals(reader.loaded, found["token_ids"], [2])[2][first:]
    with torch.inference_mode():
        logits = reader.loaded.model.lm_head(reader.loaded.model.model.norm(stream + stream @ weight.T + bias))
    assert np.array_equal(rows[2]["token"], logits.argmax(-1).numpy())
    assert np.allclose(rows[2]["entropy"], -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).numpy(), rtol=1e-4)
    for layer in (0, LAST):
        assert np.allclose(rows[layer]["kl"], plain["windows"][0]["rows"][layer]["kl"], rtol=1e-5)
    assert not np.allclose(rows[2]["kl"], plain["windows"][0]["rows"][2]["kl"], rtol=0.1)


def test_layers_that_a_lens_does_not_read_are_left_out(reader, lensed):
    found = result_of(reader, LensMap(TEXT, UnderLens("jacobian", lensed, lensed_study.WHOLE)))
    assert sorted(found["windows"][0]["rows"]) == [1, 2, 3] and sorted(found["first"]["rows"]) == [1, 2, 3]


def test_of_a_lens_of_named_tokens_the_order_among_them_is_known_and_no_probability(reader, lensed):
    under = UnderLens("jacobian", lensed, lensed_study.NAMED)
    found = result_of(reader, LensMap(TEXT, under, ("#19", "#7")))
    row, first = found["windows"][0]["rows"][1], found["windows"][0]["first"]
    streams = record_residuals(reader.loaded, found["token_ids"], [1])[1][first:]
    vectors = reader.loaded.model.lm_head.weight[[5, 19, 200]] * reader.loaded.model.model.norm.weight
    order = (streams @ vectors.T).detach().argsort(-1, descending=True)
    assert found["n_named"] == 3 and np.array_equal(row["token"], np.array([5, 19, 200])[order[:, 0]])
    assert np.array_equal(row["rank"][0], 1 + (order == 1).int().argmax(-1).numpy())
    assert not row["rank"][1].any() and np.isnan(row["probability"]).all() and np.isnan(row["kl"]).all()
    last = found["windows"][0]["rows"][LAST]
    assert np.isfinite(last["probability"]).all() and not last["kl"].any()
    cell = result_of(reader, LensCell(TEXT, 1, first, first + 1, under))
    assert [token for token, *_ in cell["top"]] == np.array([5, 19, 200])[order[0]].tolist()
    assert cell["entropy"] is None and {p for _, _, p, _ in cell["top"]} == {None}


def test_a_lens_of_another_model_is_refused(tiny, lensed):
    with pytest.raises(LensError, match="has no lens l-tuned of model"):
        result_of(Reader(tiny("qwen2")), LensMap(TEXT, UnderLens("tuned", lensed, lensed_study.TUNED)))


def test_a_lens_carries_a_vector_linearly_to_the_last_layer(reader, lensed):
    def tops(vector, **how):
        found: dict = {}
        for kind, part in audit(reader, Lens(vector, (unit(2),), n=5, **how), lambda: None):
            if kind == "part":
                merge(found, part)
        return [token for token, *_ in found["top"]]

    weight, _ = lensed_study.affine(reader.loaded, 2)
    carried = unit(1) + weight.numpy() @ unit(1)
    under = UnderLens("tuned", lensed, lensed_study.TUNED)
    assert tops(unit(1), lens=under, layer=2) == tops(carried)  # without b, which is no part of a difference
    assert tops(unit(1), lens=under, layer=LAST) == tops(unit(1)) == tops(unit(1), layer=2)
    with pytest.raises(RequestError, match="named tokens alone"):
        tops(unit(1), lens=UnderLens("jacobian", lensed, lensed_study.NAMED), layer=1)
    with pytest.raises(RequestError, match="from its layer"):
        Lens(unit(1), (), lens=under)
