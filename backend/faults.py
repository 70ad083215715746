"""Faults of the machine in words: a full disk, a missing permission, too little memory.

They are nobody's mistake in the program and say nothing about the data, so they are said in one sentence, with what to
do, at the doors of the command line and of the dashboard. What was finished is safe by how it is written; these words
only say so.
"""

import errno
import os
import re
import signal
import sys

from backend.plain import plain_line

_AGAIN = "What was finished is kept; the same command goes on."
_GONE = "Check that the disk or share is connected and mounted."
_OF_NUMBER = {  # what is the matter, what to do
    errno.ENOSPC: ("The disk is full", "Free space there."),
    errno.EDQUOT: ("The quota of disk space is used up", "Free space there."),
    errno.EFBIG: ("A file would become larger than is allowed here", "Raise the limit (`ulimit -f`)."),
    errno.EACCES: ("Permission is missing", "Allow this user to read and write there."),
    errno.EPERM: ("The system does not permit it", "Allow this user to read and write there."),
    errno.EROFS: (
        "The file system is read-only",
        "Make it writable, or work in a folder elsewhere (`--store FOLDER`).",
    ),
    errno.EMFILE: ("Too many files are open in this process", "Raise the limit (`ulimit -n`)."),
    errno.ENFILE: ("Too many files are open on this machine", "Close other programs."),
    errno.ENOMEM: (
        "There is not enough memory",
        "Close other programs, or lower engine.rows and engine.workers in the study file.",
    ),
    errno.EAGAIN: (
        "No more processes or threads can be started",
        "Close other programs, or raise the limit (`ulimit -u`).",
    ),
    errno.EIO: ("The disk reports a fault", "Check the disk."),
    errno.ESTALE: ("The share was mounted anew or is gone", _GONE),
    errno.ENOTCONN: ("The share is not connected", _GONE),
    errno.ENODEV: ("The disk is gone", _GONE),
    errno.ENXIO: ("The disk is gone", _GONE),
    errno.ETIMEDOUT: ("The disk or the network did not answer", _GONE),
    errno.EHOSTDOWN: ("The machine that holds the files is down", _GONE),
    errno.ENOENT: ("There is no such file or folder", "Check the path, and that its disk is mounted."),
    errno.ENOTDIR: ("A file stands where a folder should", "Check the path."),
    errno.EISDIR: ("A folder stands where a file should", "Check the path."),
    errno.EEXIST: ("Something of that name exists already", "Choose another name, or move it away."),
    errno.ENAMETOOLONG: ("The name is too long for this file system", "Choose a shorter one."),
    errno.ELOOP: ("The links lead in a circle", "Check the path."),
    errno.EXDEV: ("The two places are on different disks", "Choose a place on the same disk."),
    errno.ETXTBSY: ("The file is in use", "Close what uses it."),
    errno.ECONNREFUSED: ("The connection was refused", "Check the network."),
    errno.ENETUNREACH: ("There is no network", "Check the network."),
}
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "failed to allocate",
    "failed to map segment",
    "memoryerror",
)
_MEMORY_TYPES = {"OutOfMemoryError", "OutOfMemoryException", "ArrowMemoryError"}


def in_words(error: BaseException) -> str | None:
    """What happened to the machine and what to do, in one line; None where `error` is something else."""
    found = _found(error)
    if found is None:
        cause = error.__cause__
        return None if cause is None or cause is error else in_words(cause)
    what, to_do = found
    return f"{what} ({_detail(error)}). {to_do} {_AGAIN}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing, of this machine or of its accelerator: less at a time may fit."""
    if isinstance(error, MemoryError) or type(error).__name__ in _MEMORY_TYPES:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, (RuntimeError, ImportError)) and any(
        words in str(error).lower() for words in _OUT_OF_MEMORY
    )


def ended(exit_code: int | None) -> str:
    """How a process ended, from its exit code: negative for a signal."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in signal.valid_signals() else str(-exit_code)
    if name == "SIGKILL":
        return "was killed (SIGKILL; mostly that is the system, when memory runs out)"
    return f"was ended by {name}"


def _found(error: BaseException) -> tuple[str, str] | None:
    if is_out_of_memory(error):
        return _OF_NUMBER[errno.ENOMEM]
    if isinstance(error, OSError):
        number = error.errno if error.errno in _OF_NUMBER else _number_in(str(error))
        refused = ("The system refused", "Check the path and the machine.")
        return refused if number is None else _OF_NUMBER.get(number, refused)
    if _is_of_duckdb(error):
        number = _number_in(str(error))
        return None if number is None else _OF_NUMBER[number]
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _OF_NUMBER[errno.EAGAIN]
    if type(error).__name__ == "BrokenProcessPool":
        return "A process that helped was ended", "Close other programs if memory is short."
    return None


def _is_of_duckdb(error: BaseException) -> bool:
    duckdb = sys.modules.get("duckdb")  # whoever raised it has imported it
    return duckdb is not None and isinstance(error, duckdb.Error)


def _number_in(words: str) -> int | None:
    """The system's number of the fault that `words` of a library tell of, None where they tell of none."""
    if (named := re.search(r"\[?errno:? (\d+)", words, re.IGNORECASE)) and int(named[1]) in _OF_NUMBER:
        return int(named[1])
    return next((number for number in _OF_NUMBER if os.strerror(number).lower() in words.lower()), None)


def _detail(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        files = [
            os.fsdecode(name)
            for name in (error.filename, error.filename2)
            if isinstance(name, (str, bytes, os.PathLike))
        ]
        return plain_line(": ".join([error.strerror, *files]))
    return plain_line(str(error)) or type(error).__name__
