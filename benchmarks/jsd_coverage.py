"""How often the interval of the `jsd` importances holds the truth, and how often p claims what is not there.

    python benchmarks/jsd_coverage.py

Answers are drawn from distributions whose divergence is known (`tests/planted_answers.py`): 2 to 20 outcomes, Zipf-like
or from a Dirichlet distribution, 5 to 100 rollouts a side. A row has one true value and pair of sizes: `holds` is the
share of simulations whose interval holds the truth, `claims` that of p ≤ 0.05, `bias` the mean of estimate − truth,
`width` that of the interval. Its standard error is at most 0.5/√simulations.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.planted_answers import SIZES, TRUTHS, Measured, measured


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--simulations", type=int, default=400, help="of each true value and pair of sizes")
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    print("| true JSD | n | holds | claims | bias | width |\n| --- | --- | --- | --- | --- | --- |")
    found: list[tuple[int, list[Measured]]] = []
    for number, truth in enumerate(TRUTHS):
        for n_p, n_q in SIZES:
            rng = np.random.default_rng((asked.seed, number, n_p, n_q))
            rows = [measured(truth, n_p, n_q, rng) for _ in range(asked.simulations)]
            found.append((min(n_p, n_q), rows))
            bias, width = np.mean([row.value - truth for row in rows]), np.mean([row.high - row.low for row in rows])
            print(
                f"| {truth:g} | {n_p}, {n_q} | {_share(row.holds for row in rows)} |"
                f" {_share(row.p <= 0.05 for row in rows)} | {bias:+.3f} | {width:.2f} |",
                flush=True,
            )
    for words, chosen in (
        ("true value at least 0.1, n at least 20: holds", lambda n, row: row.truth >= 0.1 and n >= 20),
        ("true value at least 0.1, n below 20: holds", lambda n, row: row.truth >= 0.1 and n < 20),
        ("smaller true values: holds", lambda n, row: row.truth < 0.1),
    ):
        print(f"{words} {_share(row.holds for n, rows in found for row in rows if chosen(n, row))}")
    print(f"true value 0: claims {_share(row.p <= 0.05 for _, rows in found for row in rows if row.truth == 0)}")


def _share(facts) -> str:
    return f"{np.mean(list(facts)):.3f}"


if __name__ == "__main__":
    main()
