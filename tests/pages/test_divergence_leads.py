"""The page of chains where importances have a permutation's p: what leads, what decides, and what is below chance."""

import json
import shutil
from contextlib import closing

import duckdb

from backend.store.store import Store
from tests import small_study
from tests.pages.conftest import words


def test_the_page_opens_on_what_chance_does_not_give_and_says_what_decides(tmp_path, opened):
    study = small_study.make(tmp_path / "small")
    chunks = small_study.add_divergence(study, [(0, 0.05, 0.001), (1, 0.6, 0.4), (2, -0.04, 1.0)])
    test = opened("chains_of_thought", study)
    assert not test.exception and str(dict(test.query_params)).count(chunks[0]) == 1
    assert "More than chance: permutation p = 0.001, q = 0.003 over the 3 chunks of the study" in words(test)
    (strength,) = [box for box in test.selectbox if box.label == "Metric"]
    assert strength.value == "counterfactual_importance_jsd:jsd"
    assert any(option.endswith("(KL) · ta") for option in strength.options), "published ones are one click away"
    test = opened("chains_of_thought", study, study="small", chunk=chunks[2])
    assert "No more than chance gives" in words(test) and "Below 0" in words(test)


def test_the_page_says_what_rollouts_until_known_have_saved(tmp_path, opened):
    study = small_study.make(tmp_path / "small")
    assert "until known" not in words(opened("chains_of_thought", study))
    study = shutil.copytree(study, tmp_path / "asked" / "small")  # nobody has it open
    generation = study / "generations" / (study / "CURRENT").read_text().strip()
    asked = json.dumps({"rollouts": {"n": 12, "until": 0.3}})
    with duckdb.connect(str(generation)) as connection:
        connection.execute("UPDATE rollouts SET n_kept = (sample = 0)::INT, n_tokens = 20 WHERE kind = 'resample'")
        connection.execute("UPDATE runs SET command = 'run', parameters = $asked", {"asked": asked})
    with closing(Store(study)) as store:
        chunk = store.frame("SELECT chunk_id, cot_id FROM rollouts ORDER BY chunk_id").iloc[0]
        found = store.tokens_by_chunk(chunk.cot_id)
    n, n_chunks = int(found["n"].sum()), len(found)
    said = words(opened("chains_of_thought", study, chunk=chunk.chunk_id))
    assert f"This chain: {n} rollouts until known, {20 * n:,} tokens: {100 * n / (12 * n_chunks):.0f} % of what" in said
    assert f"12 at each of {n_chunks} chunks would be; {n_chunks} of them reach a later chunk" in said
