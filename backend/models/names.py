"""What the models of a study are called where there is little room: one name for one model, everywhere.

1. Of a study with one base and one distilled model, those two are "base" and "reasoner".
2. Any other goes by the last part of its name, without a scheme (`embedded:`) or a publisher; as many parts before it
   are kept as tell it from the other models.
3. What is longer than `LONGEST` is cut in the middle, at a length where no two are alike.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from backend.plain import plain_line

ROLES = {"base": "base", "distilled": "reasoner"}  # the role as it is stored, and as it is said
LONGEST = 32  # characters


def short_names(models: pd.DataFrame) -> dict[str, str]:
    """The short name of each model (rows of `Queries.models`), by its id and by each full name that one alone bears."""
    rows = list(models[["model_id", "name", "role"]].itertuples(index=False))
    held = Counter(row.role for row in rows)
    by_role = all(held[role] == 1 for role in ROLES)
    others = [row for row in rows if not (by_role and row.role in ROLES)]
    found = {row.model_id: ROLES[row.role] for row in rows if by_role and row.role in ROLES}
    found |= zip((row.model_id for row in others), _told_apart(others, taken=list(found.values())), strict=True)
    named = Counter(row.name for row in rows)
    return found | {row.name: found[row.model_id] for row in rows if named[row.name] == 1}


def short_name(name: object) -> str:
    """The last part of a model's name: of one that stands alone, or that the study does not have."""
    return in_the_middle(_last(str(name), 1), LONGEST)


def role_words(words: object) -> str:
    """A role of a pair, or words that hold one ("distilled only"), as they are said."""
    return str(words).replace("distilled", ROLES["distilled"]).replace("Distilled", ROLES["distilled"].capitalize())


def in_the_middle(text: str, limit: int) -> str:
    """`text`, cut in its middle to `limit` characters where it has more."""
    text = plain_line(text, 10**4)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[len(text) - (limit - 1) // 2 :]}"


def _told_apart(rows: Sequence[Any], taken: Sequence[str]) -> list[str]:
    names = [str(row.name) for row in rows]
    parts, most = [1] * len(names), max((name.count("/") + 1 for name in names), default=1)
    for _ in range(most - 1):
        same = Counter(map(_last, names, parts))
        parts = [n + (same[_last(name, n)] > 1) for name, n in zip(names, parts, strict=True)]
    words = [_last(name, n) for name, n in zip(names, parts, strict=True)]
    same = Counter([*words, *taken])
    words = [word if same[word] == 1 else f"{word} {row.model_id}" for word, row in zip(words, rows, strict=True)]
    limit = LONGEST
    while len({in_the_middle(word, limit) for word in words}) < len(words):
        limit += 2
    return [in_the_middle(word, limit) for word in words]


def _last(name: str, parts: int) -> str:
    return "/".join(name.removeprefix("embedded:").rstrip("/").split("/")[-parts:])
