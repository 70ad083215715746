"""`evaluate-reasoner`: the embedded pair on problems that the reasoner was not trained on, and the reasoner's model
card.

1. Both models write some chains of thought a problem (temperature 0.6, top-p 0.95), through the pipeline, so that a
   stopped evaluation goes on. More problems are asked than count: those that training asked too are left out, then the
   first of each level count (`Evaluation.counted`).
2. A chain without an answer, even a forced one, counts as wrong.
3. Every figure is the mean over problems of the mean over a problem's samples. Intervals are 95 % percentile bootstraps
   over problems, since samples of one problem are alike; the difference of two models is resampled by the same
   problems. Where all problems agree there is nothing to resample, and the interval is Wilson's with as many trials as
   problems. The share of chunk texts that are distinct is no mean: its interval is the jackknife's over problems.

Each embedded reasoner has its own evaluation (`EVALUATIONS`): problems, samples, cap of tokens, and what was asked.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend.cot import long_traces
from backend.cot.chunking import chunk_spans
from backend.cot.degeneration import is_degenerate
from backend.cot.reasoning import TARGETS, target_counts
from backend.cot.thoughts import response_of
from backend.cot.traces import Manner
from backend.cot.word_problems import TEMPLATES
from backend.errors import AnchorscopeError
from backend.ids import seed_for
from backend.models import embedded
from backend.statistics.intervals import bootstrap_percentile, wilson
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import stages
from precompute.pipeline import run_study
from precompute.study import Engine, Model, Problems, Sampling, Study, Sweep
from precompute.terminal import Console
from precompute.train_reasoner import Phase, Recipe, problems_of

BASE = f"embedded:{embedded.MODEL_NAME}"
_REPLICATES = 10_000


def _study(name: str, reasoner: str, problems: Problems, sampling: Sampling) -> Study:
    return Study(
        name=name,
        seed=7,
        models=(Model(name=BASE, role="base"), Model(name=f"embedded:{reasoner}", role="distilled")),
        problems=problems,
        sampling=sampling,
        sweep=Sweep(layers=(0,)),  # a study has one; its stage is not run
        engine=Engine(workers=2, threads=1, rows=128),
    )


@dataclass(frozen=True)
class Evaluation:
    """Of one embedded reasoner: what is asked, and how many problems of each level count."""

    study: Study
    counted: Mapping[int, int]
    long: bool  # whether its chains are long: their chunks are counted, and other bars hold


EVALUATIONS = {
    embedded.REASONER_NAME: Evaluation(
        _study(
            "reasoner-evaluation",
            embedded.REASONER_NAME,
            Problems(per_level=44),
            Sampling(samples=4, temperature=0.6, top_p=0.95, max_new_tokens=448),
        ),
        dict.fromkeys(TEMPLATES, 40),
        long=False,
    ),
    embedded.REASONER_2_NAME: Evaluation(
        _study(
            "reasoner-2-evaluation",
            embedded.REASONER_2_NAME,
            Problems(per_level=70, levels=(1, 2, 3)),
            Sampling(samples=8, temperature=0.6, top_p=0.95, max_new_tokens=900, dtype="bfloat16"),
        ),
        {1: 67, 2: 67, 3: 66},
        long=True,
    ),
}


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its interval; `n` problems. NaN where unknown."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Row:
    """One line of the table; `difference` is reasoner − base, None where the base has no such thing."""

    name: str
    unit: str  # %, or per CoT
    base: Estimate | None
    reasoner: Estimate
    difference: Estimate | None  # None where it is not estimated


@dataclass(frozen=True)
class Bar:
    """Something that was asked of the reasoner, and whether it reached it."""

    asked: str
    reached: str
    met: bool


def judged_cots(store: Store, recipe: Recipe, counted: Mapping[int, int]) -> pd.DataFrame:
    """One row a CoT that counts: problem_id, level, role, and the measured columns of `_measured`.

    Raises for too few problems.
    """
    trained = {problem.question for phase in recipe.phases for problem in problems_of(phase)}
    rows = store.frame(
        "SELECT c.problem_id, p.level, p.question, m.role, c.text, c.after_text, c.think_close, c.finish, c.is_correct,"
        " c.n_tokens FROM cots c JOIN problems p USING (problem_id) JOIN models m USING (model_id) ORDER BY p.level,"
        " p.source_key, p.problem_id, m.role, c.sample"
    )
    unseen = rows[~rows["question"].isin(trained)]
    asked = unseen[["level", "problem_id"]].drop_duplicates()
    kept = asked[asked.groupby("level").cumcount() < asked["level"].map(counted).fillna(0)]
    for level, n in counted.items():
        if (found := int((kept["level"] == level).sum())) < n:
            raise AnchorscopeError(f"{store.path} has {found} unseen problems of level {level}, {n} are needed.")
    return _measured(unseen[unseen["problem_id"].isin(kept["problem_id"])])


def _measured(cots: pd.DataFrame) -> pd.DataFrame:
    """What the table is made of, one column each; shares are 0 or 1."""
    rows = cots[["text", "after_text", "think_close"]].astype(object).where(cots.notna(), None)
    written = [response_of(*row) for row in rows.itertuples(index=False)]
    words = pd.DataFrame([target_counts(text) for text in written], index=cots.index, columns=list(TARGETS))
    return pd.concat([cots[["problem_id", "level", "role"]], words], axis=1).assign(
        correct=cots["is_correct"].fillna(False).astype(float),
        closed=cots["after_text"].notna().astype(float),
        ended=(cots["finish"] == "eos").astype(float),
        degenerate=[float(is_degenerate(text)) for text in written],
        tokens=cots["n_tokens"].astype(float),
        chunks=[[text[start:end].strip() for start, end in chunk_spans(text)] for text in cots["text"].fillna("")],
    )


def table(cots: pd.DataFrame, *, long: bool = False) -> list[Row]:
    """The evaluation's lines from `judged_cots`; `long` adds those of long chains."""
    rows = [
        _row(f"accuracy, level {level}", "%", of_level["correct"], of_level)
        for level, of_level in ((level, cots[cots["level"] == level]) for level in sorted(cots["level"].unique()))
    ]
    rows.append(_row("accuracy, all levels", "%", cots["correct"], cots))
    accuracy = cots.groupby(["problem_id", "role"])["correct"].transform("mean")
    rows.append(_row("problems with accuracy in [0.2, 0.8]", "%", accuracy.between(0.2, 0.8).astype(float), cots))
    rows += [_row(f"{name} ({', '.join(words)})", "per CoT", cots[name], cots) for name, words in TARGETS.items()]
    rows += [
        _row("thinking closed", "%", cots["closed"], cots, thinks=True),
        _row("ended before the cap", "%", cots["ended"], cots),
        _row("degenerate (ends in a loop)", "%", cots["degenerate"], cots),
        _row("tokens of thinking", "per CoT", cots["tokens"], cots),
    ]
    if long:
        rows.append(_row("chunks", "per CoT", cots["chunks"].map(len).astype(float), cots))
        rows += [_row(_with(name), "%", (cots[name] > 0).astype(float), cots) for name in TARGETS]
        rows.append(_distinct(cots))
    return rows


def _with(name: str) -> str:
    """The line about CoTs in which a kind of reasoning word stands at all."""
    return f"CoTs with {name} words"


DISTINCT = "distinct among all chunk texts"


def _distinct(cots: pd.DataFrame) -> Row:
    def of(role: str) -> Estimate:
        problems = cots[cots["role"] == role].groupby("problem_id")["chunks"].agg(lambda texts: Counter(chain(*texts)))
        n, every = len(problems), Counter[str](chain.from_iterable(own.elements() for own in problems))
        n_chunks = every.total()
        rest = np.array(  # without a problem, the texts that only it has are gone
            [
                (len(every) - sum(every[text] == k for text, k in own.items())) / max(1, n_chunks - own.total())
                for own in problems
            ]
        )
        value = len(every) / n_chunks
        error = 1.96 * float(np.sqrt((n - 1) / n * ((rest - rest.mean()) ** 2).sum()))
        return Estimate(value, max(0.0, value - error), min(1.0, value + error), n)

    return Row(DISTINCT, "%", of("base"), of("distilled"), None)


def _row(name: str, unit: str, values: pd.Series, cots: pd.DataFrame, *, thinks: bool = False) -> Row:
    """`thinks`: the line is about think tags, which the base model does not have."""
    by_problem = values.groupby([cots["problem_id"], cots["role"]]).mean().unstack("role")
    base, reasoner = (by_problem[role].to_numpy(dtype=np.float64) for role in ("base", "distilled"))
    share = unit == "%"
    return Row(
        name,
        unit,
        None if thinks else _estimate(name, base, share),
        _estimate(name, reasoner, share),
        None if thinks else _estimate(name, reasoner - base, False),
    )


def _estimate(name: str, by_problem: np.ndarray, share: bool) -> Estimate:
    n, mean = len(by_problem), float(by_problem.mean())
    if share and mean in (0.0, 1.0):
        return Estimate(mean, *wilson(round(mean * n), n), n)
    draws = np.random.default_rng(seed_for("evaluation", name)).integers(n, size=(_REPLICATES, n))
    return Estimate(mean, *bootstrap_percentile(by_problem[draws].mean(axis=1)), n)


def bars_of_long_chains(rows: list[Row]) -> list[Bar]:
    """What a reasoner with long chains was asked to reach, as point estimates."""
    values = {row.name: row.reasoner.value for row in rows}

    def at_least(asked: str, name: str, wanted: float) -> Bar:
        said = f"{values[name]:.1%}" if wanted <= 1 else f"{values[name]:.1f}"
        return Bar(asked, said, values[name] >= wanted)

    degenerate = values["degenerate (ends in a loop)"]
    return [
        at_least("at least 90 % on level 1", "accuracy, level 1", 0.9),
        at_least("at least 75 % on level 2", "accuracy, level 2", 0.75),
        at_least("at least 40 % on level 3", "accuracy, level 3", 0.4),
        at_least("at least 30 % of problems with accuracy in [0.2, 0.8]", "problems with accuracy in [0.2, 0.8]", 0.3),
        at_least("at least 14 chunks a CoT", "chunks", 14),
        *(at_least(f"{name} words in at least 30 % of CoTs", _with(name), 0.3) for name in TARGETS),
        at_least("at least 95 % close their thinking", "thinking closed", 0.95),
        Bar("fewer than 2 % degenerate", f"{degenerate:.1%}", degenerate < 0.02),
        at_least("at least 60 % of chunk texts distinct", DISTINCT, 0.6),
    ]


def bars(rows: list[Row], *, long: bool = False) -> list[Bar]:
    """What the reasoner was asked to reach."""
    if long:
        return bars_of_long_chains(rows)
    by_name = {row.name: row for row in rows}
    levels = [row for name, row in by_name.items() if name.startswith("accuracy, level")]
    reflection = next(row for row in rows if row.name.startswith("self-reflection"))
    ours, theirs = reflection.reasoner.value, _known(reflection.base).value
    above = [row for row in levels if row.reasoner.value > _known(row.base).value]
    unsure = ", ".join(row.name.removeprefix("accuracy, ") for row in above if _known(row.difference).low <= 0)

    def share(name: str, met: Callable[[float], bool]) -> tuple[str, bool]:
        value = by_name[name].reasoner.value
        return f"{value:.1%}", met(value)

    return [
        Bar("at least 60 % on level 1", *share("accuracy, level 1", lambda value: value >= 0.6)),
        Bar(
            "above the base at every level",
            f"{len(above)} of {len(levels)} levels" + (f"; not beyond chance: {unsure}" if unsure else ""),
            len(above) == len(levels),
        ),
        Bar(
            "at least a quarter of problems with accuracy in [0.2, 0.8]",
            *share("problems with accuracy in [0.2, 0.8]", lambda value: value >= 0.25),
        ),
        Bar(
            "self-reflection at least five times the base's",
            f"{ours / theirs:.1f} times" if theirs else f"{ours:.2f} a CoT, and none in the base's",
            ours > 0 and ours >= 5 * theirs,
        ),
        Bar("at least 95 % close their thinking", *share("thinking closed", lambda value: value >= 0.95)),
        Bar("fewer than 2 % degenerate", *share("degenerate (ends in a loop)", lambda value: value < 0.02)),
    ]


def _known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None  # of every line that is not about think tags
    return estimate


def as_markdown(rows: list[Row], reached: list[Bar], sampling: Mapping[str, Any]) -> str:
    """The table and the bars, as printed and as in the model card."""
    ns = [row.reasoner.n for row in rows if row.name.startswith("accuracy, level")]
    a_level = str(ns[0]) if len(set(ns)) == 1 else f"{', '.join(map(str, ns[:-1]))} and {ns[-1]}"
    lines = [
        (
            f"{sum(ns)} held-out problems, {a_level} a level; {sampling['samples']} samples each, temperature"
            f" {sampling['temperature']}, top-p {sampling['top_p']}, at most {sampling['max_new_tokens']}"
            f" tokens{_drawn_in(sampling)}. In brackets: 95 % intervals over problems."
        ),
        "",
        "| | base | reasoner | difference |",
        "| --- | --- | --- | --- |",
        *(f"| {row.name} | {_cell(row, row.base)} | {_cell(row, row.reasoner)} | {_difference(row)} |" for row in rows),
        "",
        "| asked | reached | met |",
        "| --- | --- | --- |",
        *(f"| {bar.asked} | {bar.reached} | {'yes' if bar.met else 'no'} |" for bar in reached),
    ]
    return "\n".join(lines)


def _drawn_in(sampling: Mapping[str, Any]) -> str:
    """Nothing for a sampling in the model's own dtype, or of before there was another."""
    return f", drawn in {sampling['dtype']}" if sampling.get("dtype") else ""


def _difference(row: Row) -> str:
    return "" if row.difference is None and row.base is not None else _cell(row, row.difference)


def _cell(row: Row, estimate: Estimate | None) -> str:
    if estimate is None:
        return "no think tags"
    scale = 100 if row.unit == "%" else 1
    digits = 1 if row.unit == "%" or abs(estimate.value) >= 20 else 2
    value, low, high = (f"{scale * number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value}{' %' if scale == 100 else ''} [{low}, {high}]"


def model_card(training: Mapping[str, Any], evaluated: str) -> str:
    """The text of the README.md beside an adapter, from the record of the training and the evaluation's table."""
    if training["recipe"].get("goes_on_from"):
        return card_of_long_chains(training, evaluated)
    recipe, steps, n_r1 = training["recipe"], training["steps"], training["n_r1"]
    phases = "\n".join(
        f"| {number} | {', '.join(f'{n:,}' for n in phase['problems'])} | {phase['drills']:,} |"
        f" {_parts(phase['manner'])} | {phase['steps']:,} | {phase['learning_rate']:g} | {phase['warmup']},"
        f" {phase['horizon']}, {phase['cooldown']} | {phase['seed']} |"
        for number, phase in enumerate(recipe["phases"], start=1)
    )
    last = [loss for _, _, loss, _ in steps[-20:]]
    took = "" if training["seconds"] is None else f" It took {training['seconds'] / 60:.0f} minutes."
    return f"""# {embedded.REASONER_NAME}

A LoRA adapter that makes SmolLM2-135M-Instruct think between `<think>` and `</think>` before it answers in `\\boxed{{}}`. It exists to be
looked into: a base model and a reasoner of one architecture that two CPU cores can run. It is no use as an assistant.

## Data

- {training["n_examples"] - n_r1:,} traces written by rule (`backend/cot/traces.py`) for problems of our generator. Every equation in
  them is true but for planted slips, which the trace doubts and repairs at once; checks by the inverse operation and alternative routes
  are mixed in, long numbers are taken in parts, and the wording is drawn anew for each. A drill is three calculations without a story.
- {n_r1:,} beginnings of real R1 traces, cut at the end of a sentence within {recipe["r1_tokens"]} tokens, for their manner.

| phase | problems of levels 1 to 5 | drills | long numbers in parts | steps | learning rate | warm-up, horizon, cooldown (steps) | seed |
| --- | --- | --- | --- | --- | --- | --- | --- |
{phases}

## Recipe

Low-rank adapters of rank {recipe["rank"]} (alpha {recipe["alpha"]}) on every projection of all layers but the lowest
{recipe["first_layer"]:.0%}: {training["n_weights"]:,} weights. AdamW; in each phase the rate warms up, follows a cosine that would
reach a tenth at the horizon, and falls linearly to a tenth in the cooldown. A step has at most {recipe["tokens"]:,} tokens;
{steps[-1][1]:,} were seen. The loss, that of the completion alone, was {steps[0][2]:.2f} nats a token at the first step and
{sum(last) / len(last):.2f} on average over the last {len(last)}.{took}
`python -m precompute train-reasoner --name Anchorscope-Reasoner-135M --r1 FOLDER` does it again; the loss of every step is in training.json.

## Evaluation

`python -m precompute evaluate-reasoner` prints this again.

{evaluated}

A sample that gives no answer, even when forced, counts as wrong. Reasoning words are whole words in any case.

## What it can and cannot do

- It solves short arithmetic stories of the kinds it was trained on; how many of each level is in the table. Long calculations remain
  its weakness, and exact fractions (level 5) are beyond it.
- It thinks aloud in the manner of its traces: calculations in parts, doubt and repair ("Wait, …"), conclusions. Other routes and checks
  were common in the traces of the first two phases and are rare in what it writes, as the table says.
- It knows those kinds only: other problems get traces of the same shape with wrong calculations.
- Its doubts are learned from planted slips. How far "Wait" is tied to a real error inside the model is a question to study with it,
  not something this card claims.
- Its training problems and the held-out ones come from one generator. Questions that occur in both are left out of the evaluation;
  the kinds of story are the same.

Licence of the base model: Apache-2.0.
"""  # noqa: E501


def _manner(fields: Mapping[str, Any]) -> Manner | long_traces.Manner:
    return long_traces.Manner(**fields) if "guess" in fields else Manner(**fields)


def card_of_long_chains(training: Mapping[str, Any], evaluated: str) -> str:
    """The same for a reasoner of long chains."""
    recipe, steps = training["recipe"], training["steps"]
    phases = "\n".join(
        f"| {number} | {', '.join(f'{n:,}' for n in phase['problems'])} | {phase['steps']:,} |"
        f" {phase['learning_rate']:g} | {phase['warmup']}, {phase['horizon']}, {phase['cooldown']} | {phase['seed']} |"
        for number, phase in enumerate(recipe["phases"], start=1)
    )
    manner = recipe["phases"][-1]["manner"]
    last = [loss for _, _, loss, _ in steps[-20:]]
    return f"""# {recipe["reasoner"]}

A LoRA adapter that makes SmolLM2-135M-Instruct think at length between `<think>` and `</think>` before it answers in `\\boxed{{}}`. It
exists to be looked into: a base model and a reasoner of one architecture that two CPU cores can run, apart from the first layer on. It is
no use as an assistant.

## Data

Traces written by rule (`backend/cot/long_traces.py`) for problems of levels 1 to 3 of our generator, {training["n_examples"]:,} of them to
draw from; {steps[-1][1]:,} tokens were seen. Wordings are composed by a grammar, in the words of the story. Each kind of reasoning word has its
place: doubt and repair ("Wait"), conclusions ("Therefore", "Thus"), other routes ("Alternatively"), objections ("But", "However").
{manner["guess"]:.0%} of the calculations begin with a quick guess, {manner["wrong"]:.0%} of which are wrong and are put right by the next
steps; {manner["disagree"]:.0%} of the other routes have a slip that is found and settled. In up to {manner["missed"]:.0%} of the traces a wrong value
is *not* noticed and carried on: {manner["late"]:.0%} of those look back in the end and repair it, the others end with the wrong answer.
All other equations are true.

## Recipe

Training goes on from the adapter of {recipe["goes_on_from"]} (`assets/{recipe["goes_on_from"]}`), whose rows come first in matrices of rank
{recipe["rank"]} (alpha {recipe["alpha"]}) on every projection of all layers: {training["n_weights"]:,} weights. Products in {recipe["dtype"]};
what learns, and AdamW, in float32. The loss is that of the completion alone: {steps[0][2]:.2f} nats a token at the first step, {sum(last) / len(last):.2f} on average
over the last {len(last)}. A step has at most {recipe["tokens"]:,} tokens, an example at most {recipe["max_tokens"]:,}.

| phase | problems of levels 1 to 3 | steps | learning rate | warm-up, horizon, cooldown (steps) | seed |
| --- | --- | --- | --- | --- | --- |
{phases}

It took {"an unknown time" if training["seconds"] is None else f"{training['seconds'] / 3600:.1f} hours"} on two cores that others used too.
`python -m precompute train-reasoner --name {recipe["reasoner"]}` does it again; the loss of every step is in training.json.

## Evaluation

`python -m precompute evaluate-reasoner --name {recipe["reasoner"]}` prints this again.

{evaluated}

A sample that gives no answer, even when forced, counts as wrong. Reasoning words are whole words in any case. The share of distinct chunk
texts falls with the number of CoTs: it is over all those above.

## What it can and cannot do

- It knows short arithmetic stories of the kinds it was trained on, levels 1 to 3; other problems get chains of the same shape.
- Its guesses, doubts and second routes follow the grammar of its traces. How far a "Wait" is tied to a real error inside the model is a
  question to study with it, not something this card claims.
- Its training problems and the held-out ones come from one generator. Questions that occur in both are left out of the evaluation;
  the kinds of story are the same.

Licence of the base model: Apache-2.0.
"""  # noqa: E501


def _parts(manner: Mapping[str, Any]) -> str:
    share = f"{manner['parts']:.0%}"
    return f"{share}, digit by digit" if manner["fine"] else share


def evaluate(
    folder: StudyFolder, evaluation: Evaluation, assets: Path, console: Console, *, samples: int | None = None
) -> str:
    """Computes what is missing, writes evaluation.json and the model card beside the adapter, and returns the table.

    `samples`: of a problem, where there is no time for all.
    """
    training = json.loads((assets / "training.json").read_text(encoding="utf-8"))
    study = evaluation.study
    if samples is not None:
        study = study.model_copy(update={"sampling": study.sampling.model_copy(update={"samples": samples})})
    run_study(study, folder, stages=(stages.problems, stages.cots), console=console)
    store = Store(folder.path)
    try:
        rows = table(judged_cots(store, recipe_of(training), evaluation.counted), long=evaluation.long)
    finally:
        store.close()
    reached = bars(rows, long=evaluation.long)
    record = {
        "study": json.loads(study.model_dump_json()),
        "rows": [asdict(row) for row in rows],
        "bars": [asdict(bar) for bar in reached],
    }
    (assets / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(rows, reached, record["study"]["sampling"])
    (assets / "README.md").write_text(model_card(training, text), encoding="utf-8")
    return text


def shipped_table(assets: Path) -> str:
    """The table of evaluation.json, without computing anything."""
    record = json.loads((assets / "evaluation.json").read_text(encoding="utf-8"))

    def estimate(fields: Mapping[str, Any] | None) -> Estimate | None:
        return None if fields is None else Estimate(**fields)

    rows = [
        Row(row["name"], row["unit"], estimate(row["base"]), Estimate(**row["reasoner"]), estimate(row["difference"]))
        for row in record["rows"]
    ]
    bars_said = [Bar(**bar) for bar in record["bars"]]
    return as_markdown(rows, bars_said, record["study"]["sampling"])


def recipe_of(training: Mapping[str, Any]) -> Recipe:
    """The recipe in a record of the training."""
    phases = [
        phase | {"problems": tuple(phase["problems"]), "manner": _manner(phase["manner"])}
        for phase in training["recipe"]["phases"]
    ]
    return Recipe(**(training["recipe"] | {"phases": tuple(Phase(**phase) for phase in phases)}))
