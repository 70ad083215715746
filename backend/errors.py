"""The one family of errors meant to be read by a person: what was found, what was wanted, what to do next."""

import re

# control sequences (colours), operating system commands (titles, links), other escapes, control characters
_TERMINAL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*["
    r" -/]*[@-~]?|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class AnchorscopeError(Exception):
    """Shown as it stands on the page and on the command line; every other exception is a fault of ours and stays loud.

    Sentences hold words of other libraries and names from files: what would steer a terminal in them (colours, titles)
    is left out here.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


def plain(text: str) -> str:
    """`text` without control sequences of terminals and control characters; tabs and line breaks stay."""
    return _TERMINAL.sub("", text)


def stands_for_another(start: bytes) -> str | None:
    """What a file that begins so is, and what to do, where it only stands for the file that was meant; None for any
    other.
    """
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself. Run `git lfs pull` in its folder, or download the file."
    if start.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        return "is a pointer of git-annex, not the file itself. Run `git annex get` in its folder."
    return None


def words_of(error: BaseException, limit: int = 200) -> str:
    """The first line of what another library says, for a sentence of ours; its type where it says nothing."""
    return (plain(str(error)).strip().splitlines() or [type(error).__name__])[0][:limit]
