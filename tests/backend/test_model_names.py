"""Short names of models: roles where they say it all, and else names that differ."""

import pandas as pd

from backend.models.names import LONGEST, in_the_middle, role_words, short_name, short_names


def models(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["model_id", "name", "role"])


PAIR = (("m1", "embedded:SmolLM2-135M-Instruct", "base"), ("m2", "embedded:Anchorscope-Reasoner-135M", "distilled"))


def test_a_pair_goes_by_its_roles_under_its_ids_and_its_full_names():
    assert short_names(models(*PAIR)) == {
        "m1": "base",
        "m2": "reasoner",
        "embedded:SmolLM2-135M-Instruct": "base",
        "embedded:Anchorscope-Reasoner-135M": "reasoner",
    }


def test_two_reasoners_and_every_model_beside_them_go_by_their_own_names():
    named = short_names(models(*PAIR, ("m3", "deepseek-ai/R1-Distill", "distilled")))
    assert [named[key] for key in ("m1", "m2", "m3")] == [
        "SmolLM2-135M-Instruct",
        "Anchorscope-Reasoner-135M",
        "R1-Distill",
    ]


def test_a_third_model_of_another_role_leaves_the_pair_its_names():
    named = short_names(models(*PAIR, ("m3", "embedded:Anchorscope-Latent/none-0", "latent")))
    assert (named["m1"], named["m2"], named["m3"]) == ("base", "reasoner", "none-0")


def test_a_publisher_stands_only_where_it_tells_two_apart():
    named = short_names(models(("m1", "one/same", "model"), ("m2", "two/same", "model"), ("m3", "one/else", "model")))
    assert [named[key] for key in ("m1", "m2", "m3")] == ["one/same", "two/same", "else"]


def test_two_revisions_of_one_name_differ_by_their_ids_and_the_name_alone_is_neither():
    named = short_names(models(("m1", "a/b", "model"), ("m2", "a/b", "model")))
    assert named["m1"] != named["m2"] and "a/b" not in named


def test_names_that_are_cut_still_differ():
    stem = "a-very-long-name-of-a-model-with-"
    rows = [(f"m{i}", f"{stem}{i}{'-and-more' * 4}", "model") for i in range(3)]
    named = short_names(models(*rows))
    assert len({named[f"m{i}"] for i in range(3)}) == 3
    assert all("…" in named[f"m{i}"] for i in range(3))


def test_a_cut_keeps_both_ends():
    assert in_the_middle("abcdefghij", 5) == "ab…ij"
    assert in_the_middle("abcde", 5) == "abcde"
    assert len(in_the_middle("x" * 100, LONGEST)) == LONGEST


def test_a_model_the_study_does_not_have_goes_by_the_end_of_its_name():
    assert short_name("hub/some-model") == "some-model" and short_name("embedded:SmolLM2") == "SmolLM2"


def test_a_role_inside_words_is_said_as_the_role_is():
    assert role_words("distilled only") == "reasoner only" and role_words("base") == "base"
