"""The tags between which models think, and a response taken apart at them.

One registry of known pairs. A thought's closing tag is stored with each CoT (`cots.think_close`), so that nothing is
looked for twice.
"""

import re
from dataclasses import dataclass
from typing import Literal

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Tags:
    """A pair of tags around a thought."""

    open: str
    close: str
    space: str = ""  # what models write right after the opening one
    written: bool = True  # False: words that anybody may write, which count only where a template renders them
    told: str | None = (
        None  # words of a template that tell its model to think so; None: both tags, the opening one first
    )


TAGS = (
    Tags(
        THINK_OPEN, THINK_CLOSE, "\n"
    ),  # DeepSeek R1, Qwen3, QwQ, GLM, SmolLM3, Phi-4-reasoning, Nemotron and many more
    Tags("<|begin_of_thought|>", "<|end_of_thought|>", "\n\n"),  # OpenThinker, Sky-T1, Bespoke-Stratos
    Tags("[THINK]", "[/THINK]"),  # Magistral
    Tags("<thinking>", "</thinking>", "\n"),  # Reflection
    Tags("<reasoning>", "</reasoning>", "\n"),  # many that were trained by GRPO at home
    Tags("<thought>", "</thought>", "\n"),
    Tags("[REASONING]", "[/REASONING]"),
    Tags("<think:opensource>", "</think:opensource>", "\n"),
    Tags("<|channel>thought", "<channel|>", "\n"),  # Gemma 4
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<longcat_think>", "</longcat_think>", "\n"),  # LongCat
    Tags("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi-VL
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "\n", written=False),  # Apriel
    Tags(  # gpt-oss: channels
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        told="# Valid channels: analysis",
    ),
)
_BY_TAG = {tag: tags for tags in TAGS for tag in (tags.open, tags.close)}
_ANY, _WRITTEN = (
    re.compile(
        "|".join(re.escape(tag) for tag in sorted(_BY_TAG, key=len, reverse=True) if _BY_TAG[tag].written or words)
    )
    for words in (True, False)
)


def thought_in(text: str) -> tuple[Literal["open", "closed", "none"], Tags | None]:
    """Whether `text` ends inside a thought, after one that was closed, or has no tag of one; and the tags.

    Inside a thought only its own closing tag counts. A closing tag with nothing before it closes too (DeepSeek V3.1
    without thinking).
    """
    state: Literal["open", "closed", "none"] = "none"
    own: Tags | None = None
    for found in _ANY.finditer(text):
        tags = _BY_TAG[found[0]]
        if state == "open" and own is not None and found[0] != own.close:
            continue
        state, own = ("open" if found[0] == tags.open else "closed"), tags
    return state, own


def told_before(text: str) -> Tags | None:
    """The tags in which `text`, a template's own words before the request, tells its model to think."""
    for tags in TAGS:
        if tags.told is not None:
            if tags.told in text:
                return tags
        elif 0 <= text.find(tags.open) < text.rfind(tags.close):
            return tags
    return None


def left_open(text: str, closing: str) -> bool:
    """Whether the thought that `closing` closes is open at the end of `text`."""
    return text.rfind(_BY_TAG[closing].open) > text.rfind(closing)


def closing_tag(response: str, prompt: str = "") -> str | None:
    """What closes the thought of a response of which no more is known than its text and its prompt's; None where there
    is none.

    A prompt that ends in an opening tag says it; else the first tag in the response.
    """
    ending = next((tags for tags in TAGS if prompt.rstrip().endswith(tags.open)), None)
    if ending is None and (first := _WRITTEN.search(response)):
        ending = _BY_TAG[first[0]]
    return None if ending is None else ending.close


def split_response(response: str, closing: str | None) -> tuple[str, str | None]:
    """(CoT, what comes after the closing tag). Without the tag the whole response is the CoT and the second is None.

    Nothing is stripped: `cot + closing + after` is the response again.
    """
    if closing is None:
        return response, None
    cot, tag, after = response.partition(closing)
    return cot, after if tag else None


def response_of(text: str, after_text: str | None, closing: str | None) -> str:
    """The response again, from a row of `cots`: what the model wrote after the prompt."""
    return text if after_text is None else f"{text}{closing or THINK_CLOSE}{after_text}"
