"""Our own arithmetic word problems in five levels, whose answers are right by construction.

A generated problem is a little story whose numbers are drawn first; its solution is a list of calculations, each
evaluated in exact fractions, and the last value is the answer. So the answer is right by construction, and the shown
steps can be checked again. Level 1 is one step with small numbers, 2 two steps, 3 three steps with money and groups, 4
three to four steps with percentages and unit changes, 5 four to five steps with fractions, percentages and rates.
"""

import ast
import operator
import random
from collections.abc import Callable, Mapping
from fractions import Fraction

from backend.cot.problems import Problem, ProblemError
from backend.ids import seed_for, stable_id

# fmt: off  (a word a line would hide the generator behind a hundred and twenty lines of words)
NAMES = (
    "Tom",
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Iris",
    "Jack",
    "Kate",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Uma",
    "Victor",
    "Wendy",
    "Yusuf",
    "Zoe",
    "Amir",
    "Bella",
    "Carlos",
    "Diana",
    "Elif",
    "Fatima",
    "George",
    "Hana",
    "Ivan",
    "Julia",
    "Kofi",
    "Lina",
    "Mateo",
    "Nina",
    "Omar",
    "Priya",
    "Quinn",
    "Ravi",
    "Sofia",
    "Tariq",
    "Vera",
    "Will",
    "Xena",
)
THINGS = (
    "apples",
    "oranges",
    "books",
    "pencils",
    "marbles",
    "stickers",
    "shells",
    "cards",
    "coins",
    "buttons",
    "stamps",
    "toys",
    "cookies",
    "balloons",
    "flowers",
    "eggs",
    "cups",
    "plates",
    "candles",
    "ribbons",
    "beads",
    "bottles",
    "lemons",
    "pears",
    "plums",
    "peaches",
    "muffins",
    "rocks",
    "crayons",
    "magnets",
)
GROUPS = (
    "boxes",
    "bags",
    "baskets",
    "jars",
    "trays",
    "drawers",
    "crates",
    "packs",
)
GOODS = (
    ("notebook", "notebooks"),
    ("ticket", "tickets"),
    ("cup of tea", "cups of tea"),
    ("hat", "hats"),
    ("plant", "plants"),
    ("brush", "brushes"),
    ("lamp", "lamps"),
    ("sandwich", "sandwiches"),
    ("ball", "balls"),
    ("poster", "posters"),
    ("scarf", "scarves"),
    ("mug", "mugs"),
)
PLACES = (
    "a farm",
    "a school",
    "a library",
    "a bakery",
    "a shop",
    "a factory",
    "a museum",
    "a garden",
    "an office",
    "a hotel",
)
JOBS = (
    ("paints", "fence posts"),
    ("folds", "letters"),
    ("packs", "parcels"),
    ("bakes", "rolls"),
    ("prints", "posters"),
    ("checks", "forms"),
    ("fills", "bottles"),
    ("repairs", "chairs"),
)
# fmt: on

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def exact_value(expression: str) -> Fraction:
    """Value of whole numbers joined by + - * / and brackets, as an exact fraction."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"{expression!r} is more than whole numbers, + - * / and brackets")

    return value(ast.parse(expression, mode="eval").body)


class _Story:
    """Names and numbers from one random generator, and the calculations that solve the story."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.one, self.two, self.three = rng.sample(NAMES, 3)
        self.things, self.others = rng.sample(THINGS, 2)
        self.groups = rng.choice(GROUPS)
        self.steps: list[str] = []
        self.result = Fraction(0)

    def number(self, low: int, high: int, *, step: int = 1) -> int:
        return self.rng.randrange(low, high + 1, step)

    def pick(self, *wordings: str) -> str:
        return self.rng.choice(wordings)

    def work(self, expression: str) -> str:
        """Adds one calculation; its value comes back as it is written in the next one."""
        self.result = exact_value(expression)
        self.steps.append(f"{expression} = {self.result}")
        return str(self.result) if self.result.denominator == 1 else f"({self.result})"


def _buy_more(s: _Story) -> str:
    a, b = s.number(2, 7), s.number(2, 6)
    s.work(f"{a} + {b}")
    return s.pick(
        f"{s.one} has {a} {s.things} and buys {b} more. How many {s.things} does {s.one} have now?",
        f"{s.one} finds {a} {s.things} in the morning and {b} {s.things} in the evening. How many {s.things} does"
        f" {s.one} find in total?",
        f"There are {a} {s.things} on the table. {s.one} puts {b} more {s.things} on it. How many {s.things} are on the"
        " table now?",
    )


def _give_away(s: _Story) -> str:
    a = s.number(5, 10)
    b = s.number(2, min(5, a - 2))
    s.work(f"{a} - {b}")
    return s.pick(
        f"{s.one} has {a} {s.things} and gives {b} of them to {s.two}. How many {s.things} does {s.one} have left?",
        f"{s.one} had {a} {s.things} but lost {b}. How many {s.things} are left?",
        f"There are {a} {s.things} in a basket. {s.one} takes {b} of them out. How many {s.things} stay in the basket?",
    )


def _together(s: _Story) -> str:
    a, b = s.number(2, 7), s.number(2, 7)
    s.work(f"{a} + {b}")
    return s.pick(
        f"{s.one} has {a} {s.things} and {s.two} has {b} {s.things}. How many {s.things} do they have together?",
        f"{s.one} collects {a} {s.things}. {s.two} collects {b} {s.things}. How many {s.things} do they collect"
        " altogether?",
    )


def _equal_groups(s: _Story) -> str:
    a, b = s.number(2, 4), s.number(2, 5)
    s.work(f"{a} * {b}")
    return s.pick(
        f"There are {a} {s.groups} with {b} {s.things} in each. How many {s.things} are there in all?",
        f"{s.one} fills {a} {s.groups}. Each holds {b} {s.things}. How many {s.things} does {s.one} need?",
    )


def _share(s: _Story) -> str:
    friends, each = s.number(2, 4), s.number(2, 5)
    s.work(f"{friends * each} / {friends}")
    return s.pick(
        f"{s.one} shares {friends * each} {s.things} equally among {friends} friends. How many {s.things} does each"
        " friend get?",
        f"{s.one} puts {friends * each} {s.things} into {friends} equal groups. How many {s.things} are in each group?",
    )


def _age(s: _Story) -> str:
    a, b = s.number(4, 10), s.number(2, 5)
    if s.rng.random() < 0.5:
        s.work(f"{a} + {b}")
        return f"{s.one} is {a} years old. {s.two} is {b} years older than {s.one}. How old is {s.two}?"
    s.work(f"{a + b} - {b}")
    return f"{s.one} is {a + b} years old. {s.two} is {b} years younger than {s.one}. How old is {s.two}?"


def _buy_then_give(s: _Story) -> str:
    a, b = s.number(4, 9), s.number(2, 6)
    c = s.number(2, 5)
    s.work(f"{s.work(f'{a} + {b}')} - {c}")
    return s.pick(
        f"{s.one} has {a} {s.things}. {s.one} buys {b} more and then gives {c} to {s.two}. How many {s.things} does"
        f" {s.one} have now?",
        f"A shop has {a} {s.things}. It gets {b} more and sells {c}. How many {s.things} does the shop have now?",
        f"{s.one} picks {a} {s.things} on Monday and {b} on Tuesday, then uses {c} of them. How many {s.things} are"
        " left?",
    )


def _groups_and_more(s: _Story) -> str:
    a, b, c = s.number(2, 3), s.number(2, 5), s.number(2, 6)
    s.work(f"{s.work(f'{a} * {b}')} + {c}")
    return s.pick(
        f"{s.one} has {a} {s.groups} with {b} {s.things} in each, and {c} more {s.things} on a shelf. How many"
        f" {s.things} does {s.one} have in total?",
        f"{s.one} buys {a} packs of {b} {s.things} and finds {c} {s.things} at home. How many {s.things} does {s.one}"
        " have?",
    )


def _more_than_other(s: _Story) -> str:
    a, b = s.number(3, 8), s.number(2, 5)
    s.work(f"{s.work(f'{a} + {b}')} + {a}")
    return s.pick(
        f"{s.one} has {a} {s.things}. {s.two} has {b} more {s.things} than {s.one}. How many {s.things} do {s.one} and"
        f" {s.two} have together?",
        f"{s.one} reads {a} pages on Monday. On Tuesday {s.one} reads {b} pages more than on Monday. How many pages"
        f" does {s.one} read on both days?",
    )


def _change(s: _Story) -> str:
    n, price = s.number(2, 4), s.number(2, 4)
    paid = 10 if n * price < 10 else 20
    s.work(f"{paid} - {s.work(f'{n} * {price}')}")
    one, many = s.rng.choice(GOODS)
    return s.pick(
        f"One {one} costs {price} dollars. {s.one} buys {n} {many} and pays with a {paid} dollar bill. How many dollars"
        f" does {s.one} get back?",
        f"{s.one} has {paid} dollars and buys {n} {many} for {price} dollars each. How many dollars does {s.one} have"
        " left?",
    )


def _twice_lost(s: _Story) -> str:
    a = s.number(10, 16)
    b, c = s.number(2, 4), s.number(2, 4)
    s.work(f"{s.work(f'{a} - {b}')} - {c}")
    return s.pick(
        f"There are {a} {s.things} in a box. {s.one} takes {b} and {s.two} takes {c}. How many {s.things} are left in"
        " the box?",
        f"{s.one} bakes {a} muffins. {s.one} eats {b} and gives {c} to {s.two}. How many muffins are left?",
    )


def _shopping(s: _Story) -> str:
    (one, many), (other, others) = s.rng.sample(GOODS, 2)
    n, p, m, q = s.number(2, 6), s.number(3, 12), s.number(2, 6), s.number(2, 9)
    s.work(f"{s.work(f'{n} * {p}')} + {s.work(f'{m} * {q}')}")
    return s.pick(
        f"{s.one} buys {n} {many} for {p} dollars each and {m} {others} for {q} dollars each. How many dollars does"
        f" {s.one} spend?",
        f"A {one} costs {p} dollars and a {other} costs {q} dollars. What do {n} {many} and {m} {others} cost together,"
        " in dollars?",
    )


def _groups_shared(s: _Story) -> str:
    people, each, lost = s.number(3, 8), s.number(3, 12), s.number(2, 15)
    total = people * each + lost
    boxes = next((k for k in (6, 5, 4, 3, 2) if total % k == 0), 1)
    per_box = total // boxes
    rest = s.work(f"{s.work(f'{boxes} * {per_box}')} - {lost}")
    s.work(f"{rest} / {people}")
    holder = f"1 box holds {per_box} {s.things}" if boxes == 1 else f"{boxes} boxes hold {per_box} {s.things} each"
    return s.pick(
        f"{holder}. {lost} {s.things} are broken, and the rest are shared equally by {people} children. How many"
        f" {s.things} does each child get?",
        f"{s.one} buys {boxes} {'pack' if boxes == 1 else 'packs'} of {per_box} {s.things}, gives {lost} of them to"
        f" {s.two}, and puts the others into {people} equal piles. How many {s.things} are in each pile?",
    )


def _times_as_many(s: _Story) -> str:
    a, k = s.number(4, 15), s.number(2, 5)
    b = s.number(2, min(12, a * k - 2))
    left = s.work(f"{s.work(f'{a} * {k}')} - {b}")
    s.work(f"{left} + {a}")
    return s.pick(
        f"{s.one} has {a} {s.things}. {s.two} has {k} times as many {s.things} as {s.one}, and gives {b} of them away."
        f" How many {s.things} do {s.one} and {s.two} have together now?",
        f"A small hall has {a} seats and a large hall has {k} times as many. In the large hall {b} seats are taken out."
        " How many seats do the two halls have together now?",
    )


def _working_week(s: _Story) -> str:
    hours, days, pay = s.number(3, 8), s.number(3, 6), s.number(8, 15)
    costs = s.number(10, 60, step=5)
    earned = s.work(f"{s.work(f'{hours} * {days}')} * {pay}")
    s.work(f"{earned} - {costs}")
    return s.pick(
        f"{s.one} works {hours} hours a day for {days} days and earns {pay} dollars an hour. Then {s.one} spends"
        f" {costs} dollars. How many dollars are left?",
        f"At {s.rng.choice(PLACES)} {s.one} is paid {pay} dollars an hour. {s.one} works {days} days of {hours} hours"
        f" and pays {costs} dollars for travel. How many dollars does {s.one} keep?",
    )


def _rows(s: _Story) -> str:
    rows, seats, empty, price = s.number(4, 9), s.number(5, 12), s.number(3, 18), s.number(2, 6)
    filled = s.work(f"{s.work(f'{rows} * {seats}')} - {empty}")
    s.work(f"{filled} * {price}")
    return s.pick(
        f"A room has {rows} rows of {seats} seats, and {empty} seats are empty. Everyone in the room paid {price}"
        " dollars. How many dollars were paid in total?",
        f"{s.one} plants {rows} rows of {seats} bushes. {empty} bushes die, and each of the others bears {price} roses."
        " How many roses are there?",
    )


def _discount(s: _Story) -> str:
    one, many = s.rng.choice(GOODS)
    n, price, percent, paid_in = (
        s.number(3, 8),
        s.number(20, 60, step=20),
        s.rng.choice((10, 20, 25, 50)),
        s.number(450, 700, step=50),
    )
    total = s.work(f"{n} * {price}")
    off = s.work(f"{total} * {percent} / 100")
    s.work(f"{paid_in} - {s.work(f'{total} - {off}')}")
    return s.pick(
        f"A {one} costs {price} dollars. {s.one} buys {n} {many} and gets {percent}% off the total. {s.one} had"
        f" {paid_in} dollars. How many dollars are left?",
        f"{s.one} has {paid_in} dollars and orders {n} {many} at {price} dollars each with a discount of {percent}%."
        f" How many dollars does {s.one} have afterwards?",
    )


def _travel(s: _Story) -> str:
    speed, minutes, second, hours = (
        s.number(24, 72, step=12),
        s.rng.choice((15, 30, 45, 75, 90, 105)),
        s.number(40, 90, step=5),
        s.number(2, 5),
    )
    first = s.work(f"{speed} * {minutes} / 60")
    s.work(f"{first} + {s.work(f'{second} * {hours}')}")
    return s.pick(
        f"{s.one} rides for {minutes} minutes at {speed} kilometers per hour, then travels by car for {hours} hours at"
        f" {second} kilometers per hour. How many kilometers is that in total?",
        f"A bus drives {minutes} minutes at {speed} kilometers per hour. A train then runs {hours} hours at {second}"
        " kilometers per hour. How many kilometers do both cover together?",
    )


def _share_of_class(s: _Story) -> str:
    total, percent, leave = s.number(80, 240, step=40), s.rng.choice((25, 35, 40, 60, 75)), s.number(3, 15)
    group = s.work(f"{total} * {percent} / 100")
    stay = s.work(f"{group} - {leave}")
    s.work(f"{total} - {stay}")
    place = s.rng.choice(PLACES)
    return s.pick(
        f"{total} people visit {place}. {percent}% of them are children, and the others are adults. Then {leave} of the"
        " children are joined to the adults' group. How many people are in the adults' group?",
        f"Of {total} {s.things}, {percent}% are red and the others are blue. {s.one} paints {leave} of the red ones"
        f" blue. How many {s.things} are blue now?",
    )


def _litres(s: _Story) -> str:
    bottles, ml, people, glass = (
        s.number(4, 12, step=2),
        s.rng.choice((500, 750, 1500)),
        s.number(2, 6),
        s.number(100, 300, step=50),
    )
    total = s.work(f"{bottles} * {ml}")
    drunk = s.work(f"{people} * {glass}")
    s.work(f"{s.work(f'{total} - {drunk}')} / 1000")
    return s.pick(
        f"{s.one} has {bottles} bottles of {ml} milliliters of juice. {people} guests drink {glass} milliliters each."
        " How many liters of juice are left?",
        f"A tank is filled from {bottles} cans of {ml} milliliters. {people} plants get {glass} milliliters each. How"
        " many liters stay in the tank?",
    )


def _savings(s: _Story) -> str:
    weeks, save, goal, gift = s.number(4, 12), s.number(12, 35), s.number(600, 900, step=50), s.number(15, 60, step=5)
    saved = s.work(f"{weeks} * {save}")
    gifts = s.work(f"{gift} * 2")
    s.work(f"{goal} - {s.work(f'{saved} + {gifts}')}")
    return s.pick(
        f"{s.one} saves {save} dollars a week for {weeks} weeks and gets {gift} dollars from each of two aunts. A"
        f" bicycle costs {goal} dollars. How many dollars is {s.one} still short?",
        f"{s.one} wants {goal} dollars. {s.one} puts {save} dollars aside in each of {weeks} weeks, and {s.two} and"
        f" {s.three} add {gift} dollars each. How many dollars are missing?",
    )


def _fraction_of_rest(s: _Story) -> str:
    (p, q), (u, v) = s.rng.choice(((1, 3), (2, 5), (1, 4), (3, 8))), s.rng.choice(((1, 2), (2, 3), (3, 4), (1, 5)))
    total, back = q * v * s.number(3, 12), s.number(2, 12)
    first = s.work(f"{total} * {p} / {q}")
    rest = s.work(f"{total} - {first}")
    second = s.work(f"{rest} * {u} / {v}")
    s.work(f"{s.work(f'{rest} - {second}')} + {back}")
    return s.pick(
        f"{s.one} has {total} {s.things}. {s.one} gives {p}/{q} of them to {s.two} and then {u}/{v} of the rest to"
        f" {s.three}. Later {s.one} finds {back} more. How many {s.things} does {s.one} have now?",
        f"A store has {total} {s.things}. It sells {p}/{q} of them on Monday and {u}/{v} of what is left on Tuesday. On"
        f" Wednesday {back} {s.things} arrive. How many {s.things} does the store have?",
    )


def _joint_work(s: _Story) -> str:
    a, b = s.rng.sample((2, 3, 4, 5, 6, 8, 10, 12), 2)
    share = s.rng.choice((2, 3, 4))
    rate = s.work(f"{s.work(f'1 / {a}')} + {s.work(f'1 / {b}')}")
    left = s.work(f"1 - {s.work(f'1 / {share}')}")
    s.work(f"{left} / {rate}")
    return s.pick(
        f"{s.one} can paint a wall in {a} hours and {s.two} can paint it in {b} hours. 1/{share} of the wall is already"
        " painted. Working together, how many hours do they need for the rest? Give an exact fraction.",
        f"One pipe fills a pool in {a} hours and another fills it in {b} hours. The pool is 1/{share} full. With both"
        " pipes open, how many hours does it take until the pool is full? Give an exact fraction.",
    )


def _two_changes(s: _Story) -> str:
    one, _ = s.rng.choice(GOODS)
    price, up, down, n = (
        s.number(100, 400, step=20),
        s.rng.choice((10, 20, 25, 50)),
        s.rng.choice((10, 20, 25, 30, 40)),
        s.number(2, 6),
    )
    raised = s.work(f"{price} + {s.work(f'{price} * {up} / 100')}")
    lowered = s.work(f"{raised} - {s.work(f'{raised} * {down} / 100')}")
    s.work(f"{n} * {lowered}")
    return s.pick(
        f"A {one} costs {price} dollars. The price rises by {up}% and then falls by {down}%. What do {n} of them cost"
        " after that, in dollars? Give an exact number.",
        f"{s.one} sells a {one} for {price} dollars, raises the price by {up}%, and later takes {down}% off the new"
        f" price. {s.two} then buys {n} of them. How many dollars does {s.two} pay? Give an exact number.",
    )


def _average_speed(s: _Story) -> str:
    d1, v1, d2, v2 = (
        s.number(20, 90, step=10),
        s.rng.choice((20, 30, 40, 60)),
        s.number(30, 120, step=10),
        s.rng.choice((15, 25, 45, 50, 80)),
    )
    time = s.work(f"{s.work(f'{d1} / {v1}')} + {s.work(f'{d2} / {v2}')}")
    s.work(f"{s.work(f'{d1} + {d2}')} / {time}")
    return s.pick(
        f"{s.one} drives {d1} kilometers at {v1} kilometers per hour and then {d2} kilometers at {v2} kilometers per"
        " hour. What is the average speed of the whole trip in kilometers per hour? Give an exact fraction or whole"
        " number.",
        f"A boat covers {d1} kilometers at {v1} kilometers per hour and another {d2} kilometers at {v2} kilometers per"
        " hour. Find its average speed in kilometers per hour as an exact fraction or whole number.",
    )


def _mixture(s: _Story) -> str:
    x, p, y, q, out = (
        s.number(2, 8),
        s.rng.choice((10, 20, 30, 40)),
        s.number(2, 8),
        s.rng.choice((50, 60, 75, 80)),
        s.number(1, 3),
    )
    pure = s.work(f"{s.work(f'{x} * {p} / 100')} + {s.work(f'{y} * {q} / 100')}")
    share = s.work(f"{pure} / {s.work(f'{x} + {y}')}")
    s.work(f"{share} * {out}")
    return s.pick(
        f"{x} liters of a drink with {p}% juice are mixed with {y} liters of a drink with {q}% juice. How many liters"
        f" of pure juice are in {out} {'liter' if out == 1 else 'liters'} of the mixture? Give an exact number.",
        f"{s.one} pours {x} liters of paint that is {p}% blue into {y} liters of paint that is {q}% blue. How many"
        f" liters of blue are in {out} {'liter' if out == 1 else 'liters'} of the result? Give an exact number.",
    )


def _production(s: _Story) -> str:
    verb, things = s.rng.choice(JOBS)
    rate, hours, faster, bad = (
        s.number(20, 80, step=10),
        s.number(3, 8),
        s.rng.choice((10, 20, 30, 50)),
        s.rng.choice((5, 10, 20)),
    )
    quick = s.work(f"{rate} + {s.work(f'{rate} * {faster} / 100')}")
    total = s.work(f"{s.work(f'{rate} + {quick}')} * {hours}")
    s.work(f"{total} - {total} * {bad} / 100")
    return s.pick(
        f"{s.one} {verb} {rate} {things} an hour and {s.two} is {faster}% faster. They both work {hours} hours, and"
        f" {bad}% of what they do has to be thrown away. How many {things} remain? Give an exact number.",
        f"An old machine {verb} {rate} {things} an hour, and a new one does {faster}% more. Both run for {hours} hours."
        f" If {bad}% of the {things} fail, how many do not fail? Give an exact number.",
    )


TEMPLATES: dict[int, tuple[Callable[[_Story], str], ...]] = {
    1: (_buy_more, _give_away, _together, _equal_groups, _share, _age),
    2: (_buy_then_give, _groups_and_more, _more_than_other, _change, _twice_lost),
    3: (_shopping, _groups_shared, _times_as_many, _working_week, _rows),
    4: (_discount, _travel, _share_of_class, _litres, _savings),
    5: (_fraction_of_rest, _joint_work, _two_changes, _average_speed, _mixture, _production),
}


def generate(per_level: int | Mapping[int, int], seed: int) -> list[Problem]:
    """Arithmetic word problems, sorted by level: `per_level` of each level, or a count for each level named.

    The same seed gives the same problems, and a larger count begins with the problems of a smaller one. No question
    comes twice.
    """
    counts = dict.fromkeys(TEMPLATES, per_level) if isinstance(per_level, int) else dict(per_level)
    for level, count in counts.items():
        if level not in TEMPLATES or count < 0:
            raise ProblemError(
                f"asked for {count} problems of level {level}; levels are 1 to 5 and counts are 0 or more. Change the"
                " study file."
            )
    problems = []
    for level in sorted(counts):
        seen: set[str] = set()
        attempt = 0
        while len(seen) < counts[level]:
            if attempt > 100 * counts[level] + 1000:
                raise ProblemError(
                    f"only {len(seen)} different problems of level {level} were found, {counts[level]} were asked for."
                    " Ask for fewer."
                )
            problem = _generated(level, seed, attempt)
            attempt += 1
            if problem.question not in seen:
                seen.add(problem.question)
                problems.append(problem)
    return problems


def _generated(level: int, seed: int, attempt: int) -> Problem:
    rng = random.Random(seed_for("problem", seed, level, attempt))
    story = _Story(rng)
    # Templates take turns, so that even a few problems of a level differ in kind.
    question = TEMPLATES[level][attempt % len(TEMPLATES[level])](story)
    question = question[0].upper() + question[1:]
    return Problem(
        problem_id=stable_id("p", "generator", question),
        source="generator",
        source_key=f"seed {seed}, level {level}, number {attempt}",
        level=level,
        question=question,
        answer=str(story.result),
        solution="\n".join(story.steps),
    )
