"""How good each lens of each model is on held-out problems: KL(model ‖ lens) by layer and kind of position.

Every lens that gives probabilities takes part: the logit lens, and each of `lenses` whose maps are here.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.lens import corpus as split
from backend.lens.corpus import HELD_OUT, TRAIN, Text
from backend.lens.positions import ALL, kinds_in
from backend.models.loaded import LoadedModel
from precompute import lens_texts, models
from precompute.estimates import Estimate, Quantities
from precompute.stages import lens
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.lens.quality import Read

NAME, UNIT = "lens_quality", "lens"
RULE = 1  # of what is measured: raise it when it changes
_TEXTS_A_TASK = 8
_LOGIT = "logit"


@dataclass(frozen=True)
class Task:
    """Some held-out texts that one lens reads."""

    unit_id: str
    store: Path
    lens_id: str
    layers: tuple[int, ...]
    texts: tuple[tuple[int, Text, tuple[int, ...]], ...]  # with their numbers and positions
    baseline: np.ndarray  # (vocab_size,) log-probabilities

    @property
    def makes(self) -> tuple[str, ...]:
        return tuple(f"{self.unit_id}/{number}" for number, _, _ in self.texts)


def units(context: Context) -> list[Unit]:
    """One unit a model and lens."""
    wanted = context.study.lens
    if wanted is None or not context.store.tokenised_cots():
        return []
    inputs = {**lens.texts_inputs(context), "held_out": wanted.held_out, "learn_from": wanted.learn_from}
    return [
        Unit(f"{model_id}.{lens_id}", {**inputs, "layers": _layers(context, model_id, lens_id)})
        for model_id in models.by_id(context.study)
        if context.store.model_facts(model_id)
        for lens_id in (_LOGIT, *_whole(context, model_id))
    ]


def _whole(context: Context, model_id: str) -> list[str]:
    """Lenses of the model that give probabilities."""
    found = context.store.lenses(model_id)
    return found["lens_id"][found["is_whole"]].tolist()


def _layers(context: Context, model_id: str, lens_id: str) -> list[int]:
    """What the lens reads, and the last layer, which is the model itself; the logit lens at the study's layers."""
    n_layers = context.store.model_facts(model_id)["n_layers"]
    if lens_id != _LOGIT:
        return [*context.store.lens_layers(lens_id)["layer"].tolist(), n_layers - 1]
    wanted = context.study.its_lens.layers
    return sorted({*(range(n_layers) if wanted == "all" else wanted), n_layers - 1})


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.lens
    if wanted is None:
        return None
    n_layers = of.all_layers if wanted.layers == "all" else len(wanted.layers) + 1
    lenses = len(of.study.models) * (1 + len(wanted.variants))
    operations = lenses * (n_layers + 1) * wanted.held_out * 2 * of.unembedding
    return of.line(
        NAME,
        lenses,
        tokens=lenses * of.read * split.PARTS[HELD_OUT],
        by="forward",
        gigabytes=0,
        products={"divergence": operations},
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    pending: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        pending[unit.unit_id.split(".")[0]].append(unit)
    for model_id, of_model in pending.items():
        model = models.by_id(context.study)[model_id]
        texts = lens_texts.texts_of(context, model)
        held_out = _drawn(context, texts, HELD_OUT)
        baseline = _baseline(context, texts, context.store.model_facts(model_id)["vocab_size"])
        for unit in of_model:
            yield _measured(context, unit, [text for text in texts if text.text_id in held_out], held_out, baseline)


def _drawn(context: Context, texts: Sequence[Text], part: str) -> dict[str, tuple[int, ...]]:
    wanted = context.study.its_lens
    most = {TRAIN: wanted.learn_from, HELD_OUT: wanted.held_out}[part]
    return split.drawn(texts, part, kinds=kinds_in(ALL), most=most, seed=context.study.seed)


def _baseline(context: Context, texts: Sequence[Text], vocab_size: int) -> np.ndarray:
    from backend.lens.quality import frequencies

    train = _drawn(context, texts, TRAIN)
    following = [
        text.token_ids[position + 1]
        for text in texts
        for position in train.get(text.text_id, ())
        if position + 1 < len(text.token_ids)
    ]
    return frequencies(following, vocab_size)


def _measured(
    context: Context, unit: Unit, texts: Sequence[Text], held_out: split.Positions, baseline: np.ndarray
) -> Finished:
    from backend.lens.quality import Place, quality

    model_id, lens_id = unit.unit_id.split(".")
    model = models.by_id(context.study)[model_id]
    if not texts:
        context.warn(f"No position is held out for {model.name}: the quality of its lenses is unknown.")
        return Finished(unit, {})
    layers = tuple(unit.inputs["layers"])
    numbered = [(number, text, held_out[text.text_id]) for number, text in enumerate(texts)]
    tasks = [
        Task(unit.unit_id, context.store.path, lens_id, layers, tuple(share), baseline)
        for share in shares(numbered, context.engine.workers, _TEXTS_A_TASK)
    ]
    reads: dict[int, Read] = {}
    for part, found in context.run(measure, tasks, model=models.spec(context.study, model)):
        reads[int(part.rpartition("/")[2])] = found
    places = [Place(text.problem_id, text.kinds[position]) for text in texts for position in held_out[text.text_id]]
    of = {"model_id": model_id, "lens_id": lens_id, "kind": _kind(context, lens_id)}
    rows = quality([reads[number] for number in sorted(reads)], places, layers, seed=context.study.seed)
    return Finished(unit, {NAME: [of | row for row in rows]}, {"model_id": model_id, "dtype": model.dtype})


def _kind(context: Context, lens_id: str) -> str:
    return _LOGIT if lens_id == _LOGIT else str(context.store.lens_facts(lens_id)["kind"])


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Any]]:
    """Runs in a worker: what the lens makes of each text."""
    from contextlib import closing

    from backend.lens.quality import read
    from backend.lens.stored import lens_of
    from backend.store.store import Store

    with closing(Store(task.store)) as store:
        its_lens = lens_of(store, task.lens_id, dtype=loaded.model.dtype, device=loaded.model.device)
    for made, (_, text, positions) in zip(task.makes, task.texts, strict=True):
        yield made, read(loaded, its_lens, text.token_ids, positions, layers=task.layers, baseline=task.baseline)
