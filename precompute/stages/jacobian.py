"""Averaged Jacobians of each model, from the output of every block to that of the last one: the Jacobian lens.

1. Texts are raw, without a chat template: the responses of the study's CoTs, or those of a file. They are drawn by the
   study's seed; each counts once, and those that are too short are passed over.
2. Workers take texts: uᵀ J of each, for the cotangents u of the named tokens, or for all of d_model where the whole
   matrices are wanted.
3. What they bring is added in the order in which texts were drawn, whoever was first, so that the mean is the same on
   any number of workers. The sums so far lie in scratch: a killed run goes on from there.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.cot.thoughts import response_of
from backend.ids import seed_for, stable_id
from backend.lens.named_tokens import NamedToken, by_frequency, named_tokens
from backend.models.loaded import LoadedModel
from backend.schema.provenance import commit, versions
from backend.schema.tables import TABLES
from precompute import corpus, models
from precompute.estimates import Estimate, Quantities
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from backend.lens.jacobian import PromptMean

NAME, UNIT = "jacobian", "model"
RULE = 1  # of texts, named tokens and the average: raise it when they change
CHECKPOINT_EVERY = 60.0  # seconds
_TEXTS_A_TASK = 4
_TOKENS = 128  # of a text at most, for the estimate
NAMED_ALONE = "named tokens"  # the variant of a lens without matrices
_COTANGENTS = "cotangents"  # the one result that is no text's


@dataclass(frozen=True)
class Raw:
    """A text to average over."""

    text_id: str
    problem: str  # a text of a file is one of its own
    text: str


@dataclass(frozen=True)
class Task:
    """Some of a model's texts, by their numbers in the order of averaging."""

    unit_id: str
    texts: tuple[tuple[int, tuple[int, ...]], ...]  # and their tokens
    named: tuple[int, ...]  # token ids
    matrices: bool
    says_cotangents: bool

    @property
    def makes(self) -> tuple[str, ...]:
        own = (f"{self.unit_id}/{_COTANGENTS}",) if self.says_cotangents else ()
        return (*own, *(f"{self.unit_id}/{number}" for number, _ in self.texts))


@dataclass(frozen=True)
class Plan:
    """What is averaged for one model."""

    model_id: str
    named: tuple[NamedToken, ...]
    left_out: int  # tokens that would have been named
    texts: tuple[tuple[Raw, tuple[int, ...]], ...]
    too_short: int  # texts passed over

    @property
    def digest(self) -> str:
        content = [[raw.text_id, ids] for raw, ids in self.texts]
        return hashlib.sha256(json.dumps([content, [one.token_id for one in self.named]]).encode()).hexdigest()


def units(context: Context) -> list[Unit]:
    """One unit a model; models that no CoT is written by yet have none."""
    wanted = context.study.jacobian
    if wanted is None or not (texts := _drawn(context)):
        return []
    inputs = {
        "texts": hashlib.sha256(json.dumps([[one.text_id, one.text] for one in texts]).encode()).hexdigest(),
        "prompts": wanted.prompts,
        "tokens": wanted.tokens,
        "words": wanted.words,
        "answers": _answers(context),
        "closings": _closings(context),
        "matrices": wanted.matrices,
        "seed": context.study.seed,
    }
    return [Unit(model_id, inputs) for model_id in models.by_id(context.study) if context.store.model_facts(model_id)]


def estimate(of: Quantities) -> Estimate | None:
    wanted = of.study.jacobian
    if wanted is None:
        return None
    n_models, cotangents = len(of.study.models), of.width if wanted.matrices else wanted.tokens
    rows = n_models * of.all_layers * cotangents
    each = _TOKENS if wanted.texts is not None else min(_TOKENS, of.lengths.cot)
    return of.line(
        NAME,
        n_models,
        tokens=n_models * wanted.prompts * each * (1 + cotangents),
        by="reverse",
        gigabytes=rows * of.width * 4e-9,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    texts = _drawn(context)
    for unit in units:
        model = models.by_id(context.study)[unit.unit_id]
        plan = _planned(context, unit.unit_id, texts)
        if plan.too_short:
            context.say(f"{plan.too_short} texts have too few tokens of {model.name} for its Jacobian lens.")
        if plan.left_out:
            context.say(f"{plan.left_out} answers' tokens are not named; jacobian.tokens is the most there are.")
        if not plan.texts:
            context.warn(f"No text is long enough for the Jacobian lens of {model.name}: it needs 18 tokens.")
            yield Finished(unit, {})
            continue
        provenance = {"model_id": unit.unit_id, "dtype": model.dtype, "seed": context.study.seed}
        average = _Average.opened(context.scratch / f"jacobian-{stable_id('j', unit.key, plan.digest)}")
        yield Finished(unit, _averaged(context, plan, average), provenance)
        shutil.rmtree(average.folder, ignore_errors=True)  # the unit is durable now


def measure(loaded: LoadedModel, task: Task) -> Iterator[tuple[str, Any]]:
    """Runs in a worker: uᵀ J of each text, (n_layers − 1, n, d_model)."""
    import torch

    from backend.lens.jacobian import cotangents_of, prompt_rows
    from backend.models.pullbacks import Pullbacks

    named = cotangents_of(loaded, task.named)
    if task.says_cotangents:
        yield f"{task.unit_id}/{_COTANGENTS}", (named.vectors.cpu().numpy(), named.constants.cpu().numpy())
    vectors = torch.eye(loaded.d_model, device=named.vectors.device) if task.matrices else named.vectors
    pullbacks = Pullbacks(loaded)
    for number, token_ids in task.texts:
        found = prompt_rows(pullbacks, token_ids, vectors, range(loaded.n_layers - 1))
        yield f"{task.unit_id}/{number}", found.cpu().numpy()


def _drawn(context: Context) -> list[Raw]:
    """All texts there are, in the order in which they are drawn."""
    wanted, seed = context.study.its_jacobian, context.study.seed
    if wanted.texts is not None:
        lines = corpus.lines(wanted.texts, "jacobian.texts")
        found = [Raw(stable_id("x", line), stable_id("x", line), line) for line in lines]
    else:
        found = [Raw(cot["cot_id"], cot["problem_id"], _written(cot)) for cot in context.store.tokenised_cots()]
    once = {raw.text: raw for raw in reversed(found)}
    return sorted(once.values(), key=lambda raw: (seed_for(seed, NAME, raw.text_id), raw.text_id))


def _written(cot: Mapping[str, Any]) -> str:
    """What the model wrote, thought and answer."""
    return response_of(cot["text"], cot["after_text"], cot["think_close"]).strip()


def _answers(context: Context) -> list[str]:
    return by_frequency(problem["answer"] for problem in context.store.study_problems() if problem["answer"])


def _closings(context: Context) -> list[str]:
    return sorted({cot["think_close"] for cot in context.store.tokenised_cots() if cot["think_close"]})


def _planned(context: Context, model_id: str, texts: Sequence[Raw]) -> Plan:
    from backend.lens.jacobian import FEWEST_TOKENS, MAX_TOKENS
    from backend.models.loading import load_tokenizer

    wanted, model = context.study.its_jacobian, models.by_id(context.study)[model_id]
    tokenizer = load_tokenizer(model.name, revision=model.revision)
    chosen, too_short = list[tuple[Raw, tuple[int, ...]]](), 0
    for raw in texts:
        if len(chosen) == wanted.prompts:
            break
        ids = _ids(tokenizer, raw.text)[:MAX_TOKENS]
        if len(ids) < FEWEST_TOKENS:
            too_short += 1
        else:
            chosen.append((raw, ids))
    named, left_out = named_tokens(
        tokenizer, closings=_closings(context), answers=_answers(context), words=wanted.words, most=wanted.tokens
    )
    return Plan(model_id, tuple(named), left_out, tuple(chosen), too_short)


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[int, ...]:
    """Of a raw text: what the tokenizer puts before any text (a BOS, where it does) is part of it."""
    return tuple(tokenizer(text)["input_ids"])


@dataclass
class _Average:
    """The average so far, in scratch and in memory."""

    folder: Path
    mean: "PromptMean"
    changes: list[float | None]
    seconds: float
    waiting: dict[int, "torch.Tensor"] = field(default_factory=dict)  # texts that came before their turn

    @classmethod
    def opened(cls, folder: Path) -> "_Average":
        from backend.lens.jacobian import PromptMean
        from backend.models import checkpoints

        if (found := checkpoints.load(folder)) is None:
            return cls(folder, PromptMean(), [], 0.0)
        mean = PromptMean(found.tensors["sums"], found.state["n"])
        return cls(folder, mean, found.state["changes"], found.state["seconds"])

    def add(self, number: int, found: np.ndarray) -> None:
        """In the order of the texts, whoever comes first."""
        import torch

        self.waiting[number] = torch.from_numpy(found)
        while (ready := self.waiting.pop(self.mean.n, None)) is not None:
            self.changes.append(self.mean.add(ready))

    def keep(self) -> None:
        from backend.models import checkpoints

        if self.mean.sums is not None:
            state = {"n": self.mean.n, "changes": self.changes, "seconds": self.seconds}
            checkpoints.save(self.folder, self.mean.n, {"sums": self.mean.sums}, state)


def _averaged(context: Context, plan: Plan, average: _Average) -> dict[str, list[dict[str, Any]]]:
    """All rows of one model; `average` is ahead by what an earlier run did."""
    model = models.by_id(context.study)[plan.model_id]
    began = saved = time.monotonic()
    before, cotangents = average.seconds, list[np.ndarray]()
    tasks = _tasks(context, plan, average.mean.n)
    for part, found in context.run(measure, tasks, model=models.spec(context.study, model)):
        which = part.rpartition("/")[2]
        if which == _COTANGENTS:
            cotangents = [*found]
            continue
        average.add(int(which), found)
        average.seconds = before + time.monotonic() - began
        if time.monotonic() - saved > CHECKPOINT_EVERY:
            average.keep()
            saved = time.monotonic()
    average.keep()
    vectors, constants = cotangents
    return _rows(context, plan, average, vectors, constants)


def _tasks(context: Context, plan: Plan, done: int) -> list[Task]:
    wanted, named = context.study.its_jacobian, tuple(one.token_id for one in plan.named)
    left = [(number, ids) for number, (_, ids) in enumerate(plan.texts) if number >= done]
    first = Task(plan.model_id, (), named, wanted.matrices, True)
    per_task = max(1, min(_TEXTS_A_TASK, -(-len(left) // context.engine.workers)))
    return [
        first,
        *(
            Task(plan.model_id, tuple(left[start : start + per_task]), named, wanted.matrices, False)
            for start in range(0, len(left), per_task)
        ),
    ]


def _rows(
    context: Context, plan: Plan, average: _Average, vectors: np.ndarray, constants: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    import torch

    from backend.lens.jacobian import PromptMean

    lens = _lens_row(context, plan)
    lens_id, mean, of_tokens = lens["lens_id"], average.mean, average.mean
    matrices, of_matrices = list[dict[str, Any]](), None
    if context.study.its_jacobian.matrices:
        assert mean.sums is not None
        of_tokens = PromptMean(torch.from_numpy(vectors).double() @ mean.sums, mean.n)
        of_matrices = PromptMean(mean.sums.flatten(2), mean.n).cosine_of_halves
        matrices = _matrix_rows(lens_id, mean.mean)
    cosines = of_tokens.cosine_of_halves
    by_layer = of_matrices if cosines is None or of_matrices is not None else cosines.mean(-1)
    return {
        "lenses": [lens],
        "lens_layers": _layer_rows(lens_id, by_layer, len(mean.mean), average.seconds),
        "lens_rows": matrices,
        "jacobian_tokens": [
            {
                "lens_id": lens_id,
                "token_id": token.token_id,
                "text": token.text,
                "roles": list(token.roles),
                "constant": float(constant),
            }
            for token, constant in zip(plan.named, constants, strict=True)
        ],
        "jacobian_rows": _token_rows(lens_id, plan, of_tokens.mean.numpy(), vectors, cosines),
        "jacobian_convergence": [
            {"lens_id": lens_id, "n_texts": n, "relative_change": change}
            for n, change in enumerate(average.changes, start=1)
        ],
    }


def _lens_row(context: Context, plan: Plan) -> dict[str, Any]:
    from backend.lens.jacobian import MAX_TOKENS, SKIPPED, positions_of

    wanted, seed = context.study.its_jacobian, context.study.seed
    facts = context.store.model_facts(plan.model_id)
    parameters = {
        "texts": "study's CoTs, as the models wrote them" if wanted.texts is None else str(wanted.texts.name),
        "template": None,
        "n_texts": len(plan.texts),
        "too_short": plan.too_short,
        "max_tokens": MAX_TOKENS,
        "skipped": SKIPPED,
        "matrices": wanted.matrices,
        "named": len(plan.named),
        "named_left_out": plan.left_out,
    }
    return {
        "lens_id": stable_id("l", NAME, RULE, plan.model_id, plan.digest, wanted.matrices),
        "model_id": plan.model_id,
        "kind": "jacobian",
        "variant": "all" if wanted.matrices else NAMED_ALONE,
        "source": "fitted",
        "n_tokens": sum(len(positions_of(len(ids))) for _, ids in plan.texts),
        "n_problems": len({raw.problem for raw, _ in plan.texts}),
        "corpus": plan.digest,
        "seed": seed,
        "dtype": facts.get("dtype"),
        "revision": facts.get("revision"),
        "parameters": json.dumps(parameters),
        "versions": json.dumps(versions()),
        "commit": commit(),
    }


def _layer_rows(lens_id: str, cosines: "torch.Tensor | None", n_layers: int, seconds: float) -> list[dict[str, Any]]:
    unknown = dict.fromkeys(name for name in TABLES["lens_layers"].columns)
    return [
        {
            **unknown,
            "lens_id": lens_id,
            "layer": layer,
            "kept": "averaged",
            "seconds": seconds / n_layers,
            "cosine": None if cosines is None else float(cosines[layer]),
        }
        for layer in range(n_layers)
    ]


def _matrix_rows(lens_id: str, matrices: "torch.Tensor") -> list[dict[str, Any]]:
    """J − I, row by row."""
    import torch

    from backend.lens.stored import rows_of

    less = matrices - torch.eye(matrices.shape[-1])
    return [row for layer, matrix in enumerate(less) for row in rows_of(lens_id, layer, matrix)]


def _token_rows(
    lens_id: str, plan: Plan, rows: np.ndarray, vectors: np.ndarray, cosines: "torch.Tensor | None"
) -> list[dict[str, Any]]:
    """Those of the last layer are the cotangents themselves: J = I there."""
    found = []
    for layer, of_layer in enumerate([*rows, vectors]):
        for number, token in enumerate(plan.named):
            found.append(
                {
                    "lens_id": lens_id,
                    "layer": layer,
                    "token_id": token.token_id,
                    "values": of_layer[number],
                    "cosine": None if cosines is None or layer == len(rows) else float(cosines[layer, number]),
                }
            )
    return found
