"""What a study will cost, before anything runs: units, tokens, minutes and gigabytes on this machine.

Minutes are floating-point operations divided by the machine's matrix-multiply rate, measured for half a second, times
the share of that rate which each stage reached in the quick study (EFFICIENCY), plus the time its workers take to
start. Lengths are those of the study's own CoTs once it has some, and assumptions before that; the table says which.
Gigabytes count scratch too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.cot.reasoning import TARGETS
from backend.geometry.direction_kinds import DIRECTION_KINDS
from backend.live.available import is_here
from backend.models.loading import find_weights
from backend.models.model_files import read_json, weight_files
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from precompute import corpus
from precompute.stages import ablations, interventions
from precompute.stages.problems import chosen
from precompute.stages.splices import MOST_COTS
from precompute.study import Model, Study
from precompute.usable import require_usable

EFFICIENCY = {
    "sampling": 0.38,
    "forward": 0.75,
    "sweep": 1.4,
    "dictionary": 0.5,
}  # above 1: half of the layers, by faster kernels
_TOKENS_A_CHUNK = 22.0  # assumed until the study has chunks
_SHARE_OF_CAP = 0.6  # assumed length of a CoT, as a share of the cap
_PROMPT_TOKENS = 310  # two worked examples and a short question
_TEXT_TOKENS = 350  # of a generated trace with its prompt, or of a text of a file
_SENTENCE_SECONDS = 0.002  # a sentence of a rollout: those of about half are embedded, equal ones once
_MAP_SECONDS = 2.0  # one UMAP of a few hundred chunks
_START_SECONDS = 6.0  # of a stage's workers: imports and the model
_MOVE = 1.2  # forward passes of the upper layers that one exact derivative takes as long as
_OTHER_MOVES = 8  # derivatives on and off the manifold at each place
_SPECTRUM_MOVES = (
    200  # derivatives that the eigenpairs, the participation ratio and the finite steps at a place take as long as
)
_CLOUD_SECONDS = 0.002  # a chunk activation in its cloud
_COLUMNS_OF_G, _COLUMNS_OF_CLOUDS, _IMPORTANCES = (
    6,
    5,
    16,
)  # that evidence pairs; metrics with each of their conventions
_EVIDENCE_SECONDS = 0.2  # a pair at one subset, its power included


@dataclass(frozen=True)
class Estimate:
    """One line of the plan. Unknown is None."""

    stage: str
    units: int
    done: int
    tokens: int
    minutes: float | None
    gigabytes: float


@dataclass(frozen=True)
class Lengths:
    """What the estimates rest on, per CoT and per chunk, in tokens."""

    cot: float
    chunk: float
    measured: bool


def plan_study(study: Study, folder: StudyFolder) -> tuple[list[Estimate], Lengths]:
    """One estimate a stage, and the lengths they rest on. Reads the store if there is one; writes nothing.

    Raises AnchorscopeError for a model that cannot be used, as the run would.
    """
    require_usable(study)
    lengths = _lengths(study, folder)
    n_problems = _n_problems(study)
    n_cots = n_problems * study.sampling.samples * study.n_asked
    chunks_a_cot = max(lengths.cot / lengths.chunk, 1.0)
    rolled_cots = min(study.rollouts.cots, n_cots)
    rolled_chunks = round(rolled_cots * min(chunks_a_cot, study.rollouts.max_chunks))
    n_chunks = round(n_cots * chunks_a_cot)
    parameters, d_model, n_layers = _size(study.models[0])
    layers = n_layers if study.activations.layers == "all" else len(study.activations.layers)
    n_directions = sum(study.sweep.random if DIRECTION_KINDS[kind].is_drawn else 1 for kind in study.sweep.kinds)
    curves = rolled_chunks * len(study.sweep.layers) * len(study.sweep.positions) * n_directions
    rollout_tokens = round(rolled_chunks * (study.rollouts.n * lengths.cot / 2 + study.rollouts.forced * 8))
    sweep_tokens = round(curves * (study.sweep.points - 1) * lengths.chunk * 0.6)
    machine = None if parameters is None else _gemm_rate() * study.engine.workers
    rate = None if parameters is None or machine is None else machine / (2 * parameters)
    done = _done(folder)

    def estimate(
        stage: str, units: int, tokens: int, kind: str | None, gigabytes: float, seconds: float = 0.0
    ) -> Estimate:
        work = tokens / (rate * EFFICIENCY[kind]) + _START_SECONDS if rate is not None and kind else 0.0
        minutes = None if rate is None else (work + seconds) / 60
        return Estimate(stage, units, done.get(stage, 0), tokens, minutes, gigabytes)

    text = 1e-9 * 6  # gigabytes a token as text and id
    lines = [
        estimate("problems", 1, 0, None, 0),
        estimate(
            "cots",
            n_problems * study.n_asked,
            round(n_cots * lengths.cot + n_problems * _PROMPT_TOKENS),
            "sampling",
            n_cots * lengths.cot * text,
        ),
        estimate("chunks", n_cots, 0, None, n_chunks * 3e-7),
        estimate("categories", n_cots, 0, None, n_chunks * 1e-7, n_chunks * 0.004),
        estimate(
            "activations",
            n_cots,
            round(n_cots * (lengths.cot + _PROMPT_TOKENS)),
            "forward",
            n_chunks * layers * (d_model or 0) * 4e-9,
        ),
        estimate(
            "rollouts",
            rolled_chunks * (1 + bool(study.rollouts.forced)),
            rollout_tokens,
            "sampling",
            rollout_tokens * text,
        ),
        estimate("importance", rolled_cots, 0, None, rolled_chunks * 1e-6, rolled_cots * 0.5),
        estimate(
            "resilience", rolled_cots, 0, None, rolled_chunks * 1e-6, rollout_tokens / lengths.chunk * _SENTENCE_SECONDS
        ),
        estimate("maps", len(study.models), 0, None, n_chunks * layers * 1e-7, 2 * layers * _MAP_SECONDS),
        estimate("sweep", rolled_cots, sweep_tokens, "sweep", curves * 1e-6),
    ]
    if study.geometry is not None:
        lines += _of_geometry(study, estimate, rolled_cots, rolled_chunks, n_chunks, n_directions, lengths)
    if study.crosscoder is not None:
        read = round(n_cots * (lengths.cot + _PROMPT_TOKENS))
        lines += _of_dictionary(
            study, estimate, n_cots, read, (study.crosscoder.layer + 1) / n_layers, d_model or 0, machine
        )
    left, asked = interventions.n_left(folder.path)
    if asked:  # each sample is read by both models
        line = estimate(
            interventions.NAME,
            asked,
            round(asked * lengths.cot * len(study.pair)),
            "sampling",
            asked * lengths.cot * text,
        )
        lines.append(replace(line, done=asked - left))
    return lines, lengths


def _of_geometry(
    study: Study,
    estimate: Callable[..., Estimate],
    n_cots: int,
    n_chunks: int,
    n_all_chunks: int,
    n_directions: int,
    lengths: Lengths,
) -> list[Estimate]:
    """The four stages of exact geometry and evidence: `n_chunks` of `n_cots` are steered, of `n_all_chunks` with
    activations.
    """
    wanted, n_layers, n_models = study.geometry, len(study.geometry_layers), len(study.models)
    n_steered = min(wanted.before_after, n_cots)
    places = n_layers * len(wanted.positions)
    moves = places * (
        n_chunks * (n_directions + wanted.probes + _OTHER_MOVES) + min(wanted.spectra, n_chunks) * _SPECTRUM_MOVES
    )
    steps = round(n_steered / max(n_cots, 1) * n_chunks) * n_layers * n_directions * 2 * (study.sweep.points - 1)
    columns = len(wanted.positions) * (3 * len(study.sweep.kinds) + _COLUMNS_OF_G) + _COLUMNS_OF_CLOUDS
    rows = 2 * n_models * n_layers * columns * _IMPORTANCES
    clouds = n_all_chunks * n_layers
    return [
        estimate("neighbourhoods", n_models * n_layers, 0, None, clouds * 1e-7, clouds * _CLOUD_SECONDS),
        estimate(
            "geometry",
            n_cots,
            round(moves * _MOVE * lengths.chunk * 0.6),
            "sweep",
            n_chunks * places * n_directions * 1e-6,
        ),
        estimate("before_after", n_steered, round(steps * lengths.cot / 2 * 0.6), "sweep", steps * 1e-7),
        estimate(
            "evidence", n_models * (n_layers + 1), 0, None, rows * 2e-6, rows * _EVIDENCE_SECONDS / study.engine.workers
        ),
    ]


def _of_dictionary(
    study: Study,
    estimate: Callable[..., Estimate],
    n_cots: int,
    read: int,
    depth: float,
    d_model: int,
    machine: float | None,
) -> list[Estimate]:
    """The five stages of a dictionary: `read` tokens of the study's CoTs, `depth` the share of the blocks that is
    computed for its layer, `machine` operations a second of all workers.
    """
    wanted, width = study.crosscoder, len(study.pair) * d_model
    learned = 0 if wanted.dictionary else read + (wanted.generated + len(corpus.lines(wanted.texts))) * _TEXT_TOKENS
    steps = 0 if wanted.dictionary else wanted.steps
    operations = steps * wanted.batch * 2 * width * wanted.n_features  # of the one dense product in a step
    training = 0.0 if machine is None else operations / (machine * study.engine.threads * EFFICIENCY["dictionary"])
    passes = len(study.pair) * depth
    spliced = round(read * min(1.0, MOST_COTS / max(n_cots, 1)))
    gigabytes = learned * width * 2e-9 + 24e-9 * width * wanted.n_features
    lines = [
        estimate("crosscoder", 1, round(learned * passes), "forward", gigabytes, training),
        estimate("codes", n_cots, round(read * passes), "forward", read * width * 4e-9),
        estimate("features", 2, 0, None, wanted.n_features * 2e-6, read * 6e-4),
        estimate(
            "splices",
            len(study.pair) * min(n_cots, MOST_COTS),
            round(spliced * len(study.pair) * (4 - 3 * depth)),
            "forward",
            0,
        ),
    ]
    if len(study.pair) == 2 and wanted.ablation_nrn:
        texts = len(study.pair) * len(TARGETS) * min(n_cots, wanted.ablation_targets / 2)  # with two targets each
        zeroed = (
            2 * len(wanted.ablation_nrn) * len(ablations.SCHEMES) * len(ablations.PERCENTS)
        )  # sets of features, with the control's
        passed = round(texts * read / max(n_cots, 1) * (1 + zeroed * (1 - depth)))
        lines.append(estimate("ablations", len(study.pair) * len(TARGETS), passed, "forward", 0))
    return lines


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


def _done(folder: StudyFolder) -> dict[str, int]:
    counts: dict[str, int] = {}
    for stage, _ in folder.ledger().live:
        counts[stage] = counts.get(stage, 0) + 1
    return counts


def _n_problems(study: Study) -> int:
    return 0 if study.problems is None else len(chosen(study.problems, seed=study.seed).problems)


def _size(model: Model) -> tuple[int | None, int | None, int]:
    """Parameters, width and layers of a model whose weights are on this machine; unknown for one that is still on a
    hub.
    """
    if not model.name.startswith("embedded:") and not is_here(model.name, model.revision):
        return None, None, 1
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
