"""How probable each chain's own answer is after each of its chunks when it is forced, to the model itself and to lenses
at its layers; beside it an answer that the chain does not give.

The control is the most frequent other answer of the rollouts of the same problem's chains: where numbers alone become
likely, it rises too. Both models of a pair read every chain of either, under the logit lens and under the first
whole lens of each kind that the study has of the model. Nothing is sampled: it rests on stored chains, rollouts and
lenses alone. Chains that have rollouts take part, whose answers it is set beside.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cot.answers import Judge
from backend.models.loaded import LoadedModel
from backend.store.store import Store
from precompute import models
from precompute.estimates import Estimate, Quantities
from precompute.stages import chunks as chunks_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.lens.forced_answers import AnswerReading, Chain
    from backend.lens.lens import Lens

NAME, UNIT = "commitment", "CoT"
RULE = 1  # of what is read, and of the choice of the control: raise it when it changes
_LOGIT = "logit"  # the id, and the kind, of the lens that is not fitted
_COTS_A_TASK = 4
_OTHERS = 5  # answers among which the control is looked for: equal ones may be written in several ways
_FORCED_TOKENS = 16  # of forcing words and an answer, assumed for the plan


@dataclass(frozen=True)
class CotTask:
    """A chain that a model reads, its own answer, and the control where there is one."""

    unit_id: str
    cot_id: str
    chain: "Chain"
    chunk_ids: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit a reading model and CoT
    cots: tuple[CotTask, ...]
    layers: tuple[int, ...]
    lenses: Mapping[str, str]  # of the model, by id: its kind
    store: Path  # that has the maps of lenses that are fitted


def units(context: Context) -> list[Unit]:
    """One unit a reading model and CoT with rollouts that gives an answer."""
    study, wanted = context.study, context.study.commitment
    if wanted is None:
        return []
    rules, others = chunks_stage.rules(context), context.store.other_answers(_OTHERS)
    rolled = context.store.own_answers().set_index("cot_id")["n_chunks"]
    lenses = {model_id: lenses_of(context.store, model_id) for model_id in models.by_id(study)}
    return [
        Unit(
            f"{reader}.{cot['cot_id']}",
            {
                "layers": study.commitment_layers,
                "lenses": lenses[reader],
                "answer": cot["answer"],
                "others": others.get(cot["cot_id"], ()),
                "chunks": rules[cot["cot_id"]],
            },
        )
        for cot in context.store.tokenised_cots()
        if cot["cot_id"] in rolled.index and (cot["answer"] or "").strip()
        for reader in models.readers(study, cot)
    ]


def lenses_of(store: Store, model_id: str) -> dict[str, str]:
    """The logit lens, and of each other kind the first lens of the model that gives probabilities: kind by id."""
    found = store.lenses(model_id)
    first = found[found["is_whole"].astype(bool)].drop_duplicates("kind")
    return {_LOGIT: _LOGIT, **dict(zip(first["lens_id"], first["kind"], strict=True))}


def estimate(of: Quantities) -> Estimate | None:
    if of.study.commitment is None:
        return None
    n_readers = max(len(of.study.pair), 1)
    n_units = of.rolled_cots * n_readers
    cuts = (of.rolled_chunks + of.rolled_cots) * n_readers
    tokens = n_units * (of.read / max(of.n_cots, 1)) + cuts * 2 * _FORCED_TOKENS
    rows = cuts * (len(of.study.commitment_layers) + 1)
    return of.line(NAME, n_units, tokens=tokens, by="forward", gigabytes=rows * 2e-7)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, by_id = context.study, {unit.unit_id: unit for unit in units}
    cots = {cot["cot_id"]: cot for cot in context.store.tokenised_cots()}
    chunks = context.store.chunks_of([unit.unit_id.split(".")[1] for unit in units])
    by_model: dict[str, list[CotTask]] = defaultdict(list)
    with Judge() as judge:
        for unit in units:
            model_id, cot_id = unit.unit_id.split(".")
            control = _control(unit.inputs["answer"], unit.inputs["others"], judge)
            by_model[model_id].append(_cot_task(unit, cots[cot_id], chunks[cot_id], control))
    for model_id, asked in by_model.items():
        model, controls = models.by_id(study)[model_id], {one.unit_id: one.answers[1:] for one in asked}
        n_layers = context.store.model_facts(model_id)["n_layers"]
        models.require_layers(study.commitment_layers, n_layers, "commitment.layers")
        lenses = lenses_of(context.store, model_id)
        tasks = [
            Task(tuple(one.unit_id for one in share), tuple(share), study.commitment_layers, lenses, context.store.path)
            for share in shares(asked, context.engine.workers, _COTS_A_TASK)
        ]
        of_unit = {one.unit_id: one for one in asked}
        for unit_id, found in context.run(read, tasks, model=models.spec(study, model)):
            rows = _rows(of_unit[unit_id], found, controls[unit_id])
            made = [row | {"model_id": model_id, "lens": lenses[row["lens_id"]]} for row in rows]
            yield Finished(by_id[unit_id], {"answer_readings": made}, {"model_id": model_id, "dtype": model.dtype})


def _control(answer: str, others: Sequence[str], judge: Judge) -> tuple[str, ...]:
    """The first of the others that is another answer, however it is written; nothing where there is none."""
    verdicts = judge.judge([(other, answer) for other in others])
    return tuple([other for other, equal in zip(others, verdicts, strict=True) if equal is False][:1])


def _cot_task(
    unit: Unit, cot: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], control: tuple[str, ...]
) -> CotTask:
    from backend.lens.forced_answers import Chain

    spans = tuple((chunk["char_start"], chunk["char_end"]) for chunk in chunks)
    return CotTask(
        unit.unit_id,
        cot["cot_id"],
        Chain(cot["prompt"], cot["text"], cot["think_close"], spans),
        tuple(chunk["chunk_id"] for chunk in chunks),
        (unit.inputs["answer"], *control),
    )


def read(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, "list[AnswerReading]"]]:
    """Runs in a worker: every reading of each chain."""
    from backend.lens.forced_answers import answer_readings

    lenses = dict(_read_by(loaded, task))
    for cot in task.cots:
        yield cot.unit_id, list(answer_readings(loaded, cot.chain, cot.answers, lenses))


def _read_by(loaded: LoadedModel, task: Task) -> "Iterator[tuple[str, tuple[Lens, list[int]]]]":
    """Each lens with the layers that it reads, of those asked for. The last one, the model itself, is logit's alone."""
    from backend.lens.stored import layers_read, lens_of

    last = loaded.n_layers - 1
    with closing(Store(task.store)) as store:
        for lens_id in task.lenses:
            layers = {*task.layers} & {*layers_read(store, lens_id, loaded.n_layers)} - {last}
            if lens_id == _LOGIT:
                layers.add(last)
            if layers:
                model = loaded.model
                yield lens_id, (lens_of(store, lens_id, dtype=model.dtype, device=model.device), sorted(layers))


def _rows(cot: CotTask, readings: "Sequence[AnswerReading]", control: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a cut, lens and layer, with the chain's answer and the control side by side."""
    found = {(one.n_read, one.lens_id, one.layer, one.answer): one for one in readings}
    own = cot.answers[0]
    rows = []
    for n_read, lens_id, layer in dict.fromkeys((one.n_read, one.lens_id, one.layer) for one in readings):
        reading = found[n_read, lens_id, layer, own]
        other = found[n_read, lens_id, layer, control[0]] if control else None
        rows.append(
            {
                "chunk_id": cot.chunk_ids[max(n_read - 1, 0)],
                "cot_id": cot.cot_id,
                "side": "after" if n_read else "before",
                "lens_id": lens_id,
                "layer": layer,
                "answer": own,
                "n_tokens": reading.n_tokens,
                "logprob": reading.logprob,
                "first_logprob": reading.first_logprob,
                "other_answer": control[0] if control else None,
                "other_n_tokens": None if other is None else other.n_tokens,
                "other_logprob": None if other is None else other.logprob,
                "other_first_logprob": None if other is None else other.first_logprob,
            }
        )
    return rows
