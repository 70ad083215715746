r"""Units of answers: what "km/h", "square feet", "dollars a day", "°C" or "red apples" measure, and how they convert.

Measures are pint's (definitions of SI and customary units with exact factors); money, which has no rate between
currencies, and the names of units in other languages are added here. A word that is no unit names what is counted
("apples"). Nothing is dropped: two quantities can be equal only where they measure the same. Only judging processes
import this.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from sympy import Expr, Integer, Rational, pi


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that pint knows as units and that in an answer nearly always name things.
_THINGS = _set(
    "bar bars barn barns chain chains circle circles count counts cycle cycles decade decades dot dots drop drops hand"
    " hands line lines link links particle particles pixel pixels point points pole poles quarter quarters revolution"
    " revolutions rod rods score slug slugs square squares stone stones turn turns unit units are ares us"
)
_SYMBOLS = _set(
    "m s h g l L N J W V A K C F B d t"
)  # single letters that are units where a space or \text{} sets them apart
_OTHER_NAMES = {
    "second": (
        "Sekunde Sekunden seconde secondes segundo segundos secondo secondi секунда секунды секунд с 秒 秒钟 초 giây"
    ),
    "minute": "Minute Minuten minuto minutos minuti минута минуты минут мин 分钟 分鐘 分間 分 분 phút मिनट دقيقة دقائق",
    "hour": (
        "Stunde Stunden Std heure heures hora horas ora ore час часа часов ч 小时 小時 時間 시간 giờ घंटे घंटा ساعة ساعات"
    ),
    "day": "Tag Tage Tagen jour jours día días dia dias giorno giorni день дня дней 天 日 일 ngày दिन يوم أيام",
    "week": (
        "wk wks Woche Wochen semaine semaines semana semanas settimana settimane неделя недели недель 周 週間 tuần 주"
    ),
    "month": (
        "mo mos Monat Monate Monaten mois mes meses mese mesi месяц месяца месяцев 个月 個月 ヶ月 か月 개월 tháng महीने"
    ),
    "year": (
        "yr yrs Jahr Jahre Jahren année années an ans año años ano anos anno anni год года лет 年 년 năm साल वर्ष سنة"
        " سنوات"
    ),
    "millimeter": "Millimeter millimètre millimètres milímetro milímetros millimetro millimetri мм миллиметр 毫米",
    "centimeter": (
        "cms Zentimeter centimètre centimètres centímetro centímetros centimetro centimetri см сантиметр сантиметров"
        " 厘米 公分"
    ),
    "meter": "Meter Metern mètre mètres metro metros metri м метр метра метров 米 公尺 メートル 미터 mét मीटर متر",
    "kilometer": (
        "kms Kilometer kilomètre kilomètres kilómetro kilómetros quilômetro "
        "quilômetros chilometro chilometri км километр километра "
        "километров 公里 千米 キロメートル 킬로미터 किलोमीटर كيلومتر"
    ),
    "gram": (
        "Gramm gramme grammes gramo gramos grama gramas grammo grammi г грамм граммов 克 グラム 그램 ग्राम جرام gm gms"
    ),
    "kilogram": (
        "kgs Kilogramm kilo kilos kilogramme kilogrammes kilogramo kilogramos quilograma quilogramas quilo quilos"
        " chilogrammo chilogrammi chilo chili кг килограмм килограмма килограммов 千克 公斤 キログラム キロ 킬로그램"
        " किलोग्राम كيلوغرام كجم"
    ),
    "metric_ton": "Tonne Tonnen tonelada toneladas tonnellata tonnellate т тонна тонны тонн 吨 トン 톤",
    "liter": "Liter Litern litro litros litri л литр литра литров 升 リットル 리터 lít लीटर لتر ltr ltrs",
    "milliliter": "mls Milliliter mililitro mililitros millilitro millilitri мл миллилитров 毫升",
    "degree": (
        "deg degs Grad degré degrés grado grados grau graus gradi градус градуса градусов 度 도 độ डिग्री درجة درجات"
    ),
    "mile": "mi Meile Meilen milla millas milha milhas miglio miglia",
    "foot": "ft",
    "yard": "yds",
    "inch": "ins",
    "pound": "lb lbs",
    "kilometer_per_hour": "kmh kmph kph",
    "mile_per_hour": "mph",
    "meter_per_second": "mps",
    "square_kilometer": "sqkm",
    "liter_per_minute": "lpm",
    "byte": "Byte Bytes",
    "kilobyte": "KB",
}
_CURRENCIES = {  # words and signs of one currency, and of its hundredth
    "dollar": (
        "dollar dollars $ US$ USD bucks доллар доллара долларов 美元 ドル 달러 Dollar dólar dólares dollaro dollari",
        "cent cents ¢ penny pennies",
    ),
    "euro": ("euro euros € EUR Euro евро 欧元 ユーロ 유로", "cent cents Cent centimes céntimos centesimi cêntimos"),
    "sterling": ("pound pounds £ GBP quid", "p penny pence"),
    "yen": ("yen ¥ 円 JPY 日元 엔", ""),
    "yuan": ("yuan ¥ 元 块 RMB CNY 人民币 rmb", "fen 分"),
    "rupee": ("rupee rupees ₹ Rs Rs. INR रुपये रुपए रुपया", "paise paisa पैसे"),
    "won": ("won ₩ 원 KRW", ""),
    "ruble": ("ruble rubles rouble roubles ₽ RUB рубль рубля рублей руб", "копейка копейки копеек"),
    "peso": ("peso pesos", "centavo centavos"),
    "real": ("real reais R$ BRL", "centavo centavos"),
    "dong": ("dong đồng ₫ VND", ""),
    "franc": ("franc francs CHF Franken", "Rappen"),
    "lira": ("lira liras ₺ TRY", "kuruş"),
}
CURRENCY_SIGNS = r"US\$|R\$|[$€£¥₹₩₽₺₫]|Rs\.?(?=\s*\d)|(?:USD|EUR|GBP|JPY|CNY|INR|KRW)(?=\s*\d)"
_PARTS = {
    name: Rational(1, under)
    for under, names in (
        (2, "half halves"),
        (3, "third thirds"),
        (4, "fourth fourths quarter quarters"),
        (5, "fifth fifths"),
        (6, "sixth sixths"),
        (7, "sevenths"),
        (8, "eighth eighths"),
        (9, "ninths"),
        (10, "tenth tenths"),
        (100, "hundredths"),
        (1000, "thousandths"),
    )
    for name in names.split()
}
_SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "millions": 10**6,
    "billion": 10**9,
    "billions": 10**9,
    "trillion": 10**12,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "crores": 10**7,
    "लाख": 10**5,
    "करोड़": 10**7,
    "dozen": 12,
    "dozens": 12,
    "万": 10**4,
    "萬": 10**4,
    "亿": 10**8,
    "億": 10**8,
    "만": 10**4,
    "억": 10**8,
    "Millionen": 10**6,
    "Million": 10**6,
    "millones": 10**6,
    "milhões": 10**6,
    "milioni": 10**6,
    "миллионов": 10**6,
    "млн": 10**6,
}
_EMPTY = _set(
    "of the a an in total each left remaining altogether all is are about only per to for and long wide high tall deep"
    " away old apart time times there worth amount st nd rd th"
)
_PROSE = _set(
    "than because since if when then as minus plus not or but which that so less fewer most least except and below"
    " above under behind zero factorial loss to until january february march april may june july august september"
    " october november december"
)
_PERCENT = frozenset(
    (
        "%",
        "percent",
        "per cent",
        "pct",
        "percentage",
        "percentage points",
        "percent points",
        "Prozent",
        "pour cent",
        "por ciento",
        "por cento",
        "per cento",
        "процент",
        "процента",
        "процентов",
        "प्रतिशत",
        "فی صد",
        "パーセント",
        "퍼센트",
    )
)
_SQUARES = {"square": 2, "squared": 2, "sq": 2, "sq.": 2, "cubic": 3, "cubed": 3, "cu": 3, "cu.": 3}
_BEFORE = frozenset({"square", "sq", "sq.", "cubic", "cu", "cu."})
_PER = frozenset({"per", "/", "a", "an", "each", "every", "pro", "par", "por", "в"})
_TOKEN = re.compile(
    r"\^\{\s*(-?\d)\s*\}|\^(-?\d)|(\^\{\\circ\})\s*([CFK]\b)?|(\\cdot|\\times|[*./()\-,])|"
    rf"({CURRENCY_SIGNS}|¢)|((?:[^\W\d_]|['&])+\.?(?:-(?=[^\W\d_]))?)(?:([23])(?!\d))?|(%)|(\s+)|(.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Unit:
    """What a number is a number of.

    One of it is `scale` (and `offset` at zero: temperatures) in base units of its dimensions.
    """

    scale: Expr
    offset: Expr
    dimensions: frozenset[tuple[str, Fraction]]
    things: frozenset[str]  # words for what is counted, singular

    def agrees_with(self, other: "Unit") -> bool:
        """Whether quantities in the two can be compared: same dimensions,
        and the same things as far as both name any."""
        return self.dimensions == other.dimensions and (self.things <= other.things or other.things <= self.things)


@dataclass(frozen=True)
class Tail:
    """What follows a number: what the unit may be (pounds weigh or pay), and what to multiply by ("million")."""

    units: tuple[Unit, ...]
    scale: Expr = Integer(1)  # noqa: RUF009
    percent: bool = False


@dataclass(frozen=True)
class _Atom:
    scale: Expr
    offset: Expr
    dimensions: tuple[tuple[str, Fraction], ...]


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry = pint.UnitRegistry(non_int_type=Fraction, cache_folder=None)
    registry.define("survey_foot = foot")  # given up in 2023: an acre is 43,560 square feet
    return registry


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    return {word: name for name, words in _OTHER_NAMES.items() for word in words.split()}


@lru_cache(maxsize=1)
def _money() -> dict[str, tuple[_Atom, ...]]:
    found: dict[str, tuple[_Atom, ...]] = {}
    for currency, (whole, hundredth) in _CURRENCIES.items():
        for words, scale in ((whole, Rational(1)), (hundredth, Rational(1, 100))):
            for word in words.split():
                found[word] = (*found.get(word, ()), _Atom(scale, Integer(0), ((currency, Fraction(1)),)))
    return found


@lru_cache(maxsize=4096)
def _measure(word: str) -> tuple[_Atom, ...]:
    """What the word can mean as a unit; nothing where it is none."""
    money = _money().get(word) or _money().get(word.lower(), ())
    name = _names().get(word) or _names().get(word.lower(), word)
    if (len(name) == 1 and name not in _SYMBOLS) or name.lower() in _THINGS or not name.isascii():
        return money
    atom = _pint(name) or _pint(name.lower())  # MW is not mW, but Kg is kg
    return money if atom is None else (*money, atom)


@lru_cache(maxsize=4096)
def _pint(name: str) -> _Atom | None:
    import pint

    registry = _registry()
    if len(name) > 1 and not re.fullmatch(r"[A-Za-zΩμ_]{2,40}", name):
        return None
    try:
        unit = registry.parse_units(name)
        zero, one = (registry.Quantity(Fraction(number), unit).to_base_units() for number in (0, 1))
    except (pint.errors.PintError, AttributeError, TypeError, ValueError, ArithmeticError, AssertionError):
        return None  # no unit: pint raises whichever fits what it took the word for
    scale, offset = one.magnitude - zero.magnitude, zero.magnitude
    if not isinstance(scale, Fraction | int) or not isinstance(offset, Fraction | int) or not scale:
        return None
    if "technical_atmosphere" in str(unit):  # cats, hats and mats
        return None
    scale, offset = one.magnitude - zero.magnitude, zero.magnitude
    if not isinstance(scale, Fraction | int) or not isinstance(offset, Fraction | int) or not scale:
        return None
    _, prefixed, suffix = next(iter(registry.parse_unit_name(name)), ("", "", ""))
    if (
        suffix and prefixed and not name.startswith(registry.parse_unit_name(name)[0][0] or name)
    ):  # "cats" are no centi-"at"
        return None
    dimensions = tuple(sorted((str(base), Fraction(power)) for base, power in dict(one.unit_items()).items()))
    if any(base == "radian" for base, _ in dimensions):  # pint's pi is a rounded number
        turns = Fraction(scale) / Fraction(registry.Quantity(Fraction(1), "pi").to_base_units().magnitude)
        if turns.denominator < 10**6:
            return _Atom(Rational(turns.numerator, turns.denominator) * pi, Integer(0), dimensions)
    return _Atom(_rational(scale), _rational(offset), dimensions)


def _rational(number: Fraction | int) -> Expr:
    return Rational(Fraction(number).numerator, Fraction(number).denominator)


def tail(text: str, *, tight: bool = False) -> Tail | None:
    r"""What stands behind a number, read; None where it is no unit: prose, or, set `tight` against the number, letters
    of algebra.

    Understood are products, quotients and powers ("m/s^{2}", "kg \cdot m", "square feet", "cm2", "miles per hour"), and
    things ("red apples").
    """
    words = _tokens(text)
    if words is None:
        return None
    scale = Integer(1)
    while words and words[0][1] == 1 and (factor := _SCALES.get(words[0][0]) or _PARTS.get(words[0][0])):
        scale, words = scale * factor, words[1:]
    if " ".join(word for word, _ in words) in _PERCENT:
        return Tail((), scale, percent=True)
    units = _units(words)
    if units is None or (tight and any(len(thing) <= 3 and thing.isascii() for unit in units for thing in unit.things)):
        return None  # 2xy
    return Tail(tuple(units), scale)


def _tokens(text: str) -> list[tuple[str, int]] | None:
    """(word, power) of the text, with "/" for a quotient; None where there is something that belongs to no unit."""
    words: list[tuple[str, int]] = []
    for found in _TOKEN.finditer(text):
        braced, power, degree, scale_of, sign, currency, word, digit, percent, space, other = found.groups()
        if space or sign in ("\\cdot", "\\times", "*", ".", "(", ")", "-", ","):
            continue
        if other or ((braced or power) and not words):
            return None
        if braced or power:
            words[-1] = words[-1][0], words[-1][1] * int(braced or power)
        elif degree:
            words.append(({"C": "degC", "F": "degF", "K": "kelvin"}.get(scale_of, "degree"), 1))
        elif sign or percent or currency:
            words.append((sign or percent or currency, 1))
        else:
            words.append((word if word in ("Rs.", "sq.", "cu.") else word.rstrip("."), int(digit or 1)))
    return words if len(words) <= 10 else None


def _units(words: Iterable[tuple[str, int]]) -> list[Unit] | None:
    """All readings of the words as one unit."""
    readings: list[tuple[Expr, Expr, dict[str, Fraction]]] = [(Integer(1), Integer(0), {})]
    things: set[str] = set()
    words = list(words)
    sign, ahead, at, measured = 1, 1, 0, 0
    while at < len(words):
        word, power = words[at]
        at += 1
        following = words[at][0] if at < len(words) else ""
        if word in ("degrees", "degree") and following in ("Celsius", "Fahrenheit", "celsius", "fahrenheit", "C", "F"):
            word, at = {"c": "degC", "f": "degF"}[following[0].lower()], at + 1
        elif word in ("Celsius", "Fahrenheit", "celsius", "fahrenheit"):
            word = {"c": "degC", "f": "degF"}[word[0].lower()]
        if word in _PER and (word != "a" or (measured and _measure(following))):
            sign = -1
            continue
        if word in _BEFORE and (_measure(following) or following.lower() in _THINGS):
            ahead = _SQUARES[word]
            continue
        if word in ("squared", "cubed"):
            if at < 2 or not _measure(words[at - 2][0]):
                return None  # 2 squared is 4
            continue
        if following in ("squared", "cubed"):
            power *= _SQUARES[following]
        atoms = _measure(word) if not things or sign < 0 else ()
        if not atoms:
            if word.lower() in _PROSE or (len(word) == 1 and word.isascii() and word.isalpha()):
                return None
            if word.lower() not in _EMPTY:
                raised = power * ahead  # square units are no units, and no cubic ones
                things.add(_singular(word.lower()) + (f"^{raised}" if raised != 1 else ""))
            if sign < 0 and not measured and not things:
                return None
            sign, ahead = 1, 1
            continue
        exponent = Fraction(sign * power * ahead)
        readings = [_times(reading, atom, exponent) for reading in readings for atom in atoms][:12]
        measured, ahead = measured + 1, 1
    if any("/" in thing or not thing for thing in things):
        return None
    return [
        Unit(
            scale,
            offset if measured == 1 else Integer(0),
            frozenset((k, v) for k, v in dims.items() if v),
            frozenset(things),
        )
        for scale, offset, dims in readings
    ]


def _times(
    reading: tuple[Expr, Expr, dict[str, Fraction]], atom: _Atom, exponent: Fraction
) -> tuple[Expr, Expr, dict[str, Fraction]]:
    scale, _, dimensions = reading
    merged = dict(dimensions)
    for base, power in atom.dimensions:
        merged[base] = merged.get(base, Fraction(0)) + power * exponent
    return scale * atom.scale ** int(exponent), atom.offset if exponent == 1 else Integer(0), merged


def _singular(word: str) -> str:
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
