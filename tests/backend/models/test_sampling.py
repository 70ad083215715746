import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from backend.models.loading import load_model
from backend.models.sampling import (
    Sample,
    SampleRequest,
    SamplingError,
    SamplingParameters,
    draws,
    next_tokens,
    plain,
    sample,
    shared,
    uniform,
    uses_shared_prefixes,
)
from tests.conftest import FAMILIES, TINY_VOCABULARY

SHARED = ("llama", "qwen2", "qwen3", "gpt2", "gpt_neox")
PARAMETERS = SamplingParameters(
    temperature=4.0, top_p=0.95, max_new_tokens=20
)  # hot: tiny models are very sure of themselves


@pytest.fixture(autouse=True)
def short_pages(monkeypatch):
    monkeypatch.setattr(shared, "PAGE", 8)  # so that 20 tokens fill two pages and begin a third


def some_sequences(seed=0, lengths=(90, 41, 3)):
    chosen = random.Random(seed)
    return {
        f"s{index}": [chosen.randrange(3, TINY_VOCABULARY) for _ in range(length)]
        for index, length in enumerate(lengths)
    }


def some_requests(sequences, n, seed=0):
    """Prefixes of every length, among them 1 token and the whole sequence; every third is given tokens after it."""
    chosen, words = random.Random(seed), random.Random(seed + 1)
    requests = []
    for index in range(n):
        sequence_id = chosen.choice(list(sequences))
        length = len(sequences[sequence_id])
        given = [words.randrange(3, TINY_VOCABULARY) for _ in range(words.randint(1, 9))] if index % 3 == 0 else []
        requests.append(
            SampleRequest(
                f"r{index}",
                sequence_id,
                chosen.choice([1, 2, length, chosen.randint(1, length)]),
                seed=index,
                given=tuple(given),
            )
        )
    return requests


def by_id(samples) -> dict[str, Sample]:
    collected = list(samples)
    assert len({s.request_id for s in collected}) == len(collected)
    return {s.request_id: s for s in collected}


@pytest.fixture
def drawn_from(monkeypatch):
    """Every logits row a token was drawn from, by (seed, step): the uniform number says whose it was."""
    seen = {}

    def record(logits, uniforms, parameters):
        seen.update({u: row.clone() for u, row in zip(uniforms, logits, strict=True)})
        return next_tokens(logits, uniforms, parameters)

    for way in (shared, plain):
        monkeypatch.setattr(way, "next_tokens", record)
    return lambda seed, step: seen[uniform(seed, step)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_is_drawn_from_the_logits_of_a_plain_forward(tiny, family, drawn_from):
    loaded, sequences = tiny(family), some_sequences()
    requests = some_requests(sequences, 12)
    finished = by_id(
        sample(loaded, sequences, requests, PARAMETERS, rows=5)
    )  # rows join at different times: tails of all lengths
    assert uses_shared_prefixes(loaded) == (family in SHARED)
    for request in requests:
        prefix = [*sequences[request.sequence_id][: request.prefix_length], *request.given]
        tokens = finished[request.request_id].token_ids
        with torch.inference_mode():
            plain = loaded.model(input_ids=torch.tensor([[*prefix, *tokens]])).logits[0, len(prefix) - 1 :]
        for step in range(len(tokens)):
            assert torch.allclose(drawn_from(request.seed, step), plain[step], atol=1e-4, rtol=0), (request, step)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_order_and_resuming_change_no_token(tiny, family):
    loaded, sequences = tiny(family), some_sequences()
    requests = some_requests(sequences, 14)
    reference = by_id(sample(loaded, sequences, requests, PARAMETERS, rows=14))
    assert len({s.token_ids for s in reference.values()}) == 14
    shuffled = random.Random(4).sample(requests, len(requests))
    assert by_id(sample(loaded, sequences, shuffled, PARAMETERS, rows=4)) == reference
    rest = requests[5:7] + requests[12:]
    assert by_id(sample(loaded, sequences, rest, PARAMETERS, rows=3)) == {
        r.request_id: reference[r.request_id] for r in rest
    }


@pytest.fixture(scope="module")
def wide():
    """A Llama of the embedded model's widths, so that its products are the processor's large ones; by dtype."""

    def of(loaded, dtype):
        torch.manual_seed(0)
        config = copy.deepcopy(loaded.model.config)
        config.update(
            {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
            | {"head_dim": 64, "num_hidden_layers": 4}
        )
        return replace(loaded, model=type(loaded.model)(config).to(dtype).eval())

    return of


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_company_changes_no_token_at_the_sizes_and_in_the_types_that_studies_sample_in(tiny, wide, dtype):
    loaded, sequences = wide(tiny("llama"), dtype), some_sequences()
    requests = some_requests(sequences, 210)
    alone = by_id(sample(loaded, sequences, requests[::16], PARAMETERS, rows=5))
    together = by_id(sample(loaded, sequences, requests, PARAMETERS, rows=210))
    assert alone == {name: together[name] for name in alone}


@pytest.mark.parametrize("family", FAMILIES)
def test_given_tokens_are_read_as_if_they_ended_the_prefix(tiny, family):
    loaded, whole = tiny(family), some_sequences()["s1"]
    begin, given = whole[:25], tuple(whole[25:])
    parted = sample(
        loaded, {"s": begin}, [SampleRequest(f"r{k}", "s", 25, k, given=given) for k in range(6)], PARAMETERS
    )
    joined = sample(loaded, {"s": whole}, [SampleRequest(f"r{k}", "s", len(whole), k) for k in range(6)], PARAMETERS)
    assert by_id(parted) == by_id(joined)


def test_no_room_is_kept_for_tokens_that_are_not_written_yet(tiny):
    loaded, parameters = tiny("llama"), SamplingParameters(4.0, 1.0, max_new_tokens=4000)
    batch = shared.SharedRows(loaded, parameters, 32)
    batch.encode("s", [5, 6, 7, 8])
    for row in range(32):
        batch.add(SampleRequest(f"r{row}", "s", 4, row), 8)
    for _ in range(3 * shared.PAGE):
        batch.step()
    used = len(batch.tails.owners)
    assert len(batch.rows) <= used <= batch.tails.n_pages <= 1.5 * 3 * 32 + 1


@pytest.mark.parametrize("family", ("llama", "gemma2"))
def test_a_stopped_run_ends_at_once_and_the_rest_can_be_asked_for_again(tiny, family):
    loaded, sequences = tiny(family), some_sequences()
    requests = some_requests(sequences, 16)
    reference = by_id(sample(loaded, sequences, requests, PARAMETERS, rows=8))
    steps = iter(range(28))
    stopped = by_id(
        sample(loaded, sequences, requests, PARAMETERS, rows=8, should_stop=lambda: next(steps, None) is None)
    )
    assert 0 < len(stopped) < 16
    rest = by_id(sample(loaded, sequences, [r for r in requests if r.request_id not in stopped], PARAMETERS, rows=8))
    assert stopped | rest == reference


def test_the_model_is_left_as_it_was(tiny):
    loaded = tiny("llama")
    inputs = torch.tensor([some_sequences()["s0"]])
    before = loaded.model(input_ids=inputs).logits
    running = sample(loaded, some_sequences(), some_requests(some_sequences(), 6), PARAMETERS)
    next(running)  # in the middle of the run
    assert torch.equal(loaded.model(input_ids=inputs).logits, before)
    assert loaded.model.config._attn_implementation == "sdpa"
    assert not torch.is_inference_mode_enabled()


def test_changed_weights_are_seen(tiny_folder):
    loaded, sequences = load_model(str(tiny_folder("llama"))), some_sequences()
    requests = some_requests(sequences, 4)
    before = by_id(sample(loaded, sequences, requests, PARAMETERS))
    loaded.model.model.layers[1].mlp.up_proj.weight.mul_(0.5)
    assert by_id(sample(loaded, sequences, requests, PARAMETERS)) != before


def test_an_end_token_ends_a_row_and_is_not_part_of_it(tiny):
    loaded, sequences = tiny("llama"), some_sequences()
    requests = [SampleRequest(f"r{seed}", "s0", 30, seed) for seed in range(80)]
    finished = by_id(sample(loaded, sequences, requests, SamplingParameters(8.0, 1.0, 80)))
    ends = [s for s in finished.values() if s.finish == "eos"]
    assert len(ends) > 5 and all(loaded.tokenizer.eos_token_id not in s.token_ids for s in finished.values())
    assert all(len(s.token_ids) == 80 for s in finished.values() if s.finish == "cap")


def exact_nucleus(logits, parameters):
    """Probabilities as transformers' own processors leave them."""
    processors = LogitsProcessorList([TemperatureLogitsWarper(parameters.temperature)])
    if parameters.top_k:
        processors.append(TopKLogitsWarper(parameters.top_k))
    if parameters.top_p < 1:
        processors.append(TopPLogitsWarper(parameters.top_p))
    return processors(None, logits).double().softmax(-1)


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(0.6, 0.95, 1),
        SamplingParameters(1.0, 0.5, 1),
        SamplingParameters(1.0, 1.0, 1),
        SamplingParameters(2.0, 0.99, 1),
        SamplingParameters(1.0, 1e-9, 1),
        SamplingParameters(1.0, 0.9, 1, top_k=20),
        SamplingParameters(1.0, 1.0, 1, top_k=100),
    ],
    ids=str,
)
def test_inverting_at_evenly_spaced_numbers_gives_the_probabilities_of_transformers(parameters):
    """Flat rows hold their nucleus in more than 64 tokens, peaked ones in few: both ways of drawing are met."""
    torch.manual_seed(0)
    n_draws = 4000
    for width in (0.5, 2.0, 8.0):
        logits = torch.randn(1, 400) * width
        evenly = ((np.arange(n_draws) + 0.5) / n_draws).tolist()
        counts = np.bincount(next_tokens(logits.expand(n_draws, -1), evenly, parameters), minlength=400)
        expected = exact_nucleus(logits, parameters)[0].numpy()
        assert np.abs(counts / n_draws - expected).max() <= 1.5 / n_draws
        assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(expected))


def test_ranking_64_tokens_gives_the_same_draw_as_ranking_all(monkeypatch):
    quantiles = torch.special.ndtri(torch.linspace(0.001, 0.999, 2000))
    torch.manual_seed(0)
    logits = torch.stack(
        [quantiles[torch.randperm(2000)] * width for width in torch.linspace(0.2, 6, 300)]
    )  # no two are equal
    uniforms = np.random.default_rng(0).random(300).tolist()
    for top_p in (0.3, 0.95, 1.0):
        parameters = SamplingParameters(0.9, top_p, 1)
        few = next_tokens(logits, uniforms, parameters)
        monkeypatch.setattr(draws, "CANDIDATES", 2000)
        assert next_tokens(logits, uniforms, parameters) == few
        monkeypatch.undo()


def test_the_first_two_tokens_follow_their_exact_distribution(tiny):
    loaded, sequences = tiny("qwen2"), some_sequences()
    parameters, n = SamplingParameters(0.9, 0.7, 2), 3000
    prefix = sequences["s1"][:20]
    requests = [SampleRequest(str(seed), "s1", 20, seed) for seed in range(n)]
    pairs = [s.token_ids for s in sample(loaded, sequences, requests, parameters, rows=512)]
    with torch.inference_mode():
        first = exact_nucleus(loaded.model(input_ids=torch.tensor([prefix])).logits[:, -1], parameters)[0]
        starts = first.nonzero()[:, 0]
        after = torch.tensor([[*prefix, token] for token in starts.tolist()])
        second = first[starts] @ exact_nucleus(loaded.model(input_ids=after).logits[:, -1], parameters)
    for step, expected in enumerate((first.numpy(), second.numpy())):
        counts = np.bincount([pair[step] for pair in pairs if len(pair) > step], minlength=TINY_VOCABULARY)
        often = expected * n >= 5
        observed = [*counts[often], n - counts[often].sum()]
        wanted = [*expected[often] * n, n * (1 - expected[often].sum())]
        if wanted[-1] < 5:
            observed, wanted = observed[:-1], np.array(wanted[:-1]) * sum(observed[:-1]) / sum(wanted[:-1])
        assert len(observed) > 3
        assert chisquare(observed, wanted).pvalue > 1e-3


def test_temperature_zero_takes_the_most_probable_token(tiny):
    loaded, sequences = tiny("gpt_neox"), some_sequences()
    (greedy,) = sample(loaded, sequences, [SampleRequest("r", "s0", 25, 7)], SamplingParameters(0, 1, 12))
    inputs = torch.tensor([sequences["s0"][:25]])
    expected = loaded.model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=12
    )[0, 25:].tolist()
    assert list(greedy.token_ids) == [token for token in expected if token != loaded.tokenizer.eos_token_id]


def test_uniforms_are_uniform_and_follow_from_seed_and_step():
    drawn = np.array([uniform(seed, step) for seed in range(100) for step in range(100)])
    assert drawn.min() >= 0 and drawn.max() < 1 and len(set(drawn)) == 10_000
    assert chisquare(np.histogram(drawn, 50, (0, 1))[0]).pvalue > 1e-3
    assert uniform(2**63 - 1, 5) == uniform(2**63 - 1, 5) != uniform(2**63 - 1, 6)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (SampleRequest("r", "nowhere", 1, 0), "'nowhere'"),
        (SampleRequest("r", "s2", 0, 0), "keeps 0 tokens"),
        (SampleRequest("r", "s2", 4, 0), "has 3"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(tiny, request_, said):
    with pytest.raises(SamplingError, match=said):
        list(sample(tiny("llama"), some_sequences(), [request_], PARAMETERS))


def test_other_impossible_wishes_are_refused(tiny):
    loaded, sequences = tiny("gpt2"), some_sequences()
    request = SampleRequest("r", "s0", 5, 0)
    with pytest.raises(SamplingError, match="given twice"):
        list(sample(loaded, sequences, [request, request], PARAMETERS))
    limit = loaded.model.config.max_position_embeddings
    with pytest.raises(SamplingError, match=f"{limit} positions"):
        list(sample(loaded, sequences, [request], SamplingParameters(1, 1, limit - 4)))
    for wrong in (
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"max_new_tokens": 0},
        {"top_k": -1},
    ):
        with pytest.raises(SamplingError, match=next(iter(wrong))):
            SamplingParameters(**({"temperature": 1, "top_p": 1, "max_new_tokens": 1} | wrong))
    with pytest.raises(SamplingError, match="NaN or infinite"):
        next_tokens(torch.full((1, 100), torch.nan), [0.5], SamplingParameters(1, 1, 1))
    assert list(sample(loaded, sequences, [], PARAMETERS)) == []


def test_sampling_and_edits_of_one_model_do_not_meet_in_transformers_table_of_attention_functions(tiny):
    from backend.models.edits import addition, encode

    loaded = tiny("llama")
    ids = loaded.tokenizer("Let me think step by step.").input_ids
    request = SampleRequest("r", "s", len(ids), 5)

    def drawn() -> tuple[int, ...]:
        (one,) = sample(loaded, {"s": ids}, [request], SamplingParameters(1.0, 1.0, 8))
        return one.token_ids

    def edited() -> torch.Tensor:
        edit = addition(1, [3], torch.ones(loaded.d_model))
        return encode(loaded, ids, layers=[1]).logits([edit], [len(ids) - 1])

    first, pushed = drawn(), edited()
    assert drawn() == first and torch.equal(edited(), pushed)


@pytest.mark.parametrize(
    "other", ["qwen2", "gemma2"]
)  # llama takes the quick way beside the first, the plain way beside the second
def test_a_model_beside_reads_every_token_of_the_rows_that_ask_for_it(tiny, other, drawn_from):
    from backend.models.edits import Edit, encode
    from backend.models.residuals import record_residuals

    loaded, beside, sequences = tiny("llama"), tiny(other), some_sequences()
    add = [lambda h, theirs: h + theirs, lambda h, theirs: h - theirs]
    twice = [Edit(0, (40,), add[1], True, beside), Edit(2, (39,), add[0], False, beside)]
    edits = {"s0": [Edit(1, (80,), add[0], True, beside)], "s1": twice}
    requests = [
        SampleRequest(f"{name} {k}", name, len(ids), 10 * k + len(ids))
        for name, ids in sequences.items()
        for k in range(3)
    ]
    finished = by_id(sample(loaded, sequences, requests, PARAMETERS, edits=edits, rows=4))
    for request in requests:
        prefix = sequences[request.sequence_id]
        text = [*prefix, *finished[request.request_id].token_ids]
        read = record_residuals(beside, text, [0, 1, 2])
        alike = []
        for edit in edits.get(request.sequence_id, ()):
            theirs = read[edit.layer][list(edit.within(len(text)).positions)]
            alike.append(
                Edit(
                    edit.layer,
                    edit.within(len(text)).positions,
                    lambda h, edit=edit, theirs=theirs: edit.change(h, theirs),
                )
            )
        logits = encode(loaded, text).logits([tuple(alike)], range(len(prefix) - 1, len(text)))[0]
        for step in range(len(text) - len(prefix)):
            assert torch.allclose(drawn_from(request.seed, step), logits[step], atol=1e-4, rtol=0), (request, step)
    with pytest.raises(SamplingError, match="2048 positions"):
        list(sample(loaded, sequences, requests, SamplingParameters(1, 1, 2000), edits=edits))
