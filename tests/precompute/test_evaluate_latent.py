import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.errors import AnchorscopeError
from backend.latent import files
from backend.latent.kinds import SIBLINGS
from backend.latent.loading import ASSETS
from backend.latent.tasks import PERMUTATIONS
from backend.statistics.paired import mcnemar
from precompute import evaluate_latent
from precompute.evaluate_latent import add_tried, answered, at, evaluate, finding, taught
from precompute.train_latent import begin, finish
from tests.latent_models import tiny_latent
from tests.precompute.test_train_latent import RECIPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both seeds of all siblings, hardly trained."""
    out = tmp_path_factory.mktemp("latent")
    for seed in (0, 1):
        for sibling in SIBLINGS:
            finish(begin(RECIPE, sibling, seed), out / f"{sibling}-{seed}")
    return out


@pytest.fixture(scope="module")
def card(folder):
    evaluate(folder, n=12, say=lambda _: None)
    return json.loads((folder / "card.json").read_text())


def problems(n=12):
    return PERMUTATIONS.problems(n, steps=(2, 3), seed=0, held_out=True)


def plainly(latent, problem, k):
    """What the model answers to one problem, two tokens, everything read again for each."""
    embed = latent.model.get_input_embeddings().weight
    text = embed[[*latent.tokenizer(problem.question)["input_ids"], *latent.before]]

    def last(text):
        return latent.model.base_model(inputs_embeds=text[None], use_cache=False).last_hidden_state[0, -1]

    for step in range(k):
        z = latent.thoughts[step] if latent.thoughts is not None else latent.projection(last(text))
        text = torch.cat([text, z[None]])
    text, written = torch.cat([text, embed[list(latent.after)]]), []
    for _ in range(2):
        written.append(int((embed[: latent.n_answer_tokens] @ last(text)).argmax()))
        text = torch.cat([text, embed[written[-1:]]])
    return written


@pytest.mark.parametrize("sibling", ["latent", "pause"])
def test_a_problem_is_right_where_the_number_and_then_the_end_are_written(sibling):
    """The end is what it writes second most often, and each problem's answer what it writes first at some k."""
    latent, some = tiny_latent(sibling), problems()
    written = [[plainly(latent, problem, k) for k in range(3)] for problem in some]
    latent = replace(latent, end=Counter(row[k][1] for row in written for k in range(3)).most_common(1)[0][0])
    firsts = [row[n % 3][0] for n, row in enumerate(written)]
    told = [
        replace(problem, answer=latent.tokenizer.decode(first)) for problem, first in zip(some, firsts, strict=True)
    ]
    expected = [
        [one == [first, latent.end] and first != latent.end for one in row]
        for row, first in zip(written, firsts, strict=True)
    ]
    assert answered(latent, told, 2).tolist() == expected
    assert {True, False} == {one for row in expected for one in row}


def test_a_teacher_is_right_where_its_results_end_in_the_answer():
    """<ans> and the end are what it happens to write."""
    latent, (one, *_) = tiny_latent(), problems(2)
    embed = latent.model.get_input_embeddings().weight
    text = [*latent.tokenizer(one.question)["input_ids"], *latent.before]
    n = len(text)
    for _ in range(4):
        states = latent.model.base_model(inputs_embeds=embed[text][None], use_cache=False).last_hidden_state
        text.append(int((embed @ states[0, -1]).argmax()))
    written = text[n:]
    right = replace(one, answer=latent.tokenizer.convert_ids_to_tokens(written[written.index(written[1]) + 1]))
    latent = replace(latent, after=(written[1],), end=written[written.index(written[1]) + 2])
    assert taught(latent, [right]).all()
    assert not taught(replace(latent, end=latent.end + 1), [right]).any()
    assert not taught(latent, [replace(right, answer="55" if right.answer != "55" else "54")]).any()
    assert not taught(replace(latent, after=(146,)), [right]).any()


def test_shares_intervals_and_differences_are_of_the_same_problems(folder, card):
    asked = PERMUTATIONS.at_most(12, steps=(3,), seed=evaluate_latent.SEED, held_out=True)
    right = {name: answered(files.load(folder / name, name, ""), asked, 2) for name in ("latent-1", "pause-1")}
    row = at(card["models"]["latent-1"]["accuracy"], n_steps=3, k=2)
    assert (row["n"], row["right"]) == (12, right["latent-1"][:, 2].sum())
    found = at(card["differences"], seed=1, against="pause", n_steps=3, k=2)
    expected = mcnemar(right["pause-1"][:, 2].tolist(), right["latent-1"][:, 2].tolist())
    assert (found["difference"], found["low"], found["p"]) == (expected.difference, expected.low, expected.p)


def test_every_model_length_and_number_of_latents_is_in_the_card(card):
    assert list(card["models"]) == ["latent-0", "latent-1", "none-0", "none-1", "pause-0", "pause-1"]
    assert card["n_problems"].keys() == {"1", "2", "3", "4", "5"} and card["n_problems"]["3"] == 12
    for model in card["models"].values():
        most = 0 if model["sibling"] == "none" else 4
        places = {(row["n_steps"], row["k"]) for row in model["accuracy"]}
        assert places == {(steps, k) for steps in (1, 2, 3, 4, 5) for k in range(most + 1)}
        assert {row["n_steps"] for row in model["teacher"]} == {1, 2, 3, 4, 5}
    assert {row["sibling"] for row in card["necessity"]} == {"latent", "pause"}


def test_needed_is_right_with_latents_and_wrong_without():
    right = np.array([[0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=bool)
    rows = evaluate_latent._necessity({("latent", 0, 2): right, ("none", 0, 2): right[:, :1]})
    assert [(row["k"], row["right"], row["n"]) for row in rows] == [(2, 1, 4)]


def test_the_finding_says_that_the_recurrence_is_used_only_where_it_is_in_every_seed(card):
    def with_differences(*found):
        rows = [
            {"against": "pause", "n_steps": 3, "k": 3, "difference": one, "low": low, "high": 0.9, "n": 2000}
            for one, low in found
        ]
        return {**card, "differences": rows}

    assert finding(with_differences((0.5, 0.4), (0.1, 0.05))).startswith("The recurrence is used: on 2,000 held-out")
    for weak in ((0.09, 0.05), (0.2, -0.01)):
        assert finding(with_differences((0.5, 0.4), weak)).startswith("The recurrence is not shown to be used")
    assert "nothing is said" in finding(with_differences())


def test_the_readme_is_made_of_the_card(folder, card):
    assert (folder / "README.md").read_text() == evaluate_latent.words(card)
    shipped = json.loads((ASSETS / "card.json").read_text())
    assert (ASSETS / "README.md").read_text() == evaluate_latent.words(shipped)
    assert evaluate_latent.finding(card) in evaluate_latent.words(card)


def test_numbers_of_another_task_join_the_card_and_stay_when_it_is_measured_again(folder, card, tmp_path):
    recipe = replace(RECIPE, name="look-ups")
    finish(begin(recipe, "pause", 0), tmp_path / "pause-0")
    add_tried(folder, tmp_path, n=4, say=lambda _: None)
    said = evaluate(folder, n=12, say=lambda _: None)
    kept = json.loads((folder / "card.json").read_text())
    assert [one["task"] for one in kept["tried"]] == ["look-ups"] and "| look-ups | pause-0 |" in said
    assert {key: kept[key] for key in ("differences", "necessity")} == {
        key: card[key] for key in ("differences", "necessity")
    }


def test_models_of_two_tasks_in_one_folder_are_refused(tmp_path):
    with pytest.raises(AnchorscopeError, match=r"has models of 0 tasks \(none\)"):
        evaluate(tmp_path)
    for name in ("permutations", "look-ups"):
        finish(begin(replace(RECIPE, name=name), "none", 0), tmp_path / name)
    with pytest.raises(AnchorscopeError, match=r"has models of 2 tasks \(look-ups, permutations\)"):
        evaluate(tmp_path)


def test_problems_of_the_card_are_none_of_those_by_which_the_recipe_was_chosen():
    """A combination is where it began and its verbs. Of one step there are too few, so the same are asked again."""

    def combinations(problems):
        return {(one.operands[0], *re.findall(r"(?:first|second|third) (\w+)", one.question)) for one in problems}

    chosen_on = PERMUTATIONS.at_most(200, steps=(3,), seed=evaluate_latent.CHOSEN_ON, held_out=True)
    anew = PERMUTATIONS.at_most(3000, steps=(3,), seed=evaluate_latent.SEED, held_out=True)
    fresh = PERMUTATIONS.at_most(
        3000, steps=(3,), seed=evaluate_latent.SEED, held_out=True, unlike=evaluate_latent.CHOSEN_ON
    )
    known = combinations(chosen_on)
    assert known & combinations(anew) and not known & combinations(fresh)
    assert evaluate_latent.unseen(PERMUTATIONS, 30, 1) == PERMUTATIONS.at_most(
        30, steps=(1,), seed=evaluate_latent.SEED, held_out=True
    )
