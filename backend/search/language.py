"""The language of the search: words side by side are all meant.

    importance > 0.2 tag:self_checking "wait"
    level:2 correct:no model:reasoner rollouts:yes q <= 0.05 fires:1234 -"therefore"
    (tag:self_checking or "wait") -known:importance

- `NAME < NUMBER`, also with <=, >, >=, = and !=: a comparison of a number;
- `NAME:VALUE`: a word, a number, or yes or no; of a text, what stands in it somewhere;
- `"TEXT"`: in the chunk's text, in capitals or not, every character meaning itself; \\" is a quote;
- `known:NAME`: the column has a value; a comparison with an unknown value is never met, nor is its negation;
- `-` or `not` before anything negates it, `or` between two takes either, brackets group, `and` may be left out.

What a word names is looked up among the columns of the study; what it says becomes a value, never SQL.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from backend.errors import AnchorscopeError
from backend.search.columns import FIRES, KnownColumns, NoColumn, nearest
from backend.store.search_queries import Column, Compares, Condition, Every, IsKnown, IsOneOf, IsTrue, Not, Says, Some

LONGEST, DEEPEST = 1000, 40  # characters of a query; brackets in brackets
_KNOWN = "known"
_SIGNS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "=", "==": "=", "!=": "<>", "<>": "<>"} | {
    "≤": "<=",
    "≥": ">=",
    "≠": "<>",
}
_YES_OR_NO = {"yes": True, "true": True, "no": False, "false": False}
_QUOTES = '"“”„'
_TOKEN = re.compile(
    rf"""(?P<quoted>[{_QUOTES}](?P<inside>(?:\\.|[^\\{_QUOTES}])*)(?P<end>[{_QUOTES}]?))
    |(?P<sign><=|>=|!=|<>|==|[<>=≤≥≠])
    |(?P<bracket>[()])
    |(?P<colon>:)
    |(?P<word>[^\s:()<>=!≤≥≠{_QUOTES}]+)
    |(?P<other>\S)""",
    re.VERBOSE | re.DOTALL,
)
_VALUE = re.compile(rf"[^\s(){_QUOTES}]+")


class QueryError(AnchorscopeError):
    """A query that means nothing: the word that is wrong, where it stands, and what was expected."""

    def __init__(self, query: str, start: int, end: int, what: str, expected: str):
        self.query, self.start, self.end = query, start, end
        word, number = query[start:end], len(query[: start + 1].split())
        where = f"Word {number}, “{word}” (character {start + 1})" if word else "At the end"
        super().__init__(f"{where}: {what}. {expected}")

    @property
    def pointed(self) -> str:
        """The query on one line, and under it marks where it is wrong."""
        line = re.sub(r"\s", " ", self.query)
        return f"{line}\n{' ' * self.start}{'^' * max(1, self.end - self.start)}"


@dataclass(frozen=True)
class _Token:
    kind: str  # quoted, sign, bracket, colon, word, other, or end
    text: str  # what it says: of a quoted text, what is inside
    start: int
    end: int


def parse(query: str, columns: KnownColumns) -> Condition:
    """What the query asks for; nothing asks for everything. Raises QueryError."""
    if len(query) > LONGEST:
        raise QueryError(
            query[:LONGEST], 0, 0, f"the query has {len(query)} characters", f"At most {LONGEST} are taken: shorten it."
        )
    return _Parser(query, columns).whole()


class _Parser:
    def __init__(self, query: str, columns: KnownColumns):
        self.query, self.columns, self.at, self.depth = query, columns, 0, 0

    # The grammar

    def whole(self) -> Condition:
        if self._next().kind == "end":
            return Every()
        found = self._some()
        if (left := self._next()).kind != "end":
            raise self._error(left, "this closes no bracket", "Take it away, or write ( before what it closes.")
        return found

    def _some(self) -> Condition:
        parts = [self._every()]
        while self._took("or"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _every(self) -> Condition:
        parts = [self._one()]
        while True:
            if not self._took("and") and self._is_over():
                return parts[0] if len(parts) == 1 else Every(tuple(parts))
            parts.append(self._one())

    def _is_over(self) -> bool:
        token = self._next()
        return token.kind == "end" or token.text == ")" or (token.kind == "word" and token.text.lower() == "or")

    def _one(self) -> Condition:
        negated = False
        while self._took("not") or self._took_minus():
            negated = not negated
        found = self._atom()
        return Not(found) if negated else found

    def _atom(self) -> Condition:
        token = self._take()
        if token.kind == "quoted":
            return Says(self._column("text", token), self._said(token))
        if token.text == "(" and token.kind == "bracket":
            return self._group(token)
        if token.kind != "word" or token.text.lower() in ("or", "and"):
            expected = 'Expected a condition: importance > 0.2, tag:self_checking, or a text in quotes, "wait".'
            what = "a condition is missing here" if token.kind == "end" else "no condition begins like this"
            raise self._error(token, what, expected)
        following = self._next()
        if following.kind == "sign":
            return self._comparison(token, self._take())
        if following.kind == "colon":
            self._take()
            return self._has(token)
        raise self._bare(token)

    def _group(self, opened: _Token) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self._error(opened, f"more than {DEEPEST} brackets are open", "Take some away.")
        found = self._some()
        closing = self._take()
        if closing.text != ")":
            raise self._error(opened, "this bracket is never closed", "Write ) after what belongs together.")
        self.depth -= 1
        return found

    def _comparison(self, name: _Token, sign: _Token) -> Condition:
        column = self._column(name.text, name)
        if column.holds != "number":
            raise self._error(sign, f"{column.name} is no number", f"Expected {_how_to_ask(column)}.")
        value = self._value(f"a number after {sign.text}: {column.name} {sign.text} 0.2")
        number = _number(value.text) if value.kind == "word" else None
        if number is None:
            raise self._error(value, "this is no number", f"Expected one, such as {column.name} {sign.text} 0.2.")
        return Compares(column, _SIGNS[sign.text], number)  # type: ignore[arg-type]  # the table has no other signs

    def _has(self, name: _Token) -> Condition:
        head = name.text.lower()
        if head == _KNOWN:
            value = self._value("the name of a column: known:importance")
            return IsKnown(self._column(value.text, value))
        if head == FIRES:
            value = self._value("the number of a feature: fires:12")
            return Compares(self._column(f"{FIRES}@{value.text}", value), ">", 0)
        column = self._column(name.text, name)
        value = self._value(_how_to_ask(column))
        if column.holds == "text":
            return Says(column, self._said(value))
        if column.holds == "word":
            return IsOneOf(column, self._words(column, value))
        answer = _YES_OR_NO.get(value.text.lower())
        if column.holds == "yes or no" and answer is not None:
            return IsTrue(column, answer)
        if column.is_count and answer is not None:
            return Compares(column, ">" if answer else "=", 0)
        number = _number(value.text) if column.holds == "number" and value.kind == "word" else None
        if number is None:
            raise self._error(value, f"{column.name} has no such value", f"Expected {_how_to_ask(column)}.")
        return Compares(column, "=", number)

    def _words(self, column: Column, value: _Token) -> tuple[str, ...]:
        """The stored words that are meant."""
        if column.words is None:
            return (self._said(value),)
        called = dict(column.words)
        said = value.text.lower()
        for word in (said, re.sub(r"\W+", "_", said)):
            if word in called:
                return called[word]
        like = nearest(said, called) or list(called)
        raise self._error(
            value, f"there is no {column.label.lower()} of this name", f"Expected one of {_listed(like)}."
        )

    # Words of the query

    def _column(self, name: str, token: _Token) -> Column:
        try:
            return self.columns[name]
        except NoColumn as error:
            like = f" Nearest: {_listed(error.nearest)}." if error.nearest else ""
            raise self._error(token, str(error), f"Expected the name of a column.{like}") from error

    def _bare(self, token: _Token) -> QueryError:
        word = token.text
        if word.lower() in (*self.columns.usual(), FIRES):
            example = "fires:12" if word.lower() == FIRES else _how_to_ask(self.columns[word])
            return self._error(token, "a comparison or a value is missing after this", f"Expected {example}.")
        like = self.columns.nearest(word)
        near = f" (nearest: {_listed(like)})" if like else ""
        expected = f'Expected a text in quotes, "{word}", or a condition on a column{near}.'
        return self._error(token, "a word by itself is no condition", expected)

    def _said(self, token: _Token) -> str:
        text = re.sub(r"\\(.)", r"\1", token.text, flags=re.DOTALL) if token.kind == "quoted" else token.text
        if not text:
            raise self._error(token, "there is nothing in these quotes", "Expected a text.")
        if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
            raise self._error(token, "this has a character that no text has", "Take it away.")
        return text

    def _value(self, expected: str) -> _Token:
        """What stands after a colon or a sign: quoted, or up to the next space, bracket or quote."""
        token = self._next()
        if token.kind == "quoted":
            return self._take()
        found = _VALUE.match(self.query, token.start) if token.kind != "end" else None
        if found is None:
            raise self._error(token, "a value is missing here", f"Expected {expected}.")
        self.at = found.end()
        return _Token("word", found[0], found.start(), found.end())

    def _took(self, word: str) -> bool:
        token = self._next()
        if token.kind != "word" or token.text.lower() != word:
            return False
        self.at = token.end
        return True

    def _took_minus(self) -> bool:
        token = self._next()
        if token.kind != "word" or token.text[0] not in "-−":
            return False
        self.at = token.start + 1
        return True

    def _take(self) -> _Token:
        token = self._next()
        self.at = token.end
        return token

    def _next(self) -> _Token:
        start = self.at
        while start < len(self.query) and self.query[start].isspace():
            start += 1
        found = _TOKEN.match(self.query, start)
        if found is None:
            return _Token("end", "", len(self.query), len(self.query))
        kind = found.lastgroup or "other"
        kind = "quoted" if found["quoted"] is not None else kind
        if kind == "quoted" and not found["end"]:
            raise QueryError(self.query, start, len(self.query), "this text has no end", 'Write " after it.')
        return _Token(kind, found["inside"] if kind == "quoted" else found[0], start, found.end())

    def _error(self, token: _Token, what: str, expected: str) -> QueryError:
        return QueryError(self.query, token.start, token.end, what, expected)


def _number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        value = float(text.replace("−", "-"))
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _how_to_ask(column: Column) -> str:
    """Of a column, one or two conditions that it takes."""
    if column.holds == "yes or no":
        return f"{column.name}:yes or {column.name}:no"
    if column.holds == "text":
        return f'{column.name}:"some text"'
    if column.holds == "word":
        words = [word for word, _ in column.words or ()]
        return (
            f"{column.name}:{words[0]}" + (f" (or {_listed(words[1:])})" if words[1:] else "")
            if words
            else (f"{column.name}:WORD")
        )
    return f"a number: {column.name} > 0.2" if not column.is_count else f"{column.name}:yes, or {column.name} > 4"


def _listed(words: Sequence[str], most: int = 6) -> str:
    return ", ".join(words[:most]) + (" …" if len(words) > most else "")
