"""The labelling sheet has the features of both ends of NRN that fire, each once, as a plain search finds them."""

import numpy as np
import pandas as pd
import pytest

from backend.crosscoder.extremes import extremes


@pytest.mark.parametrize("n", [3, 20, 100])
def test_both_ends_are_those_of_a_plain_search(n):
    rng = np.random.default_rng(2)
    nrn = rng.choice([0.1, 0.2, 0.5, 0.9, np.nan], 60)
    frequency = rng.choice([0.0, 0.01, 0.3], 60)
    features = pd.DataFrame({"feature": range(60), "nrn_l1": nrn, "frequency": frequency})
    found = extremes(features, "nrn_l1", n)
    fires = [k for k in range(60) if frequency[k] > 0 and nrn[k] == nrn[k]]
    highest = sorted(fires, key=lambda k: (-nrn[k], -frequency[k], k))[: min(n, (len(fires) + 1) // 2)]
    lowest = [k for k in sorted(fires, key=lambda k: (nrn[k], -frequency[k], k)) if k not in highest][:n]
    assert found.loc[found["end"] == "highest", "feature"].tolist() == highest
    assert found.loc[found["end"] == "lowest", "feature"].tolist() == lowest
    assert found["feature"].is_unique and not set(found["feature"]) - set(fires)


def test_where_nothing_fires_there_is_no_sheet():
    features = pd.DataFrame({"feature": [0, 1], "nrn_l1": [0.5, np.nan], "frequency": [0.0, 0.5]})
    assert extremes(features, "nrn_l1", 5).empty
