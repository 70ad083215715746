"""Keys: each does one thing on a page, and the sheet has all of them."""

from collections import Counter

import pytest

from app import views
from app.shell import navigation, shortcuts
from app.shell.shortcuts import SHORTCUTS, Shortcut
from tests.registering import registered


@pytest.mark.parametrize("page", navigation.PAGES)
def test_no_key_does_two_things_on_a_page(page):
    views.registered()
    pressed = Counter(key for one in shortcuts.on(page) for key in one.pressed)
    assert not [key for key, times in pressed.items() if times > 1]
    assert {"j", "k", "/", "u", "U", "?"} <= set(pressed)


def test_every_key_is_acted_on_here_or_in_the_browser():
    views.registered()
    assert all((one.do is None) == (one.in_browser is not None) for one in SHORTCUTS.values())


def test_a_key_does_what_it_does_on_its_page_alone():
    said = []
    with registered(SHORTCUTS, Shortcut("test", ("x", "y"), "for a test", said.append, "geometry")):
        shortcuts.press("geometry", "y")
        shortcuts.press("overview", "x")
        shortcuts.press("geometry", "no key")
    assert said == ["y"]
