"""What steering along β did, each β held against β = 0 sample by sample: of one vector, and of random ones beside it.

Sample k draws with the same random numbers at every β and under every vector, so that a change is a mean of paired
differences. Columns of `samples` are those of `experiment_samples` with n_thinking and `cluster`, as in `outcomes`; of
random vectors, sample number r · n + k is sample k under vector r.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from backend.importance.outcomes import _plain, dose_response
from backend.statistics.intervals import wilson
from backend.statistics.paired import paired_difference

STEERED, RANDOM = "changed", "random"


def along(
    samples: pd.DataFrame, kl: Mapping[float, float], controls_kl: Sequence[Mapping[float, float]], *, n: int, seed: int
) -> dict[str, Any]:
    """`rows` of the vector and `controls`, rows of each random one: those of `outcomes.dose_response` with
    `thinking_change`, the mean paired difference in thinking tokens from β = 0 (95 % interval, sign-flip p), and
    `moved`, the share of the pairs in which both answered whose answers differ.
    """
    steered, random = (samples[samples["arm"] == arm] for arm in (STEERED, RANDOM))
    calm = steered[steered["beta"] == 0]
    vectors = random["sample"] // n
    return {
        "rows": _against_zero(steered, calm, kl, seed),
        "controls": [
            _against_zero(
                pd.concat(
                    [calm, random[vectors == number].assign(arm=STEERED, sample=lambda rows: rows["sample"] % n)]
                ),
                calm,
                own,
                seed,
            )
            for number, own in enumerate(controls_kl)
        ],
    }


def _against_zero(
    samples: pd.DataFrame, calm: pd.DataFrame, kl: Mapping[float, float], seed: int
) -> list[dict[str, Any]]:
    before = calm.set_index("sample")
    rows = []
    for row in dose_response(samples, kl):
        after = samples[samples["beta"] == row["beta"]].set_index("sample").reindex(before.index)
        change = paired_difference(before["n_thinking"].astype(float), after["n_thinking"].astype(float), seed=seed)
        both = before["cluster"].notna() & after["cluster"].notna()
        moved = int((before["cluster"] != after["cluster"])[both].sum())
        low, high = wilson(moved, int(both.sum()))
        rows.append(
            row
            | _plain(
                {
                    "thinking_change": {
                        **{"value": change.difference, "low": change.low, "high": change.high},
                        **{"n": change.n, "p": change.p},
                    },
                    "moved": {
                        **{"value": moved / int(both.sum()) if both.any() else float("nan"), "low": low, "high": high},
                        "n": int(both.sum()),
                    },
                }
            )
        )
    return rows
