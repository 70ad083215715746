"""Every column that can be searched, shown, sorted by, and used as a colour: one list for all of them.

1. A name stands for one thing: `level`, `tag`, `importance`, `steepness`.
2. Where a study has it several times, under conventions, at layers, along directions, the usual one is meant; words
   behind an @ say which: `counterfactual_importance_kl@ta`, `steepness@20,random`. `fires@1234` is a feature.
3. What is known of a metric beside its value is named behind a dot: `importance.q`, `resampling_importance_kl.n`.

`known_columns` gives those of a study; `python -m backend.search.columns` prints docs/search-columns.md.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from backend.cot.categories import CATEGORIES
from backend.errors import AnchorscopeError
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.importance.conventions import ALL, CONVENTIONS
from backend.importance.metric_registry import METRICS, metric_named
from backend.models.names import role_words, short_names
from backend.store.geometry_columns import COLUMNS, IMPORTANCE, NO_LAYER, NONE, GeometryColumn, column_named
from backend.store.notes import counting
from backend.store.search_queries import (
    ACCURACY_ROWS,
    ROLLOUT_ROWS,
    SIZE_ROWS,
    Column,
    corrected_rows,
    firing_rows,
    geometry_rows,
    importance_rows,
    said_rows,
    tag_rows,
)
from backend.store.store import Store

FIRES = "fires"  # the family of features: a column for each number
CORRECTED = ", corrected"  # behind a tag that a person gave


class NoColumn(AnchorscopeError):
    """There is no column of that name here; `nearest` are those that may have been meant."""

    def __init__(self, words: str, nearest: Sequence[str] = ()):
        super().__init__(words)
        self.nearest = tuple(nearest)


_OWN = (
    Column("text", "text", "chunk", "k.text", "Text", "The chunk's text; a text in quotes alone is looked for here."),
    Column("chunk", "number", "chunk", "k.chunk_index + 1", "Chunk", "Its number in the CoT, from 1.", is_whole=True),
    Column(
        "place",
        "number",
        "chunk",
        "k.chunk_index / nullif(j.n - 1, 0)",
        "Place in the CoT",
        "0 for the first chunk, 1 for the last; unknown where there is one.",
        SIZE_ROWS,
    ),
    Column(
        "tokens",
        "number",
        "chunk",
        "k.token_end - k.token_start",
        "Tokens",
        "Tokens of the chunk.",
        is_whole=True,
    ),
    Column(
        "rollouts",
        "number",
        "chunk",
        "coalesce(j.n, 0)",
        "Rollouts",
        "Rollouts that were resampled from before the chunk.",
        ROLLOUT_ROWS,
        is_whole=True,
        is_count=True,
    ),
    Column("level", "number", "cot", "p.level", "Level", "Difficulty of the problem, 1 to 5.", is_whole=True),
    Column("correct", "yes or no", "cot", "c.is_correct", "Correct", "Whether the CoT's answer is the ground truth."),
    Column(
        "model",
        "word",
        "cot",
        "c.model_id",
        "Model",
        "Who wrote the CoT, by any name or by its role.",
    ),
    Column("answer", "word", "cot", "c.answer", "Answer", "The CoT's answer as written."),
    Column(
        "answer_source",
        "word",
        "cot",
        "c.answer_source",
        "Source of the answer",
        "Whether the answer was given, forced, or published.",
    ),
    Column("finish", "word", "cot", "c.finish", "End", "How the CoT ended: eos, or cap where the token cap cut it."),
    Column("prompt", "word", "cot", "c.prompt_name", "Prompt", "Name of the prompt it was sampled under."),
    Column("sample", "number", "cot", "c.sample", "Sample", "Number of the CoT's sample, from 0.", is_whole=True),
    Column("cot_tokens", "number", "cot", "c.n_tokens", "Tokens of the CoT", "Tokens of the whole CoT.", is_whole=True),
    Column("chunks", "number", "cot", "j.n", "Chunks of the CoT", "How many it has.", SIZE_ROWS, is_whole=True),
    Column(
        "accuracy",
        "number",
        "cot",
        "j.accuracy",
        "Accuracy on the problem",
        "Share of correct CoTs of the same problem, model and prompt.",
        ACCURACY_ROWS,
    ),
    Column("question", "text", "cot", "p.question", "Question", "What was asked."),
    Column("source", "word", "cot", "p.source", "Source of the problem", "Where the problem is from."),
    Column("problem", "word", "cot", "c.problem_id", "Problem", "Id of the problem."),
    Column("cot", "word", "cot", "c.cot_id", "CoT", "Id of the CoT."),
)
_TAG = Column("tag", "word", "chunk", "j.tag", "Tag", "What the chunk does; any of its tags matches.", among="j.tags")
# What people said of chunks; none of it is ever taken for what was computed.
_STARRED = Column("starred", "yes or no", "chunk", "(j.star IS NOT NULL)", "Starred", "Whether a person starred it.")
_NOTE = Column("note", "text", "chunk", "j.note", "Note", "What a person noted of it; unknown without a note.")
_CORRECTED = Column(
    "corrected", "word", "chunk", "j.tag", "Corrected tag", "The tag that a person gave it; unknown where none did."
)
_CORRECTED_TAG = Column(
    "tag@corrected",
    "word",
    "chunk",
    f"CASE WHEN j.corrected IS NULL THEN j.tag ELSE j.tag || '{CORRECTED}' END",
    "Tag, corrected where a person did",
    "The tag that a person gave it, marked as corrected, else the computed ones; any of its tags matches.",
    among="j.tags",
)
_SCORE = Column("tag_score", "number", "chunk", "j.score", "Score of the tag", "Probability of its first tag.")
_FIRES = Column(
    FIRES,
    "number",
    "chunk",
    "j.code",
    "Largest activation of a feature",
    "Largest activation of the feature at a token of the chunk, 0 where it fires at none; unknown without codes.",
    is_count=True,
)
# Of a metric, beside its value: the words behind the dot.
_BESIDE = {
    "q": ("j.q", "q", "q of the permutation over the study's chunks (Benjamini and Hochberg)"),
    "p": ("j.p", "p", "p of the permutation"),
    "low": ("j.ci_low", "lower bound", "lower bound of the 95 % interval"),
    "high": ("j.ci_high", "upper bound", "upper bound of the 95 % interval"),
    "n": ("j.n", "n", "rollouts that it rests on"),
}
IMPORTANCE_NAME = "importance"
_SHORT = {"q": "q", "p": "p"}  # of the usual importance, by themselves
# Names that nothing registered may take.
RESERVED = frozenset(
    {*(column.name for column in _OWN), IMPORTANCE_NAME, *_SHORT, FIRES, "tag", "label", "starred", "note"}
)


@dataclass(frozen=True)
class Family:
    """Columns of one name, the usual one first, each with the words that tell it from the others."""

    name: str
    members: tuple[tuple[tuple[str, ...], Column], ...]

    def named(self, at: Sequence[str]) -> Column:
        """The first that has all these words. Raises NoColumn."""
        for words, column in self.members:
            if set(at) <= set(words):
                return column
        known = list(dict.fromkeys(word for words, _ in self.members for word in words))
        stranger = next((word for word in at if word not in known), "")
        if stranger:
            raise NoColumn(
                f"{self.name} is not had at {stranger}" + (f", but at {_listed(known)}" if known else ""), known
            )
        raise NoColumn(f"{self.name} is not had at {' and '.join(at)} together", known)


class KnownColumns(Mapping[str, Column]):
    """The columns of a study by their names, the usual one of each family first."""

    def __init__(self, families: Iterable[Family], dictionary: str | None = None, n_features: int = 0):
        self.families = {family.name: family for family in families}
        self.dictionary, self.n_features = dictionary, n_features

    def __getitem__(self, name: str) -> Column:
        """Raises NoColumn, which knows the nearest names."""
        head, at_sign, rest = name.partition("@")
        head, at = head.lower(), [word.lower() for word in rest.split(",") if word]
        if head == FIRES:
            return self._firing(rest)
        family = self.families.get(head)
        if family is None or (at_sign and not at):
            raise NoColumn("there is no such column", self.nearest(head))
        return family.named(at)

    def __iter__(self) -> Iterator[str]:
        """Every name once: the usual ones bare, the others with their words."""
        for family in self.families.values():
            yield from (column.name for _, column in family.members)

    def __len__(self) -> int:
        return sum(len(family.members) for family in self.families.values())

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self[name])
        except NoColumn:
            return False

    def usual(self) -> list[str]:
        """The name of each family."""
        return list(self.families)

    def nearest(self, word: str) -> list[str]:
        """At most three names like it."""
        return nearest(word, [*self.families, *([FIRES] if self.n_features else [])])

    def _firing(self, number: str) -> Column:
        if self.dictionary is None:
            raise NoColumn("this study has no features whose codes are stored")
        if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < self.n_features):
            raise NoColumn(f"a feature is a whole number from 0 to {self.n_features - 1}: fires:12, or fires@12 > 2")
        return replace(
            _FIRES,
            name=f"{FIRES}@{int(number)}",
            label=f"Largest activation of feature {int(number)}",
            rows=firing_rows(self.dictionary, int(number)),
        )


def could_be_a_name(text: str) -> bool:
    """Whether there may be a column of this name, in one study or another."""
    return re.fullmatch(r"[a-z_]\w*(\.[a-z]+)?(@[\w,.-]+)?", text) is not None


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """At most three of the names that are like the word, or have it in them."""
    word, names = word.lower(), list(names)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    inside = [name for name in names if len(word) > 2 and (word in name or name in word)]
    return list(dict.fromkeys([*close, *sorted(inside, key=len)]))[:3]


def known_columns(
    store: Store,
    *,
    source: str | None = None,
    dictionary: str | None = None,
    importance: pd.DataFrame | None = None,
    geometry: pd.DataFrame | None = None,
) -> KnownColumns:
    """The columns of a study; tags by `source` and features of `dictionary`, else by the source of most tags and of the
    dictionary with most codes. `importance` and `geometry` are the store's choices, where they are at hand.
    """
    sources, coded = store.tag_sources(), store.coded_dictionaries()
    source = source if source in sources else next(iter(sources), None)
    ids = coded["dictionary_id"].tolist()
    dictionary = dictionary if dictionary in ids else next(iter(ids), None)
    families = [_single(column) for column in _with_words(store)]
    said = counting(store.path, "chunk")
    any_tag = tuple((tag, (tag,)) for tag in CATEGORIES)
    if source is not None:
        tags = tuple((tag, (tag,)) for tag in store.tags_of(source))
        rows = tag_rows(source)
        computed = replace(_TAG, rows=rows, words=tags)
        corrected = replace(_CORRECTED_TAG, rows=corrected_rows(source, said), words=any_tag)
        families[:0] = [
            Family("tag", (((), computed), (("corrected",), corrected))),
            _single(replace(_SCORE, rows=rows)),
        ]
    of_people = said_rows(said)
    families += [
        _single(replace(column, rows=of_people, words=any_tag if column is _CORRECTED else None))
        for column in (_STARRED, _NOTE, _CORRECTED)
    ]
    families += _importance(store.importance_choices() if importance is None else importance)
    families += _geometry(store.geometry_choices() if geometry is None else geometry)
    n_features = 0 if dictionary is None else int(coded.loc[coded["dictionary_id"] == dictionary, "n_features"].iloc[0])
    return KnownColumns(families, dictionary, n_features)


def _single(column: Column) -> Family:
    return Family(column.name, (((), column),))


def _with_words(store: Store) -> Iterator[Column]:
    """The study's own columns, with the words that may be said of those that have few."""
    words = store.words_of_columns()
    for column in _OWN:
        if column.name == "model":
            yield replace(column, words=_models(store.models()))
        elif len(own := words.loc[words["name"] == column.name, "word"]):
            yield replace(column, words=tuple((word, (word,)) for word in own))
        else:
            yield column


def _models(models: pd.DataFrame) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What a model may be called: its short name first, then its role, its whole name, and its id."""
    models = models[models["n_cots"] > 0]
    short = short_names(models)
    called: dict[str, tuple[str, ...]] = {}
    for names in (
        [short[model] for model in models["model_id"]],
        [role_words(role) for role in models["role"]],
        *(models[column] for column in ("role", "name", "model_id")),
    ):
        for name, model in zip(names, models["model_id"], strict=True):
            called[name.lower()] = tuple(dict.fromkeys((*called.get(name.lower(), ()), model)))
    return tuple(called.items())


def _importance(choices: pd.DataFrame) -> list[Family]:
    """The usual importance and its q and p, then every metric, by convention, in the registries' order."""
    order, conventions = list(METRICS), [*CONVENTIONS, ALL]
    pairs = sorted(
        zip(choices["metric"], choices["convention"], strict=True),
        key=lambda pair: (
            order.index(pair[0]) if pair[0] in order else len(order),
            conventions.index(pair[1]) if pair[1] in conventions else len(conventions),
            pair,
        ),
    )
    by_metric: dict[str, list[str]] = {}
    for metric, convention in pairs:
        by_metric.setdefault(metric, []).append(convention)
    usual = next((pair for pair in pairs if pair[0].startswith("counterfactual_importance")), next(iter(pairs), None))
    families = []
    if usual is not None:
        families.append(_single(_of_metric(IMPORTANCE_NAME, *usual)))
        families += [_single(_of_metric(short, *usual, beside)) for short, beside in _SHORT.items()]
        families += [_single(_of_metric(f"{IMPORTANCE_NAME}.{beside}", *usual, beside)) for beside in _BESIDE]
    for beside in ("", *_BESIDE):
        for metric, its in by_metric.items():
            name = f"{metric}.{beside}" if beside else metric
            families.append(_family(name, [((one,), _of_metric(name, metric, one, beside)) for one in its]))
    return families


def _of_metric(name: str, metric: str, convention: str, beside: str = "") -> Column:
    found = metric_named(metric)
    label = found.short if metric in METRICS else found.label
    label += "" if convention == ALL else f", {convention}"
    if not beside:
        rows = importance_rows(metric, convention)
        return Column(
            name, "number", "chunk", "j.value", label, found.meaning, rows, unit=found.unit, signed=found.signed
        )
    value, words, sentence = _BESIDE[beside]
    return Column(
        name,
        "number",
        "chunk",
        value,
        f"{label}: {words}",
        f"{sentence[0].upper()}{sentence[1:]}.",
        importance_rows(metric, convention, with_q=beside == "q"),
        signed=beside in ("low", "high"),
        is_whole=beside == "n",
        small_counts=beside in ("p", "q"),
    )


def _geometry(choices: pd.DataFrame) -> list[Family]:
    """Every geometry column that is known somewhere. The usual layer is where most is known, of equals the first; the
    usual direction is the first of the registry's.
    """
    known = choices[choices["n_known"] > 0]
    known = known.groupby(["x", "kind", "layer", "position", "unit"], as_index=False)["n_known"].sum()
    by_layer = known.groupby("layer")["n_known"].sum()
    kinds = [NONE, *DIRECTION_KINDS]
    families = []
    kept = sorted({x for x in known["x"] if x not in COLUMNS})
    for name, column in [*COLUMNS.items(), *((x, column_named(x)) for x in kept)]:
        if column.source is IMPORTANCE:
            continue  # it is among the metrics
        places = sorted(
            known[known["x"] == name].itertuples(),
            key=lambda row: (
                -int(by_layer[row.layer]),
                row.layer,
                kinds.index(row.kind) if row.kind in kinds else len(kinds),
                row.kind,
                row.position,
                row.unit,
            ),
        )
        if places:
            families.append(_family(name, [_at_place(column, row) for row in places]))
    return families


def _at_place(column: GeometryColumn, row: object) -> tuple[tuple[str, ...], Column]:
    layer, kind, position, unit = (getattr(row, name) for name in ("layer", "kind", "position", "unit"))
    said = ("" if layer == NO_LAYER else str(layer), kind, position, unit)
    at = tuple(word.lower() for word in said if word not in ("", NONE))
    rows = geometry_rows(column, kind=kind, layer=layer, position=position, unit=unit)
    found = Column(column.name, "number", "chunk", "j.x", column.label, column.meaning, rows, unit=column.unit)
    return at, found


def _family(name: str, members: Sequence[tuple[tuple[str, ...], Column]]) -> Family:
    """The first bears the bare name; the others, and all labels, have the words in which they differ."""
    differ = {word for at, _ in members for word in at if any(word not in other for other, _ in members)}
    found = []
    for n, (at, column) in enumerate(members):
        own = [word for word in at if word in differ]
        said = [word for word in map(_in_label, own) if word not in column.label]
        called = replace(column, label=", ".join((column.label, *said)))
        found.append((at, called if n == 0 else replace(called, name=f"{name}@{','.join(own)}")))
    return Family(name, tuple(found))


def _in_label(word: str) -> str:
    """What a layer, or a direction's kind, is called."""
    kind = DIRECTION_KINDS.get(word)
    return f"layer {word}" if word.isdecimal() else word if kind is None else kind.words


def _listed(words: Sequence[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (" …" if len(words) > most else "")


# The page of the documentation

_HEAD = """# Columns of the search

Printed by `python -m backend.search.columns > docs/search-columns.md`. The page *Browse* offers those that a study has.
The language is in [search.md](search.md).
"""


def as_document() -> str:
    """All columns that there can be, as Markdown."""
    parts = [_HEAD, "| Column | Of | Holds | Meaning |\n| --- | --- | --- | --- |"]
    parts += [
        _line(column.name, column)
        for column in (
            _TAG,
            _CORRECTED_TAG,
            _SCORE,
            _STARRED,
            _NOTE,
            _CORRECTED,
            *_OWN,
            replace(_FIRES, name=f"{FIRES}@NUMBER"),
        )
    ]
    parts += ["", "## Metrics", ""]
    parts.append(
        f"`{IMPORTANCE_NAME}` is the first counterfactual importance that a study has, in this order; `q` and `p` are"
        " its own. Behind an @ stands a convention."
    )
    parts += ["", "| Column | Meaning |\n| --- | --- |"]
    parts += [f"| `{metric.name}` | {metric.axis}. {metric.meaning} |" for metric in METRICS.values()]
    parts += ["", "Of each metric there is also, behind a dot:", "", "| | |\n| --- | --- |"]
    parts += [f"| `.{name}` | {sentence} |" for name, (_, _, sentence) in _BESIDE.items()]
    parts += ["", "## Geometry", ""]
    parts.append(
        "Behind an @ stand a layer, a direction, a place and a unit of β, in any order, as far as the column has them."
    )
    parts += ["", "| Column | Meaning |\n| --- | --- |"]
    parts += [
        f"| `{column.name}` | {column.label} ({column.unit}). {column.meaning} |"
        for column in COLUMNS.values()
        if column.source is not IMPORTANCE
    ]
    return "\n".join(parts)


def _line(name: str, column: Column) -> str:
    of = {"chunk": "chunk", "cot": "CoT"}[column.of]
    return f"| `{name}` | {of} | {column.holds} | {column.meaning} |"


if __name__ == "__main__":
    print(as_document())
