"""Classes of word pairs, and which of them a model reads as single tokens.

A folder has a JSON file a class, a list of {"input": …, "output": …}, and any other keys, which are not read (the
layout of Todd et al. 2023). Only pairs of two single tokens take part: the vector of a word of several tokens would be
that of its last piece.

1. A word is one token as it stands inside a text, after a space (`LEADING_SPACE`), because so most tokenizers have most
   of their words; or as it stands first in a text.
2. Of several models it must be one token of each, so that all are compared on the same words.
3. What is left out is counted with its reason: its input, its output, or both are several tokens; or a duplicate, that
   is a pair that stands there already, or whose two words are one.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.errors import AnchorscopeError
from backend.root import ROOT

OWN = ROOT / "assets" / "word_pairs"  # classes of our own writing
REASONS = ("input", "output", "both", "duplicate")  # why a pair is left out
FEWEST_PAIRS = 4  # of a class that is measured: fewer have no distribution to speak of
MOST_PAIRS = 100_000  # of a file


class WordPairsError(AnchorscopeError):
    """A folder or file that has no word pairs, in the words of whoever asked for it."""


@dataclass(frozen=True)
class WordPair:
    input: str
    output: str


Tokens = Callable[[str], Sequence[int]]  # of a word as it stands in a text


@dataclass(frozen=True)
class Kept:
    """The pairs of a class that take part, and how many do not."""

    pairs: tuple[WordPair, ...]
    left_out: Mapping[str, int]  # by reason

    @property
    def n(self) -> int:
        """Pairs of the file."""
        return len(self.pairs) + sum(self.left_out.values())


def read_classes(folder: Path) -> dict[str, tuple[WordPair, ...]]:
    """The pairs of each file of the folder, by its name without the ending, in order.

    Raises WordPairsError that names the file and place of what is not as expected.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise WordPairsError(
            f"{folder} has no *.json; expected a file a class, each a list of"
            ' {"input": …, "output": …}. Name another folder under parallelograms.pairs, or leave it out.'
        )
    return {file.stem: _read(file) for file in files}


def _read(file: Path) -> tuple[WordPair, ...]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise WordPairsError(f"{file} cannot be read as JSON ({error}); a list of word pairs was expected.") from error
    if not isinstance(entries, list) or len(entries) > MOST_PAIRS:
        raise WordPairsError(f"{file} is not a list of at most {MOST_PAIRS:,} word pairs.")
    return tuple(_pair(file, number, entry) for number, entry in enumerate(entries))


def _pair(file: Path, number: int, entry: object) -> WordPair:
    words = [entry.get(key) for key in ("input", "output")] if isinstance(entry, dict) else []
    if len(words) != 2 or not all(isinstance(word, str) and word.strip() for word in words):
        raise WordPairsError(f'{file}, entry {number}: {{"input": …, "output": …}} with two words was expected.')
    return WordPair(*(str(word).strip() for word in words))


def single_tokens(pairs: Sequence[WordPair], tokenizers: Sequence[Tokens]) -> Kept:
    """The pairs whose two words are one token of every tokenizer, each pair once."""
    left_out, kept = Counter[str](), dict[WordPair, None]()  # in order
    for pair in pairs:
        reason = _reason(pair, kept, tokenizers)
        if reason is None:
            kept[pair] = None
        else:
            left_out[reason] += 1
    return Kept(tuple(kept), {reason: left_out[reason] for reason in REASONS})


def _reason(pair: WordPair, kept: Collection[WordPair], tokenizers: Sequence[Tokens]) -> str | None:
    whole = [all(len(tokens(word)) == 1 for tokens in tokenizers) for word in (pair.input, pair.output)]
    match whole:
        case [False, False]:
            return "both"
        case [False, True]:
            return "input"
        case [True, False]:
            return "output"
    return "duplicate" if pair in kept or pair.input == pair.output else None


def digest(classes: Mapping[str, Sequence[WordPair]]) -> str:
    """Of every pair of every class."""
    content = {name: [[pair.input, pair.output] for pair in pairs] for name, pairs in classes.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
