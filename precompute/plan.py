"""What a study will cost, before anything runs: units, tokens, processor time here, hours on accelerators, gigabytes on
disk and in memory.

Each stage estimates itself, from the quantities of the whole study. Lengths are those of the study's own CoTs once it
has some, and assumptions before that; the table says which.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from backend.cot.prompts import asked
from backend.importance.saved import saved
from backend.live.available import is_here
from backend.models.loading import load_tokenizer
from backend.store.costs import PUBLISHING, Measured
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from precompute.cards import CARDS
from precompute.estimates import PROMPT_TOKENS, Estimate, Lengths, Quantities
from precompute.model_shapes import shape_of
from precompute.pipeline import PUBLISH_EVERY
from precompute.rules import Raised, raised, units_of
from precompute.stages import STAGES, interventions
from precompute.stages.problems import chosen
from precompute.study import Study
from precompute.units import Context, Stage, Unit
from precompute.usable import require_usable_models

_TOKENS_A_CHUNK = 22.0  # assumed until the study has chunks
_SHARE_OF_CAP = 0.6  # assumed length of a CoT, as a share of the cap
_QUESTION = "Tom has 3 boxes of 12 pencils and gives 9 of them to Ann. How many pencils does he have now?"
_BUILD_SECONDS, _BUILD_SECONDS_A_GIGABYTE = 0.4, 5.0  # of publishing once
_GENERATIONS = 3  # that are kept


def plan_study(
    study: Study, folder: StudyFolder, *, stages: Sequence[Stage] = STAGES
) -> tuple[list[Estimate], Lengths]:
    """One estimate a stage, in the order in which they run, and the lengths they rest on. Reads the store if there is
    one; writes nothing.

    Raises AnchorscopeError for a model that cannot be used, as the run would.
    """
    require_usable_models(study)
    of = _quantities(study, folder, stages)
    lines = [line for stage in stages if (line := stage.estimate(of)) is not None and (study.models or line.units)]
    asked_for = interventions.estimate(of, folder.path)
    return lines + ([asked_for] if asked_for else []), of.lengths


def what_was_saved(study: Study, folder: StudyFolder) -> str:
    """Of rollouts that go on until known, in words; empty where there are none yet."""
    if study.rollouts.until is None:
        return ""
    try:
        store = Store(folder.path)
    except NoStore:
        return ""
    with closing(store):
        return saved(store.tokens_by_chunk(), study.rollouts.n)


def raised_rules(study: Study, folder: StudyFolder, *, stages: Sequence[Stage] = STAGES) -> list[Raised]:
    """Stages whose stored units an older rule made: the run will compute these again."""
    ledger = folder.ledger()
    found = (raised(stage, units, ledger.all_keys(stage.NAME)) for stage, units in _asked(study, folder, stages))
    return [one for one in found if one is not None]


def _asked(study: Study, folder: StudyFolder, stages: Sequence[Stage]) -> list[tuple[Stage, list[Unit]]]:
    """The units that the study asks of each stage of which something is stored."""
    stored = {of for lines in (folder.ledger().live, folder.ledger().retired) for of, _ in lines}
    try:
        store = Store(folder.path)
    except NoStore:
        return []
    with closing(store):
        context = Context(study, "", store, lambda sentence: None)
        return [(stage, units_of(stage, context)) for stage in stages if stage.NAME in stored]


def what_it_costs(again: Raised, lines: Sequence[Estimate]) -> str:
    """The sentence of a raised rule, with its share of the stage's minutes."""
    line = next((line for line in lines if line.stage == again.stage), None)
    minutes = line.minutes / line.units if line and line.minutes and line.units else None
    cost = (
        "for a time that is unknown" if minutes is None else f"in about {minutes * again.units:.1f} minutes of a core"
    )
    return f"{again.in_words()}, {cost}"


def _quantities(study: Study, folder: StudyFolder, stages: Sequence[Stage]) -> Quantities:
    shapes = [shape_of(model) for model in study.models]
    known = [shape for shape in shapes if shape is not None]
    largest = max(known, key=lambda shape: shape.parameters) if known and len(known) == len(shapes) else None
    parameters = None if largest is None else round(sum(shape.parameters for shape in known) / len(known))
    multiplies = parameters is not None or study.cosines is not None
    return Quantities(
        study,
        _lengths(study, folder),
        _n_problems(study),
        parameters,
        None if largest is None else largest.d_model,
        None if largest is None else largest.n_layers,
        _gemm_rate() if multiplies else None,
        _done(study, folder, stages),
        None if largest is None else largest.vocab_size,
        largest,
    )


def _lengths(study: Study, folder: StudyFolder) -> Lengths:
    assumed = Lengths(study.sampling.max_new_tokens * _SHARE_OF_CAP, _TOKENS_A_CHUNK, False, _prompt_tokens(study))
    try:
        store = Store(folder.path)
    except NoStore:
        return assumed
    with closing(store):
        cot, chunk = store.mean_lengths()
        prompt = store.mean_prompt_tokens()
    if cot is None or chunk is None:
        return assumed
    return Lengths(cot, chunk, True, assumed.prompt if prompt is None else prompt)


def _prompt_tokens(study: Study) -> float:
    """Mean over models and prompts of a short question as it is asked; assumed where no tokenizer is here."""
    found = []
    for model in study.models if study.problems is not None else ():
        if not is_here(model.name, model.revision):
            return PROMPT_TOKENS
        tokenizer = load_tokenizer(model.name, revision=model.revision)
        for prompt in study.prompts_of(model):
            found.append(len(tokenizer(asked(tokenizer, _QUESTION, prompt).text).input_ids))
    return sum(found) / len(found) if found else PROMPT_TOKENS


def _done(study: Study, folder: StudyFolder, stages: Sequence[Stage]) -> dict[str, int]:
    ledger = folder.ledger()
    return {
        stage.NAME: sum(unit.lacking(keys) is None for unit in units)
        for stage, units in _asked(study, folder, stages)
        for keys in [ledger.keys(stage.NAME)]
    }


def _n_problems(study: Study) -> int | None:
    """Unknown where they are in a file that is not here and whose share is not said."""
    wanted = study.problems
    if wanted is None:
        return 0
    if wanted.read_from is not None and not wanted.read_from[1].exists():
        return wanted.hardest or wanted.limit
    return len(chosen(wanted, seed=study.seed).problems)


def _gemm_rate(samples: int = 5, seconds: float = 0.1) -> float:
    """Floating-point operations that one thread does in a processor second, in the products a small model makes: the
    best of several samples, since what else runs here only ever takes from it.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows, weights = torch.randn(128, 576), torch.randn(576, 1536)
        rows @ weights
        return max(_rate(lambda: rows @ weights, 2 * 128 * 576 * 1536, seconds) for _ in range(samples))
    finally:
        torch.set_num_threads(before)


def _rate(product: Callable[[], object], operations: float, seconds: float) -> float:
    started, n = time.thread_time(), 0
    while time.thread_time() - started < seconds:
        product()
        n += 1
    return n * operations / (time.thread_time() - started)


def publishing(lines: Sequence[Estimate], study: Study) -> Estimate:
    """The store is built at the end of each stage and while one runs, from the units of all of them; the last
    generations are kept beside the units.
    """
    stored = [
        None if line.gigabytes is None or line.scratch is None else line.gigabytes - line.scratch for line in lines
    ]
    size = _sum(stored)
    once = None if size is None else _BUILD_SECONDS + size / 2 * _BUILD_SECONDS_A_GIGABYTE
    cores = study.engine.workers * study.engine.threads
    here = _builds([(line.units, _times(line.cpu_seconds, 1 / cores)) for line in lines])

    def hours(name: str) -> float | None:
        builds = _builds([(line.units, _times(line.on_cards.get(name), 3600)) for line in lines])
        return _times(_times(builds, once), 1 / 3600)

    return Estimate(
        PUBLISHING,
        None if here is None else round(here),
        0,
        0,
        _times(here, once),
        _times(size, _GENERATIONS),
        on_cards={card.name: hours(card.name) for card in CARDS},
    )


def _builds(stages: Sequence[tuple[int | None, float | None]]) -> float | None:
    """Of stages with so many units and seconds: one at its end, and while it runs as often as units come in time."""
    return _sum(
        None if units is None or seconds is None else 1 + min(units, seconds / PUBLISH_EVERY)
        for units, seconds in stages
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Unknown where any of them is."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def _times(value: float | None, by: float | None) -> float | None:
    return None if value is None or by is None else value * by


def totals(estimates: Sequence[Estimate]) -> Estimate:
    """The sum of all stages, and the memory of the largest; unknown where any stage's is."""

    def counted(values: Iterable[float | None]) -> int | None:
        found = _sum(values)
        return None if found is None else round(found)

    memory = [line.memory for line in estimates]
    return Estimate(
        "all",
        counted(line.units for line in estimates),
        sum(line.done for line in estimates),
        counted(line.tokens for line in estimates),
        _sum(line.cpu_seconds for line in estimates),
        _sum(line.gigabytes for line in estimates),
        None if None in memory else max((one for one in memory if one is not None), default=0.0),
        _sum(line.scratch for line in estimates),
        {card.name: _sum(line.on_cards.get(card.name) for line in estimates) for card in CARDS},
    )


def does_not_fit(lines: Sequence[Estimate]) -> list[str]:
    """A sentence for each card on which a stage's memory is too large, with the stages."""
    said = []
    for card in CARDS:
        over = [line for line in lines if line.memory is not None and line.memory > card.gigabytes]
        if over:
            worst = max(over, key=lambda line: line.memory or 0.0)
            said.append(
                f"Too large for {card.name} ({card.gigabytes:.0f} GB): {', '.join(line.stage for line in over)}; at"
                f" most {worst.memory:.0f} GB, in {worst.stage}. Lower engine.workers or engine.rows, or sample in"
                " bfloat16."
            )
    return said


def taken(line: Estimate, took: Mapping[str, Measured]) -> float | None:
    """Core minutes of all the line's units, by what those took that were computed so far; None where none were."""
    found = took.get(line.stage)
    if found is None or not found.units or not line.units:
        return None
    return found.cpu_seconds / 60 * max(line.units / found.units, 1.0)
