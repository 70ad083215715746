"""Training the reasoner: what it learns from, that a stopped run goes on as if it had not stopped, and that it learns."""

import itertools
import json
import math

import pytest

from backend.models.loading import load_model
from precompute.train_reasoner import Recipe, TrainingError, _schedule, batches, examples, reasoner_template, train

RECIPE = Recipe(problems=(3, 3, 3, 3, 3), rank=4, alpha=8, steps=6, tokens=2000, warmup=2, max_tokens=1200, learning_rate=5e-3)


@pytest.fixture
def loaded(tiny_folder):
    return load_model(str(tiny_folder("llama")))


@pytest.fixture
def thinking(loaded):
    loaded.tokenizer.chat_template = reasoner_template(loaded.tokenizer.chat_template)
    return loaded.tokenizer


def test_an_example_is_the_reasoners_prompt_a_trace_and_the_answer(thinking):
    made = examples(thinking, RECIPE, None)
    assert len(made) == 15 and {example.source for example in made} == {"trace"}
    for example in made:
        prompt, completion = thinking.decode(example.token_ids[: example.n_prompt]), thinking.decode(example.token_ids[example.n_prompt :])
        assert prompt.endswith("<think>\n") and "\\boxed{}" in prompt
        assert completion.count("</think>") == 1 and "\\boxed{" in completion.split("</think>")[1] and completion.endswith("<|im_end|>")


def test_real_traces_are_cut_at_a_sentence_and_never_close(thinking, tmp_path):
    told = "Wait, let me see. " + "And so on it goes. " * 200
    lines = [json.dumps({"response": f"<think>Okay, number {k}. {told}</think>4"}) for k in range(9)]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    real = [example for example in examples(thinking, RECIPE, tmp_path) if example.source == "r1"]
    assert len(real) == 1  # a twentieth of all
    for example in real:
        text = thinking.decode(example.token_ids[example.n_prompt :])
        assert text.endswith(".") and "</think>" not in text and len(example.token_ids) <= RECIPE.r1_tokens


def test_a_broken_line_of_real_traces_is_named(thinking, tmp_path):
    (tmp_path / "traces.jsonl").write_text('{"response": "a. b"}\n{"other": 1}')
    with pytest.raises(TrainingError, match="line 2"):
        examples(thinking, RECIPE, tmp_path)


def test_batches_hold_every_example_once_a_pass_within_the_tokens(thinking):
    made = examples(thinking, RECIPE, None)
    source, seen = batches(made, RECIPE), []
    while len(seen) < len(made):
        batch = next(source)
        assert len(batch) == 1 or len(batch) * max(len(example.token_ids) for example in batch) <= RECIPE.tokens
        seen += batch
    assert sorted(example.token_ids for example in seen) == sorted(example.token_ids for example in made)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tiny_folder, tmp_path):
    def run(folder, say=lambda line: None, **how):
        return train(load_model(str(tiny_folder("llama"))), RECIPE, folder, folder / "adapter", say=say, **how)

    def stop(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    assert run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop, every=0)
    assert run(tmp_path / "stopped")
    whole, stopped = (json.loads((tmp_path / name / "adapter" / "training.json").read_text()) for name in ("whole", "stopped"))
    assert stopped["steps"] == whole["steps"] and whole["steps"][-1][2] < whole["steps"][0][2]
    assert whole["n_examples"] == 15 and whole["seconds"] > 0 and whole["base"] == str(tiny_folder("llama"))
    assert (tmp_path / "whole" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_checkpoint_of_another_recipe_is_refused(tiny_folder, tmp_path):
    assert not train(load_model(str(tiny_folder("llama"))), RECIPE, tmp_path, tmp_path / "out", minutes=1e-9, say=lambda line: None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(TrainingError, match="another recipe"):
        train(load_model(str(tiny_folder("llama"))), Recipe(problems=(2, 2)), tmp_path, tmp_path / "out", say=lambda line: None)


def test_the_learning_rate_rises_follows_the_cosine_and_falls_straight_to_a_tenth():
    recipe = Recipe(warmup=10, horizon=110, steps=70, cooldown=20)
    shares = [_schedule(step, recipe) for step in range(recipe.steps)]
    assert shares[0] == 0.1 and shares[9] == 1 and max(shares) == 1
    assert shares[50] == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.4 * math.pi)) / 2)
    falls = [before - after for before, after in itertools.pairwise(shares[50:])]
    assert falls == pytest.approx([falls[0]] * 19) and shares[-1] == pytest.approx(0.1)
