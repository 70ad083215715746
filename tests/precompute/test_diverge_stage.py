"""Where two models part is found layer by layer, on the texts of both, and from any number of workers alike."""

import contextlib
import io
from collections import Counter

import pytest
from rich.console import Console

from backend import ids
from backend.errors import AnchorscopeError
from backend.models.loading import load_model
from backend.schema.tables import TABLES
from backend.store.packed import pack, unpack
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.estimates import Lengths, Quantities
from precompute.models import model_row
from precompute.pipeline import run_study
from precompute.refresh import refresh
from precompute.stages import diverge
from precompute.study import Study, StudyError
from precompute.terminal import ours
from precompute.turns import in_turn
from tests.conftest import tune

PROBLEMS, LAYERS, WIDTH, PARTED = 6, 4, 64, 2


def row(table, **known):
    return dict.fromkeys(TABLES[table].columns) | known


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory):
    """A model, and one made from it whose blocks differ from block 2 on."""
    base = load_model(str(tiny_folder("llama")))
    distilled = load_model(str(tiny_folder("llama")))
    tune(distilled.model.model.layers[PARTED])
    folder = tmp_path_factory.mktemp("distilled")
    distilled.model.save_pretrained(folder)
    distilled.tokenizer.save_pretrained(folder)
    return base, load_model(str(folder))


@pytest.fixture
def folder(pair, tmp_path) -> StudyFolder:
    cots = []
    for number in range(PROBLEMS):
        for writer, loaded in enumerate(pair):
            prompt = f"<|im_start|>Let me think. What is {number} + 30? "
            text = f"First, we add {number} and 30. Wait, {writer + 3} apples. So the answer is {number + 30}."
            tokens = loaded.tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
            cots.append(
                row(
                    "cots",
                    cot_id=ids.stable_id("c", number, writer),
                    problem_id=ids.stable_id("p", number),
                    model_id=loaded.model_id,
                    prompt_name="boxed",
                    prompt=prompt,
                    text=text,
                    token_ids=tokens,
                    n_prompt_tokens=12,
                    n_tokens=len(tokens) - 12,
                )
            )
    problems = [row("problems", problem_id=name) for name in dict.fromkeys(cot["problem_id"] for cot in cots)]
    models = [model_row(loaded, role) for loaded, role in zip(pair, ("base", "distilled"), strict=True)]
    made = StudyFolder(tmp_path / "study")
    with made.writing("test") as writer:
        writer.add("cots", "all", {"models": models, "problems": problems, "cots": cots})
        publish(writer)
    return made


def asked(pair, *, workers=1, **wanted) -> Study:
    roles = zip(pair, ("base", "distilled"), strict=True)
    return Study.model_validate(
        {
            "name": "parting",
            "models": [{"name": loaded.name, "role": role} for loaded, role in roles],
            "problems": {"per_level": 1},
            "sweep": {"layers": [1]},
            "diverge": {"lens_tokens": 24, "components": 3, **wanted},
            "engine": {"workers": workers},
        }
    )


def run(study, folder, stages=(diverge,)) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=stages, console=Console(file=said, width=200))
    return said.getvalue()


def rows(folder):
    with contextlib.closing(Store(folder.path)) as store:
        return store.whole_table("divergence").to_pylist()


def test_the_models_are_equal_up_to_the_block_that_differs_and_apart_from_it_on(pair, folder):
    run(asked(pair), folder)
    found = {(one["measure"], one["positions"], one["layer"]): one for one in rows(folder)}
    assert len(found) == LAYERS * 5 * 3
    for (measure, positions, layer), one in found.items():
        same = 1 if measure == "cka" else 0
        if layer < PARTED:
            assert one["value"] == same
        else:
            assert one["value"] < 1 if measure == "cka" else one["value"] > 0
        if positions != "prompt":  # without the problem that has what all prompts begin with, too little is left
            assert one["low"] <= one["value"] <= one["high"] and (one["low"] == one["high"]) == (layer < PARTED)
    whole = found["relative_norm", "all", PARTED]
    assert whole["n_problems"] == PROBLEMS and whole["control"] > 0 and whole["null"] > 0
    assert found["kl", "all", PARTED]["n_tokens"] == 24
    with contextlib.closing(Store(folder.path)) as store:
        (first, *_), beside = store.divergence().to_dict("records"), store.divergence_beside()
    assert (first["base"], first["distilled"]) == (pair[0].name, pair[1].name)
    assert beside["measure"].tolist() == ["cka", "relative_norm"] * LAYERS
    assert beside["value"][2 * PARTED + 1] == whole["value"]
    assert "all done" in run(asked(pair), folder)


def test_what_is_found_does_not_depend_on_the_number_of_workers(pair, folder, monkeypatch):
    run(asked(pair), folder)
    alone = rows(folder)
    monkeypatch.setattr(diverge, "_MOST_BYTES", 1.0)  # a layer at a time
    study, tasks = asked(pair), []
    with contextlib.closing(Store(folder.path)) as store:

        class Context:
            def __init__(self):
                self.study, self.store = study, store
                self.engine = type("Engine", (), {"workers": 3})()

            def run(self, work, given, *, model):
                tasks.extend(given)
                for task in reversed(given):
                    yield from work(pair[0], task)

        context = Context()
        made = [one for done in diverge.compute(context, diverge.units(context)) for one in done.tables["divergence"]]
    assert len(tasks) == LAYERS
    key = ("layer", "positions", "measure")
    by_key = [{tuple(one[name] for name in key): one for one in some} for some in (made, alone)]
    assert by_key[0] == by_key[1] and len(by_key[0]) == len(made)


def test_problems_take_turns_and_so_do_writers(pair, folder):
    with contextlib.closing(Store(folder.path)) as store:
        cots = store.tokenised_cots()
    order = in_turn(cots, seed=0)
    assert len({cot["problem_id"] for cot in order[:PROBLEMS]}) == PROBLEMS
    assert Counter(cot["model_id"] for cot in order[:PROBLEMS]) == {one.model_id: PROBLEMS // 2 for one in pair}
    assert sorted(cot["cot_id"] for cot in order) == sorted(cot["cot_id"] for cot in cots)


def test_reading_stops_at_the_tokens_asked_for_and_what_texts_begin_with_counts_once(pair, folder):
    with contextlib.closing(Store(folder.path)) as store:

        def chosen(**wanted):
            return diverge.texts(type("Context", (), {"study": asked(pair, **wanted), "store": store})())

        some = chosen(tokens=150)
        assert 1 < len(some) < 2 * PROBLEMS and sum(len(text.token_ids) for text in some) <= 150
        assert len(chosen(tokens=1)) == 1, "one text at least"
        assert {len(text.token_ids) for text in chosen(max_tokens=20)} == {20}
        every = chosen()
    prefixes = {text.token_ids[: position + 1] for text in every for position in range(1, len(text.token_ids))}
    kept = [text.token_ids[: position + 1] for text in every for position in text.positions]
    assert sorted(kept) == sorted(prefixes)


def test_models_that_have_other_layers_and_too_many_components_are_refused(pair, folder):
    with pytest.raises(AnchorscopeError, match=r"diverge.components is 64, and the residual stream has 64 dimensions"):
        run(asked(pair, components=64), folder)
    base = {"name": "one", "n_layers": 4, "d_model": 64, "vocab_size": 9}
    with pytest.raises(AnchorscopeError, match=r"n_layers of one is 4, of two 5"):
        diverge._require_alike(base, base | {"name": "two", "n_layers": 5}, 3)


def test_a_study_without_it_has_no_units_and_one_without_a_pair_is_refused(pair, folder):
    study = asked(pair)
    without = Study.model_validate(study.model_dump(exclude={"diverge"}))
    run(without, folder)
    assert not rows(folder)
    of = Quantities(without, Lengths(100, 20, True), 10, 10**6, WIDTH, LAYERS, 1e9, {}, 384)
    assert diverge.estimate(of) is None
    with pytest.raises(StudyError, match=r"no \[diverge\]"):
        _ = without.its_diverge
    with pytest.raises(ValueError, match="diverge needs one model of role base and one of role distilled; found model"):
        Study.model_validate({**study.model_dump(), "models": [{"name": pair[0].name}]})


def test_the_plan_counts_what_both_models_read_and_the_heads_products(pair):
    def minutes(**wanted):
        of = Quantities(asked(pair, **wanted), Lengths(100, 20, True), 10, 10**6, WIDTH, LAYERS, 1e9, {}, 384)
        line = diverge.estimate(of)
        assert line is not None and line.units == LAYERS
        return line.tokens, line.minutes

    assert minutes(tokens=1000)[0] == 2000 and minutes(tokens=2000)[0] == 4000
    assert minutes(lens_tokens=2000)[1] > minutes(lens_tokens=1000)[1]


def test_a_pack_gets_it_from_its_own_rows(pair, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = asked(pair)
    pack(folder.path, tmp_path / "pack")
    assert set(refresh(tmp_path / "pack", ["diverge"], ours(None), study=study)) == {"runs", "divergence"}
    run(study, folder)
    with contextlib.closing(Store(unpack(tmp_path / "pack", tmp_path / "again.duckdb"))) as store:
        assert store.whole_table("divergence").to_pylist() == rows(folder)
