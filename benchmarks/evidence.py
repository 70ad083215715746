"""How often a law is claimed where there is none, and found where there is one: `python benchmarks/evidence.py
[--worlds 500]`.

Every kind of world of both generators (tests/planted_worlds.py), at the size of the shipped demo, judged as a study's
pairs are. The strength of a law is set so that ρ within CoTs is −0.25 on average over its worlds.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from backend.evidence.pairs import evidence
from backend.evidence.sample import sample_of
from backend.evidence.verdict import conditions, verdict
from backend.evidence.within import aligned
from backend.statistics.intervals import wilson
from tests.planted_worlds import GENERATORS

_TARGET, _CALIBRATION = -0.25, 40
_STRENGTHS = {"ranks": (0.0, 0.2, 0.35, 0.5, 0.7, 0.9), "rollouts": (0.0, 0.4, 0.8, 1.2, 2.0, 3.5)}


def judged(
    generator: str, kind: str, strength: float, chunks: int, draws: int, seed: int
) -> tuple[str, float, float, tuple[bool, ...]]:
    made = GENERATORS[generator]
    frame = _smaller(made.world(kind, seed, strength), chunks)
    found = evidence(
        frame, n_bootstrap=draws, n_permutations=draws, seed=seed, covariates=made.covariates, describe=False
    )
    return (
        verdict(found),
        found.within.rho,
        found.rank.spearman,
        tuple(condition.holds for condition in conditions(found)),
    )


def strength_of(generator: str, kind: str) -> float:
    """The strength at which ρ within CoTs is −0.25 on average."""
    ladder, means = _STRENGTHS[generator], []
    for strength in ladder:
        worlds = (GENERATORS[generator].world(kind, 10_000 + seed, strength) for seed in range(_CALIBRATION))
        means.append(np.mean([aligned(sample_of(world)).rho()[0] for world in worlds]))
    return float(np.interp(-_TARGET, -np.array(means), ladder))


def _smaller(frame: pd.DataFrame, chunks: int) -> pd.DataFrame:
    """Whole chains of every problem, until there are as many chunks."""
    if chunks >= len(frame):
        return frame
    rank_of = {cot: k for k, cot in enumerate(frame.drop_duplicates("cot_id").sample(frac=1, random_state=0)["cot_id"])}
    by_rank = frame.assign(order=frame["cot_id"].map(rank_of)).sort_values(["order", "position"])
    return frame[frame["cot_id"].isin(by_rank["cot_id"].iloc[:chunks])]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--worlds", type=int, default=500, help="without a law, of each kind")
    asked.add_argument("--laws", type=int, default=200, help="worlds with one, of each kind")
    asked.add_argument("--chunks", type=int, default=10**9, help="about so many chunks a world, whole chains")
    asked.add_argument("--draws", type=int, default=1000, help="bootstrap draws and permutations")
    asked.add_argument("--workers", type=int, default=1)
    asked.add_argument("--why", action="store_true", help="how often each condition failed")
    asked.add_argument(
        "--calibrate", action="store_true", help="print the strengths of laws at which ρ within CoTs is −0.25, and end"
    )
    given, start = asked.parse_args(), time.perf_counter()
    if given.calibrate:
        for name, made in GENERATORS.items():
            print(name, {kind: round(strength_of(name, kind), 3) for kind in made.laws})
        return
    print("generator kind       worlds  claimed      %  95 %          wrong way  ρ within  ρ pooled")
    with ProcessPoolExecutor(given.workers) as crew:
        for name, made in GENERATORS.items():
            claims = []
            for kind in (*made.nulls, *made.laws):
                lawful = kind in made.laws
                n = given.laws if lawful else given.worlds
                one = partial(judged, name, kind, made.strength.get(kind, 0.0), given.chunks, given.draws)
                verdicts, within, pooled, held = zip(*crew.map(one, range(n), chunksize=10), strict=True)
                found = np.array(verdicts)
                claimed = int((found != "none").sum() if not lawful else (found == "inverse").sum())
                claims += [] if lawful else [claimed]
                wrong = f"{int((found == 'direct').sum())}" if lawful else ""
                _line(name, kind, n, claimed, wrong, np.mean(within), np.mean(pooled))
                if given.why:
                    print("    conditions that failed:", (~np.array(held)).sum(0).tolist())
            _line(name, "all nulls", given.worlds * len(made.nulls), sum(claims), "", np.nan, np.nan)
    print(f"{time.perf_counter() - start:.0f} s")


def _line(name: str, kind: str, n: int, claimed: int, wrong: str, within: float, pooled: float) -> None:
    low, high = wilson(claimed, n)
    interval = f"[{low:.1%}, {high:.1%}]"
    print(
        f"{name:<10}{kind:<10}{n:>7}{claimed:>9}{claimed / n:>7.1%} "
        f" {interval:<15}{wrong:>8}{within:>10.2f}{pooled:>10.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
