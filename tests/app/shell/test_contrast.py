"""Text is legible: 4.5 to 1 (WCAG 2.2, criterion 1.4.3) on light and dark pages, wherever we choose a colour."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from app.components.reader import _STRONGEST
from app.shell.theme import CATEGORY_COLOURS, ink_on

ROOT = Path(__file__).resolve().parents[3]
THEME = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
STYLE = (ROOT / "app" / "shell" / "style.css").read_text("utf-8")
NEEDED = 4.5
ON_MARKS = "#000000"  # of words that lie on the colours of a scale, never on the page
Rgb = tuple[float, float, float]


def rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue


def luminance(colour: Rgb) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(one: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(one, other, strict=True))
    return red, green, blue


def either(name: str) -> dict[str, str]:
    """Both values of one of the style's own colours."""
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLE)
    assert found, name
    return dict(zip(("light", "dark"), found.groups(), strict=True))


def test_the_measure_knows_its_ends():
    assert contrast(rgb("#000000"), rgb("#FFFFFF")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#FFFFFF")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_page_and_sidebar(theme):
    colours = THEME[theme]
    for ground in (colours["backgroundColor"], colours["secondaryBackgroundColor"]):
        for text in (colours["textColor"], colours["primaryColor"], either("soft")[theme], either("ring")[theme]):
            assert contrast(rgb(text), rgb(ground)) >= NEEDED, (text, ground)
    assert contrast(rgb(either("on-primary")[theme]), rgb(colours["primaryColor"])) >= NEEDED


def test_every_colour_of_the_style_stands_out_in_its_theme():
    for light, dark in re.findall(r"color: light-dark\((#\w{6}), (#\w{6})\)", STYLE):
        for theme, text in (("light", light), ("dark", dark)):
            for ground in (THEME[theme]["backgroundColor"], THEME[theme]["secondaryBackgroundColor"]):
                assert contrast(rgb(text), rgb(ground)) >= NEEDED, (text, ground)


@pytest.mark.parametrize("tag", CATEGORY_COLOURS)
def test_text_stands_out_from_the_strongest_colour_of_a_tag(tag):
    colour, strongest = rgb(CATEGORY_COLOURS[tag]), _STRONGEST / 100
    css = (ROOT / "app" / "components" / "reader" / "reader.css").read_text("utf-8")
    found = re.search(r"light-dark\(var\(--tag\), color-mix\(in srgb, var\(--tag\) (\d+)%, black\)\)", css)
    assert found
    fills = {"light": colour, "dark": mixed(colour, (0, 0, 0), int(found[1]) / 100)}
    for theme, fill in fills.items():
        ground = mixed(fill, rgb(THEME[theme]["backgroundColor"]), strongest)
        assert contrast(rgb(THEME[theme]["textColor"]), ground) >= NEEDED, theme
    assert contrast(rgb(ink_on(CATEGORY_COLOURS[tag])), colour) >= NEEDED


def test_words_of_figures_take_the_colour_of_the_page():
    """No one colour of text reaches 4.5 on a white and on a near-black page."""
    coloured = []
    for file in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            pairs = [(word.arg, word.value) for word in node.keywords] if isinstance(node, ast.Call) else []
            if isinstance(node, ast.Dict):
                pairs = [
                    (getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)
                ]
            for name, value in pairs:
                if not str(name).endswith("font") or not isinstance(value, ast.Dict):
                    continue
                inner = dict(zip((getattr(key, "value", None) for key in value.keys), value.values, strict=True))
                if "color" in inner and getattr(inner["color"], "value", None) != ON_MARKS:
                    coloured.append(f"{file.relative_to(ROOT)}:{node.lineno}")
            coloured += [
                f"{file.relative_to(ROOT)}:{node.lineno}" for name, _ in pairs if str(name).endswith("font_color")
            ]
    assert coloured == []
