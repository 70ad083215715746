"""What a feature might be called: by counting its strongest tokens, or by asking a chat model that somebody configured.

The chat model is any server that speaks the chat completions of OpenAI's interface. It is asked only where
ANCHORSCOPE_CHAT_URL (such as http://127.0.0.1:8000/v1) and ANCHORSCOPE_CHAT_MODEL name one, and then the feature's
examples and tokens are sent there; ANCHORSCOPE_CHAT_KEY is sent along where it is set. Suggestions are guesses: a
person decides what becomes a label.
"""

import json
import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from backend.cot.categories import NAMES
from backend.errors import AnchorscopeError
from backend.store.labels import LONGEST_LABEL

_SHOWN_TOKENS, _SHOWN_EXAMPLES, _PATIENCE = 3, 12, 60.0  # tokens of a suggestion, examples that are sent, seconds
_REQUEST = (
    "Each line is a piece of text; between « and » stands the token on which one feature of a language model fires"
    " strongly. Say in at most ten words what these tokens have in common. Answer with the description alone.\n\n"
)


class ChatError(AnchorscopeError):
    """The configured chat model did not give a label."""


@dataclass(frozen=True)
class ChatModel:
    url: str
    model: str
    key: str | None = field(default=None, repr=False)


def from_tokens(examples: pd.DataFrame, logits: pd.DataFrame) -> list[str]:
    """At most two suggestions: the tokens on which it fires, with counts, and those that it promotes. Rows are those of
    `DictionaryQueries.feature_examples` and of `feature_logits` for one model."""
    peaks = Counter(seen(token) for token, _ in _peaks(examples))
    found = [f"“{token}” ({count} of {len(examples)})" for token, count in peaks.most_common(_SHOWN_TOKENS)]
    top = logits[logits["side"] == "top"].sort_values("rank")["token"] if len(logits) else []
    promoted = list(dict.fromkeys(f"“{token.strip()}”" for token in top if token.strip()))[:_SHOWN_TOKENS]
    parts = [f"fires on {', '.join(found)}" if found else "", f"promotes {', '.join(promoted)}" if promoted else ""]
    return [part[:LONGEST_LABEL] for part in parts if part]


def names_of(peaks: pd.DataFrame, features: pd.DataFrame) -> dict[int, str]:
    """A suggestion for every feature of `features` that fires, with its evidence: its commonest strongest tokens and
    how many of its examples they are, the tokens that it promotes, and its function tag with its lift.

    `peaks` are rows of `DictionaryQueries.peak_tokens`. It is counted, not understood: whoever shows it says so.
    """
    known = {row.feature: row for row in peaks.itertuples()}
    found: dict[int, str] = {}
    for row in features[["feature", "top_category", "top_category_lift"]].itertuples():
        if (own := known.get(row.feature)) is None:
            continue
        counted = Counter[str]()
        for token, count in zip(own.tokens, own.counts, strict=True):
            counted[seen(token)] += int(count)
        parts = [f"“{token}” {count} of {int(own.n_examples)}" for token, count in counted.most_common(_SHOWN_TOKENS)]
        promoted = own.promoted if isinstance(own.promoted, list | np.ndarray) else []
        if shown := list(dict.fromkeys(f"“{token.strip()}”" for token in promoted if token.strip()))[:_SHOWN_TOKENS]:
            parts.append(f"promotes {', '.join(shown)}")
        if isinstance(row.top_category, str):
            parts.append(f"{NAMES.get(row.top_category, row.top_category)} ×{row.top_category_lift:.1f}")
        found[int(row.feature)] = " · ".join(parts)
    return found


def seen(token: str) -> str:
    """A token as words can show it: white space alone is drawn."""
    return token.strip() or token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") or "∅"


def configured() -> ChatModel | None:
    """The chat model that the environment names, or None. Raises ChatError for an address that is none."""
    url, model = os.environ.get("ANCHORSCOPE_CHAT_URL", ""), os.environ.get("ANCHORSCOPE_CHAT_MODEL", "")
    if not url or not model:
        return None
    if not url.startswith(("http://", "https://")):
        raise ChatError(
            f"ANCHORSCOPE_CHAT_URL is {url!r}; an address that begins with http:// or https:// was expected."
        )
    return ChatModel(url.rstrip("/"), model, os.environ.get("ANCHORSCOPE_CHAT_KEY") or None)


def from_chat(chat: ChatModel, examples: pd.DataFrame) -> str:
    """The chat model's words for these examples, on one line. Raises ChatError."""
    content = _REQUEST + "\n".join(marked(examples.head(_SHOWN_EXAMPLES)))
    body = {"model": chat.model, "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 60}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {chat.key}"} if chat.key else {})
    request = urllib.request.Request(f"{chat.url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            words = json.load(response)["choices"][0]["message"]["content"]
    except (urllib.error.URLError, TimeoutError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ChatError(f"{chat.model} at {chat.url} gave no label ({type(error).__name__}: {error}).") from error
    if not isinstance(words, str) or not words.strip():
        raise ChatError(f"{chat.model} at {chat.url} answered with no words.")
    return " ".join(words.split())[:LONGEST_LABEL]


def _peaks(examples: pd.DataFrame) -> Iterable[tuple[str, tuple[str, str]]]:
    """For each example its strongest token, and the text of the window before and after it."""
    for row in examples.itertuples():
        tokens, peak = list(row.window_tokens), row.position - row.window_start
        yield tokens[peak], ("".join(tokens[:peak]), "".join(tokens[peak + 1 :]))


def marked(examples: pd.DataFrame) -> list[str]:
    """Each example on one line, its strongest token between « and »."""
    return [" ".join(f"{before}«{token}»{after}".split()) for token, (before, after) in _peaks(examples)]
