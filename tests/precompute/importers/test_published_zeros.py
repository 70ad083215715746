"""What zeros that are no values do to evidence on published data: the figures of docs/importing.md."""

from functools import cache

import pandas as pd
import pytest

from backend.evidence.agreement import rank_agreement
from precompute.importers.seed_study import read_seed_study
from precompute.importers.thought_anchors import read_thought_anchors
from tests.shared_data import shared_folder

KL, FRACTION = "counterfactual_importance_kl", "different_trajectories_fraction"


@cache
def imported(read, folder):
    return read(folder)


def published(read, folder):
    """(as imported, as written): the chunk's CoT, problem and both metrics."""
    study = imported(read, shared_folder(folder))
    cots = {chunk["chunk_id"]: chunk["cot_id"] for chunk in study.tables["chunks"]}
    problems = {cot["cot_id"]: cot["problem_id"] for cot in study.tables["cots"]}
    rows = [row for row in study.tables["importance"] if row["metric"] in (KL, FRACTION)]
    frame = pd.DataFrame(rows).assign(
        written=lambda rows: rows["value"].fillna(rows["written"].astype(float)),
        cot_id=lambda rows: rows["chunk_id"].map(cots),
    )
    for column in ("value", "written"):
        wide = frame.pivot(index=["chunk_id", "cot_id"], columns="metric", values=column).reset_index("cot_id")
        yield wide.assign(problem_id=wide["cot_id"].map(problems))[["cot_id", "problem_id", KL, FRACTION]]


@pytest.mark.parametrize(
    ("folder", "read", "n", "zeros", "rho"),
    [
        ("thought_anchors", read_thought_anchors, (1664, 1970), (289, 595), (0.06, 0.37)),
        ("seed_study", read_seed_study, (76, 209), (8, 141), (-0.34, 0.82)),
    ],
)
def test_most_of_what_the_kl_seemed_to_share_with_the_fraction_was_zeros_of_chunks_without_dissimilar_rollouts(
    folder, read, n, zeros, rho
):
    for place, frame in enumerate(published(read, folder)):
        found = rank_agreement(frame, n_bootstrap=20, seed=0).set_index(["a", "b"]).loc[(KL, FRACTION)]
        assert (found["n"], int((frame[KL] == 0).sum())) == (n[place], zeros[place])
        assert found["spearman"] == pytest.approx(rho[place], abs=0.005)


@pytest.mark.parametrize(
    ("folder", "read"), [("thought_anchors", read_thought_anchors), ("seed_study", read_seed_study)]
)
def test_nothing_but_zero_was_ever_written_where_no_rollout_is_dissimilar(folder, read):
    _, written = published(read, folder)
    without = written[written[FRACTION] == 0]
    assert len(without) > 100 and (without[KL] == 0).all()
