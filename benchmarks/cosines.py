"""How fast the tails of all pairs' cosines are counted, as a share of what the machine multiplies, and in how much
memory; against the plain way.

    python benchmarks/cosines.py

1. Rows are Gaussian, with as many again near a few centres as make tails: the published size, 16,384 features of width
   2,304. Making them and norming them is timed too.
2. `share`: multiplications of half the Gram matrix (every pair once) in our seconds, over those of the fastest large
   float32 product of the same run.
3. The plain way is the whole Gram matrix in one product, then a histogram of its lower triangle, at `--plain-rows`,
   where it fits; `ratio` is its seconds over ours there, `misplaced` the pairs that its float32 puts into another bin
   than float64 does. Ours are checked to be those of float64.
4. `peak_mb` is the most memory that the process held until ours was done, the program itself among it.

The last line is JSON. Alone on the machine the figures mean something; beside other work they do not.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backend.feature_geometry.cosine_tails import EDGES, N_BINS, directions, tails
from backend.feature_geometry.exact_law import threshold
from backend.models.linear import linear

CENTRES, CLUSTERED = 64, 0.25  # of the rows, the share that lies near a centre


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=16_384)
    arguments.add_argument("--width", type=int, default=2304)
    arguments.add_argument("--plain-rows", type=int, default=4096)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    rows = made(options.rows, options.width)
    marks = {f"{p:g}": threshold(p, options.width) for p in (1e-3, 1e-6)} | {"0.1": 0.1}
    seconds, found = timed(lambda: tails(directions(rows), marks, drawn=4, linked=True))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = fastest_product(options.width)
    flop = options.rows * (options.rows - 1) * options.width
    small = rows[: options.plain_rows]
    ours_seconds, ours = timed(lambda: tails(directions(small), marks, drawn=4, linked=True))
    plain_seconds, plain = timed(lambda: plainly(small, np.float32))
    true = plainly(small, np.float64)
    counts = np.concatenate([ours.negative[::-1], ours.positive])
    if not np.array_equal(counts, true):
        raise SystemExit(f"the counts differ from those of float64 in {np.abs(counts - true).sum()} places")
    print(
        f"{options.rows:,} rows of width {options.width:,}: {seconds:.1f} s, {flop / seconds / 1e9:.0f} of"
        f" {rate / 1e9:.0f} GFLOP/s on {options.threads} threads, {peak_mb:,.0f} MB;"
        f" {found.beyond['0.1'].n:,} of {found.n_pairs:,} pairs beyond 0.1"
    )
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "share": round(flop / seconds / rate, 3),
                "peak_mb": round(peak_mb),
                "ratio": round(plain_seconds / ours_seconds, 2),
                "misplaced": int(np.abs(plain - true).sum() // 2),
                "gflops": round(rate / 1e9),
                "threads": options.threads,
                "rows": options.rows,
                "width": options.width,
            }
        )
    )


def made(n: int, d: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((n, d), dtype=np.float32)
    near = draw.permutation(n)[: int(CLUSTERED * n)]
    centres = draw.standard_normal((CENTRES, d), dtype=np.float32)
    for at in range(0, len(near), 1024):
        own = near[at : at + 1024]
        rows[own] += centres[draw.integers(CENTRES, size=len(own))]
    return rows


def plainly(rows: np.ndarray, dtype: Any) -> np.ndarray:
    """Counts of each signed bin, from the whole Gram matrix of the same directions."""
    units = directions(rows).units.astype(dtype)
    cosines = (units @ units.T)[np.tril_indices(len(units), -1)]
    upper = np.append(EDGES[1:-1], np.inf)
    sides = [np.searchsorted(EDGES[:-1], np.sort(side[side > EDGES[0]])) - 1 for side in (-cosines, cosines)]
    negative, positive = (np.bincount(side, minlength=len(upper))[:N_BINS] for side in sides)
    return np.concatenate([negative[::-1], positive])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def fastest_product(d: int) -> float:
    """FLOP a second of the faster of PyTorch's product and ours, of 2,048 rows with as many, best of five."""
    left, right = torch.randn(2048, d), torch.randn(2048, d)
    ways = (lambda: left @ right.t(), lambda: linear(left, right))
    return 2 * 2048 * 2048 * d / min(timed(lambda way=way: way()[0, 0].item())[0] for way in ways for _ in range(5))


if __name__ == "__main__":
    main()
