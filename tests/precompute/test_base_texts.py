"""What the base model writes freely for a dictionary to learn from: by seed alone, to the token, and with all that it
can be written again from.
"""

import io
import json
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from rich.console import Console

from backend.crosscoder.shards import Shards
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.models.loading import load_model
from backend.models.sampling import SampleRequest, SamplingParameters, sample
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import base_texts, corpus
from precompute.pipeline import run_study
from precompute.stages import crosscoder
from precompute.study import Crosscoder, Study
from precompute.units import Context
from tests.dictionary_study import STAGES, pair_of, study_of

LONGEST = 24


@pytest.fixture(scope="module")
def pair(tiny_folder, tmp_path_factory) -> tuple[str, str]:
    return pair_of(tiny_folder, tmp_path_factory)


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "written")
    run_study(study_of(pair), folder, stages=STAGES[:5], console=Console(file=io.StringIO()))
    return folder


def asking(pair, **keys) -> Study:
    return study_of(pair, **({"tokens": 900, "base_texts": True, "generated": 0, "max_tokens": LONGEST} | keys))


@pytest.fixture
def context(pair, written, tmp_path):
    """Of the study, with scratch of its own."""
    with closing(Store(written.path)) as store:
        yield Context(asking(pair), "r", store, print, folder=tmp_path / "own")


def test_texts_are_what_the_base_model_samples_from_its_first_token(context, pair):
    made = base_texts.written(context, 300, LONGEST)
    loaded, seeds = load_model(pair[0]), {}
    for file in sorted(context.scratch.glob("base-texts-*/*.jsonl")):
        seeds |= {row["number"]: row["seed"] for row in map(json.loads, file.read_text().splitlines())}
    assert sorted(seeds) == list(range(len(seeds))) and len(set(seeds.values())) == len(seeds)
    requests = [SampleRequest(str(number), "start", 1, seed) for number, seed in seeds.items()]
    drawn = sample(loaded, {"start": [loaded.tokenizer.bos_token_id]}, requests, SamplingParameters(1.0, 1.0, 23))
    plain = {int(one.request_id): (loaded.tokenizer.bos_token_id, *one.token_ids) for one in drawn}
    expected = [plain[number] for number in sorted(plain) if len(plain[number]) > 1]
    assert made.texts[:-1] == expected[: len(made.texts) - 1]
    assert made.texts[-1] == expected[len(made.texts) - 1][: len(made.texts[-1])]
    assert max(map(len, made.texts)) == LONGEST and made.facts["seed"] == context.study.seed


def test_there_are_just_so_many_tokens_and_the_first_ones_stay_when_more_are_wanted(context):
    some, more = base_texts.written(context, 101, LONGEST), base_texts.written(context, 300, LONGEST)
    for made, n in ((some, 101), (more, 300)):
        assert sum(len(text) - 1 for text in made.texts) == n == made.facts["n_tokens"]
        assert made.facts["n"] == len(made.texts)
    assert more.texts[: len(some.texts) - 1] == some.texts[:-1] and some.facts["sha256"] != more.facts["sha256"]


def test_neither_a_stop_nor_rows_nor_workers_change_a_text_and_what_is_there_is_not_sampled_again(
    context, pair, tmp_path, monkeypatch
):
    whole = base_texts.written(context, 900, LONGEST)
    groups = sorted(context.scratch.glob("base-texts-*/*.jsonl"))
    assert len(groups) > 2
    groups[1].unlink()
    asked = []
    ours = base_texts.write
    monkeypatch.setattr(base_texts, "write", lambda model, task: asked.extend(task.groups) or ours(model, task))
    assert base_texts.written(context, 900, LONGEST) == whole and asked == [1]
    assert base_texts.written(context, 900, LONGEST) == whole and asked == [1]
    monkeypatch.undo()
    engine = context.study.engine.model_copy(update={"rows": 3})
    other = replace(context, study=context.study.model_copy(update={"engine": engine}), folder=tmp_path / "other")
    assert base_texts.written(other, 900, LONGEST) == whole
    seeded = replace(context, study=context.study.model_copy(update={"seed": 4}))
    assert base_texts.written(seeded, 900, LONGEST).texts != whole.texts


def test_a_model_that_writes_nothing_is_a_sentence(context, monkeypatch):
    monkeypatch.setattr(base_texts, "_read", lambda folder, group: [(1,)] * 16)
    with pytest.raises(AnchorscopeError, match="writes nothing from its first token"):
        base_texts.written(context, 100, LONGEST)


def test_a_dictionary_learns_from_reasoning_and_just_its_share_of_base_texts(pair, written, tmp_path):
    folder = StudyFolder(shutil.copytree(written.path, tmp_path / "pair"))
    study = asking(pair, epochs=1)
    run_study(study, folder, stages=[crosscoder], console=Console(file=io.StringIO()))
    (recording,) = (folder.path / "scratch").glob("recording-*")
    shards = Shards(recording)
    by_text = shards.tokens_by_text()
    own = sum(n for name, n in by_text.items() if name.startswith("base-"))
    reasoning = len(shards) - own
    assert own == min(900 - reasoning, int(reasoning * (1 - 0.6) / 0.6)) > 100
    with closing(Store(folder.path)) as store:
        (row,) = store.whole_table("dictionaries").to_pylist()
        context = Context(study, "r", store, print, folder=tmp_path / "again")
        made = base_texts.written(context, own, LONGEST)
    facts = json.loads(row["parameters"])
    assert facts["base_texts"] == made.facts and facts["n_reasoning_tokens"] == reasoning
    name = next(name for name in by_text if name.startswith("base-"))
    assert shards.tokens(shards.rows_of(name))[:, 2].tolist() == list(made.texts[0][1:])


def test_a_corpus_and_base_texts_have_equal_parts_and_the_base_model_fills_up(context, tmp_path):
    (tmp_path / "c4.jsonl").write_text("\n".join(json.dumps({"text": "So it goes on. " * 3}) for _ in range(200)))
    several = {"corpus": (str(tmp_path),)}
    wanted = context.study.crosscoder[0].model_copy(update=several)
    found = corpus.others(context, wanted, 400)
    from_base = sum(len(one.text.ids) - 1 for one in found.sources if one.text.ids is not None)
    a_text = (400 - from_base) / sum(one.text.ids is None for one in found.sources)
    assert 200 - a_text < from_base <= 200 and found.base_texts["n_tokens"] == from_base
    (tmp_path / "c4.jsonl").write_text(json.dumps({"text": "So it goes on."}))
    shutil.rmtree(context.scratch)
    short = corpus.others(context, wanted, 400)
    assert 380 < short.base_texts["n_tokens"] < 400


def test_without_them_the_ids_are_those_of_before(context, pair):
    plain = context.study.crosscoder[0].model_copy(update={"base_texts": False})
    cots, _ = corpus._reasoning(context, plain)
    contents = {
        "cots": [cot["cot_id"] for cot in cots],
        "rollouts": [],
        "generated": None,
        "texts": None,
        "corpus": (),
        "tokens": 900,
        "share": 0.6,
        "n_texts": len(cots),
    }
    plan = crosscoder.Plan(context, plain)
    assert plan.recording_id == stable_id("s", 1, plan.model_ids, 1, LONGEST, "float16", contents)
    assert crosscoder.Plan(context, context.study.crosscoder[0]).recording_id != plan.recording_id


def test_they_need_a_number_of_tokens():
    with pytest.raises(ValueError, match="base_texts are of a dictionary that learns from so many tokens"):
        Crosscoder.model_validate({"layer": 1, "base_texts": True})
