"""What each kind of finding claims of rows whose truth is known, and that it claims nothing of chance."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from backend.errors import AnchorscopeError
from backend.findings import (
    associations,
    commitments,
    divergence,
    important_chunks,
    latents,
    leaning_features,
    steering,
)
from backend.findings.finding import Number, Way
from backend.findings.kinds import FIGURES, KINDS
from backend.importance.commitment import COMMITS, FORCED, OWN_LENS, TEXT, UNKNOWN, UNMEASURED
from backend.store.store import Store
from backend.store.undone import Missing
from tests import small_study

CALLED = {"mA": "base", "mB": "reasoner"}
NAN = math.nan


def importances(*values_and_q: tuple[float, float]) -> pd.DataFrame:
    """Rows of `Store.known_importances`, the largest first."""
    rows = [
        {
            "chunk_id": f"c_{k:04d}",
            "cot_id": "c",
            "problem_id": "p",
            "model_id": "mB",
            "number": k + 1,
            "text": f"sentence {k}",
            "category": "self_checking",
            "value": value,
            "ci_low": value - 0.1,
            "ci_high": value + 0.2,
            "p": q / 2,
            "q": q,
            "n_tested": len(values_and_q),
            "n": 12,
            "n_comparator": 20,
        }
        for k, (value, q) in enumerate(values_and_q)
    ]
    return pd.DataFrame(rows).sort_values("value", ascending=False, ignore_index=True)


def test_the_first_chunk_has_the_largest_estimate_of_those_beyond_chance():
    found = important_chunks.told(importances((0.1, 0.01), (0.9, 0.3), (0.4, 0.04), (0.2, 0.001)), CALLED)
    assert [one.value for one in found.numbers] == [0.4, 0.2, 0.1] and all(one.claimed for one in found.numbers)
    assert found.statement.startswith("3 chunks of 4 matter beyond chance")
    first = found.examples[0]
    assert first.text == "sentence 2" and first.about == "Self-checking, by reasoner"
    assert first.number == found.numbers[0]
    assert first.way.chosen["chunk"] == found.way.chosen["chunk"] == "c_0002"
    assert found.rows["claimed"].all() and len(found.rows) == 3


def test_no_chunk_is_claimed_where_none_is_beyond_chance():
    found = important_chunks.told(importances((0.3, 0.2), (0.1, 0.6)), CALLED)
    assert found.statement.startswith("No chunk of 2 is shown to matter beyond chance: the smallest q is 0.2.")
    assert not found.examples and not found.numbers[0].claimed and not found.rows["claimed"].any()


def pair(within: float, verdict: str, q: float, **more: object) -> dict[str, object]:
    """A row that `multiple.judged` gives."""
    row = {name: NAN for name in ("within_null_low", "within_null_high", "partial", "partial_p", "p_allowed")}
    row |= {"x": "steepness", "kind": "random", "model_id": "mB", "layer": 15, "position": "anchor", "unit": "rms"}
    row |= {"metric": "counterfactual_importance_kl", "convention": "fl", "subset": "all", "n": 300, "n_problems": 40}
    row |= {"within": within, "within_low": within - 0.1, "within_high": within + 0.1, "p": q / 2, "q": q}
    row |= {"verdict": verdict, "shared": "", "n_planted": NAN, "planted_rho": None, "planted_found": None}
    return row | {"planted_p": None} | more


PLANTED = {"n_planted": 100, "planted_rho": [-0.25, -0.4], "planted_found": [0.3, 0.95], "planted_p": [1.0, 0.001]}


def test_the_strongest_claimed_association_stands_beside_the_strongest_that_is_not():
    rows = [
        pair(-0.6, "none", 0.3, **PLANTED, p_allowed=0.002),
        pair(-0.5, "none", 0.2, shared="both are measured on the same rollouts"),
        pair(-0.4, "inverse", 0.01),
        pair(0.3, "direct", 0.04),
    ]
    found = associations.told(associations.testable(pd.DataFrame(rows)), CALLED)
    assert [(one.value, one.claimed) for one in found.numbers] == [(-0.4, True), (-0.6, False)]
    assert found.statement.startswith("2 associations of 3 tested pairs are claimed. The strongest:")
    assert "30% would have been claimed" in found.statement and "9 in 10 from ρ = −0.4 on" in found.statement
    assert found.way.chosen["geometry_column"] == "steepness" and found.way.chosen["layer"] == "15"


def test_no_association_is_claimed_where_none_is_and_what_that_is_worth_is_said():
    found = associations.told(associations.testable(pd.DataFrame([pair(-0.2, "none", 0.9)])), CALLED)
    assert "No association is claimed in any of 1 pair that was tested" in found.statement
    assert "would have been found there is unknown" in found.statement
    assert not any(one.claimed for one in found.numbers)


def test_pairs_that_are_not_measured_apart_or_have_no_p_take_no_part():
    rows = pd.DataFrame([pair(-0.9, "none", NAN), pair(-0.9, "none", 0.01, shared="the same rollouts")])
    assert associations.testable(rows).empty


def run(name: str, rng: np.random.Generator, **shares: float) -> steering.Run:
    """Sixteen answers an arm, that share of them right; the others give one of two wrong answers."""
    rows = []
    for arm, share in shares.items():
        for right in rng.random(16) < share:
            rows.append((arm, "7" if right else str(rng.integers(2)), bool(right)))
    answers = [steering.Answer(arm, said, n, n * right) for (arm, said, right), n in Counter(rows).items()]
    return steering.Run(name, f"run {name}", "a sentence", answers, Way("causation", "Pairs", {}))


def test_steering_that_does_nothing_is_not_said_to_move_the_answer():
    rng = np.random.default_rng(0)
    runs = [run(f"r{k:02d}", rng, base=0.6, steered=0.6, random=0.6) for k in range(30)]
    found = steering.told(steering.compared(runs))
    assert found.statement.startswith("None of 30 steered runs is shown to move the answer")
    assert [one.claimed for one in found.numbers] == [False]


def test_a_planted_shift_is_found_and_the_control_decides_whether_it_is_the_direction():
    rng = np.random.default_rng(1)
    still = [run(f"s{k}", rng, base=0.9, steered=0.9, random=0.9) for k in range(8)]
    direction = run("direction", rng, base=1.0, steered=0.0, random=1.0)
    push = run("push", rng, base=1.0, steered=0.0, random=0.0)
    found = steering.told(steering.compared([*still, push, direction]))
    assert found.statement.startswith("2 of 10 steered runs moved the answer (q ≤ 0.05), 1 of them otherwise")
    assert found.examples[0].about == "run direction" and "steered and random differ" in found.control
    alone = steering.told(steering.compared([*still, push]))
    assert "is not shown" in alone.control and [one.claimed for one in alone.numbers] == [True, False]
    without = steering.told(steering.compared([*still, run("bare", rng, base=1.0, steered=0.0)]))
    assert "Random directions were not run beside it" in without.control


def at_layers(*values: float, control: float | None = 0.2) -> pd.DataFrame:
    rows = [
        {"layer": k, "value": value, "low": value * 0.9, "high": value * 1.1, "control": control}
        for k, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(n_tokens=100, n_problems=9)


def test_the_models_part_where_their_difference_is_largest():
    found = divergence.told(at_layers(0.0, 0.0, 0.1, 0.5, 0.3), "relative_norm", ("base", "reasoner"))
    assert "equal, bit for bit, up to layer 1, and differ most at layer 3 of 4" in found.statement
    assert found.numbers[0].value == 0.5 and found.numbers[0].control == 0.2
    assert "at 2 of 5 layers, the first of them 3" in found.control


def test_models_that_are_no_further_apart_than_the_control_are_said_to_be_so():
    near = divergence.told(at_layers(0.1, 0.15), "relative_norm", ("base", "reasoner"))
    assert "At no layer are the two models shown to be further apart" in near.control
    unknown = divergence.told(at_layers(0.1, 0.5, control=None), "relative_norm", ("base", "reasoner"))
    assert "not said whether this is much" in unknown.control and unknown.numbers[0].control is None
    same = divergence.told(at_layers(0.0, 0.0), "relative_norm", ("base", "reasoner"))
    assert same.statement == "Base and reasoner are equal, bit for bit, at all 2 layers."


def committed(n: int, gap: float, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of `commitment.commitments`: forced answers commit so many chunks before the text, give or take one."""
    rows = []
    for k in range(n):
        text = int(rng.integers(4, 9))
        for curve, chunk in ((TEXT, text), (FORCED, text - gap + int(rng.integers(-1, 2)))):
            rows.append((f"c{k}", f"p{k // 2}", "distilled", curve, COMMITS, float(chunk)))
        rows.append((f"c{k}", f"p{k // 2}", "distilled", OWN_LENS, UNMEASURED, NAN))
    return pd.DataFrame(rows, columns=["cot_id", "problem_id", "role", "curve", "state", "chunk"])


def test_what_commits_first_is_said_where_it_is_shown():
    found = commitments.told(committed(40, 2, np.random.default_rng(2)), None, None)
    assert "The change of forced answers comes" in found.statement and [one.claimed for one in found.numbers] == [True]
    none = commitments.told(committed(40, 0, np.random.default_rng(3)), None, None)
    assert "None is shown to come first" in none.statement and not none.numbers[0].claimed


def test_curves_that_never_commit_are_counted_and_compared_with_nothing():
    rows = committed(6, 1, np.random.default_rng(4)).assign(state=UNKNOWN, chunk=NAN)
    found = commitments.told(rows, "tuned", 20)
    assert "text in 0 of 6 chains" in found.statement and found.numbers == () and found.rows.empty


def features(*nrn: float, nu: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame({"feature": range(len(nrn)), "nrn_l1": nrn, "nu_eps": nu, "nu_r": nu, "frequency": 0.1})


def nulls() -> pd.DataFrame:
    own = features(*np.linspace(0.45, 0.55, 300), nu=1.0)
    return own.assign(null="same", number=0, null_id="n0")


ROW = SimpleNamespace(
    dictionary_id="w", layer=15, base_model_id="mA", distilled_model_id="mB", base="A", distilled="B", training_id="t"
)


def test_a_feature_is_claimed_beyond_the_null_band_alone():
    one = leaning_features.Leaning(ROW, features(0.52, 0.9, 0.7, 0.1), nulls())
    assert one.claimed["feature"].tolist() == [1, 2]  # 0.1 leans to the base: of 1/ν, which is not small there
    found = leaning_features.told(one, pd.Series({1: [" wait", ","]}), CALLED)
    assert found.statement.startswith("2 of 4 live features at layer 15 are one model's own")
    assert found.examples[0].text == " wait," and "towards reasoner" in found.examples[0].about
    inside = leaning_features.Leaning(ROW, features(0.52, 0.48), nulls())
    assert "No feature of 2 live features" in leaning_features.told(inside, pd.Series(dtype=object), CALLED).statement


def test_without_null_pairs_no_feature_is_claimed_however_far_it_leans():
    one = leaning_features.Leaning(ROW, features(0.52, 0.99), nulls().iloc[:0])
    found = leaning_features.told(one, pd.Series(dtype=object), CALLED)
    assert one.claimed.empty and "none is claimed" in found.statement and "lacks its control" in found.control
    assert found.way.page == "crosscoder" and found.numbers[0].value == 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_of_a_study_without_it_what_makes_it(tmp_path, kind):
    path = small_study.make(tmp_path / "small", rollouts=False, activations=False, steering=False)
    store = Store(path)
    found = KINDS[kind].find(store)
    store.close()
    assert isinstance(found, Missing) and str(path) in found.command
    assert KINDS[kind].figure in FIGURES


def test_a_number_is_claimed_by_q_before_p_and_never_where_both_are_unknown():
    def of(**more: float | None) -> Number:
        return Number("it", 1.0, NAN, NAN, "3 chunks", **more)

    assert of(q=0.05).claimed and of(p=0.01).claimed and not of(q=0.2, p=0.01).claimed
    assert not of().claimed and not of(q=NAN).claimed


def test_an_unknown_kind_is_refused():
    with pytest.raises(AnchorscopeError, match="There is no kind of finding"):
        KINDS["nothing"]


# Latents


def latent_models(*siblings: str) -> pd.DataFrame:
    return pd.DataFrame({"model_id": list(siblings), "sibling": list(siblings), "training_seed": 0})


def latent_runs(**right: tuple[int, int]) -> pd.DataFrame:
    """Of 100 problems so many are right with no latents and with 3, by model."""
    return pd.DataFrame(
        [
            {"model_id": model, "problem_id": f"p{at}", "n_latents": n, "is_correct": at < k}
            for model, ends in right.items()
            for n, k in zip((0, 3), ends, strict=True)
            for at in range(100)
        ]
    )


def test_what_latents_add_is_claimed_beside_the_siblings_that_have_none():
    models = latent_models("latent", "pause", "none")
    found = latents.told(models, latent_runs(latent=(10, 90), pause=(12, 14), none=(15, 15)))
    added, of_pause, of_none = found.numbers
    assert (added.value, of_pause.value, of_none.value) == pytest.approx((80, 76, 75))
    assert added.low < 80 < added.high and added.control == pytest.approx(2) and added.n == "100 problems"
    assert all(one.claimed for one in found.numbers) and found.lacks is None
    assert "With 3 latents 90.0 %" in found.statement and "with pauses 14.0 %" in found.statement
    assert found.way.page == "latent_steps" and found.rows["claimed"].all()


def test_latents_that_add_nothing_are_not_claimed_and_without_siblings_the_control_is_lacking():
    models = latent_models("latent", "pause")
    found = latents.told(models, latent_runs(latent=(50, 51), pause=(49, 50)))
    assert not any(one.claimed for one in found.numbers) and "0 of 2 differences are beyond" in found.statement
    assert latents.told(latent_models("latent"), latent_runs(latent=(10, 90))).lacks is not None
