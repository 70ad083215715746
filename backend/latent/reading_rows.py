"""One latent model read: every row that says what is in its latents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from backend.latent.components import between_steps, captured, components
from backend.latent.kinds import LatentError
from backend.latent.lenses import LATENT_LENSES, SUBSETS, Z_LAYER
from backend.latent.near_misses import near_rows, sets_of
from backend.latent.parity import parity_rows
from backend.latent.readings import Followed, Reader, Reading, Vocabulary, followed, read_all
from backend.latent.recording import Looked, Recorded, attention_by_part, record_all
from backend.latent.rotary import rotation_of
from backend.latent.tuned import fit, quality
from backend.statistics.columns import column_means, known

if TYPE_CHECKING:
    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem

Rows = dict[str, list[dict[str, Any]]]

MEAN_HEAD = -1  # in place of a head: the mean over heads
DRAWN = 200  # scored problems whose places on components are kept
_TOP = 5  # tokens of a difference of means


@dataclass(frozen=True, eq=False)
class Material:
    """One model's latents, of scored problems and of those that lenses and components are made from."""

    model: "LatentModel"
    scored: Sequence["LatentProblem"]
    others: Sequence["LatentProblem"]
    of_scored: Recorded
    of_others: Recorded
    named: tuple[str, ...]
    subsets: Mapping[str, np.ndarray]  # by name in SUBSETS: which of the scored problems
    seed: int


def material(
    model: "LatentModel",
    problems: tuple[Sequence["LatentProblem"], Sequence["LatentProblem"]],
    n_latents: int,
    *,
    named: Sequence[str],
    subsets: Mapping[str, np.ndarray],
    seed: int,
) -> Material:
    """`problems` are the scored ones and the others."""
    scored, others = problems
    recorded = record_all(model, scored, n_latents), record_all(model, others, n_latents)
    return Material(model, scored, others, *recorded, tuple(named), subsets, seed)


def subsets_of(without: Sequence[bool | None], with_all: Sequence[bool | None]) -> dict[str, np.ndarray]:
    """Which problems are in each of SUBSETS, by whether the answer is right with no latents and with all of them."""
    early = np.array([bool(one) for one in without], dtype=bool)
    late = np.array([bool(one) for one in with_all], dtype=bool)
    return {name: subset.holds(early, late) for name, subset in SUBSETS.items()}


def lens_rows(of: Material) -> Rows:
    """Of the tables latent_lens_quality, latent_readings, latent_tokens, latent_parity, latent_near_misses and
    latent_difference_readings.
    """
    words = followed(of.scored, of.named)
    reader = Reader(of.model, words)
    fitted = fit(of.model, of.of_others.streams, [problem.problem_id for problem in of.others], seed=of.seed)
    maps = {"tuned": fitted.carry, "tuned_alone": fitted.carry_alone}
    found = read_all(reader, of.of_scored, maps)
    tops = {int(token) for reading in found.values() for token in np.unique(reading.token)}
    differences = list(_of_means(of, reader))
    tops |= {token for row in differences for token in (*row["token_ids"], *row["opposite_ids"])}
    rows = {
        "latent_lens_quality": quality(of.model, fitted, of.of_scored.streams, seed=of.seed),
        "latent_readings": [row for key, reading in found.items() for row in _reading_rows(of, words, key, reading)],
        "latent_parity": [row for key, reading in found.items() for row in _parity(of, words, key, reading)],
        "latent_near_misses": list(_near(of, reader, found)),
        "latent_difference_readings": differences,
    }
    texts = Vocabulary(of.model)
    tokens = [{"token_id": token, "text": texts.text(token)} for token in sorted(tops)]
    return _named(of.model, {**rows, "latent_tokens": tokens})


def roles(words: Followed) -> list[str]:
    """What each followed word is of its problem, in the order of `Followed.words`."""
    between = [f"intermediate {number}" for number in range(1, len(words.intermediates) + 1)]
    return ["answer", "other", "operand", *between, *(f"word {word}" for word in words.named)]


def _reading_rows(
    of: Material, words: Sequence[Followed], key: tuple[str, int], reading: Reading
) -> Iterator[dict[str, Any]]:
    lens, layer = key
    for row, (problem, one) in enumerate(zip(of.scored, words, strict=True)):
        n = len(one.words)
        yield {
            "problem_id": problem.problem_id,
            "lens": lens,
            "layer": layer,
            "first_step": _first_step(lens, layer),
            "token_ids": reading.token[row].tolist(),
            "probabilities": _values(reading.probability[row]),
            "cosines": _values(reading.cosine[row]),
            "entropies": _values(reading.entropy[row]),
            "roles": roles(one),
            "ranks": reading.rank[row, :n].ravel().tolist(),
            "log_probs": _values(reading.log_prob[row, :n].ravel()),
        }


def _first_step(lens: str, layer: int) -> int:
    """The position of a reading's first column: z is there from latent 1 on."""
    return 1 if layer == Z_LAYER else LATENT_LENSES[lens].first_step


def _values(values: np.ndarray) -> list[float | None] | None:
    """None where all of them are unknown."""
    return None if np.isnan(values).all() else [known(float(value)) for value in values]


def quantities(words: Sequence[Followed], reading: Reading, first_step: int) -> dict[tuple[str, str], np.ndarray]:
    """(n_problems, n_latents) at latents 1, 2, …, by role (`cell` is the whole reading) and measure: entropy, of each
    followed word log-probability, log10 of its rank, and whether it is the top token.
    """
    latents = slice(1 - first_step, None)
    found = {("cell", "entropy"): reading.entropy[:, latents]}
    by_role: dict[str, np.ndarray] = {}  # places among the followed words, −1 where a problem has no such role
    for row, one in enumerate(words):
        for place, role in enumerate(roles(one)):
            by_role.setdefault(role, np.full(len(words), -1))[row] = place
    for role, places in by_role.items():
        rows = np.arange(len(words))
        rank = np.where(places[:, None] < 0, 0, reading.rank[rows, places])[:, latents].astype(np.float64)
        rank[rank < 1] = np.nan
        log_prob = np.where(places[:, None] < 0, np.nan, reading.log_prob[rows, places])[:, latents]
        found[role, "log_prob"], found[role, "log_rank"] = log_prob, np.log10(rank)
        found[role, "top"] = np.where(np.isnan(rank), np.nan, rank == 1)
    return {key: values for key, values in found.items() if not np.isnan(values).all()}


def _parity(
    of: Material, words: Sequence[Followed], key: tuple[str, int], reading: Reading
) -> Iterator[dict[str, Any]]:
    lens, layer = key
    found = quantities(words, reading, _first_step(lens, layer))
    for subset, some in of.subsets.items():
        if some.sum() < 2:
            continue
        by_name = {"\n".join(name): values[some] for name, values in found.items()}
        for row in parity_rows(by_name, seed=of.seed):
            role, _, measure = row.pop("quantity").partition("\n")
            yield {"lens": lens, "layer": layer, "subset": subset, "role": role, "measure": measure, **row}


def _near(of: Material, reader: Reader, found: Mapping[tuple[str, int], Reading]) -> Iterator[dict[str, Any]]:
    if not reader.numbers or not all(problem.answer.isdecimal() for problem in of.scored):
        return
    sets = sets_of(list(reader.numbers), of.scored, of.others)
    place = np.full(int(max(max(own) for own in reader.numbers.values())) + 1, -1)
    for number, own in enumerate(reader.numbers.values()):
        place[own] = number
    for (lens, layer), reading in found.items():
        if not LATENT_LENSES[lens].has_probabilities:
            continue
        top = np.where(reading.token < len(place), place[reading.token.clip(max=len(place) - 1)], -1)
        for row in near_rows(sets, reading.numbers, top, seed=of.seed):
            yield {"lens": lens, "layer": layer, **row, "step": row["step"] + _first_step(lens, layer)}


def _of_means(of: Material, reader: Reader) -> Iterator[dict[str, Any]]:
    """The logit lens of differences of mean streams, of problems that are not scored, both ways round."""
    means = of.of_others.streams.double().mean(0).float()  # (n_steps, n_layers, d_model)
    for layer in range(means.shape[1]):
        for earlier in range(len(means)):
            for later in range(earlier + 1, len(means)):
                moved = means[later, layer] - means[earlier, layer]
                ahead, back = (reader.likeliest(one, _TOP) for one in (moved, -moved))
                yield {
                    "layer": layer,
                    "earlier": earlier,
                    "later": later,
                    "token_ids": ahead[0],
                    "probabilities": ahead[1],
                    "opposite_ids": back[0],
                    "opposite_probabilities": back[1],
                }


def component_rows(of: Material) -> Rows:
    """Of the tables latent_components and latent_projections."""
    shares, places = [], []
    others, scored = _spaces(of.model, of.of_others), _spaces(of.model, of.of_scored)
    for (space, layer), vectors in scored.items():
        fitted = components(others[space, layer].reshape(-1, vectors.shape[-1]))
        projected = fitted.project(vectors)
        held, between = captured(fitted, vectors.reshape(-1, vectors.shape[-1])), between_steps(projected)
        of_space = {"space": space, "layer": layer}
        shares += [
            {
                **of_space,
                "component": component + 1,
                "share": known(float(fitted.share[component])),
                "captured": known(float(held[component])),
                "between_steps": known(float(between[component])),
                "n_fitted": fitted.n,
                "n_problems": len(vectors),
            }
            for component in range(len(fitted.axes))
        ]
        places += [
            {
                "problem_id": problem.problem_id,
                **of_space,
                "first_step": 1 if space == "z" else 0,
                "n_components": projected.shape[-1],
                "coordinates": projected[row].ravel().tolist(),
            }
            for row, problem in enumerate(of.scored[:DRAWN])
        ]
    return _named(of.model, {"latent_components": shares, "latent_projections": places})


def _spaces(model: "LatentModel", recorded: Recorded) -> dict[tuple[str, int], np.ndarray]:
    """(n, n_steps, d) by space and layer; keys without their position."""
    found = {("h", model.n_layers): recorded.h.numpy()}
    if recorded.n_latents:
        found["z", Z_LAYER] = recorded.z.numpy()
    try:
        keys = unturned(model, recorded)
    except LatentError:  # a family whose keys cannot be turned back: they would show positions, so none are shown
        keys = None
    for layer in range(model.n_layers):
        if keys is not None:
            found["k", layer] = keys[:, :, layer].flatten(2).numpy()
        found["v", layer] = recorded.values[:, :, layer].flatten(2).numpy()
    return found


def unturned(model: "LatentModel", recorded: Recorded) -> torch.Tensor:
    """Keys (n, n_steps, n_layers, n_key_heads, d_head) turned back by their positions. Raises LatentError where that
    cannot be done.
    """
    rotation, keys = rotation_of(model.model), recorded.keys.clone()
    for first in recorded.first.unique().tolist():
        rows = (recorded.first == first).nonzero().flatten()
        for step in range(keys.shape[1]):
            keys[rows, step] = rotation.turned_back(keys[rows, step], first + step)
    return keys


def attention_rows(of: Material) -> Rows:
    """Of the table latent_attention: mean over problems, with intervals, of each head and of their mean."""
    looked = attention_by_part(of.model, of.scored, of.of_scored.n_latents)
    return _named(
        of.model, {"latent_attention": [row for split, own in looked.items() for row in _looked(of, split, own)]}
    )


def _looked(of: Material, split: str, looked: Looked) -> Iterator[dict[str, Any]]:
    shares = torch.cat([looked.share.mean(2, keepdim=True), looked.share], 2).double().numpy()
    for subset, some in of.subsets.items():
        if some.sum() < 2:
            continue
        means = column_means(shares[some].reshape(int(some.sum()), -1), seed=of.seed)
        for number, (layer, head, step, part) in enumerate(np.ndindex(*shares.shape[1:])):
            name = looked.parts[part]
            if name.isdecimal() and int(name) > step:
                continue  # a latent that is not there yet
            yield {
                "subset": subset,
                "split": split,
                "layer": layer,
                "head": head + MEAN_HEAD,  # then heads from 0
                "step": step,
                "place": part,
                "part": name,
                "share": float(means.mean[number]),
                "ci_low": known(float(means.low[number])),
                "ci_high": known(float(means.high[number])),
                "n_problems": int(means.n[number]),
            }


def _named(model: "LatentModel", tables: Rows) -> Rows:
    """The model's id in every row."""
    return {name: [{"model_id": model.model_id, **row} for row in rows] for name, rows in tables.items()}
