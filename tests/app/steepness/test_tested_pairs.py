"""The number of tested pairs is one number: of the finding, and of the caption that takes it apart."""

import pandas as pd

from app.steepness.all_pairs import multiplicity
from backend.findings import associations


def test_the_caption_counts_every_pair_that_the_finding_counts():
    rows = pd.DataFrame(
        {
            "x": ["steepness"] * 5 + ["counterfactual_accuracy"] * 2,
            "p": [0.1, 0.2, 0.3, None, 0.4, 0.5, 0.6],
            "shared": ["", "", "", "", "the same rollouts", "", ""],
            "subset": ["all", "all", "away_from_origin", "all", "all", "all", "away_from_origin"],
        }
    )
    said = multiplicity(rows)
    assert "2 pairs on all chunks and 1 pairs on chunks away" in said and "(2 pairs of two importance metrics" in said
    assert len(associations.testable(rows)) == 5 and "5 tested pairs in all" in said
