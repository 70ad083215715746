"""What `plan` says: shapes of models from a table, unknown where nothing is known, hours by published rates, and what
stages took beside what was foretold.
"""

import json

import pytest

from backend.store.costs import PUBLISHING, Cost, costs, measured, note
from backend.store.unit_files import StudyFolder
from precompute.cards import CARDS, USED, product_seconds
from precompute.estimates import Lengths, Quantities
from precompute.model_shapes import from_config, known, shape_of
from precompute.plan import does_not_fit, plan_study, publishing, taken, totals
from precompute.study import Model, Study

PAPER = {  # parameters that the repositories say
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14_770_033_664,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "Qwen/Qwen2.5-Math-1.5B": 1_543_714_304,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "google/gemma-2-2b": 2_614_341_888,
    "gpt2": 124_439_808,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
}


def study_of(name: str, **more) -> Study:
    return Study.model_validate(
        {
            "name": "planned",
            "models": [{"name": name}],
            "problems": {"per_level": 4, "levels": [1]},
            "sweep": {"layers": [1]},
        }
        | more
    )


@pytest.mark.parametrize(("name", "parameters"), PAPER.items())
def test_the_table_counts_the_parameters_of_each_model(name, parameters):
    assert known(name).parameters == parameters


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox"])
def test_parameters_counted_from_a_configuration_are_those_of_the_model(family, tiny):
    loaded = tiny(family)
    expected = sum(weight.numel() for weight in loaded.model.parameters())  # a tied unembedding counts once
    shape = from_config(loaded.model.config.to_dict(), "here")
    assert shape.parameters == expected
    assert (shape.d_model, shape.n_layers, shape.vocab_size) == (loaded.d_model, loaded.n_layers, loaded.vocab_size)


def test_experts_and_unheard_families_are_unknown():
    config = known("Qwen/Qwen3-0.6B")
    own = {"hidden_size": config.d_model, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    assert from_config(own | {"model_type": "qwen3", "num_experts": 8}, "") is None
    assert from_config(own | {"model_type": "unheard"}, "") is None
    assert from_config({"model_type": "qwen3"}, "") is None


def test_a_configuration_alone_in_the_hubs_cache_is_enough(tmp_path, monkeypatch):
    import huggingface_hub

    file = tmp_path / "config.json"
    file.write_text(
        json.dumps(
            {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2}
            | {"num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 100, "tie_word_embeddings": True}
        )
    )
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *asked, **how: str(file))
    assert shape_of(Model(name="some/model")).parameters == 100 * 8 + 2 * (4 * 64 + 3 * 128 + 16) + 8


def test_a_model_that_nothing_is_known_of_is_unknown_and_never_negative(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = study_of(
        "nobody/unheard", activations={"layers": "all"}, crosscoder={"layer": 1}, jacobian={}, lens={}, diverge=None
    )
    lines, _ = plan_study(study, StudyFolder(tmp_path / "s"))
    by_stage = {line.stage: line for line in lines}
    for stage in ("cots", "activations", "crosscoder", "splices", "lens", "jacobian"):
        assert by_stage[stage].cpu_seconds is None and by_stage[stage].memory is None
        assert set(by_stage[stage].on_cards.values()) == {None}
    assert by_stage["splices"].tokens is None and by_stage["activations"].gigabytes is None
    assert by_stage["cots"].tokens > 0 and by_stage["chunks"].cpu_seconds > 0
    assert totals([*lines, publishing(lines, study)]).cpu_seconds is None


def test_problems_in_a_file_that_is_not_here_are_as_many_as_the_study_says(tmp_path):
    file = {"math": str(tmp_path / "away"), "levels": [2]}
    lines, _ = plan_study(study_of("gpt2", problems=file | {"limit": 7}), StudyFolder(tmp_path / "s"))
    assert {line.stage: line.units for line in lines}["cots"] == 7
    lines, _ = plan_study(study_of("gpt2", problems=file), StudyFolder(tmp_path / "s"))
    assert {line.stage: line.units for line in lines}["cots"] is None


def quantities(study: Study, **more) -> Quantities:
    shape = known("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B")
    given = (shape.parameters, shape.d_model, shape.n_layers, 1e11, {}, shape.vocab_size, shape)
    return Quantities(study, Lengths(2000, 20, False), 10, *given)


def test_hours_of_passes_follow_the_published_rate_and_memory_the_keys_and_values():
    study = study_of("x", sampling={"max_new_tokens": 4096}, engine={"rows": 128, "workers": 1})
    of = quantities(study)
    line = of.line("activations", 1, tokens=1e6, by="forward", gigabytes=0)
    for card in CARDS:
        passes = product_seconds(card, 2e6 * of.parameters)
        assert passes == pytest.approx(2e6 * of.parameters / card.float32 / USED)
        assert line.on_cards[card.name] * 3600 == pytest.approx(passes, abs=10)
    sampled = of.line("cots", 1, tokens=1e6, by="sampling", steps=of.steps(1e6, 1), gigabytes=0)
    kept = 128 * (4096 + of.lengths.prompt) * 2 * 48 * 8 * 128 * 4e-9
    assert sampled.memory > kept + 4 * 14.77 > 260
    half = quantities(study.model_copy(update={"sampling": study.sampling.model_copy(update={"dtype": "bfloat16"})}))
    fewer = half.line("cots", 1, tokens=1e6, by="sampling", steps=half.steps(1e6, 1), gigabytes=0)
    assert fewer.memory < 0.55 * sampled.memory and fewer.on_cards["H200"] < sampled.on_cards["H200"]
    (h200, a100, small) = does_not_fit([sampled])
    assert "H200" in h200 and "cots" in a100 and "4090" in small and does_not_fit([]) == []


def test_what_stages_took_is_kept_and_set_beside_the_plan(tmp_path):
    cost = Cost("r1", "cots", 4, 8.0, 16.0, "cpu")
    note(tmp_path, cost)
    note(tmp_path, Cost("r2", "cots", 2, 4.0, 5.0, "cpu"))
    note(tmp_path, Cost("r2", PUBLISHING, 3, 0.5, 0.6, "cpu"))
    with (tmp_path / "costs.jsonl").open("a") as file:
        file.write('{"run_id": "r3", "sta')  # a machine that went off
    assert costs(tmp_path)[0] == cost and len(costs(tmp_path)) == 3
    took = measured(tmp_path)
    assert (took["cots"].units, took["cots"].cpu_seconds, took["cots"].seconds) == (6, 12.0, 21.0)
    line = quantities(study_of("x")).line("cots", 12, gigabytes=0)
    assert taken(line, took) == pytest.approx(24 / 60)
    assert taken(line, {}) is None and measured(tmp_path / "nowhere") == {}
