"""Training the reasoner: what it learns from, that a stopped run goes on as if it had not stopped,
and that it learns."""

import itertools
import json
import math
from dataclasses import replace

import pytest

from backend.cot.traces import Manner, trace
from backend.models.loading import load_model
from precompute.train_reasoner import (
    Phase,
    Recipe,
    TrainingError,
    _schedule,
    batches,
    examples,
    problems_of,
    reasoner_template,
    train,
)

SHORT = {"cooldown": 1, "horizon": 6, "warmup": 1, "learning_rate": 5e-3}
FIRST = Phase(7, (3, 3, 3, 3, 3), steps=3, manner=Manner(parts=0.0), **SHORT)
RECIPE = Recipe(phases=(FIRST, Phase(8, (2, 2), steps=3, **SHORT)), rank=4, alpha=8, tokens=2000, max_tokens=1200)


@pytest.fixture
def loaded(tiny_folder):
    return load_model(str(tiny_folder("llama")))


def run(recipe, tiny_folder, folder, say=lambda line: None, **how):
    return train(load_model(str(tiny_folder("llama"))), recipe, folder, folder / "adapter", say=say, **how)


def training_of(folder):
    return json.loads((folder / "adapter" / "training.json").read_text())


@pytest.fixture(scope="module")
def whole(tiny_folder, tmp_path_factory):
    """The folder of a training of all phases that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(RECIPE, tiny_folder, folder)
    return folder


@pytest.fixture
def thinking(loaded):
    loaded.tokenizer.chat_template = reasoner_template(loaded.tokenizer.chat_template)
    return loaded.tokenizer


def test_an_example_is_the_reasoners_prompt_a_trace_and_the_answer(thinking):
    made = examples(thinking, RECIPE, FIRST, None)
    assert len(made) == 15 and {example.source for example in made} == {"trace"}
    for example in made:
        prompt, completion = (
            thinking.decode(example.token_ids[: example.n_prompt]),
            thinking.decode(example.token_ids[example.n_prompt :]),
        )
        assert prompt.endswith("<think>\n") and "\\boxed{}" in prompt
        assert (
            completion.count("</think>") == 1
            and "\\boxed{" in completion.split("</think>")[1]
            and completion.endswith("<|im_end|>")
        )


def test_real_traces_are_cut_at_a_sentence_and_never_close(thinking, tmp_path):
    told = "Wait, let me see. " + "And so on it goes. " * 200
    lines = [json.dumps({"response": f"<think>Okay, number {k}. {told}</think>4"}) for k in range(9)]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    real = [example for example in examples(thinking, RECIPE, FIRST, tmp_path) if example.source == "r1"]
    assert len(real) == 1  # a twentieth of all
    for example in real:
        text = thinking.decode(example.token_ids[example.n_prompt :])
        assert text.endswith(".") and "</think>" not in text and len(example.token_ids) <= RECIPE.r1_tokens


def test_a_broken_line_of_real_traces_is_named(thinking, tmp_path):
    (tmp_path / "traces.jsonl").write_text('{"response": "a. b"}\n{"other": 1}')
    with pytest.raises(TrainingError, match="line 2"):
        examples(thinking, RECIPE, FIRST, tmp_path)


def test_batches_hold_every_example_once_a_pass_within_the_tokens(thinking):
    made = examples(thinking, RECIPE, FIRST, None)
    recipe = replace(RECIPE, phases=(replace(FIRST, steps=100),))
    source, seen = batches([made], recipe), []
    while len(seen) < len(made):
        _, batch = next(source)
        assert len(batch) == 1 or len(batch) * max(len(example.token_ids) for example in batch) <= RECIPE.tokens
        seen += batch
    assert sorted(example.token_ids for example in seen) == sorted(example.token_ids for example in made)


def test_the_second_phase_follows_the_first_with_its_own_examples_and_rate(thinking):
    made = [examples(thinking, RECIPE, phase, None) for phase in RECIPE.phases]
    steps = list(batches(made, RECIPE))
    assert len(steps) == RECIPE.steps == 6
    for number, (rate, batch) in enumerate(steps):
        assert set(batch) <= set(made[number // 3]) and rate == pytest.approx(
            5e-3 * _schedule(number % 3, RECIPE.phases[number // 3])
        )


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(whole, tiny_folder, tmp_path):
    def stop(line):
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(RECIPE, tiny_folder, tmp_path, stop, every=0)
    assert run(RECIPE, tiny_folder, tmp_path)
    unbroken, stopped = training_of(whole), training_of(tmp_path)
    assert stopped["steps"] == unbroken["steps"] and unbroken["steps"][-1][2] < unbroken["steps"][0][2]
    assert unbroken["n_examples"] == 19 and unbroken["seconds"] > 0 and unbroken["base"] == str(tiny_folder("llama"))
    assert (whole / "adapter" / "adapter_model.safetensors").is_file()


def test_the_checkpoint_of_a_recipes_first_phases_is_gone_on_from(whole, tiny_folder, tmp_path):
    assert run(replace(RECIPE, phases=RECIPE.phases[:1]), tiny_folder, tmp_path)
    assert len(training_of(tmp_path)["steps"]) == 3
    assert run(RECIPE, tiny_folder, tmp_path)
    assert training_of(tmp_path)["steps"] == training_of(whole)["steps"]


def test_drills_are_three_true_calculations_and_their_answer_is_the_last():
    phase = replace(FIRST, problems=(), drills=20)
    drills = problems_of(phase)
    assert len({drill.question for drill in drills}) == 20 and drills == problems_of(phase)
    for drill in drills:
        lines = [line.split(" = ") for line in drill.solution.splitlines()]
        assert (
            len(lines) == 3
            and all(expression in drill.question for expression, _ in lines)
            and drill.answer == lines[-1][1]
        )
        assert trace(drill, seed=1, manner=phase.manner).response.count(f"{{{drill.answer}}}") == 1


def test_a_checkpoint_of_another_recipe_is_refused(tiny_folder, tmp_path):
    assert not train(
        load_model(str(tiny_folder("llama"))), RECIPE, tmp_path, tmp_path / "out", minutes=1e-9, say=lambda line: None
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(TrainingError, match="another recipe"):
        train(
            load_model(str(tiny_folder("llama"))),
            replace(RECIPE, rank=2),
            tmp_path,
            tmp_path / "out",
            say=lambda line: None,
        )


def test_the_learning_rate_rises_follows_the_cosine_and_falls_straight_to_a_tenth():
    recipe = Phase(1, (1,), warmup=10, horizon=110, steps=70, cooldown=20)
    shares = [_schedule(step, recipe) for step in range(recipe.steps)]
    assert shares[0] == 0.1 and shares[9] == 1 and max(shares) == 1
    assert shares[50] == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.4 * math.pi)) / 2)
    falls = [before - after for before, after in itertools.pairwise(shares[50:])]
    assert falls == pytest.approx([falls[0]] * 19) and shares[-1] == pytest.approx(0.1)
