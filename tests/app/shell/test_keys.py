"""Keys of widgets: bare on a view's own page, and apart for every other place it stands in."""

from app.shell import keys


def test_a_key_begins_with_its_place_once():
    assert keys.of("chart") == "chart"
    with keys.within("left"):
        assert keys.of("chart") == "left: chart" == keys.of(keys.of("chart"))
    assert keys.of("chart") == "chart"


def test_a_fragment_is_drawn_again_in_its_own_place(monkeypatch):
    monkeypatch.setattr(keys.st, "fragment", lambda draw, **how: draw)
    drawn = []
    with keys.within("left"):
        look = keys.fragment(lambda: drawn.append(keys.of("stop")), run_every=1)
    look()
    assert drawn == ["left: stop"]


def test_a_part_of_a_place_has_keys_of_its_own_there():
    with keys.within("left"):
        with keys.inside("before"):
            assert keys.of("chart") == "left before: chart"
        assert keys.of("chart") == "left: chart"
    with keys.inside("before"):
        assert keys.of("chart") == "before: chart"
