"""What a model is asked, on chat templates of every manner: short ones of our own, each after the rule of the model it
is named for.

A template is judged by what it renders: nothing here looks at its source.
"""

import json
from dataclasses import replace

import pytest

from backend.cot.answers import extract_answer
from backend.cot.prompts import (
    BOXED,
    BUILT_IN,
    EXAMPLES,
    FORCED_ANSWER,
    INSTRUCTION,
    WORDING,
    Prompt,
    PromptError,
    answering_prompt,
    asked,
    cot_prompt,
    forced_suffix,
    of_row,
    usual,
)
from backend.cot.thoughts import TAGS

QUESTION = "Tom has 3 apples and buys 4 more. How many apples does Tom have?"
TURNS = (
    "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c %}{% set c ="
    " c.split('</think>')[-1] %}{% endif %}<|{{ m.role }}|>{{ c }}<|end|>\n{% endfor %}"
)
OPENING = "{% if add_generation_prompt %}<|assistant|>"
INSTRUCT_2507 = TURNS + OPENING + "{% endif %}"  # names </think> for past turns alone
R1 = TURNS + OPENING + "<think>\n{% endif %}"
QWEN3 = (
    TURNS
    + OPENING
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
EXAONE = TURNS + OPENING + "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
V31 = TURNS + OPENING + "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
MAGISTRAL = "Think between [THINK] and [/THINK], then answer.\n" + INSTRUCT_2507
GPT_OSS = (
    "# Valid channels: analysis, commentary, final. Reasoning: {{ reasoning_effort or 'medium' }}\n" + INSTRUCT_2507
)
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + INSTRUCT_2507
)
NEEDS_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('a system turn is needed') }}{% endif %}" + INSTRUCT_2507
)
STRANGER = (
    "{% if mode is defined and mode not in ['a'] %}{{ raise_exception('no mode ' ~ mode) }}{% endif %}" + INSTRUCT_2507
)
GEMMA4 = TURNS + OPENING + "{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}{% endif %}"
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else"
    " %}{{ m.content }}{% endif %}{% endfor %}{% if enable_thinking is false %}<think></think>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    from backend.models.loading import load_tokenizer

    return load_tokenizer(str(tiny_folder("llama")))


@pytest.fixture
def with_template(tokenizer, monkeypatch):
    def given(template, name="some/model"):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        monkeypatch.setattr(tokenizer, "name_or_path", name)
        return tokenizer

    return given


def test_a_chat_model_gets_its_template_with_question_and_instruction(with_template):
    prompt = cot_prompt(with_template(INSTRUCT_2507), QUESTION)
    assert prompt.endswith(f"<|user|>{QUESTION}\n\n{INSTRUCTION}<|end|>\n<|assistant|>")


def test_worked_examples_come_first_and_hold_their_right_answers(with_template):
    prompt = cot_prompt(with_template(INSTRUCT_2507), QUESTION)
    for posed, solved in EXAMPLES:
        assert prompt.index(posed) < prompt.index(solved) < prompt.index(QUESTION)
    assert [extract_answer(solved) for _, solved in EXAMPLES] == ["9", "18"]


def test_all_of_the_prompt_but_question_and_template_is_in_its_wording(with_template):
    prompt = cot_prompt(with_template(INSTRUCT_2507), QUESTION)
    for part in (*WORDING.split("\n"), QUESTION, "<|user|>", "<|assistant|>", "<|end|>"):
        prompt = prompt.replace(part, "")
    assert prompt.strip() == ""
    assert BOXED.wording == WORDING  # as stored studies have it in their units


@pytest.mark.parametrize(
    ("template", "arguments", "ending", "closing", "manner"),
    [
        (INSTRUCT_2507, {}, "<|assistant|>", None, "none"),
        (R1, {}, "<|assistant|><think>\n", "</think>", "template"),
        (QWEN3, {}, "<|assistant|><think>\n", "</think>", "opened"),
        (QWEN3, {"enable_thinking": True}, "<|assistant|><think>\n", "</think>", "opened"),
        (QWEN3, {"enable_thinking": False}, "<|assistant|><think>\n\n</think>\n\n", None, "off"),
        (EXAONE, {}, "<|assistant|><think>\n\n</think>\n\n", None, "off"),
        (EXAONE, {"enable_thinking": True}, "<|assistant|><think>\n", "</think>", "template"),
        (V31, {}, "<|assistant|></think>", None, "off"),
        (V31, {"thinking": True}, "<|assistant|><think>", "</think>", "template"),
        (MAGISTRAL, {}, "<|assistant|>[THINK]", "[/THINK]", "opened"),
        (GPT_OSS, {"reasoning_effort": "low"}, "<|assistant|><|channel|>analysis<|message|>", TAGS[-1].close, "opened"),
        (GEMMA4, {}, "<|assistant|><|channel>thought\n<channel|>", None, "off"),
        (GEMMA4, {"enable_thinking": True}, "<|assistant|><|channel>thought\n", "<channel|>", "opened"),
        (MARKED, {}, "<think>\n", "</think>", "opened"),
        *(
            (
                TURNS + OPENING + "{{ '" + tags.open + "' }}{% endif %}",
                {},
                f"<|assistant|>{tags.open}",
                tags.close,
                "template",
            )
            for tags in TAGS
        ),
    ],
)
def test_a_thought_is_opened_once_by_the_template_or_after_it_and_only_where_the_model_thinks(
    with_template, template, arguments, ending, closing, manner
):
    made = asked(with_template(template), QUESTION, replace(BOXED, arguments=tuple(arguments.items())))
    assert made.text.endswith(ending) and made.text.count(QUESTION) == 1
    assert (made.closing, made.manner) == (closing, manner)
    assert (EXAMPLES[0][0] in made.text) == (closing is None)  # examples are for models that do not think


def test_arguments_of_the_template_can_be_given_by_name(with_template):
    tokenizer = with_template(QWEN3)
    assert cot_prompt(tokenizer, QUESTION, enable_thinking=False) == cot_prompt(
        tokenizer, QUESTION, replace(BOXED, arguments=(("enable_thinking", False),))
    )
    assert "low" in cot_prompt(with_template(GPT_OSS), QUESTION, reasoning_effort="low")


def test_words_of_ones_own_about_tags_open_no_thought(with_template):
    """What a person asks for is the model's to write; a template's own words are what it was trained under."""
    own = Prompt(
        "own", "Think between <think> and </think>: {question}", system="First <reasoning>, then </reasoning>."
    )
    assert asked(with_template(INSTRUCT_2507), "What does <think> mean?", own).manner == "none"


def test_a_study_can_say_that_a_model_thinks_where_its_template_does_not_show_it(with_template):
    """R1 distillations whose template is older than its opening tag render nothing of it,
    like models that never think."""
    assert asked(with_template(INSTRUCT_2507), QUESTION, replace(BOXED, thinks=True)).text.endswith(
        "<|assistant|><think>\n"
    )
    assert asked(with_template(QWEN3), QUESTION, replace(BOXED, thinks=False)).text.endswith("<|assistant|>")
    with pytest.raises(PromptError, match="thinks = false is set, but its chat template opens the thought itself"):
        asked(with_template(R1), QUESTION, replace(BOXED, thinks=False))
    with pytest.raises(PromptError, match=r"closes the thought itself. It reads the arguments enable_thinking"):
        asked(with_template(EXAONE), QUESTION, replace(BOXED, thinks=True))


@pytest.mark.parametrize(
    ("template", "prompt", "words"),
    [
        (
            NEEDS_SYSTEM,
            BOXED,
            r"some/model: its chat template refuses prompt boxed \(turns user\): a system turn is needed",
        ),
        (
            GEMMA,
            replace(BOXED, system="Be brief."),
            r"turns system, user\): System role not supported.*put its words into the prompt",
        ),
        (STRANGER, replace(BOXED, arguments=(("mode", "b"),)), r"turns user; mode = 'b'\): no mode b"),
        (
            QWEN3,
            replace(BOXED, arguments=(("enable_thinkng", False),)),
            "reads no argument enable_thinkng; it reads enable_thinking",
        ),
        ("{% for %}", BOXED, "some/model: its chat template"),
        ("{{ messages[0].content + 1 }}", BOXED, "some/model: its chat template refuses prompt boxed"),
        ("<|assistant|>", BOXED, "does not hold the question as it was asked"),
        ("{{ messages[-1].content[:20] }}", BOXED, "does not hold the question"),
        ("{{ messages[-1].content }}", BOXED, "some/model: its chat template drops earlier turns"),
        ("{{ messages[-1].content }}", Prompt("own", "{question}", system="Be brief."), "drops earlier turns"),
        ({"rag": QWEN3, "tool_use": QWEN3}, BOXED, "several chat templates and none called default: rag, tool_use"),
        ({"default": QWEN3}, replace(BOXED, template="rag"), "no chat template called 'rag': it has default"),
        (QWEN3, replace(BOXED, template="rag"), "no chat template called 'rag': it has one without a name"),
        (
            None,
            replace(BOXED, arguments=(("enable_thinking", False),)),
            "no chat template, so enable_thinking cannot be set",
        ),
    ],
)
def test_a_template_that_cannot_ask_is_refused_in_words_that_name_the_model(with_template, template, prompt, words):
    with pytest.raises(PromptError, match=words):
        asked(with_template(template), QUESTION, prompt)


def test_a_question_that_the_template_changes_is_refused(with_template):
    with pytest.raises(PromptError, match="does not hold the question as it was asked"):
        asked(with_template("{% for m in messages %}{{ m.content | e }}\n{% endfor %}"), "Is 3 < 4?", BUILT_IN["plain"])


def test_one_of_several_templates_is_chosen_by_its_name(with_template):
    tokenizer = with_template({"default": INSTRUCT_2507, "thinking": R1})
    assert asked(tokenizer, QUESTION).manner == "none"
    assert asked(tokenizer, QUESTION, replace(BOXED, template="thinking")).manner == "template"


@pytest.mark.parametrize("where", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_template_counts_wherever_the_model_keeps_it(tiny_folder, tmp_path, where):
    import shutil

    from backend.models.loading import load_tokenizer

    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    (folder / "chat_template.jinja").unlink()
    if where.endswith(".json"):
        config = json.loads((folder / where).read_text())
        (folder / where).write_text(json.dumps(config | {"chat_template": R1}))
    else:
        (folder / where).write_text(R1)
    tokenizer = load_tokenizer(str(folder))
    assert asked(tokenizer, QUESTION).manner == "template"
    assert tokenizer.name_or_path == str(folder)


def test_a_base_model_gets_plain_text_after_its_own_first_token(with_template, monkeypatch):
    tokenizer = with_template(None)
    prompt = cot_prompt(tokenizer, QUESTION)
    assert prompt.startswith("Problem: ")
    assert prompt.endswith(f"Problem: {QUESTION}\n\n{INSTRUCTION}\n\nSolution:")
    assert prompt.count("Solution:") == len(EXAMPLES) + 1
    assert (
        cot_prompt(tokenizer, QUESTION, BUILT_IN["plain"]) == f"Solve: {QUESTION}\n\n"
    )  # or it would go on with the question
    assert (
        cot_prompt(tokenizer, QUESTION, Prompt("qa", "Q: {question}\nA:", system="Sums."))
        == f"Sums.\n\nQ: {QUESTION}\nA:"
    )
    shown = cot_prompt(tokenizer, QUESTION, Prompt("qa", "Q: {question}\nA:", worked=True))
    assert shown.startswith(f"Q: {EXAMPLES[0][0]}\nA: {EXAMPLES[0][1]}\n\n") and shown.endswith(f"Q: {QUESTION}\nA:")


def test_a_tokenizer_that_puts_a_token_first_has_it_in_the_plain_text():
    class WithBos:
        chat_template, bos_token, bos_token_id = None, "<s>", 1

        def __call__(self, text):
            from types import SimpleNamespace

            return SimpleNamespace(input_ids=[1])

    assert cot_prompt(WithBos(), QUESTION, BUILT_IN["steps"]) == f"<s>Solve step-by-step: {QUESTION}\n\n"


@pytest.mark.parametrize("text", ["Solve it.", "{question} {question}"])
def test_a_prompt_holds_the_question_once(text):
    with pytest.raises(PromptError, match=r"must hold \{question\} exactly once"):
        Prompt("own", text)


def test_braces_of_a_prompt_are_its_own():
    assert Prompt("own", "{question} Answer in \\boxed{}.").request("2 + {x}?") == "2 + {x}? Answer in \\boxed{}."


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        (INSTRUCT_2507, "Which?<|end|>\n<|assistant|>"),
        (R1, "<|assistant|><think>\n</think>\n\n"),
        (QWEN3, "<|assistant|><think>\n</think>\n\n"),
        (EXAONE, "<|assistant|><think>\n\n</think>\n\n"),
        (None, "Which?\n\n"),
    ],
)
def test_an_answer_at_once_comes_after_a_closed_thought(with_template, template, ending):
    assert answering_prompt(with_template(template), "Which?").endswith(ending)


@pytest.mark.parametrize(
    ("text", "closing", "suffix"),
    [
        ("So 7.", None, f"\n\n{FORCED_ANSWER}"),
        ("So 7.\n", None, f"\n{FORCED_ANSWER}"),
        ("So 7.\n\n", None, FORCED_ANSWER),
        ("Begin with <think>. So 7.\n\n", None, FORCED_ANSWER),
        ("<think>\nSo 7.", "</think>", f"\n</think>\n\n{FORCED_ANSWER}"),
        ("<think>\nSo 7.\n\n", "</think>", f"</think>\n\n{FORCED_ANSWER}"),
        ("<think>\nSo 7.\n</think>\n\n", "</think>", FORCED_ANSWER),
        ("[THINK]So 7.", "[/THINK]", f"\n[/THINK]\n\n{FORCED_ANSWER}"),
    ],
)
def test_an_answer_is_forced_on_a_new_paragraph_outside_the_think_tags(text, closing, suffix):
    assert forced_suffix(text, closing) == suffix


def test_a_forced_answer_reads_as_any_boxed_one():
    assert extract_answer(FORCED_ANSWER + r"\frac{1}{2}}. That is all.") == r"\frac{1}{2}"
    assert extract_answer(FORCED_ANSWER + "7 and so on") is None


# A study's prompts, as its store has them


def rows_of(*prompts, models=("a", "b")):
    return [
        {
            "prompt_name": prompt.name,
            "model_id": model,
            "wording": json.dumps(prompt.wording),
            "settings": json.dumps(prompt.settings),
        }
        for prompt in prompts
        for model in models
    ]


OWN = Prompt("own", "{question} Go.", system="Be brief.", worked=True)


@pytest.mark.parametrize(
    "prompt",
    [
        *BUILT_IN.values(),
        OWN,
        replace(BOXED, arguments=(("enable_thinking", False),)),
        replace(OWN, template="rag", thinks=True),
        replace(BOXED, name="like-boxed", system="Be brief."),
    ],
    ids=lambda prompt: prompt.name,
)
def test_a_prompt_is_the_same_again_from_its_row(prompt):
    assert of_row(rows_of(prompt)[0]) == prompt


def test_where_nobody_says_models_are_asked_under_what_the_study_asked_all_of_them():
    plain, steps = BUILT_IN["plain"], BUILT_IN["steps"]
    assert usual([], ["a", "b"]) == {"a": BOXED, "b": BOXED}  # a study of before there were prompts
    assert usual(rows_of(plain, BOXED), ["a", "b"]) == {"a": BOXED, "b": BOXED}
    assert usual(rows_of(steps, plain), ["a", "b"]) == {"a": plain, "b": plain}
    assert usual([*rows_of(plain, models=("a",)), *rows_of(steps)], ["a", "b"]) == {"a": steps, "b": steps}
    own = replace(plain, arguments=(("enable_thinking", False),))
    assert usual([*rows_of(own, models=("a",)), *rows_of(plain, models=("b",))], ["a", "b"]) == {"a": own, "b": plain}
