"""Receiver heads of each reading model, from the stored attention between chunks; what they are is said in
backend/influence/receivers.py.

A unit is a model with all its CoTs. It rests on `head_attention`, which a pack often leaves out: there, `attention` is
asked for with it. The CoTs of a study in which none is long enough give no rows, and the run says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.ids import chunk_id
from precompute.estimates import Estimate, Quantities
from precompute.influence import n_readings
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.influence.receivers import Chain

NAME, UNIT = "receivers", "model"
RULE = 1  # of the heads' numbers: raise it when they change
_DEALT = 5e-9  # seconds a deal, head and pair of chunks
_HEADS = 300  # of a model, assumed for the plan

Rows = dict[str, list[dict[str, Any]]]  # by table


@dataclass(frozen=True)
class Task:
    """The chains of one model."""

    makes: tuple[str]
    n_layers: int
    chains: tuple["Chain", ...]
    chunk_ids: tuple[tuple[str, ...], ...]  # of each chain
    nearest: int
    top: int
    n_bootstrap: int
    n_permutations: int
    seed: int


def units(context: Context) -> list[Unit]:
    """One unit a model whose attention is stored."""
    wanted = context.study.influence
    if wanted is None:
        return []
    inputs = {
        "nearest": wanted.nearest,
        "top": wanted.top,
        "n_bootstrap": wanted.n_bootstrap,
        "n_permutations": wanted.n_permutations,
        "seed": context.study.seed,
    }
    digests = context.store.head_attention_digests()
    return [Unit(model_id, inputs | {"rows": digest}) for model_id, digest in digests.items()]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.influence
    if wanted is None:
        return None
    n_chunks = of.lengths.cot / of.lengths.chunk
    seconds = n_readings(of) * n_chunks**2 / 2 * wanted.n_permutations * _HEADS * _DEALT
    rows = n_readings(of) * n_chunks * wanted.top
    return of.line(NAME, max(len(of.study.pair), 1), seconds=seconds, gigabytes=rows * 1e-7)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    wanted, by_id = context.study.its_influence, {unit.unit_id: unit for unit in units}
    tasks = []
    for model_id in by_id:
        chains, chunk_ids = chains_of(context, model_id)
        tasks.append(
            Task(
                (model_id,),
                context.store.model_facts(model_id)["n_layers"],
                tuple(chains),
                tuple(chunk_ids),
                wanted.nearest,
                wanted.top,
                wanted.n_bootstrap,
                wanted.n_permutations,
                context.study.seed,
            )
        )
    for model_id, tables in context.run(measure, tasks):
        if not tables["receiver_heads"]:
            context.warn(
                f"No CoT that {context.store.model_facts(model_id)['name']} reads has the {wanted.nearest + 4} chunks"
                " that receiver heads need: no head has a kurtosis. A smaller influence.nearest needs fewer."
            )
        yield Finished(by_id[model_id], tables, {"model_id": model_id, "seed": context.study.seed})


def chains_of(context: Context, model_id: str) -> tuple[list["Chain"], list[tuple[str, ...]]]:
    """What the model's stored attention says of each CoT, and the chunks of each that have tokens."""
    from backend.influence.receivers import Chain

    chains, chunk_ids = [], []
    for cot_id, pairs in context.store.head_attention_of(model_id).items():
        sizes = {row["target"]: row["n_target"] for row in pairs} | {row["source"]: row["n_source"] for row in pairs}
        order = sorted(sizes)
        place = {index: number for number, index in enumerate(order)}
        by_head = np.zeros((len(pairs[0]["by_head"]), len(order), len(order)), dtype=np.float32)
        for row in pairs:
            by_head[:, place[row["target"]], place[row["source"]]] = row["by_head"]
        chains.append(Chain(cot_id, pairs[0]["problem_id"], np.array([sizes[index] for index in order]), by_head))
        chunk_ids.append(tuple(chunk_id(cot_id, index) for index in order))
    return chains, chunk_ids


def measure(_: None, task: Task) -> Iterator[tuple[str, Rows]]:
    """Runs in a worker: the rows of one model."""
    from backend.influence.receivers import receivers, reliability

    (model_id,), tables = task.makes, Rows(receiver_heads=[], receiver_reliability=[], received_attention=[])
    draws = {"n_bootstrap": task.n_bootstrap, "n_permutations": task.n_permutations}
    found = receivers(task.chains, task.nearest, **draws, seed=task.seed)
    if found is None:
        yield model_id, tables
        return
    n_heads = len(found.kurtosis) // task.n_layers
    for number, rank in enumerate(found.rank):
        layer, head = divmod(number, n_heads)
        name = {"model_id": model_id, "layer": layer, "head": head}
        numbers = (
            "kurtosis",
            "low",
            "high",
            "shuffled",
            "shuffled_low",
            "shuffled_high",
            "placed",
        )
        tables["receiver_heads"].append(
            name
            | {column: _known(getattr(found, column)[number]) for column in numbers}
            | {
                "rank": None if np.isnan(rank) else int(rank),
                "n_cots": int(found.n_cots[number]),
                "n_problems": int(found.n_problems[number]),
            }
        )
        if rank <= task.top:
            tables["received_attention"] += _received(task, number, name)
    tables["receiver_reliability"] = [
        {
            "model_id": model_id,
            "number": number,
            "spearman": _known(split.spearman),
            "shared": split.shared,
            "top": split.top,
            "by_chance": split.by_chance,
            "n_cots_a": split.n_cots_a,
            "n_cots_b": split.n_cots_b,
        }
        for number, split in enumerate(reliability(task.chains, task.nearest, top=task.top, seed=task.seed))
    ]
    yield model_id, tables


def _received(task: Task, number: int, name: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a chunk of every chain: what it receives in one head; unknown of the last ones."""
    rows = []
    for chain, chunk_ids in zip(task.chains, task.chunk_ids, strict=True):
        for source, chunk in enumerate(chunk_ids):
            far = chain.by_head[number, source + task.nearest :, source]
            value = float(far.mean(dtype=float)) if len(far) else None
            rows.append({"chunk_id": chunk, **name, "received": value, "n_later": len(far)})
    return rows


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
