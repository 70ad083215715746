"""How many of what an accuracy is taken over have no answer, and of how many one was forced: words beside every
accuracy.
"""

from backend.store.answered import FORCED_AT_CAP


def part_of(k: int, n: int) -> str:
    """Some of them, with their share: "3 of 20 (15 %)"."""
    return f"{k:,} of {n:,} ({k / n:.0%})" if n else "none of 0"


def answered(n: int, without: int, forced: int, *, of: str, how: str = FORCED_AT_CAP) -> str:
    """What became of the answers of n rollouts or CoTs (`of`): those without one, which take no part in an accuracy,
    and those whose was forced.
    """
    if not n:
        return f"no {of}"
    return f"{n:,} {of}: {_share(without, n)} without an answer, {_share(forced, n)} {how}"


def _share(k: int, n: int) -> str:
    return f"{'<1%' if k / n < 0.005 else f'{k / n:.0%}'} ({k:,})" if k else "none"
