"""Names that follow from content, so that the same thing has the same id in every run and nothing is found by position
or text.

An id is a letter for what it is of, and a blake2b digest of the canonical JSON of what defines it; a seed is the same
digest as a number.
"""

import hashlib
import json
from typing import Any


def _digest(parts: tuple[Any, ...], size: int) -> bytes:
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=size).digest()


def stable_id(letter: str, *parts: Any) -> str:
    """`letter` followed by 12 hexadecimal digits of the digest of `parts` (anything JSON can hold)."""
    return letter + _digest(parts, 6).hex()


def seed_for(*parts: Any) -> int:
    """A seed in [0, 2**63) that depends on `parts` alone: never on the order in which units are run or batched."""
    return int.from_bytes(_digest(("seed", *parts), 8), "big") >> 1


def chunk_id(cot_id: str, chunk_index: int) -> str:
    return f"{cot_id}_{chunk_index:04d}"


def chunk_index(chunk: str) -> int:
    """The 0-based reading order within its CoT, from a chunk's id."""
    return int(chunk.rpartition("_")[2])


def cot_of(chunk: str) -> str:
    """The CoT's id, from a chunk's."""
    return chunk.rpartition("_")[0]


def rollout_id(chunk: str, kind: str, sample: int) -> str:
    """`kind` is "resample" or "forced"."""
    return f"{chunk}_{kind[0]}{sample:04d}"
