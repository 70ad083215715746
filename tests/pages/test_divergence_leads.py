"""The page of chains where importances have a permutation's p: what leads, what decides, and what is below chance."""

from tests import small_study
from tests.pages.conftest import words


def test_the_page_opens_on_what_chance_does_not_give_and_says_what_decides(tmp_path, opened):
    study = small_study.make(tmp_path / "small")
    chunks = small_study.add_divergence(study, [(0, 0.05, 0.001), (1, 0.6, 0.4), (2, -0.04, 1.0)])
    test = opened("chains_of_thought", study)
    assert not test.exception and str(dict(test.query_params)).count(chunks[0]) == 1
    assert "More than chance: permutation p = 0.001, q = 0.003 over the 3 chunks of the study" in words(test)
    (strength,) = [box for box in test.selectbox if box.label == "Strength of the colour"]
    assert strength.value == "counterfactual_importance_jsd:jsd"
    assert any(option.endswith("(KL, nats) · ta") for option in strength.options), "published ones are one click away"
    test = opened("chains_of_thought", study, study="small", chunk=chunks[2])
    assert "No more than chance gives" in words(test) and "Below 0" in words(test)
