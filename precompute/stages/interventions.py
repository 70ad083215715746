"""Problems solved under the arms of the interventions that were asked for: on the Interventions page, or with
`--published`.

The work lies beside the study (`backend/store/intervention_queries.py`), not in its manifest: it can be done for a
portable file too, and while another process writes to the study. A unit is one problem under one arm.

1. What is left to do is looked up, those asked first first; arms that share model and sampling are sampled together, in
   one batch.
2. A unit that is whole is judged and kept, and only then counts as done: a run that was killed goes on where it was.
3. That is done again until nothing is left, so that what is asked meanwhile is done too. A file `stop` in the room ends
   it in good order.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from backend.cot.answers import Judge, grader
from backend.cot.prompts import cot_prompt, usual
from backend.crosscoder import trials
from backend.crosscoder.stored import read_from, twin_of
from backend.crosscoder.trials import Change, Sampling, Trial
from backend.errors import AnchorscopeError
from backend.live.available import choices
from backend.schema.tables import TABLES
from backend.store.dictionaries import null_folder
from backend.store.intervention_queries import Interventions, Pair, left
from backend.store.progress import Progress, State, write_progress
from backend.store.store import Store
from precompute.estimates import TEXT, Estimate, Quantities
from precompute.terminal import Console, ours

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.models.loaded import LoadedModel

NAME, UNIT = "interventions", "problem under an arm"
_SAMPLES, _THOUGHTS = "feature_intervention_samples", "feature_intervention_thoughts"
STOP = "stop"  # a file in the room: whoever wants the run to end makes it
# samples asked of one batch: enough to fill it, few enough that models take turns and what is asked anew is seen
_MOST_AT_ONCE = 512
_SAY_EVERY = 2.0  # seconds


def run_asked(
    study: Path,
    console: Console,
    *,
    wait: bool = False,
    threads: int | None = None,
    rows: int = 128,
    device: str = "cpu",
) -> int:
    """Do what is left of the interventions asked of the study, a folder or a portable file; returns how many units were
    done.

    Raises StudyBusy where another process is at it (unless `wait`), NoStore, and AnchorscopeError for what the study
    does not have.
    """
    kept, console = Interventions(study), ours(console)
    with closing(Store(study)) as store:
        if not _left(kept):
            console.print(f"  {NAME:<12} nothing is left to do")
            return 0
        with kept.room.writing(f"interventions of {store.name}", wait=wait), _threads(threads), Judge() as judge:
            (kept.room.path / STOP).unlink(missing_ok=True)
            runner = _Runner(store, kept, judge, console, rows, device)
            try:
                runner.run()
            except (
                BaseException
            ) as error:  # whatever ended the run, the page must not go on saying that it runs; it is raised again
                runner.say("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
                raise
            return runner.done


def ask_published(
    study: Path, *, top: int = 5, above: float = 0.7, n_problems: int = 24, dictionary_id: str | None = None
) -> int:
    """Ask for both published surprises (`trials.surprise`) of the `top` most frequent features with NRN above `above`;
    how many interventions that adds. Raises AnchorscopeError where there is no dictionary, or no such feature.
    """
    kept = Interventions(study)
    with closing(Store(study)) as store:
        names = store.dictionary_ids()
        if not names or (dictionary_id is not None and dictionary_id not in names):
            there = f"; it has {', '.join(names)}" if names else ""
            raise AnchorscopeError(f"{study} has no dictionary {dictionary_id or 'of activations'}{there}.")
        row = store.dictionaries().set_index("dictionary_id").loc[dictionary_id or names[0]]
        features = store.features(row.name)
        chosen = trials.by_rule(features, top, above=above)
        if not chosen:
            raise AnchorscopeError(
                f"Dictionary {row.name} has no feature with NRN above {above} that fires; lower --nrn-above."
            )
        of_study = pd.DataFrame(store.study_problems(), columns=["problem_id", "level", "question", "answer"])
        trial = Trial(
            row.name,
            Change("zero", tuple(sorted(chosen))),
            trials.drawn_problems(of_study, n_problems),
            chosen_by=trials.rule_in_words(top, above=above),
            sampling=trials.sampling_of(store.runs()),
        )
        asked = [one for factor in trials.SURPRISES for one in trials.surprise(trial, factor)]
        model_ids = [one for one in (row.base_model_id, row.distilled_model_id) if isinstance(one, str)]
        prompts = usual(store.prompts().to_dict("records"), model_ids)
        twin = twin_of(store, row.name)
        return sum(kept.ask(one.row(), one.arms(model_ids, features["frequency"], prompts, twin=twin)) for one in asked)


def estimate(of: Quantities, study: Path) -> Estimate | None:
    """What all that was asked of the study at `study` will cost; None where nothing was."""
    left, asked = n_left(study)
    if not asked:
        return None
    tokens = asked * of.lengths.cot
    read = tokens * len(of.study.pair)  # each sample is read by both models
    line = of.line(NAME, asked, tokens=read, by="sampling", steps=of.steps(tokens, 1), gigabytes=tokens * TEXT)
    return replace(line, done=asked - left)


def n_left(study: Path) -> tuple[int, int]:
    """Units that are left to do and that were asked for, in all."""
    kept = Interventions(study)
    return len(_left(kept)), len(_left(kept, done=()))


@dataclass(frozen=True)
class Batch:
    """What is sampled together: pairs of arm and problem of one model, under one sampling."""

    dictionary_id: str
    model_id: str
    n_samples: int
    seed: int
    sampling: Sampling
    pairs: tuple[Pair, ...]
    changes: Mapping[str, tuple[Change, ...]]  # by arm: what its samples are under, in turn
    twins: Mapping[str, tuple[str, tuple[int, ...]]]  # by twin arm: null_id, and what its features stand for


@dataclass
class _Runner:
    """One command's way through what was asked."""

    store: Store
    kept: Interventions
    judge: Judge
    console: Console
    rows: int
    device: str
    done: int = 0  # units, in this run
    left: int = 0
    before: int = 0  # units that were done when it began
    began: float | None = None  # when sampling did
    said: float = 0.0
    tokens: int = 0  # written in this run
    budget: int = 0  # tokens that the units left take at most
    ended: list[dict[str, Any]] = field(default_factory=list)  # samples of units that are not whole yet
    n_noted: int = 0  # of them, when they were last shown
    _models: dict[tuple[str, str | None], "LoadedModel"] = field(default_factory=dict)
    _dictionaries: dict[str, "Dictionary"] = field(default_factory=dict)

    def run(self) -> None:
        problems = {problem["problem_id"]: problem for problem in self.store.study_problems()}
        while todo := _left(self.kept):
            self.left, self.budget = len(todo), _most_tokens(self.kept, todo)
            self.before = len(_left(self.kept, done=())) - self.left - self.done
            self.say("running")
            for rows in self._sampled(_batch(self.kept, todo), problems):
                unit = rows[0]["arm_id"], rows[0]["problem_id"]
                samples, thoughts = (_of_table(name, rows) for name in (_SAMPLES, _THOUGHTS))
                self.kept.keep(*unit, samples, thoughts)
                self.ended = [row for row in self.ended if (row["arm_id"], row["problem_id"]) != unit]
                self.done, self.left = self.done + 1, self.left - 1
                self.say("running")
            self.ended = []  # what was not whole when somebody stopped is done again
            if self.is_stopped():
                self.console.print(f"  {NAME:<12} stopped; the same command goes on")
                self.say("interrupted")
                return
        self.say("finished")

    def say(self, state: State) -> None:
        """Progress, for whoever looks: of all that was asked, with what an earlier run did."""
        self.said = time.monotonic()
        rate = self.done / (self.said - self.began) if self.done and self.began is not None else None
        seconds_left = self.left / rate if rate else None
        if rate is None and self.began is not None and self.tokens:
            seconds_left = self.budget * (self.said - self.began) / self.tokens
        done, most = self.before + self.done, self.tokens + self.budget
        moment = Progress(
            NAME, done, done + self.left, rate, seconds_left, state, time.time(), tokens=self.tokens, most_tokens=most
        )
        write_progress(self.kept.room.path, moment.by_this_process())
        if len(self.ended) != self.n_noted:
            self.kept.note_under_way(self.ended)
            self.n_noted = len(self.ended)

    def watch(self, longest: int, tokens: int, ended: Sequence[Mapping[str, Any]]) -> None:
        """A step: tokens that were drawn, and samples that ended in it."""
        self.tokens, self.budget = self.tokens + tokens, self.budget - tokens
        for row in ended:
            self.budget -= longest - row["n_tokens"] - (row["finish"] == "eos")
            self.ended.append({**row, "arm_id": row["arm"]})

    def is_stopped(self) -> bool:
        """Whether somebody wants the run to end. Asked before every token:
        now and then it says that the run is alive."""
        if time.monotonic() - self.said > _SAY_EVERY:
            self.say("running")
        return (self.kept.room.path / STOP).exists()

    def _sampled(self, batch: Batch, problems: Mapping[str, Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Rows of feature_intervention_samples, with those of feature_intervention_thoughts, a unit at a time."""
        from backend.crosscoder.feature_interventions import FeatureIntervention, accuracy_run, as_much
        from backend.models.sampling import SamplingParameters

        row = self._row(batch.dictionary_id)
        model_ids = [name for name in (row["base_model_id"], row["distilled_model_id"]) if name is not None]
        loaded, place = self._pair(model_ids, batch.sampling.dtype), model_ids.index(batch.model_id)
        made: dict[
            tuple[str | None, Change], FeatureIntervention
        ] = {}  # one object for equal changes: rows that share it are encoded together

        def of_arm(arm: str, change: Change) -> FeatureIntervention:
            null_id, own = batch.twins.get(arm, (None, ()))
            dictionary = self._dictionary(batch.dictionary_id)
            if null_id is not None:
                twin = self._twin(null_id)
                change = as_much(change, own, dictionary, twin, place)
                dictionary = twin
            if (null_id, change) not in made:
                made[null_id, change] = FeatureIntervention(
                    dictionary,
                    place,
                    row["layer"],
                    change.operation,
                    change.features,
                    factor=change.factor,
                    beta=change.beta,
                    keep_error=change.keep_error,
                )
            return made[null_id, change]

        wanted = list(dict.fromkeys(problem for _, problem in batch.pairs))
        if strangers := [name for name in wanted if name not in problems]:
            raise AnchorscopeError(
                f"An intervention needs problem {strangers[0]}, which {self.store.path} does not have; forget it."
            )
        prompt = usual(self.store.prompts().to_dict("records"), model_ids)[batch.model_id]
        prompts = {name: cot_prompt(loaded[place].tokenizer, problems[name]["question"], prompt) for name in wanted}
        arms = {arm: tuple(of_arm(arm, change) for change in changes) for arm, changes in batch.changes.items()}
        others = {(problem, arm) for problem in prompts for arm in arms} - {
            (problem, arm) for arm, problem in batch.pairs
        }
        sampling = SamplingParameters(batch.sampling.temperature, batch.sampling.top_p, batch.sampling.max_new_tokens)
        self.console.print(f"  {NAME:<12} {loaded[place].name}: {len(batch.pairs)} of {self.left} units left")
        self.began = self.began or time.monotonic()
        for unit in accuracy_run(
            loaded,
            place,
            prompts,
            arms,
            sampling,
            n=batch.n_samples,
            seed=batch.seed,
            done=others,
            rows=self.rows,
            should_stop=self.is_stopped,
            watch=partial(self.watch, sampling.max_new_tokens),
        ):
            verdicts = self.judge.judge(
                [(sample["answer"], problems[unit.problem_id]["answer"]) for sample in unit.samples]
            )
            yield [
                {
                    **{name: value for name, value in sample.items() if name != "arm"},
                    "arm_id": unit.arm,
                    "model_id": batch.model_id,
                    "is_correct": verdict,
                    "grader": grader(),
                }
                for sample, verdict in zip(unit.samples, verdicts, strict=True)
            ]

    def _row(self, dictionary_id: str) -> dict[str, Any]:
        rows = [
            row for row in self.store.whole_table("dictionaries").to_pylist() if row["dictionary_id"] == dictionary_id
        ]
        if not rows:
            raise AnchorscopeError(
                f"An intervention needs dictionary {dictionary_id}, which {self.store.path} does not have; forget it."
            )
        return rows[0]

    def _dictionary(self, dictionary_id: str) -> "Dictionary":
        if dictionary_id not in self._dictionaries:
            self._dictionaries[dictionary_id] = read_from(self.store, dictionary_id)
        return self._dictionaries[dictionary_id]

    def _twin(self, null_id: str) -> "Dictionary":
        from backend.crosscoder.files import load

        if null_id not in self._dictionaries:
            folder = null_folder(self.store.path, null_id)
            if not folder.is_dir():
                raise AnchorscopeError(
                    f"An intervention needs the weights of the frozen-decoder twin {null_id}, which travel with no pack"
                    f" and are not at {folder}. Run it where the twin was trained, or forget it."
                )
            self._dictionaries[null_id] = load(folder)
        return self._dictionaries[null_id]

    def _pair(self, model_ids: Sequence[str], dtype: str | None) -> list["LoadedModel"]:
        """The models, loaded once in each dtype asked for; None is their own.

        Raises AnchorscopeError for one whose weights are not on this machine.
        """
        from backend.models.loading import load_model

        if missing := [name for name in model_ids if (name, dtype) not in self._models]:
            here = {choice.model_id: choice.model for choice in choices(self.store.models())}
            for name in missing:
                if name not in here:
                    known = self.store.model_facts(name).get("name", name)
                    raise AnchorscopeError(
                        f"The weights of {known} that the study was made with are not on this machine; both are needed."
                    )
                model = here[name]
                self._models[name, dtype] = load_model(
                    model.name, revision=model.revision, dtype=dtype or model.dtype, device=self.device
                )
        return [self._models[name, dtype] for name in model_ids]


def _of_table(table: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{column: row[column] for column in TABLES[table].columns} for row in rows]


def _left(kept: Interventions, done: Sequence[Pair] | None = None) -> list[Pair]:
    return left(kept.asked(), kept.arms(), kept.done() if done is None else done)


def _most_tokens(kept: Interventions, todo: Sequence[Pair]) -> int:
    """What these pairs take where no sample ends by itself."""
    rows = kept.asked().set_index("intervention_id")
    sizes = {
        arm.arm_id: int(row.n_samples) * int(json.loads(row.parameters)["max_new_tokens"])
        for arm in kept.arms().itertuples()
        for row in [rows.loc[arm.intervention_id]]
    }
    return sum(sizes[arm] for arm, _ in todo)


def _batch(kept: Interventions, todo: Sequence[Pair]) -> Batch:
    """The first pair, and those that can be sampled together with it."""
    rows = {row["intervention_id"]: row for row in kept.asked().to_dict("records")}
    arms: dict[str, tuple[tuple[Any, ...], tuple[Change, ...]]] = {}
    twins: dict[str, tuple[str, tuple[int, ...]]] = {}
    for one in kept.arms().to_dict("records"):
        row, facts = rows[one["intervention_id"]], json.loads(rows[one["intervention_id"]]["parameters"])
        sampling = Sampling(facts["temperature"], facts["top_p"], facts["max_new_tokens"], facts.get("dtype"))
        setting = (row["dictionary_id"], one["model_id"], int(row["n_samples"]), int(row["seed"]), sampling)
        if one["arm_id"] not in arms:
            change = trials.change_of(row)
            arms[one["arm_id"]] = setting, trials.changes_of_arm(change, one["arm"], one["feature_sets"])
            if isinstance(one["null_id"], str):
                twins[one["arm_id"]] = one["null_id"], change.features
    setting = arms[todo[0][0]][0]
    pairs = [pair for pair in todo if arms[pair[0]][0] == setting][: max(1, _MOST_AT_ONCE // setting[2])]
    return Batch(*setting, tuple(pairs), {arm: arms[arm][1] for arm, _ in pairs}, twins)


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Inside, one process has so many threads; all cores where nothing is wanted."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
