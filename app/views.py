"""Every view there is, by its name: what a dock can show."""

import importlib

from app.shared.views import View
from app.shell.navigation import PAGES
from backend.root import module


def registered() -> dict[str, View]:
    """The views of all pages, in the pages' order. Raises ValueError where two have one name."""
    found: dict[str, View] = {}
    for page in PAGES:
        for view in importlib.import_module(module(f"app.{page}.views")).VIEWS:
            if view.name in found:
                raise ValueError(f"two views are called {view.name!r}: {found[view.name].title}, and {view.title}")
            found[view.name] = view
    return found
