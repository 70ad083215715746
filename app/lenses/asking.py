"""What is asked of the live worker about one cell, and the wait for it."""

from typing import Any

from app.lenses.reading import Shown
from app.shared import live
from app.shared.waiting import place_in_line
from app.shell import keys, selection
from app.shell.missing import PageEnds
from app.shell.untrusted import show
from backend.errors import AnchorscopeError
from backend.live.requests import LensCell, LensLocal
from backend.live.service import Status


def answer(shown: Shown, which: int, request: LensCell | LensLocal, doing: str) -> dict[str, Any] | None:
    """What one of the models found; until it has, says how far it is, and where it failed, why."""
    status = _status(shown, which, request)
    if "top" in status.result and status.ended:
        return status.result
    if status.ended:
        show(status.error or "This cell could not be read.")
        return None

    def look() -> None:
        now = live.service().status(status.ticket_id)
        if now is None or now.ended:
            selection.rerun()
        place_in_line(now, doing)

    keys.fragment(look, run_every=live.EVERY)()
    return None


def _status(shown: Shown, which: int, request: LensCell | LensLocal) -> Status:
    try:
        status = live.service().status(live.look_up(shown.asked.models[which].choice, request))
    except AnchorscopeError as error:  # too many wait
        show(str(error))
        raise PageEnds from error
    assert status is not None  # it was asked for above
    return status
