"""What lenses learn from is split by problem, and no stream is on two sides of the split."""

from backend.lens.corpus import HELD_OUT, PARTS, TRAIN, VALIDATION, Text, digest, drawn, own_positions, part_of

PROMPT = (1, 2, 3)  # of every problem


def text(name: str, problem: str, *own: int) -> Text:
    ids = (*PROMPT, *own)
    return Text(name, problem, ids, ("prompt",) * 3 + ("cot",) * (len(own) - 1) + ("answer_digit",))


TEXTS = [text(f"c{number}", f"p{number // 2}", 10 + number // 2, 100 + number, 7) for number in range(40)]


def everything(part: str, kinds=("prompt", "cot", "answer_digit"), most: int = 10**6):
    return drawn(TEXTS, part, kinds=kinds, most=most, seed=0)


def test_no_problem_is_in_two_parts_and_every_part_has_its_share():
    problems = [f"p{number}" for number in range(5000)]
    parts = [part_of(problem, 0) for problem in problems]
    for part, share in PARTS.items():
        assert abs(parts.count(part) / len(parts) - share) < 0.03
    assert parts != [part_of(problem, 1) for problem in problems], "the seed has a say"
    found = {part: {name.split(".")[0] for name in everything(part)} for part in PARTS}
    of = {text.text_id: text.problem_id for text in TEXTS}
    sides = [{of[name] for name in found[part]} for part in PARTS]
    assert all(sides) and len(set.union(*sides)) == sum(map(len, sides)) == 20


def test_a_stream_that_several_problems_have_is_nobodys():
    own = own_positions(TEXTS)
    assert all(position >= 3 for positions in own.values() for position in positions)
    prefixes = {part: {text.token_ids[: p + 1] for text in TEXTS for p in everything(part).get(text.text_id, ())}
                for part in PARTS}  # fmt: skip
    assert not prefixes[TRAIN] & prefixes[HELD_OUT] and not prefixes[VALIDATION] & prefixes[HELD_OUT]


def test_a_stream_that_texts_of_one_problem_share_counts_once():
    own = own_positions(TEXTS[:2] + TEXTS[4:5])
    assert own["c0"] == (3, 4, 5) and own["c1"] == (4, 5)


def test_the_first_token_of_a_text_takes_no_part():
    assert own_positions([Text("a", "p", (5, 6), ("text",) * 2)]) == {"a": (1,)}


def test_positions_are_of_the_kinds_that_are_wanted_and_no_more_than_are_wanted():
    digits = everything(TRAIN, kinds=("answer_digit",))
    assert {positions for positions in digits.values()} == {(5,)}
    few = everything(TRAIN, most=7)
    assert sum(map(len, few.values())) == 7 and everything(TRAIN, most=7) == few
    assert all(set(positions) <= set(everything(TRAIN)[name]) for name, positions in few.items())


def test_the_digest_stands_for_texts_and_positions():
    one = digest(TEXTS, everything(TRAIN))
    assert one != digest(TEXTS[1:], everything(TRAIN)) and one != digest(TEXTS, everything(TRAIN, most=7))
