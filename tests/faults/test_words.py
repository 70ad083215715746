"""Faults of the machine in words, whichever library tells of them; and text that acts on nothing, whoever wrote it."""

import ast
import errno
import io
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import torch
from rich.console import Console as Rich

from backend.errors import AnchorscopeError
from backend.faults import ended, in_words, is_out_of_memory
from backend.plain import plain, plain_line
from precompute.terminal import Console, ours, table, track

ROOT = Path(__file__).resolve().parents[2]
CPU = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"
    " bytes."
)


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/disk/file")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ENOSPC), "The disk is full (No space left on device: /disk/file)"),
        (os_error(errno.EDQUOT), "quota"),
        (os_error(errno.EACCES), "Permission is missing"),
        (os_error(errno.EROFS), "read-only"),
        (os_error(errno.EMFILE), "ulimit -n"),
        (os_error(errno.EIO), "reports a fault"),
        (os_error(errno.ESTALE), "mounted"),
        (os_error(errno.EFBIG), "ulimit -f"),
        (os_error(errno.EPROTO), "The system refused"),
        (os_error(errno.ENOMEM), "not enough memory"),
        (MemoryError(), "not enough memory"),
        (RuntimeError(CPU), "engine.rows"),
        (torch.OutOfMemoryError("CUDA out of memory."), "engine.rows"),
        (RuntimeError("can't start new thread"), "No more processes or threads"),
        (pa.ArrowMemoryError("malloc of size 5 failed"), "not enough memory"),
        (
            OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
            "The disk is full",
        ),
        (duckdb.IOException('IO Error: Could not write file "x": No space left on device'), "The disk is full"),
        (duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate 5"), "not enough memory"),
        (
            duckdb.FatalException('FATAL Error: invalidated. Original error: "Permission denied"'),
            "Permission is missing",
        ),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
        (BrokenProcessPool("A process in the process pool was terminated abruptly"), "was ended"),
    ],
)
def test_a_fault_of_the_machine_is_one_line_with_what_to_do(error, words):
    said = in_words(error)
    assert words in said and said.endswith("What was finished is kept; the same command goes on.") and "\\n" not in said


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("x"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        AnchorscopeError("ours"),
        duckdb.BinderException("column x"),
    ],
)
def test_a_fault_of_ours_stays_loud(error):
    assert in_words(error) is None and not is_out_of_memory(error)


def test_a_fault_that_another_error_was_made_of_is_found():
    try:
        try:
            raise os_error(errno.ENOSPC)
        except OSError as error:
            raise ValueError("could not save") from error
    except ValueError as error:
        assert "The disk is full" in in_words(error)


def test_how_a_process_ended_is_said():
    assert "memory runs out" in ended(-9) and "SIGSEGV" in ended(-11) and ended(3) == "ended with exit code 3"


NASTY = [
    "[/foo]",
    "[bold red]x[/bold red]",
    "[link=http://evil.example]x[/link]",
    ":smile:",
    "[",
    "\\\\[",
    "http://evil.example/?q=1",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]52;c;Zm9v\x07",
    "\x1b]8;;http://evil.example\x1b\\\\x\x1b]8;;\x1b\\\\",
    "\x9b31m",
    "a\rb",
    "\x08\x08",
    "\u202eevil\u202c",
    "\u2066x\u2069",
    "\ud800",
    "\x00",
    "{field}",
    "%s %n",
    "\U000e0041",
]


@pytest.mark.parametrize("text", NASTY, ids=ascii)
@pytest.mark.parametrize("terminal", [True, False])
def test_no_text_acts_on_a_terminal(text, terminal):
    """In words, in a table with its title, and as the name of a bar: what comes out is the text with its signs, and
    nothing else.
    """
    said = io.StringIO()
    console = Console(file=said, width=200, force_terminal=terminal, color_system=None, legacy_windows=False)
    console.print(f"before {text} after")
    console.print(table(text, ("a", text), [(text, "x")]))
    for _ in track([1], text, console=console):
        pass
    shown = said.getvalue()
    assert f"before {plain(text)} after" in shown
    for sign in ("\x07", "\x9b", "\u202e", "\x1b]", "\x00", "\x08", "\x1b[31m", "\ud800"):
        assert sign not in shown


def test_plain_text_is_left_as_it_is():
    text = "β = 0.5 · “quoted” <b>[x]</b>\n\tहिन्दी العربية 中文 👩‍👩‍👧 é\n"
    assert plain(text) == text and plain("a\r\nb") == "a\nb"
    assert plain_line("a\n b\tc" + "d" * 1000, 20) == "a b c" + "d" * 14 + "…"


def test_a_console_of_rich_is_made_ours():
    said = io.StringIO()
    ours(Rich(file=said, width=80)).print("[/foo] :smile: [bold]x")
    assert said.getvalue() == "[/foo] :smile: [bold]x\n"


def test_nothing_but_the_door_imports_rich_or_prints():
    """`print` is used by scripts that are run by hand, of which none shows text from data."""
    found = []
    for folder in ("app", "backend", "pages", "precompute"):
        for file in (ROOT / folder).rglob("*.py"):
            name = file.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(file.read_text())):
                modules = (
                    [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else [a.name for a in getattr(node, "names", ())]
                    if isinstance(node, ast.Import)
                    else []
                )
                if any(module.split(".")[0] == "rich" for module in modules) and name != "precompute/terminal.py":
                    found.append(f"{name}:{node.lineno} imports rich")
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print" and not _is_plain(node):
                    found.append(f"{name}:{node.lineno} prints")
    assert found == []


def _is_plain(call: ast.Call) -> bool:
    """Whether all that is printed went through `plain`, or is the program's own description of its tables."""
    return all("plain" in (words := ast.unparse(one)) or words == "as_document()" for one in call.args)
