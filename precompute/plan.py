"""What a study will cost, before anything runs: units, tokens, minutes and gigabytes on this machine.

Each stage estimates itself, from the quantities of the whole study. Lengths are those of the study's own CoTs once it
has some, and assumptions before that; the table says which.
"""

import time
from collections.abc import Sequence
from contextlib import closing

from backend.importance.saved import saved
from backend.live.available import is_here
from backend.models.loading import find_weights
from backend.models.model_files import read_json, weight_files
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from precompute.estimates import Estimate, Lengths, Quantities
from precompute.rules import Raised, raised, units_of
from precompute.stages import STAGES, interventions
from precompute.stages.problems import chosen
from precompute.study import Model, Study
from precompute.units import Context, Stage, Unit
from precompute.usable import require_usable

_TOKENS_A_CHUNK = 22.0  # assumed until the study has chunks
_SHARE_OF_CAP = 0.6  # assumed length of a CoT, as a share of the cap


def plan_study(
    study: Study, folder: StudyFolder, *, stages: Sequence[Stage] = STAGES
) -> tuple[list[Estimate], Lengths]:
    """One estimate a stage, in the order in which they run, and the lengths they rest on. Reads the store if there is
    one; writes nothing.

    Raises AnchorscopeError for a model that cannot be used, as the run would.
    """
    require_usable(study)
    of = _quantities(study, folder, stages)
    lines = [line for stage in stages if (line := stage.estimate(of)) is not None and (study.models or line.units)]
    asked = interventions.estimate(of, folder.path)
    return lines + ([asked] if asked else []), of.lengths


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
    minutes = next((line.minutes and line.minutes / line.units for line in lines if line.stage == again.stage), None)
    cost = "for a time that is unknown" if minutes is None else f"in about {minutes * again.units:.1f} minutes"
    return f"{again.in_words()}, {cost}"


def _quantities(study: Study, folder: StudyFolder, stages: Sequence[Stage]) -> Quantities:
    parameters, d_model, n_layers, vocab_size = _size(study.models[0]) if study.models else (None, None, 1, None)
    multiplies = parameters is not None or study.cosines is not None
    machine = _gemm_rate() * study.engine.workers if multiplies else None
    lengths = _lengths(study, folder)
    done = _done(study, folder, stages)
    return Quantities(study, lengths, _n_problems(study), parameters, d_model, n_layers, machine, done, vocab_size)


def _lengths(study: Study, folder: StudyFolder) -> Lengths:
    try:
        store = Store(folder.path)
    except NoStore:
        return Lengths(study.sampling.max_new_tokens * _SHARE_OF_CAP, _TOKENS_A_CHUNK, False)
    try:
        cot, chunk = store.mean_lengths()
    finally:
        store.close()
    if cot is None or chunk is None:
        return Lengths(study.sampling.max_new_tokens * _SHARE_OF_CAP, _TOKENS_A_CHUNK, False)
    return Lengths(cot, chunk, True)


def _done(study: Study, folder: StudyFolder, stages: Sequence[Stage]) -> dict[str, int]:
    ledger = folder.ledger()
    return {
        stage.NAME: sum(unit.lacking(keys) is None for unit in units)
        for stage, units in _asked(study, folder, stages)
        for keys in [ledger.keys(stage.NAME)]
    }


def _n_problems(study: Study) -> int:
    return 0 if study.problems is None else len(chosen(study.problems, seed=study.seed).problems)


def _size(model: Model) -> tuple[int | None, int | None, int, int | None]:
    """Parameters, width, layers and vocabulary of a model whose weights are on this machine; unknown for one that is
    still on a hub.
    """
    if not model.name.startswith("embedded:") and not is_here(model.name, model.revision):
        return None, None, 1, None
    weights = find_weights(model.name, model.revision)
    folder = (weights.base or weights).folder
    config = read_json(folder, "config.json")
    text = config.get("text_config") or config  # of a model that also sees: its language model
    size = sum(file.stat().st_size for file in weight_files(folder))
    stored = {"float64": 8, "float32": 4}.get(str(config.get("dtype", config.get("torch_dtype"))), 2)
    return (
        size // stored,
        text.get("hidden_size", text.get("n_embd")),
        text.get("num_hidden_layers", text.get("n_layer", 1)),
        text.get("vocab_size"),
    )


def _gemm_rate(seconds: float = 0.5) -> float:
    """Floating-point operations a second of one thread in the products a small model makes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows, weights = torch.randn(128, 576), torch.randn(576, 1536)
        rows @ weights
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            rows @ weights
            n += 1
        return n * 2 * 128 * 576 * 1536 / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)


def totals(estimates: Sequence[Estimate]) -> Estimate:
    """The sum of all stages; minutes are unknown when any stage's are."""
    minutes = [line.minutes for line in estimates]
    return Estimate(
        "all",
        sum(line.units for line in estimates),
        sum(line.done for line in estimates),
        sum(line.tokens for line in estimates),
        None if None in minutes else sum(minute for minute in minutes if minute is not None),
        sum(line.gigabytes for line in estimates),
    )
