"""A study file is refused with the key, the value and what is allowed; what passes is what was written."""

import json
import tomllib
from pathlib import Path

import pytest

from precompute.study import Crosscoder, Study, StudyError, load_study, stored_study

QUICK = Path(__file__).parents[2] / "studies" / "quick.toml"


def refused(tmp_path: Path, old: str, new: str) -> str:
    text = QUICK.read_text()
    assert old in text
    file = tmp_path / "study.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(StudyError) as error:
        load_study(file)
    return str(error.value)


@pytest.mark.parametrize("file", sorted(QUICK.parent.glob("*.toml")), ids=lambda file: file.name)
def test_the_shipped_studies_are_valid(file):
    assert load_study(file).name == file.stem


def test_an_unknown_key_is_named_with_its_neighbours(tmp_path):
    message = refused(tmp_path, "forced = 10", "forcd = 10")
    assert "rollouts.forcd: there is no such key" in message and "forced" in message and "study.toml" in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("temperature = 0.6", "temperature = 0", "sampling.temperature = 0: Input should be greater than 0"),
        ("points = 21", "points = 20", "points must be odd"),
        (
            "layers = [15]",
            "layers = [14]",
            r"sweep.layers has [14], which activations.layers [5, 10, 15, 20, 25, 29] does not have",
        ),
        ("per_level = 8", "", "exactly one of per_level, gsm8k, math"),
        ('name = "quick"', 'name = "../quick"', "name = '../quick'"),
        ("[engine]", '[engine]\ndevice = "gpu"', "engine.device = 'gpu': there is no such device; allowed: cpu, cuda"),
        ('"anchor", "chunk"', '"anchor", "end"', "allowed are anchor, chunk"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(tmp_path, old, new, words):
    assert words in refused(tmp_path, old, new)


def test_keys_that_contradict_each_other_are_told_without_the_whole_file(tmp_path):
    assert "  the file: sweep.layers has [14]" in refused(tmp_path, "layers = [15]", "layers = [14]")
    assert "  problems: exactly one of per_level" in refused(tmp_path, "per_level = 8", "")


def test_a_list_with_a_wrong_part_is_told_by_that_part_alone(tmp_path):
    message = refused(tmp_path, "layers = [15]", "layers = [-1]")
    assert [line.split(" = ")[0].strip() for line in message.splitlines()[1:]] == ["sweep.layers.0"]


def test_a_half_precision_model_is_refused(tmp_path):
    message = refused(
        tmp_path,
        'name = "embedded:SmolLM2-135M-Instruct"',
        'name = "embedded:SmolLM2-135M-Instruct"\ndtype = "bfloat16"',
    )
    assert "models.0.dtype = 'bfloat16'" in message and "'float32'" in message


def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text("name = ")
    with pytest.raises(StudyError, match=r"study.toml is not TOML"):
        load_study(file)


def test_betas_are_symmetric_about_an_exact_zero():
    betas = Study.model_validate(tomllib.loads(QUICK.read_text())).sweep.betas
    assert (
        len(betas) == 21
        and betas[10] == 0.0
        and betas == tuple(-beta for beta in reversed(betas))
        and betas[-1] == 10.0
    )


PAIR = [{"name": "a", "role": "base"}, {"name": "b", "role": "distilled"}]


def with_crosscoder(models=PAIR, **keys) -> Study:
    content = {
        "name": "s",
        "models": models,
        "problems": {"per_level": 1},
        "sweep": {"layers": [1]},
        "crosscoder": {"layer": 1, **keys},
    }
    return Study.model_validate(content)


def test_a_crosscoder_compares_the_base_with_the_distilled_model_in_this_order():
    assert [model.name for model in with_crosscoder(models=PAIR[::-1]).pair] == ["a", "b"]
    assert [model.name for model in with_crosscoder(models=[*PAIR, {"name": "c"}]).pair] == ["a", "b"]
    assert [model.name for model in with_crosscoder(models=[{"name": "c"}]).pair] == ["c"]  # an autoencoder


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"models": [{"name": "a"}, {"name": "b"}]}, "one of role distilled, or one model at all; found model, model"),
        ({"models": [*PAIR, {"name": "c", "role": "base"}]}, "found base, distilled, base"),
        ({"dictionary": "d", "steps": 5, "k": 4}, "is not trained: leave out k, steps"),
        ({"scale": [1.0, 2.0]}, "scale is that of a dictionary from a file"),
        ({"kind": "l1", "k": 4}, "l1 has no k"),
        ({"penalty": 1.0}, "batchtopk has no penalty"),
        ({"k": 65, "n_features": 64}, "k is 65, more than the 64 features"),
    ],
)
def test_a_crosscoder_that_contradicts_itself_is_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        with_crosscoder(**keys)


@pytest.mark.parametrize(
    "crosscoder", [{}, {"kind": "l1"}, {"dictionary": "d"}, {"kind": "l1", "penalty": 3.0, "steps": 7}]
)
def test_a_study_that_a_run_stored_reads_back(crosscoder):
    study = load_study(QUICK)
    study = study.model_copy(update={"crosscoder": (Crosscoder(layer=3, **crosscoder), Crosscoder(layer=4))})
    assert stored_study(study.model_dump_json()) == study


def test_a_study_that_was_stored_with_one_table_is_one_of_one():
    one, several = with_crosscoder(k=4), with_crosscoder(k=4).model_dump(mode="json")
    assert one.crosscoder == (Crosscoder(layer=1, k=4),)
    stored = several | {"crosscoder": several["crosscoder"][0]}  # as it was before there could be several
    assert stored_study(json.dumps(stored)) == one and stored_study(json.dumps(stored | {"crosscoder": None})) == (
        one.model_copy(update={"crosscoder": ()})
    )


def test_several_crosscoders_are_several_tables(tmp_path):
    file = tmp_path / "study.toml"
    text = QUICK.read_text(encoding="utf-8").replace(
        "[engine]", "[[crosscoder]]\nlayer = 3\n\n[[crosscoder]]\nlayer = 7\n\n[engine]"
    )
    file.write_text(text)
    assert [one.layer for one in load_study(file).crosscoder] == [3, 7]
    file.write_text(text.replace("layer = 7", "layer = 7\nk = 0"))
    with pytest.raises(StudyError, match=r"crosscoder\.1\.k = 0"):
        load_study(file)
    file.write_text(text.replace("layer = 7", "layer = 3"))
    with pytest.raises(StudyError, match="two of them would be the same dictionary"):
        load_study(file)


@pytest.mark.parametrize("part", ["geometry"])
def test_what_works_on_a_part_that_the_study_has_not_is_told_which(part):
    without = load_study(QUICK).model_copy(update={part: None})
    with pytest.raises(StudyError, match=rf"no \[{part}\]"):
        getattr(without, f"its_{part}")


def test_an_unknown_key_of_a_crosscoder_is_named_with_its_neighbours(tmp_path):
    message = refused(tmp_path, "[engine]", "[crosscoder]\nlayer = 15\nfeatures = 64\n\n[engine]")
    assert "crosscoder.features: there is no such key" in message and "n_features" in message


PLAIN = {"prompts": [{"name": "plain"}, {"name": "steps"}, {"name": "own", "text": "{question} Think."}]}


def prompted(models=PAIR, **keys) -> Study:
    return Study.model_validate(
        {"name": "s", "models": models, "problems": {"per_level": 1}, "sweep": {"layers": [1]}, **keys}
    )


def test_a_study_without_prompts_asks_under_the_usual_one_alone():
    study = prompted()
    assert [[prompt.name for prompt in study.prompts_of(model)] for model in study.models] == [["boxed"], ["boxed"]]
    assert study.n_asked == 2


def test_any_prompt_goes_with_any_model_and_by_default_all_with_all():
    assert prompted(**PLAIN).n_asked == 6
    study = prompted(models=[PAIR[0] | {"prompts": ["steps", "plain"]}, PAIR[1] | {"prompts": ["own"]}], **PLAIN)
    assert [[prompt.name for prompt in study.prompts_of(model)] for model in study.models] == [
        ["plain", "steps"],
        ["own"],
    ]


def test_arguments_of_a_chat_template_are_a_models_or_a_prompts_and_the_prompts_go_before():
    model = {
        "name": "a",
        "arguments": {"enable_thinking": True, "reasoning_effort": "low"},
        "template": "rag",
        "thinks": True,
    }
    study = prompted(
        models=[model],
        prompts=[{"name": "boxed"}, {"name": "off", "like": "boxed", "arguments": {"enable_thinking": False}}],
    )
    on, off = study.prompts_of(study.models[0])
    assert on.settings == {
        "arguments": {"enable_thinking": True, "reasoning_effort": "low"},
        "template": "rag",
        "thinks": True,
    }
    assert off.settings["arguments"] == {"enable_thinking": False, "reasoning_effort": "low"}
    assert off.wording == on.wording and prompted().prompts_of(prompted().models[0])[0].settings == {}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prompts": [{"name": "own"}]}, "it needs text or like"),
        ({"prompts": [{"name": "own", "text": "Solve it."}]}, r"must hold \{question\} exactly once"),
        (
            {"prompts": [{"name": "own", "like": "stpes"}]},
            "no built-in prompt 'stpes' to be like; there are boxed, plain, steps",
        ),
        ({"prompts": [{"name": "plain", "text": "{question}"}]}, "plain is a built-in prompt and has its text"),
        ({"prompts": [{"name": "published", "text": "{question}"}]}, "prompts of imported CoTs"),
        ({"prompts": [{"name": "a.b", "text": "{question}"}]}, "String should match pattern"),
        ({"prompts": [{"name": "plain"}, {"name": "plain"}]}, "prompts has plain twice"),
        (
            {"models": [{"name": "a", "prompts": ["steps"]}]},
            "models.prompts of a has 'steps', and the study's prompts are boxed",
        ),
        ({"models": [{"name": "a", "arguments": {"tools": ["x"]}}]}, "models.0.arguments.tools"),
    ],
)
def test_prompts_that_contradict_themselves_are_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        prompted(**keys)


def test_an_unknown_key_of_a_prompt_is_named_with_its_neighbours(tmp_path):
    message = refused(tmp_path, "[engine]", '[[prompts]]\nname = "own"\ntxt = "{question}"\n\n[engine]')
    assert "prompts.0.txt: there is no such key" in message and "text" in message
