"""What an audit measures of a vector, against the plain way of getting it."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from backend.cot.answers import Judge
from backend.cot.degeneration import is_degenerate
from backend.geometry.likeness import likeness
from backend.live import audits
from backend.live.audit import audit
from backend.live.audit_results import cost_against_random, cost_rows, text_pairs, text_rows
from backend.live.available import Choice
from backend.live.jobs import Reader, run
from backend.live.requests import (
    CostOfVector,
    Curve,
    Lens,
    Model,
    RequestError,
    Sampling,
    Text,
    TextsUnderVector,
    experiment_id,
)
from backend.live.service import Status, merge
from backend.models.layers import layers_of
from backend.statistics.intervals import bootstrap_mean, wilson
from backend.store.library import KeptVector, Library
from backend.store.store import Store
from tests import small_study, steerable_study
from tests.backend.live.test_jobs import TEXT, push, unit


@pytest.fixture(scope="module")
def reader(tiny):
    return Reader(tiny("llama"))


def measured(steps) -> dict:
    result: dict = {}
    for kind, payload in steps:
        if kind == "part":
            merge(result, payload)
    return result


def asked(reader, request) -> dict:
    with Judge() as judge:
        return measured(audit(reader, request, lambda: judge))


# The lens


def test_the_lens_is_the_gain_of_the_final_norm_times_the_unembedding_standardised(reader):
    found = asked(reader, Lens(unit(1), (unit(2), unit(3)), n=5))
    parts = layers_of(reader.loaded.model)
    weight = parts.unembedding.weight.detach()[: len(reader.loaded.tokenizer)].double()
    effects = (torch.from_numpy(unit(1)).double() * parts.final_norm.weight.detach().double()) @ weight.T
    z = (effects - effects.mean()) / effects.std()
    top = z.topk(5)
    assert [value for _, value, _ in found["top"]] == pytest.approx(top.values.tolist(), rel=1e-4)
    decode = reader.loaded.tokenizer.decode
    assert [token for token, *_ in found["top"]] == [decode([token]) for token in top.indices.tolist()]
    assert [value for _, value, _ in found["bottom"]] == pytest.approx((-(-z).topk(5).values).tolist(), rel=1e-4)
    assert len(found["random_largest"]) == 2 and found["n_tokens"] == len(weight)


def test_the_lens_of_the_vector_turned_round_has_the_same_tokens_at_the_other_end(reader):
    one, other = (asked(reader, Lens(sign * unit(1), (unit(2),), n=4)) for sign in (1, -1))
    assert [token for token, *_ in one["top"]] == [token for token, *_ in other["bottom"]]


def test_a_vector_of_another_width_is_refused(reader):
    with pytest.raises(RequestError, match="has 8 values"):
        asked(reader, Lens(np.ones(8, np.float32), (np.ones(8, np.float32),)))


# The cost


BETAS = (-2.0, 0.0, 1.0, 2.0)


def cost(reader, *controls) -> dict:
    return asked(reader, CostOfVector(((TEXT, "b"), (TEXT, "c")), push(0.0, "anchor"), BETAS, controls))


def test_the_cost_is_the_curve_of_each_chunk_and_exactly_0_at_beta_0(reader):
    found = cost(reader, unit(1), unit(9))
    assert [chunk["chunk_id"] for chunk in found["chunks"]] == ["b", "c"] and found["pushes"] == [-2.0, 1.0, 2.0]
    for chunk in found["chunks"]:
        curve = Curve(TEXT, chunk["chunk_id"], push(0.0, "anchor"), BETAS)
        plain = measured(run(reader, curve, lambda: None))
        assert chunk["kl"] == pytest.approx(plain["kl"], rel=1e-6, abs=1e-12) and chunk["kl"][1] == 0.0
        assert chunk["n_tokens"] == plain["n_tokens"] and 0 <= chunk["noise_floor"] < 1e-6
        own, other = chunk["random"]
        assert own == pytest.approx([chunk["kl"][k] for k in (0, 2, 3)], rel=1e-6) and other != own


def test_a_vector_that_is_its_own_control_costs_what_it_costs(reader):
    found = cost_against_random(cost(reader, unit(1)), 2.0)
    assert found["ratio"] == pytest.approx(1, rel=1e-6) and found["p"] == 1.0


def planted(own: float, random: float, *, n: int = 6, k: int = 19, floor: float = 1e-9) -> dict:
    """Chunks of 3 CoTs at which the vector's KL at β = 1 is `own` and the random vectors' around `random`."""
    chunks = [
        {
            "chunk_id": f"c{number % 3}_000{number // 3}",
            "n_tokens": 5,
            "kl": [0.0, own * (1 + 0.1 * number)],
            "random": [[random * (1 + 0.1 * number) * (1 + 0.01 * one)] for one in range(k)],
            "noise_floor": floor,
        }
        for number in range(n)
    ]
    return {"betas": [0.0, 1.0], "pushes": [1.0], "chunks": chunks}


def test_the_quartiles_are_those_over_chunks_and_a_chunks_random_value_is_its_mean():
    rows = {(row["arm"], row["beta"]): row for row in cost_rows(planted(2.0, 1.0))}
    assert set(rows) == {("vector", 0.0), ("vector", 1.0), ("random", 1.0)}
    own = 2.0 * (1 + 0.1 * np.arange(6))
    assert rows["vector", 1.0]["median"] == pytest.approx(np.median(own))
    assert rows["vector", 1.0]["high"] == pytest.approx(np.quantile(own, 0.75)) and rows["vector", 1.0]["n"] == 6
    assert rows["random", 1.0]["median"] == pytest.approx(np.median(own / 2) * 1.09)
    assert (rows["vector", 0.0]["high"], rows["vector", 0.0]["n_below_floor"]) == (0.0, 6)


def test_a_planted_ratio_is_found_with_its_rank_among_random_vectors():
    found = cost_against_random(planted(2.0, 1.0), 1.0)
    assert found["ratio"] == pytest.approx(2 / 1.09) and found["low"] <= found["ratio"] <= found["high"]
    assert (found["p"], found["n"], found["n_cots"], found["n_left_out"]) == (1 / 20, 6, 3, 0)
    assert cost_against_random(planted(0.5, 1.0), 1.0)["p"] == 1.0


def test_chunks_at_the_noise_floor_take_no_part_in_the_ratio_and_are_counted():
    results = planted(2.0, 1.0)
    results["chunks"][0]["noise_floor"] = 5.0
    found = cost_against_random(results, 1.0)
    assert (found["n"], found["n_left_out"]) == (5, 1)
    nothing = cost_against_random(planted(2.0, 1.0, floor=99.0), 1.0)
    assert math.isnan(nothing["ratio"]) and nothing["n_left_out"] == 6


# The texts


def texts(reader, beta: float, n: int = 2) -> dict:
    questions = tuple((f"p{number}", Text("", "", (), question=f"What is {number} + 3?")) for number in range(2))
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    return asked(reader, TextsUnderVector(questions, push(beta), sampling, 3, n, tuple(unit(k) for k in (5, 6, 7))))


def test_at_beta_0_all_three_arms_write_the_same(reader):
    samples = pd.DataFrame(texts(reader, 0.0)["samples"])
    by_arm = [rows.sort_values(["problem_id", "sample"])["text"].tolist() for _, rows in samples.groupby("arm")]
    assert by_arm[0] == by_arm[1] == by_arm[2] and len(by_arm[0]) == 4 and len(set(by_arm[0])) > 1


def test_a_push_moves_its_arm_and_the_thought_is_counted_in_its_own_tokens(reader):
    samples = pd.DataFrame(texts(reader, 9.0)["samples"])
    base, changed = (samples[samples["arm"] == arm]["text"].tolist() for arm in ("base", "changed"))
    assert base != changed and set(samples["arm"]) == {"base", "changed", "random"}
    for row in samples.itertuples():
        cot = row.text.partition("</think>")[0]
        assert row.thinking_tokens == len(reader.loaded.tokenizer(cot, add_special_tokens=False)["input_ids"])
        assert row.degenerate == is_degenerate(row.text)


def written(base, changed, random, loops=()) -> dict:
    """Thinking tokens by arm, problem and sample; `loops` are (arm, problem, sample)."""
    samples = [
        {
            "problem_id": f"p{problem}",
            "arm": arm,
            "sample": sample,
            "finish": "cap" if tokens > 90 else "eos",
            "thinking_tokens": tokens,
            "degenerate": (arm, problem, sample) in loops,
        }
        for arm, lengths in (("base", base), ("changed", changed), ("random", random))
        for problem, of in enumerate(lengths)
        for sample, tokens in enumerate(of)
    ]
    return {"samples": samples}


def test_lengths_are_means_of_problems_and_shares_have_wilsons_interval():
    results = written(
        [[10, 20], [30, 50], [40, 40]],
        [[20, 30], [50, 60], [50, 100]],
        [[10, 20], [30, 50], [40, 40]],
        loops={("changed", 2, 1)},
    )
    base, changed, random = text_rows(results)
    assert base["length"] == pytest.approx(np.mean([15, 40, 40])) and (base["n"], base["n_problems"]) == (6, 3)
    assert (base["length_low"], base["length_high"]) == tuple(bootstrap_mean([15.0, 40.0, 40.0]))
    assert changed["loops"] == pytest.approx(1 / 6) and changed["loops_high"] == wilson(1, 6).high
    assert changed["cut"] == pytest.approx(1 / 6) and random["length"] == base["length"]


def test_arms_are_compared_problem_by_problem():
    lengths = [[10 * k, 10 * k + 2] for k in range(8)]
    longer = [[one + 5 + k for one in of] for k, of in enumerate(lengths)]
    found = {
        (row["arm"], row["against"], row["quantity"]): row for row in text_pairs(written(lengths, longer, lengths))
    }
    length = found["changed", "base", "thinking_tokens"]
    assert (length["n"], length["difference"], length["p"]) == (8, 8.5, 2 / 2**8)
    assert found["random", "base", "thinking_tokens"]["difference"] == 0
    assert found["changed", "random", "degenerate"]["p"] == 1


# Asking and keeping


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("audited") / "s", tiny("llama"))


def kept_for(loaded, name: str = "doubt", seed: int = 1, layer: int = 1) -> KeptVector:
    return KeptVector(name, loaded.model_id, loaded.name, None, layer, 3 * unit(seed), "file", {"words": "v.npy"})


def test_an_audit_of_a_study_is_asked_of_its_chunks_and_problems_and_kept_with_all_that_shaped_it(study, reader):
    store, kept = Store(study), kept_for(reader.loaded)
    choice = Choice(Model(reader.loaded.name), reader.loaded.model_id)
    name = Library(study).keep(kept)
    request = audits.cost_request(store, kept, choice, audits.Asked(n_chunks=2))
    again = audits.cost_request(store, kept, choice, audits.Asked(n_chunks=2))
    assert experiment_id("m", request) == experiment_id("m", again)
    assert [chunk for _, chunk in request.chunks] != [
        chunk for _, chunk in audits.cost_request(store, kept, choice, audits.Asked(seed=2, n_chunks=2)).chunks
    ]
    assert all(text.token_ids is not None for text, _ in request.chunks) and len(request.controls) == audits.N_RANDOM
    small = replace(request, betas=(0.0, audits.BETA), controls=request.controls[:2])
    result = asked(reader, small)
    for state in ("failed", "finished"):
        audits.keeper(study, name, choice, small)(Status("x", state, None, result, None, None, None, 1.0))
    (row,) = Library(study).audits(name).to_dict("records")
    parameters = json.loads(row["parameters"])
    assert (parameters["what"], parameters["n_random"], parameters["unit"]) == ("cost", 2, "rms")
    assert parameters["chunks"] == [chunk for _, chunk in small.chunks]
    assert cost_rows(json.loads(row["results"])) == cost_rows(result)
    written = audits.texts_request(store, kept, choice, audits.Asked(n_problems=3, n_texts=1))
    assert len(written.questions) == 1 and written.intervention.beta == audits.BETA  # the study has one problem


def test_an_audit_without_anything_to_measure_on_is_refused_in_words():
    with pytest.raises(RequestError, match="there are none that this model can read"):
        CostOfVector((), push(0.0), (1.0,), ())
    with pytest.raises(RequestError, match="0 questions"):
        TextsUnderVector((), push(1.0), Sampling(), 1, 2, ())


# What it is like


def test_a_vector_is_compared_with_every_direction_of_its_model_and_layer_and_with_the_library(tmp_path):
    study = small_study.make(tmp_path / "small")
    store = Store(study)
    model, layer = next(iter(store.frame("SELECT model_id, layer FROM directions LIMIT 1").itertuples(index=False)))
    rows, vectors = store.directions_at(model, layer)
    kept = KeptVector("mine", model, "m", None, int(layer), (2.5 * vectors[3]).astype(np.float32), "file", {})
    library = Library(study)
    library.keep(kept)
    library.keep(replace(kept, name="turned", vector=-kept.vector))
    library.keep(replace(kept, name="elsewhere", layer=int(layer) + 1))
    found = likeness(store, kept)
    assert len(found.rows) == len(rows) + 1 and found.d == vectors.shape[1]
    by_id = found.rows.set_index("direction_id")["cosine"]
    plain = vectors.astype(np.float64) @ vectors[3].astype(np.float64)
    assert by_id[rows["direction_id"]].tolist() == pytest.approx(plain.tolist(), abs=1e-6)
    turned = found.rows[found.rows["name"] == "turned"].iloc[0]
    assert turned["cosine"] == pytest.approx(-1) and turned["p_of_all"] == pytest.approx(0, abs=1e-6)
    nothing = likeness(store, replace(kept, model_id="m-none"))
    assert nothing.rows.empty and 0 < nothing.bound < 1
