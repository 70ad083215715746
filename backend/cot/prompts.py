r"""What a model is asked: a prompt, rendered through the model's own chat template and judged by what comes out.

1. A prompt is a text that holds the question. With a chat template it is the user's turn; without one (base models) it
   is plain text.
2. What the template does with thinking is read off a rendered probe, never off the template's source: what stands
   between the request and the model's first token opens a thought (R1), closes one (thinking is switched off), or is
   silent. Where it is silent, the model thinks by itself if switching thinking off closes a thought (Qwen3), or if the
   template's own words before the request tell it how (Magistral); the prompt then opens the thought for it, so that a
   CoT begins where the thought does. Else it does not think.
3. A template that raises, drops or changes the request, or reads no argument of a name that was set, is refused in
   words.

Prompts hold every special token as text, so they are tokenised with `add_special_tokens=False`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from backend.cot.thoughts import TAGS, Tags, left_open, thought_in, told_before
from backend.errors import AnchorscopeError

FORCED_ANSWER = "Therefore, the final answer is \\boxed{"
INSTRUCTION = "Think step by step. Then write the final answer in \\boxed{}."
QUESTION = "{question}"  # stands in a prompt's text for the question

# Shown to models that do not think by themselves. A 135M model boxes no answer without them (0 of 120 samples) and 81 %
# with them.
EXAMPLES = (
    (
        "Lucy has 6 pens and finds 3 more. How many pens does Lucy have now?",
        (
            "Lucy starts with 6 pens. She finds 3 more pens. So we add the two numbers. 6 + 3 = 9. Lucy has 9 pens now."
            " The final answer is \\boxed{9}."
        ),
    ),
    (
        "There are 4 bags with 5 nuts in each bag. Max eats 2 nuts. How many nuts are left?",
        (
            "There are 4 bags with 5 nuts in each bag. So there are 4 * 5 = 20 nuts at first. Max eats 2 nuts. So we"
            " subtract 2 from 20. 20 - 2 = 18. Check: 18 + 2 = 20, which is right. The final answer is \\boxed{18}."
        ),
    ),
)
WORDING = "\n".join(
    [INSTRUCTION, *(part for example in EXAMPLES for part in example)]
)  # of `boxed`: all it depends on, but the model

Value = bool | int | float | str  # of an argument of a chat template


class PromptError(AnchorscopeError):
    """A question that cannot be put to a model as asked."""


@dataclass(frozen=True)
class Prompt:
    """One way to put a problem to a model."""

    name: str
    text: str  # the user's turn; {question} stands for the question
    system: str | None = None  # a turn before it
    worked: bool = False  # two worked examples come first, where no thought is opened
    transcript: bool = False  # without a template: "Problem: ... Solution:"; else the text as it is
    arguments: tuple[tuple[str, Value], ...] = ()  # of the chat template
    template: str | None = None  # which of a model's named chat templates
    thinks: bool | None = None  # whether the model thinks before it answers; None: as a rendered probe says

    def __post_init__(self) -> None:
        if self.text.count(QUESTION) != 1:
            raise PromptError(
                f"Prompt {self.name}: its text must hold {QUESTION} exactly once, found {self.text.count(QUESTION)}"
                " times."
            )

    @property
    def wording(self) -> Any:
        """All that what is asked depends on, but the model and the settings of its template; as JSON can hold it."""
        if self == replace(BOXED, name=self.name, arguments=self.arguments, template=self.template, thinks=self.thinks):
            return WORDING
        said = {"text": self.text, "system": self.system, "transcript": self.transcript or None}
        shown = {"examples": [list(example) for example in EXAMPLES]} if self.worked else {}
        return {name: value for name, value in said.items() if value is not None} | shown

    @property
    def settings(self) -> dict[str, Any]:
        """What was set about the model's template; nothing where nothing was."""
        said = {"arguments": dict(self.arguments), "template": self.template, "thinks": self.thinks}
        return {name: value for name, value in said.items() if value not in (None, {})}

    def request(self, question: str) -> str:
        return self.text.replace(QUESTION, question.strip())


BOXED = Prompt("boxed", f"{QUESTION}\n\n{INSTRUCTION}", worked=True, transcript=True)
BUILT_IN = {
    prompt.name: prompt
    for prompt in (BOXED, Prompt("plain", f"Solve: {QUESTION}"), Prompt("steps", f"Solve step-by-step: {QUESTION}"))
}


def of_row(row: Mapping[str, Any]) -> Prompt:
    """The prompt that a row of table prompts says a model was asked under, with what was set about its template."""
    said, settings = json.loads(row["wording"]), json.loads(row["settings"])
    settings["arguments"] = tuple(settings.get("arguments", {}).items())
    if said == WORDING:
        return replace(BOXED, name=row["prompt_name"], **settings)
    own = {"system": said.get("system"), "worked": "examples" in said, "transcript": bool(said.get("transcript"))}
    return Prompt(row["prompt_name"], said["text"], **own, **settings)


def usual(rows: Iterable[Mapping[str, Any]], model_ids: Iterable[str]) -> dict[str, Prompt]:
    """What these models are asked under where nobody says: `boxed` where all of them were, else the first prompt by
    name that they share.

    `rows` are those of table prompts; models of which it says nothing, or that share nothing, are asked as boxed has
    it.
    """
    wanted = list(model_ids)
    asked_under = {(row["prompt_name"], row["model_id"]): row for row in rows}
    names = {name for name, _ in asked_under if all((name, model) in asked_under for model in wanted)}
    name = min(names, key=lambda name: (name != BOXED.name, name), default=None)
    return {model: BOXED if name is None else of_row(asked_under[name, model]) for model in wanted}


PUBLISHED = "published"  # the name of whatever prompt an imported CoT has


@dataclass(frozen=True)
class Asked:
    """Everything before the CoT, and what will close the thought that it opens (None: it opens none)."""

    text: str
    closing: str | None
    manner: str  # one of MANNERS


MANNERS = {
    "template": "the chat template opens the thought",
    "opened": "the prompt opens the thought after the chat template",
    "off": "the chat template closes the thought: thinking is switched off",
    "none": "no thought is opened",
    "untemplated": "there is no chat template: plain text",
}


def cot_prompt(tokenizer: Any, question: str, prompt: Prompt = BOXED, **arguments: Value) -> str:
    """Everything before the CoT; see `asked`. `arguments` are the chat template's, as `enable_thinking=False`."""
    return asked(
        tokenizer, question, replace(prompt, arguments=tuple((dict(prompt.arguments) | arguments).items()))
    ).text


def asked(tokenizer: Any, question: str, prompt: Prompt = BOXED) -> Asked:
    """The question as the model of this Hugging Face tokenizer is asked it under the prompt.

    Raises PromptError, naming the model, for a template that raises or does not hold the request, and for settings that
    it does not read.
    """
    template = _template(tokenizer, prompt)
    if template is None:
        return Asked(_plain_text(tokenizer, question, prompt), None, "untemplated")
    _require_arguments(tokenizer, prompt, template)
    turns = _turns(prompt, question)
    manner, tags = _manner(tokenizer, prompt, template)
    if prompt.worked and tags is None:
        earlier = [
            turn
            for posed, solved in EXAMPLES
            for turn in ({"role": "user", "content": prompt.request(posed)}, {"role": "assistant", "content": solved})
        ]
        turns[-1:-1] = earlier
    rendered = _rendered(tokenizer, prompt, turns)
    if any(turn["content"].strip() not in rendered for turn in turns[:-1]):
        raise PromptError(
            f"{_name(tokenizer)}: its chat template drops earlier turns, here {turns[0]['content'][:60]!r}, so prompt"
            f" {prompt.name} cannot be shown whole. Use a prompt without worked examples or a system turn, such as"
            " plain."
        )
    if tags is None:
        return Asked(rendered, None, manner)
    return Asked(rendered + (f"{tags.open}{tags.space}" if manner == "opened" else ""), tags.close, manner)


def answering_prompt(tokenizer: Any, request: str) -> str:
    """A prompt after which the model answers at once: a thought that it would begin is closed."""
    if not (found := asked(tokenizer, request, Prompt("answer", QUESTION))).closing:
        return found.text
    return f"{found.text.rstrip()}\n{found.closing}\n\n"


def forced_suffix(text: str, closing: str | None) -> str:
    r"""What is added to `text` (prompt + CoT, or its beginning) to force an answer: it ends in "\boxed{".

    A thought that is open is closed first, by `closing` (None: there is none). The suffix starts on a new paragraph,
    without doubling newlines that are already there.
    """
    newlines = len(text) - len(text.rstrip("\n"))
    paragraph = "\n" * max(0, 2 - newlines)
    if closing is not None and left_open(text, closing):
        return f"{paragraph[:1]}{closing}\n\n{FORCED_ANSWER}"
    return f"{paragraph}{FORCED_ANSWER}"


# Templates

_PROBE = "How many pens do 12 boxes of 7 pens hold?"
_GIVEN = {
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "raise_exception",
    "strftime_now",
}


def _turns(prompt: Prompt, question: str) -> list[dict[str, str]]:
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    return [*system, {"role": "user", "content": prompt.request(question)}]


def _manner(tokenizer: Any, prompt: Prompt, template: str) -> tuple[str, Tags | None]:
    """How a thought begins after this prompt, and its tags (None where none begins), by rendering a probe."""
    before, tail = _around(tokenizer, prompt)
    state, tags = thought_in(tail)
    if (state == "open" and prompt.thinks is False) or (state == "closed" and prompt.thinks):
        read = ", ".join(sorted(_arguments_read(tokenizer, template))) or "none"
        raise PromptError(
            f"{_name(tokenizer)}: thinks = {str(prompt.thinks).lower()} is set, but its chat template"
            f" {'opens' if state == 'open' else 'closes'} the thought itself. It reads the arguments {read}: set one of"
            " those instead."
        )
    if state == "open":
        return "template", tags
    if state == "closed":
        return "off", None
    if prompt.thinks is False:
        return "none", None
    if (tags := _switched_off(tokenizer, prompt, template)) or (tags := told_before(before)):
        return "opened", tags
    return ("opened", TAGS[0]) if prompt.thinks else ("none", None)


def _switched_off(tokenizer: Any, prompt: Prompt, template: str) -> Tags | None:
    """The tags of a thought that the template closes once thinking is switched off; None where no switch does that."""
    for name in sorted(name for name in _arguments_read(tokenizer, template) if re.search("think|reason", name)):
        try:
            _, tail = _around(
                tokenizer, replace(prompt, arguments=tuple((dict(prompt.arguments) | {name: False}).items()))
            )
        except PromptError:
            continue  # no switch: it takes other values, and what is asked does not set it so
        state, tags = thought_in(tail)
        if state == "closed":
            return tags
    return None


def _around(tokenizer: Any, prompt: Prompt) -> tuple[str, str]:
    """What a rendered probe has before its request, and after it.
    Words of the prompt's own are not among those before."""
    probe = replace(prompt, text=prompt.text.replace(QUESTION, f"{QUESTION} {_PROBE}"))
    turns = _turns(probe, "Probe.")
    before, _, tail = _rendered(tokenizer, prompt, turns).rpartition(turns[-1]["content"].strip())
    return before.replace((prompt.system or "").strip() or "\0", ""), tail


def _rendered(tokenizer: Any, prompt: Prompt, turns: list[dict[str, str]]) -> str:
    named = {} if prompt.template is None else {"chat_template": prompt.template}
    try:
        rendered = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **named, **dict(prompt.arguments)
        )
    except Exception as error:  # a template is a program of the model's authors: whatever it raises is theirs to say
        words = str(error).strip().rstrip(".") or type(error).__name__
        raise PromptError(
            f"{_name(tokenizer)}: its chat template refuses prompt {prompt.name} ({_said(turns, prompt)}): {words}."
            f" {_advice(prompt)}"
        ) from error
    request = turns[-1]["content"].strip()
    if request not in rendered:
        raise PromptError(
            f"{_name(tokenizer)}: what its chat template makes of prompt {prompt.name} does not hold the question as it"
            f" was asked ({request[:60]!r}); it gives {rendered[:120]!r}. Name another template, or use a model whose"
            " template writes the user's turn."
        )
    return rendered


def _said(turns: list[dict[str, str]], prompt: Prompt) -> str:
    roles = ", ".join(turn["role"] for turn in turns)
    return f"turns {roles}" + "".join(f"; {name} = {value!r}" for name, value in prompt.arguments)


def _advice(prompt: Prompt) -> str:
    if prompt.system is not None:
        return "If it takes no system turn, leave `system` out and put its words into the prompt's text."
    return (
        "A prompt with a `system` turn, other `arguments`, or a prompt without worked examples (such as plain) may"
        " serve."
    )


def _template(tokenizer: Any, prompt: Prompt) -> str | None:
    """The template's source; None for a model that has none.

    Raises PromptError for a name that the model does not have.
    """
    own = getattr(tokenizer, "chat_template", None) or None
    named: dict[str, str] = own if isinstance(own, dict) else {}
    names = sorted(named)
    if prompt.template is not None and prompt.template not in names:
        there = f"it has {', '.join(names)}" if names else "it has one without a name" if own else "it has none"
        raise PromptError(f"{_name(tokenizer)} has no chat template called {prompt.template!r}: {there}.")
    if not names:
        if own is None and (prompt.arguments or prompt.thinks):
            words = ", ".join(name for name, _ in prompt.arguments) or "thinks"
            raise PromptError(f"{_name(tokenizer)} has no chat template, so {words} cannot be set for it.")
        return own
    if prompt.template is None and "default" not in names:
        raise PromptError(
            f"{_name(tokenizer)} has several chat templates and none called default: {', '.join(names)}. Name one under"
            " models.template."
        )
    return named[prompt.template or "default"]


def _require_arguments(tokenizer: Any, prompt: Prompt, template: str) -> None:
    """Jinja drops in silence what a template does not read; here it is refused."""
    if not prompt.arguments:
        return
    read = _arguments_read(tokenizer, template)
    if strangers := [name for name, _ in prompt.arguments if name not in read]:
        raise PromptError(
            f"{_name(tokenizer)}: its chat template reads no argument {strangers[0]}; it reads"
            f" {', '.join(sorted(read)) or 'none'}."
        )


def _arguments_read(tokenizer: Any, template: str) -> frozenset[str]:
    """Names that the template takes from outside, but those that every template is given."""
    from jinja2 import TemplateSyntaxError

    try:
        return _undeclared(template) - _GIVEN - set(getattr(tokenizer, "special_tokens_map", {}))
    except TemplateSyntaxError as error:
        raise PromptError(f"{_name(tokenizer)}: its chat template cannot be read: {error}.") from error


@cache
def _undeclared(template: str) -> frozenset[str]:
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    jinja = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    source = re.sub(
        r"\{%-?\s*(end)?generation\s*-?%\}", "", template
    )  # transformers' own tag, around what an assistant says
    return frozenset(meta.find_undeclared_variables(jinja.parse(source)) - set(jinja.globals))


def _plain_text(tokenizer: Any, question: str, prompt: Prompt) -> str:
    """The prompt for a model without a chat template, after the token that the tokenizer itself puts first, if any.

    `boxed` is a transcript, "Problem: ... Solution:". Any other text stands as it is, and a blank line follows it where
    it ends in the question, so that the model does not go on with that.
    """
    first = tokenizer("").input_ids
    begin = tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""

    def put(posed: str) -> str:
        if prompt.transcript:
            return f"Problem: {prompt.request(posed)}\n\nSolution:"
        return prompt.request(posed) + ("\n\n" if prompt.text.endswith(QUESTION) else "")

    def solve(posed: str, solved: str) -> str:
        posed = put(posed)
        return f"{posed}{'' if posed[-1:].isspace() else ' '}{solved}\n\n"

    system = "" if prompt.system is None else f"{prompt.system}\n\n"
    return begin + system + "".join(solve(*example) for example in (EXAMPLES if prompt.worked else ())) + put(question)


def _name(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "The model"
