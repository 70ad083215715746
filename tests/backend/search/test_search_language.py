"""What a query comes to, what is said of one that is wrong, and that nothing of it ever becomes SQL."""

import random
from dataclasses import replace

import pytest

from backend.search.columns import NoColumn, known_columns
from backend.search.language import DEEPEST, LONGEST, QueryError, parse
from backend.store.search_queries import Compares, Every, IsKnown, IsOneOf, IsTrue, Not, Says, Some
from backend.store.store import Store
from tests import small_dictionary, small_study


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = small_study.make(tmp_path_factory.mktemp("language") / "small")
    small_study.add_divergence(folder, [(0, 0.4, 0.001), (1, 0.2, 0.2), (2, 0.05, 0.9)])
    small_dictionary.add(folder)
    return Store(folder)


@pytest.fixture(scope="module")
def known(store):
    return known_columns(store)


def test_each_form_of_a_condition_has_its_meaning(known):
    column = known.__getitem__
    text, importance = column("text"), column("importance")
    wait = Says(text, "wait")
    meant = {
        "": Every(),
        "  ": Every(),
        '"wait"': wait,
        "“wait”": wait,
        '"say \\"wait\\" twice"': Says(text, 'say "wait" twice'),
        "importance > 0.2": Compares(importance, ">", 0.2),
        "importance>0.2": Compares(importance, ">", 0.2),
        "importance>=-1e-3": Compares(importance, ">=", -1e-3),
        "importance ≤ −2": Compares(importance, "<=", -2),
        "importance != 0": Compares(importance, "<>", 0),
        "IMPORTANCE = 1": Compares(importance, "=", 1),
        "level:2": Compares(column("level"), "=", 2),
        "correct:no": IsTrue(column("correct"), False),
        "correct:YES": IsTrue(column("correct"), True),
        "rollouts:yes": Compares(column("rollouts"), ">", 0),
        "rollouts:no": Compares(column("rollouts"), "=", 0),
        "tag:self_checking": IsOneOf(column("tag"), ("self_checking",)),
        'tag:"Self-checking"': IsOneOf(column("tag"), ("self_checking",)),
        "answer:54": IsOneOf(column("answer"), ("54",)),
        'question:"crates"': Says(column("question"), "crates"),
        "known:importance": IsKnown(importance),
        "fires:1": Compares(column("fires@1"), ">", 0),
        "fires@1 > 2": Compares(column("fires@1"), ">", 2),
        '-"wait"': Not(wait),
        'not "wait"': Not(wait),
        '- -"wait"': wait,
        'not not not "wait"': Not(wait),
        'level:2 "wait"': Every((Compares(column("level"), "=", 2), wait)),
        'level:2 and "wait"': Every((Compares(column("level"), "=", 2), wait)),
        'level:2 OR "wait"': Some((Compares(column("level"), "=", 2), wait)),
        'level:2 (level:3 or "wait")': Every(
            (Compares(column("level"), "=", 2), Some((Compares(column("level"), "=", 3), wait)))
        ),
        'level:2 level:3 or "wait"': Some(
            (Every((Compares(column("level"), "=", 2), Compares(column("level"), "=", 3))), wait)
        ),
        '-(level:2 or "wait")': Not(Some((Compares(column("level"), "=", 2), wait))),
    }
    for query, condition in meant.items():
        assert parse(query, known) == condition, query


@pytest.mark.parametrize(
    ("query", "word", "says"),
    [
        ("imprtance > 0.2", "imprtance", ("no such column", "Nearest: importance")),
        ("level:2 tagg:plan", "tagg", ("no such column", "tag")),
        ("tag:self_check", "self_check", ("no tag of this name", "self_checking")),
        ("model:resoner", "resoner", ("no model of this name",)),
        ('level:2 wait "x"', "wait", ("by itself", '"wait"')),
        ("level", "level", ("missing after this", "level > 0.2")),
        ("level >", "", ("a value is missing", "level > 0.2")),
        ("level > high", "high", ("no number",)),
        ("level > nan", "nan", ("no number",)),
        ("level > 1_0", "1_0", ("no number",)),
        ('level > "2"', '"2"', ("no number",)),
        ("tag > 2", ">", ("tag is no number", "tag:")),
        ("correct:maybe", "maybe", ("no such value", "correct:yes or correct:no")),
        ("importance:yes", "yes", ("no such value", "importance > 0.2")),
        ("fires:many", "many", ("whole number",)),
        ("fires:99999999999999999999", "99999999999999999999", ("whole number",)),
        ("fires", "fires", ("fires:12",)),
        ("steepness@99 > 1", "steepness@99", ("not had at 99", "15")),
        ("steepness@ > 1", "steepness@", ("no such column",)),
        ('"wait', '"wait', ("no end",)),
        ('""', '""', ("nothing in these quotes",)),
        ("(level:2", "(", ("never closed",)),
        ("level:2)", ")", ("closes no bracket",)),
        ("level:2 or", "", ("missing here",)),
        ("or level:2", "or", ("no condition begins",)),
        ("level:2 -", "", ("missing here",)),
        ("known:nothing", "nothing", ("no such column",)),
        ("> 2", ">", ("no condition begins",)),
        (":", ":", ("no condition begins",)),
    ],
)
def test_a_wrong_query_says_which_word_is_wrong_where_and_what_was_expected(known, query, word, says):
    with pytest.raises(QueryError) as caught:
        parse(query, known)
    error = caught.value
    assert query[error.start : error.end] == word
    assert all(part in str(error) for part in says), str(error)
    assert error.pointed.splitlines()[1].index("^") == error.start
    if word:
        assert f"“{word}” (character {query.index(word) + 1})" in str(error)


def test_a_query_that_is_too_long_or_too_deep_is_refused_and_signs_repeat_without_end(known):
    with pytest.raises(QueryError, match="At most"):
        parse("x" * (LONGEST + 1), known)
    assert parse("(" * DEEPEST + "level:2" + ")" * DEEPEST, known)
    with pytest.raises(QueryError, match="brackets are open"):
        parse("(" * (DEEPEST + 1) + "level:2" + ")" * (DEEPEST + 1), known)
    assert isinstance(parse("-" * (LONGEST - 10) + "level:2", known), Compares)


def test_a_study_without_features_says_so(store):
    known = known_columns(store)
    bare = type(known)(known.families.values())
    with pytest.raises(QueryError, match="no features"):
        parse("fires:1", bare)
    with pytest.raises(NoColumn):
        bare["fires@1"]


MARK = "zqxmark"
MARK = "zqxmark"
JUNK = (
    *("'", "''", '"', "\\", ";", "--", "/*", "*/", "$v0", "$1", "?", "%", "_", "{", "}", "{0}", "\n", "\t", "\0", "j."),
    *("(", ")", ":", "<", ">=", "=", "-", "@", ",", ".", "or", "and", "not", "known:", "fires:", "fires@1", "nan"),
    *("SELECT", "DROP TABLE chunks", "UNION SELECT 1", "1=1", "' OR '1'='1", "); DELETE FROM cots; --", "k.text"),
    *("importance", "importance.q", "level", "tag", "text", "steepness@15", "model", "correct", "0.2", "-1", "yes"),
    *("“Ω”", "\ud800", "\u202e", "é", "1e999", MARK),
)
SENSE = (
    "tag:self_checking",
    "-level:2",
    "importance > -1",
    "(rollouts:yes or q < 1)",
    "fires:1",
    "known:steepness",
    "or",
)


def junk(rng: random.Random) -> str:
    """Pieces of queries, SQL and signs in any order; half of them inside values, where they may stand."""
    pieces = rng.choices(JUNK, k=rng.randint(1, 9))
    if rng.random() < 0.5:
        return rng.choice(("", " ")).join(pieces)
    inside = " ".join(pieces).replace("\\", "\\\\").replace('"', '\\"').replace("“", "").replace("”", "")
    return " ".join((rng.choice(SENSE), rng.choice(("", "-", "answer:", "question:", "problem:")) + f'"{inside}"'))


def test_junk_and_sql_either_mean_something_harmless_or_are_refused(store, known):
    rng, asked, n_asked, n_refused = random.Random(5), [], 0, 0
    real = store._cursor

    def noted(sql):
        asked.append(sql)
        return real(sql)

    store._cursor = noted
    before = store.counts().to_dict()
    try:
        for _ in range(3000):
            text = junk(rng)
            try:
                condition = parse(text, known)
            except QueryError as error:
                assert 0 <= error.start <= error.end <= len(text) and error.pointed
                n_refused += 1
                continue
            if n_asked < 60:
                n_asked += 1
                assert len(store.search(condition, [], limit=3)) <= 3
    finally:
        del store._cursor
    assert n_asked == 60 and n_refused > 1000
    assert asked and not any(MARK in sql or "DROP" in sql or "' OR" in sql for sql in asked)
    assert store.counts().to_dict() == before


def test_a_quoted_text_is_looked_for_as_it_stands(store, known):
    every = store.search(Every(), [known["text"]])["text"]
    for text in ("%", "_", "' OR 1=1 --", "<script>", "WAIT, did", "$\\", "."):
        escaped = text.replace("\\", "\\\\")
        found = store.search(parse(f'"{escaped}"', known), [known["text"]])["text"].tolist()
        assert found == [one for one in every if text.lower() in one.lower()], text
    assert len(store.search(parse('"wait, DID"', known), []))


def test_what_was_bound_is_what_was_typed(store, known):
    name = replace(known["answer"], name="elsewhere")
    assert len(store.search(IsOneOf(name, ("x'); DROP TABLE chunks; --",)), [])) == 0
    assert len(store.search(Every(), [])) == store.counts()["chunks"][0]
