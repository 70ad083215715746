"""How often the interval of the `jsd` importances holds the truth, and how often p claims what is not there.

    python benchmarks/jsd_coverage.py [--until 0.1]

Answers are drawn from distributions whose divergence is known (`tests/planted_answers.py`): 2 to 20 outcomes, Zipf-like
or from a Dirichlet distribution, 5 to 100 rollouts a side. A row has one true value and pair of sizes: `holds` is the
share of simulations whose interval holds the truth, `claims` that of p ≤ 0.05, `bias` the mean of estimate − truth,
`width` that of the interval. Its standard error is at most 0.5/√simulations.

With `--until` rollouts of whole chains go on in batches as in a study. `tokens` are a share of the most at every chunk,
`width` is the mean, `narrow` the share not wider than asked for, `holds` is over true values of at least 0.1, `claims`
over those of 0.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backend.importance.allocation import Wanted
from tests.planted_answers import SIZES, TRUTHS, Measured, measured
from tests.planted_chains import allocated, chain, known, table, tokens

NUMBERS = (20, 40, 60, 80, 100)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--simulations", type=int, default=400, help="of each true value and pair of sizes")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--until", type=float, help="nats: of `[rollouts] until` instead, on whole chains")
    arguments.add_argument("--most", type=int, default=100, help="with --until: rollouts at a chunk, at most")
    asked = arguments.parse_args()
    if asked.until is not None:
        in_batches(asked)
        return
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


def in_batches(asked: argparse.Namespace) -> None:
    """Chains of 6 chunks (`tests/planted_chains.py`), in batches until known, against so many at every chunk."""
    chains = [chain(asked.seed + number) for number in range(asked.simulations)]
    fixed = [(f"{n} at every chunk", [dict.fromkeys(one.ids, n) for one in chains], False) for n in NUMBERS]
    wanted = Wanted(asked.until, asked.most, asked.seed)
    drawn = [(f"until {asked.until:g}, at most {asked.most}", [allocated(one, wanted) for one in chains], True)]
    again = [(f"{asked.most} at every chunk, re-used", fixed[-1][1], True)] if NUMBERS[-1] == asked.most else []
    print("| rollouts | tokens | width | narrow | holds | claims |\n| --- | --- | --- | --- | --- | --- |")
    for words, numbers, reused in fixed + again + drawn:
        found = [
            one
            for own, n in zip(chains, numbers, strict=True)
            for one in known(own, table(own, n).drop(columns=[] if reused else ["n_kept"]))
        ]
        spent = np.mean([tokens(own, n) for own, n in zip(chains, numbers, strict=True)])
        full = np.mean([tokens(own, dict.fromkeys(own.ids, asked.most)) for own in chains])
        large, none = [one for one in found if one.truth >= 0.1], [one for one in found if one.truth == 0]
        print(
            f"| {words} | {spent / full:.3f} | {np.mean([one.width for one in found]):.3f} |"
            f" {_share(one.width <= asked.until for one in found)} | {_share(one.holds for one in large)} of"
            f" {len(large)} |"
            f" {_share(one.found.p <= 0.05 for one in none)} of {len(none)} |",
            flush=True,
        )


def _share(facts) -> str:
    return f"{np.mean(list(facts)):.3f}"


if __name__ == "__main__":
    main()
