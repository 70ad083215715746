"""What each model of the pair loses on the study's CoTs when its residual stream is replaced by the dictionary's
reconstruction.

At most MOST_COTS take part, drawn by their ids: a mean over so many is exact enough, and a splice costs as much as
three forward passes.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.ids import seed_for
from backend.models.loaded import LoadedModel
from backend.store.dictionaries import folder_of
from precompute import corpus, models
from precompute.estimates import Estimate, Quantities
from precompute.stages import codes as codes_stage
from precompute.stages.cots import shares
from precompute.units import Context, Finished, Unit

NAME, UNIT = "splices", "CoT"
RULE = 1  # of splicing: raise it when it changes
_COTS_A_TASK = 8
MOST_COTS = 64


@dataclass(frozen=True)
class Coded:
    """A CoT with its codes that are not 0."""

    cot_id: str
    token_ids: tuple[int, ...]
    n_prompt: int
    positions: np.ndarray
    features: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Task:
    makes: tuple[str, ...]  # a unit a CoT
    dictionary: Path  # its folder
    model: int  # its number in the dictionary
    layer: int
    mean: np.ndarray  # (d_model,): what mean ablation puts in
    cots: tuple[Coded, ...]


def units(context: Context) -> list[Unit]:
    """One unit a model, dictionary and CoT; the mean that is put in is part of its inputs."""
    result = []
    for row in codes_stage.dictionaries(context):
        for model_id, mean in context.store.fitted_means(row["dictionary_id"]).items():
            inputs = {"layer": row["layer"], "mean": hashlib.sha256(mean.tobytes()).hexdigest()}
            drawn = sorted(codes_stage.coded_cots(context, row), key=lambda cot_id: seed_for("splices", cot_id))[
                :MOST_COTS
            ]
            result += [Unit(f"{model_id}.{row['dictionary_id']}.{cot_id}", inputs) for cot_id in drawn]
    return result


def estimate(of: Quantities) -> Estimate | None:
    if not of.study.crosscoder:
        return None
    n_models, spliced = len(of.study.pair), of.read * min(1.0, MOST_COTS / max(of.n_cots, 1))
    tokens = sum((spliced * n_models * (4 - 3 * of.depth(one.layer))) for one in of.study.crosscoder)
    n_units = len(of.study.crosscoder) * n_models * min(of.n_cots, MOST_COTS)
    return of.line(NAME, n_units, tokens=tokens, by="forward", gigabytes=0)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    study, store = context.study, context.store
    cots = {cot["cot_id"]: cot for cot in corpus.cots_of_the_pair(context)}
    rows = {row["dictionary_id"]: row for row in codes_stage.dictionaries(context)}
    by_id = {unit.unit_id: unit for unit in units}
    pending: dict[tuple[str, str], list[str]] = defaultdict(list)
    for unit in units:
        model_id, name, cot_id = unit.unit_id.split(".")
        if cots[cot_id]["n_prompt_tokens"] < len(cots[cot_id]["token_ids"]):
            pending[model_id, name].append(cot_id)
        else:  # nothing was written that could be predicted
            yield Finished(unit, {"spliced_losses": []})
    for (model_id, name), ids in pending.items():
        row, model = rows[name], models.by_id(study)[model_id]
        number = codes_stage.models_of(row).index(model_id)
        mean = store.fitted_means(name)[model_id]
        folder = folder_of(store.path) / name
        tasks = [
            Task(
                tuple(f"{model_id}.{name}.{cot}" for cot in share),
                folder,
                number,
                row["layer"],
                mean,
                tuple(
                    Coded(cot, tuple(cots[cot]["token_ids"]), cots[cot]["n_prompt_tokens"], *store.codes(name, cot))
                    for cot in share
                ),
            )
            for share in shares(ids, context.engine.workers, _COTS_A_TASK)
        ]
        for unit_id, losses in context.run(measure, tasks, model=models.spec(study, model)):
            found = {
                "dictionary_id": name,
                "cot_id": unit_id.split(".")[2],
                "model_id": model_id,
                "n_tokens": losses.n_tokens,
                "loss": losses.loss,
                "loss_spliced": losses.spliced,
                "loss_zeroed": losses.zeroed,
                "loss_averaged": losses.averaged,
            }
            provenance = {"model_id": model_id, "dtype": model.dtype}
            yield Finished(by_id[unit_id], {"spliced_losses": [found]}, provenance)


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, object]]:
    """Runs in a worker: the losses of each CoT."""
    import torch

    from backend.crosscoder.files import load
    from backend.crosscoder.splicing import spliced_losses

    dictionary, mean = load(task.dictionary), torch.from_numpy(task.mean)
    for unit_id, cot in zip(task.makes, task.cots, strict=True):
        codes = torch.zeros(len(cot.token_ids) - 1, dictionary.n_features)
        codes[torch.from_numpy(cot.positions) - 1, torch.from_numpy(cot.features)] = torch.from_numpy(cot.codes)
        reconstruction = dictionary.reconstruction(codes, task.model)
        yield unit_id, spliced_losses(loaded, cot.token_ids, cot.n_prompt, task.layer, reconstruction, mean)
