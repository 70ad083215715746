"""What was asked is done pair by pair: as plain runs of each arm would, once for arms that are shared, and after any
end it goes on.
"""

import io
import json
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from rich.console import Console

from backend.cot.prompts import cot_prompt
from backend.crosscoder.feature_interventions import FeatureIntervention, accuracy_run
from backend.crosscoder.stored import read_from, twin_of
from backend.crosscoder.trials import Change, Sampling, Trial, drawn_problems
from backend.errors import AnchorscopeError
from backend.models.loading import load_model
from backend.models.sampling import SamplingParameters
from backend.store.intervention_queries import Interventions
from backend.store.progress import read_progress
from backend.store.store import Store
from backend.store.unit_files import StudyBusy, StudyFolder
from precompute.export import export_duckdb
from precompute.plan import plan_study
from precompute.stages import interventions as stage
from precompute.study import Study
from tests import intervened_study
from tests.intervened_study import LAYER, SAMPLING


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[str, str]:
    return intervened_study.make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def study(pair, tmp_path):
    return intervened_study.make(tmp_path / "small", pair)


@pytest.fixture(scope="module")
def facts(pair, tmp_path_factory) -> dict:
    """What every such study has."""
    folder = intervened_study.make(tmp_path_factory.mktemp("facts") / "small", pair)
    with closing(Store(folder)) as store:
        row = store.dictionaries().iloc[0]
        problems = store.frame("SELECT problem_id, level, question FROM problems ORDER BY problem_id")
        return {
            "dictionary": read_from(store, row.dictionary_id),
            "models": [row.base_model_id, row.distilled_model_id],
            "frequency": store.features(row.dictionary_id)["frequency"],
            "problems": problems,
        }


def trial(facts, **other) -> Trial:
    given = {
        "dictionary_id": facts["dictionary"].dictionary_id,
        "change": Change("zero", (1, 2)),
        "n_samples": 2,
        "n_random": 2,
        "problems": drawn_problems(facts["problems"], 2),
        "sampling": Sampling(**SAMPLING),
    }
    return Trial(**(given | other))


def ask(study, facts, *trials: Trial) -> None:
    for one in trials:
        Interventions(study).ask(one.row(), one.arms(facts["models"], facts["frequency"]))


def work(study, **how) -> str:
    said = io.StringIO()
    stage.run_asked(study, Console(file=said, width=200), threads=1, **how)
    return said.getvalue()


def samples(study) -> list[dict]:
    kept = Interventions(study)
    found = kept.samples(set(kept.arms()["arm_id"]))
    return (
        found.assign(features=found["features"].map(list)).astype(object).where(found.notna(), None).to_dict("records")
    )


def test_samples_are_drawn_in_the_dtype_that_the_studys_were(study, facts, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "backend.models.loading.load_model", lambda name, **how: loaded.append(how["dtype"]) or load_model(name, **how)
    )
    ask(study, facts, trial(facts, n_random=0, sampling=Sampling(**SAMPLING, dtype="bfloat16")), trial(facts))
    work(study)
    assert stage.n_left(study)[0] == 0 and sorted(loaded) == ["bfloat16"] * 2 + ["float32"] * 2
    assert {one["model_id"] for one in samples(study)} == set(facts["models"])


def test_each_unit_has_the_samples_of_a_plain_run_of_its_arm(study, facts, pair):
    asked = trial(facts, change=Change("scale", (1, 2), factor=1.5, keep_error=False))
    ask(study, facts, asked)
    assert stage.n_left(study) == (16, 16)
    work(study)
    assert stage.n_left(study) == (0, 16)
    arms = Interventions(study).arms().set_index(["model_id", "arm"])
    models = [load_model(name) for name in pair]
    prompts = {row.problem_id: cot_prompt(models[0].tokenizer, row.question) for row in facts["problems"].itertuples()}
    prompts = {name: prompts[name] for name in asked.problems}
    found = {(one["arm_id"], one["problem_id"], one["sample"]): one for one in samples(study)}
    assert len(found) == 2 * 4 * 2 * 2
    for place, model_id in enumerate(facts["models"]):
        plain = {"base": (), "changed": (asked.change,), "reconstruct": (Change("reconstruct", keep_error=False),)}
        sets = json.loads(arms.loc[(model_id, "random"), "feature_sets"])
        plain["random"] = tuple(replace(asked.change, features=tuple(some)) for some in sets)
        plain = {
            arm: tuple(
                FeatureIntervention(
                    facts["dictionary"], place, LAYER, one.operation, one.features, one.factor, one.beta, one.keep_error
                )
                for one in own
            )
            for arm, own in plain.items()
        }
        parameters = SamplingParameters(**SAMPLING)
        for unit in accuracy_run(models, place, prompts, plain, parameters, n=2, seed=asked.seed):
            for one in unit.samples:
                ours = found[arms.loc[(model_id, unit.arm), "arm_id"], unit.problem_id, one["sample"]]
                assert (ours["text"], ours["seed"], list(ours["features"])) == (
                    one["text"],
                    one["seed"],
                    one["features"],
                )
                assert ours["model_id"] == model_id and ours["finish"] == one["finish"] and ours["grader"]


def test_shared_arms_are_sampled_once_and_scaling_by_1_changes_what_replacing_does_and_nothing_else(study, facts):
    asked = [
        trial(facts, n_samples=1, change=Change("scale", (1, 2), factor=1.0, keep_error=keep)) for keep in (True, False)
    ]
    ask(study, facts, *asked)
    assert stage.n_left(study) == (
        2 * 2 * 4,
        2 * 2 * 4,
    )  # models × problems × (base, reconstruct, and by 1 with and without the error)
    assert stage.ask_published(study, top=2, above=0.2, n_problems=2) == 6
    assert (
        json.loads(Interventions(study).asked()["parameters"][0])["max_new_tokens"] == 12
    )  # as the study's CoTs were sampled
    for one in Interventions(study).asked()["intervention_id"][:6]:
        Interventions(study).forget(one)
    work(study)
    arms = Interventions(study).arms()
    texts = {
        arm: own["text"].tolist() for arm, own in Interventions(study).samples(set(arms["arm_id"])).groupby("arm_id")
    }
    for model_id, own in arms.groupby("model_id"):
        kept, replaced = (
            own[own["intervention_id"] == one.intervention_id].set_index("arm")["arm_id"] for one in asked
        )
        assert (
            texts[kept["changed"]] == texts[kept["base"]]
            and texts[replaced["changed"]] == texts[replaced["reconstruct"]]
        )
        assert texts[kept["base"]] != texts[kept["reconstruct"]], model_id


def asked_with_twin(study, facts, change: Change) -> Trial:
    """Asked with a twin whose matched features are the chosen ones."""
    asked = trial(facts, change=change, n_random=1)
    with closing(Store(study)) as store:
        twin = twin_of(store, asked.dictionary_id)
    arms = asked.arms(facts["models"], facts["frequency"], twin=twin)
    assert [arm["arm"] for arm in arms if arm["null_id"]] == ["twin", "twin"]
    own = {"feature_sets": json.dumps([list(change.features)])}
    Interventions(study).ask(asked.row(), [arm | (own if arm["arm"] == "twin" else {}) for arm in arms])
    return asked


@pytest.mark.parametrize("change", [Change("zero", (1, 2)), Change("steer", (1, 2), beta=40.0)])
def test_a_twin_that_is_the_dictionary_has_no_excess_and_steers_by_as_much_whatever_its_rows_lengths(
    study, facts, change
):
    """Rows of thrice the length, and codes of a third: what is zeroed is the same, and so is what β writes."""
    own = facts["dictionary"]
    thrice = replace(own, decoder=3 * own.decoder, encoder=own.encoder / 3, encoder_bias=own.encoder_bias / 3)
    intervened_study.add_twin(study, replace(thrice, threshold=own.threshold / 3))
    asked_with_twin(study, facts, change)
    work(study)
    kept = Interventions(study)
    texts = kept.samples(set(kept.arms()["arm_id"])).merge(kept.arms()[["arm_id", "arm"]], on="arm_id")
    by_arm = {
        arm: rows.sort_values(["model_id", "problem_id", "sample"])["text"].tolist()
        for arm, rows in texts.groupby("arm")
    }
    assert by_arm["twin"] == by_arm["changed"] != by_arm["base"]


def test_asking_again_adds_the_twin_that_was_trained_meanwhile_and_without_its_weights_that_is_said(study, facts):
    ask(study, facts, trial(facts))
    assert len(Interventions(study).arms()) == 8
    intervened_study.add_twin(study, facts["dictionary"])
    with closing(Store(study)) as store:
        twin = twin_of(store, trial(facts).dictionary_id)
    arms = trial(facts).arms(facts["models"], facts["frequency"], twin=twin)
    kept = Interventions(study)
    assert kept.ask(trial(facts).row(), arms) and not kept.ask(trial(facts).row(), arms)
    assert len(kept.asked()) == 1 and len(kept.arms()) == 10 and stage.n_left(study) == (20, 20)
    shutil.rmtree(study / "scratch")
    with pytest.raises(AnchorscopeError, match="weights of the frozen-decoder twin n1"):
        work(study)


def test_stopped_or_killed_anywhere_it_goes_on_and_no_sample_changes(study, facts, pair, tmp_path, monkeypatch):
    whole = intervened_study.make(tmp_path / "whole", pair)
    for one in (study, whole):
        ask(one, facts, trial(facts))
    work(whole)
    kept, room = Interventions(study), Interventions(study).room
    made, original = [], Interventions.keep

    def until(self, *given):
        made.append(given)
        if len(made) == 4:
            raise KeyboardInterrupt
        original(self, *given)
        if len(made) == 8:
            (room.path / stage.STOP).touch()

    monkeypatch.setattr(Interventions, "keep", until)
    with pytest.raises(KeyboardInterrupt):
        work(study)
    moment = read_progress(room.path)
    assert (moment.state, moment.done, moment.total) == ("interrupted", 3, 16) and stage.n_left(study) == (13, 16)
    assert "stopped" in work(study, rows=4)
    assert stage.n_left(study)[0] < 13 and read_progress(room.path).state == "interrupted"
    work(study, rows=2)
    moment = read_progress(room.path)
    assert (moment.state, moment.done, moment.total) == ("finished", 16, 16) and not (room.path / stage.STOP).exists()
    assert samples(study) == samples(whole) and room.holder() is None
    assert "nothing is left" in work(study) and len(kept.done()) == 16


def test_it_is_done_for_a_portable_file_and_while_another_process_holds_the_study(study, facts, tmp_path):
    export_duckdb(study, tmp_path / "one.duckdb")
    ask(tmp_path / "one.duckdb", facts, trial(facts, n_samples=1))
    with Interventions(tmp_path / "one.duckdb").room.writing("test"), pytest.raises(StudyBusy):
        work(tmp_path / "one.duckdb")
    work(tmp_path / "one.duckdb")
    assert stage.n_left(tmp_path / "one.duckdb") == (0, 16) and stage.n_left(study) == (0, 0)
    assert not (tmp_path / "one").exists() and (tmp_path / "one.experiments").is_dir()


def test_what_the_study_does_not_have_is_said(study, facts, monkeypatch):
    with pytest.raises(AnchorscopeError, match="NRN above"):
        stage.ask_published(study, above=0.99)
    with pytest.raises(AnchorscopeError, match="has no dictionary w0; it has"):
        stage.ask_published(study, dictionary_id="w0")
    ask(study, facts, trial(facts, problems=("nowhere",)))
    with pytest.raises(AnchorscopeError, match="needs problem nowhere"):
        work(study)
    assert read_progress(Interventions(study).room.path).state == "failed"
    monkeypatch.setattr(stage, "choices", lambda models: [])
    with pytest.raises(AnchorscopeError, match="not on this machine"):
        work(study)


def test_a_plan_counts_what_was_asked(study, facts, pair):
    wanted = {
        "name": "small",
        "models": [{"name": name, "role": role} for name, role in zip(pair, ("base", "distilled"), strict=True)],
        "problems": {"per_level": 2},
        "sweep": {"layers": [1]},
    }
    planned = Study.model_validate(wanted)
    assert "interventions" not in {line.stage for line in plan_study(planned, StudyFolder(study))[0]}
    ask(study, facts, trial(facts))
    Interventions(study).keep(Interventions(study).arms()["arm_id"][0], trial(facts).problems[0], [])
    (line,) = (line for line in plan_study(planned, StudyFolder(study))[0] if line.stage == "interventions")
    assert (line.units, line.done) == (16, 1) and line.minutes > 0


def test_progress_moves_with_every_token_though_no_unit_is_whole(study, facts, monkeypatch):
    moments = []
    monkeypatch.setattr(stage, "write_progress", lambda _, moment: moments.append(moment))
    monkeypatch.setattr(stage, "_SAY_EVERY", 0.0)
    ask(
        study,
        facts,
        trial(facts, change=Change("zero", (1, 2)), problems=drawn_problems(facts["problems"], 1), n_random=0),
    )
    work(study)
    before = [moment.tokens for moment in moments if moment.done == 0 and moment.state == "running"]
    assert len(set(before)) > 5 and before == sorted(before)  # steps of the first batch, in which no unit was whole yet
    assert all(0 <= moment.tokens <= moment.most_tokens for moment in moments)
    last = moments[-1]
    assert last.state == "finished" and last.tokens == last.most_tokens > 0 and last.done == last.total


def test_samples_that_end_early_are_shown_until_their_unit_is_whole(study, facts):
    asked, kept = trial(facts), Interventions(study)
    ask(study, facts, asked)
    kept.room.path.mkdir(parents=True, exist_ok=True)
    noted = []
    runner = stage._Runner(None, kept, None, None, 128, "cpu", left=2, budget=48)
    row = {"arm": "a1", "problem_id": "p1", "sample": 0, "answer": None, "finish": "eos", "n_tokens": 5, "text": "…"}
    runner.watch(12, 2, [])
    runner.say("running")
    noted.append(len(kept.under_way()))
    runner.watch(12, 2, [row])
    runner.say("running")
    noted.append(kept.under_way()[["arm_id", "problem_id", "sample", "n_tokens"]].to_numpy().tolist())
    runner.ended = []
    runner.say("running")
    noted.append(len(kept.under_way()))
    assert noted == [0, [["a1", "p1", 0, 5]], 0]
    assert (runner.tokens, runner.budget) == (4, 48 - 4 - (12 - 6))


@pytest.mark.parametrize("damage", ["", "[", "{}", "[1]", "[{}]", "null"])
def test_a_damaged_note_of_what_is_under_way_is_no_note(study, damage):
    kept = Interventions(study)
    kept.room.path.mkdir(parents=True, exist_ok=True)
    (kept.room.path / "under_way.json").write_text(damage)
    assert kept.under_way().empty
