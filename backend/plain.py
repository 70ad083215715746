"""Text of unknown origin, made harmless for a terminal, a log or a page: what would act is shown instead.

A terminal obeys control characters (colours, the title, the clipboard, the cursor), and characters that turn the
direction of writing make a text read otherwise than it is stored. `plain` puts a visible stand-in for each of them;
every other character stays.
"""

import re

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSEEN = (  # line ends that are none in a terminal, annotations, tags
    "\ufeff\u2028\u2029\ufff9-\ufffb\U000e0000-\U000e007f"
)
_ACTS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}{_UNSEEN}\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` with line ends and tabs as they are,
    other control characters and marks of direction as `␛` or `\\u202e`."""
    return _ACTS.sub(_shown, text.replace("\r\n", "\n"))


def plain_line(text: str, longest: int = 400) -> str:
    """`plain`, on one line of at most `longest` characters."""
    line = " ".join(plain(text[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
