"""`train-reasoner`: a LoRA adapter that makes the embedded model think in <think> … </think> before it answers.

1. In each phase, problems of our generator, under a seed that no study uses, and a trace for each
   (`backend.cot.traces`); where a folder of real R1 traces is given, a share of them for manner, cut at the end of a
   sentence so that they fit.
2. The prompt is the model's own, with a chat template that opens the thinking. Loss on the completion alone.
3. Batches of about the same number of tokens, in an order that the seed fixes; AdamW with warm-up, cosine decay and a
   linear end.
4. Every few minutes a checkpoint: adapter, optimiser, step and the losses so far, all safetensors and JSON, whole or
   not at all. The same command goes on from the last one.
5. At the end the adapter in float16, its chat template and the record of the training (training.json), which studies
   take in.
"""

import itertools
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backend.cot import long_traces
from backend.cot.problems import Problem
from backend.cot.prompts import cot_prompt
from backend.cot.thoughts import THINK_CLOSE, THINK_OPEN
from backend.cot.traces import Manner, Trace, trace
from backend.cot.word_problems import generate
from backend.errors import AnchorscopeError
from backend.ids import seed_for, stable_id
from backend.root import ROOT
from backend.schema.provenance import commit, versions

_SENTENCE_END = re.compile(r"[.?!](?=\s)")
_GENERATION = re.compile(r"\{\{ '<\|im_start\|>assistant(\n|\\n)' \}\}")


class TrainingError(AnchorscopeError):
    """A recipe, folder or trace file that cannot be trained from."""


@dataclass(frozen=True)
class Phase:
    """Some of the steps: what they learn from, and how fast."""

    seed: int  # of problems and traces; studies use small seeds, so what is held out is not among these
    problems: tuple[int, ...]  # of level 1, 2, ...
    steps: int
    cooldown: int  # of the last steps, in which the rate falls linearly to a tenth
    horizon: int  # steps in which the cosine before it would reach a tenth
    warmup: int = 30  # steps
    learning_rate: float = 1e-3
    manner: Manner | long_traces.Manner = field(default_factory=Manner)  # which also says whose traces
    drills: int = 0  # problems that are nothing but calculations


@dataclass(frozen=True)
class Recipe:
    """All that shapes the adapter. The first phase teaches the manner on easy problems, the second calculations with
    long numbers, the third the same digit by digit, with drills.
    """

    phases: tuple[Phase, ...] = (
        Phase(20_000, (1300, 1000, 700, 550, 450), steps=320, cooldown=80, horizon=430, manner=Manner(parts=0.0)),
        Phase(20_001, (500, 900, 1100, 1100, 900), steps=330, cooldown=100, horizon=560),
        Phase(
            20_002,
            (60, 150, 250, 600, 400),
            steps=170,
            cooldown=60,
            horizon=320,
            warmup=10,
            learning_rate=8e-4,
            drills=700,
            manner=Manner(slip=0.15, check=0.2, route=0.1, facts=0.2, question=0.4, parts=1.0, fine=True),
        ),
    )
    rank: int = 16
    alpha: int = 32
    first_layer: float = 1 / 3  # share of the layers, from the bottom, that are left as they are
    tokens: int = 2048  # of a batch, padding included; 6144 were a third slower on two cores
    max_tokens: int = 640  # of one example of our own; longer ones are left out
    r1_share: float = 0.05  # of the examples, where R1 traces are given
    r1_tokens: int = 256  # of one of them; real traces are cut
    dtype: str = "float32"  # of the products; what learns is float32 always
    goes_on_from: str | None = None  # the shipped adapter (of a folder of assets) that training begins with
    reasoner: str = "Anchorscope-Reasoner-135M"

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


FIRST = Recipe()
SECOND = Recipe(  # all layers, long chains of levels 1 to 3
    phases=(
        Phase(  # how to think and to calculate, without slips
            20_010,
            (1200, 1300, 1900),
            steps=420,
            cooldown=40,
            horizon=1100,
            warmup=20,
            learning_rate=6e-4,
            manner=long_traces.Manner(guess=0, wrong=0, misread=0, missed=0, disagree=0),
        ),
        Phase(
            20_011,
            (1200, 1300, 1900),
            steps=380,
            cooldown=150,
            horizon=1100,
            warmup=20,
            learning_rate=5e-4,
            manner=long_traces.Manner(),
        ),
    ),
    rank=32,
    alpha=64,
    first_layer=0.0,
    tokens=2048,
    max_tokens=900,
    dtype="bfloat16",
    goes_on_from="reasoner",
    reasoner="Anchorscope-Reasoner-2-135M",
)
RECIPES = {recipe.reasoner: recipe for recipe in (FIRST, SECOND)}


@dataclass(frozen=True)
class Example:
    token_ids: tuple[int, ...]
    n_prompt: int
    source: str  # trace or r1


def reasoner_template(template: str) -> str:
    """The chat template of the base model with the thinking opened for the model; it names the closing tag, as R1's own
    does.
    """
    if not _GENERATION.search(template):
        raise TrainingError(
            "The base model's chat template does not open the assistant's turn with <|im_start|>assistant and a new"
            " line."
        )
    opened = _GENERATION.sub(
        lambda found: f"{{{{ '<|im_start|>assistant{found[1]}{THINK_OPEN}{found[1]}' }}}}", template
    )
    return opened + f"{{# the model closes it with {THINK_CLOSE} #}}"


def problems_of(phase: Phase) -> list[Problem]:
    """The problems that a phase learns from, drills last."""
    told = generate(dict(enumerate(phase.problems, start=1)), seed=phase.seed)
    return told + (_drills(phase) if phase.drills else [])


def _drills(phase: Phase) -> list[Problem]:
    """Three calculations at a time, as the problems of levels 4 and 5 have them, without a story."""
    rng = random.Random(seed_for("drills", phase.seed))
    stories = generate(dict.fromkeys((4, 5), phase.drills), seed=phase.seed + 1)
    lines = sorted({line for problem in stories for line in (problem.solution or "").splitlines()})
    made: list[Problem] = []
    for _ in range(phase.drills):
        drawn = rng.sample(lines, 3)
        first, second, third = (line.partition(" = ")[0] for line in drawn)
        question = f"Calculate {first}, then {second}, and at last {third}. What is the last of the three?"
        made.append(
            Problem(
                problem_id=stable_id("p", "drill", question),
                source="drill",
                source_key=f"seed {phase.seed}, drill {len(made)}",
                level=None,
                question=question,
                answer=drawn[-1].partition(" = ")[2],
                solution="\n".join(drawn),
            )
        )
    return made


def examples(tokenizer: Any, recipe: Recipe, phase: Phase, r1: Path | None) -> list[Example]:
    """Everything that a phase learns from, in the order of its seed. `tokenizer` has the reasoner's template."""
    made = []
    for problem in problems_of(phase):
        told = _told(problem, phase)
        completion = f"{told.thinking}\n{THINK_CLOSE}\n\n{told.response}{tokenizer.eos_token}"
        made.append(_example(tokenizer, cot_prompt(tokenizer, problem.question), completion, "trace"))
    made = [example for example in made if len(example.token_ids) <= recipe.max_tokens]
    if r1 is not None:
        made += _real(tokenizer, r1, recipe, phase.seed, round(len(made) * recipe.r1_share / (1 - recipe.r1_share)))
    random.Random(seed_for("order", phase.seed)).shuffle(made)
    return made


def _told(problem: Problem, phase: Phase) -> Trace | long_traces.LongTrace:
    if isinstance(phase.manner, long_traces.Manner):
        return long_traces.long_trace(problem, seed=phase.seed, manner=phase.manner)
    return trace(problem, seed=phase.seed, manner=phase.manner)


def batches(made: Sequence[Sequence[Example]], recipe: Recipe) -> Iterator[tuple[float, list[Example]]]:
    """(learning rate, batch) of every step; `made` has the examples of each phase. A pass takes them in another order
    than the last, in batches of similar lengths.
    """
    for phase, of_phase in zip(recipe.phases, made, strict=True):
        passes = (_a_pass(of_phase, recipe.tokens, seed_for("pass", phase.seed, turn)) for turn in itertools.count())
        for step, batch in zip(range(phase.steps), itertools.chain.from_iterable(passes), strict=False):
            yield phase.learning_rate * _schedule(step, phase), batch


def _a_pass(made: Sequence[Example], tokens: int, seed: int) -> list[list[Example]]:
    rng = random.Random(seed)
    order = list(made)
    rng.shuffle(order)
    order.sort(key=lambda example: len(example.token_ids) // 48)  # stable: within a length, the pass's order
    groups: list[list[Example]] = [[]]
    for example in order:
        if groups[-1] and (len(groups[-1]) + 1) * len(example.token_ids) > tokens:
            groups.append([])
        groups[-1].append(example)
    rng.shuffle(groups)
    return groups


def train(
    loaded: Any,
    recipe: Recipe,
    work: Path,
    out: Path,
    *,
    r1: Path | None = None,
    minutes: float = math.inf,
    every: float = 120.0,
    say: Callable[[str], None] = print,
) -> bool:
    """Trains until the recipe's last step, or for so many minutes; whether it reached the last. `every`: seconds
    between checkpoints.

    `work` holds the checkpoint. Only after the last step does `out` receive adapter_model.safetensors and
    adapter_config.json (peft's layout), chat_template.jinja and training.json. Raises TrainingError for a checkpoint of
    another recipe.
    """
    import torch

    from backend.models import adapters, checkpoints
    from backend.models.finetune import adapted, begin_from, learned_state

    loaded.tokenizer.chat_template = reasoner_template(loaded.tokenizer.chat_template)
    made = [examples(loaded.tokenizer, recipe, phase, r1) for phase in recipe.phases]
    n_examples = sum(map(len, made))
    first = round(loaded.n_layers * recipe.first_layer)
    layers = range(first, loaded.n_layers)
    wrapped = adapted(loaded.model, rank=recipe.rank, alpha=recipe.alpha, layers=layers, seed=recipe.phases[0].seed)
    learned = learned_state(wrapped)
    if recipe.goes_on_from is not None:
        begin_from(wrapped, ROOT / "assets" / recipe.goes_on_from)
    gradients = _Gradients(wrapped, learned, recipe)
    optimizer = torch.optim.AdamW(learned.values(), weight_decay=0.0)
    identities = [
        stable_id("a", asdict(replace(recipe, phases=recipe.phases[:n])), loaded.model_id, sum(map(len, made[:n])))
        for n in range(1, len(recipe.phases) + 1)
    ]
    losses, started_at, before = _restore(work / "checkpoint", identities, learned, optimizer)
    identity = identities[-1]
    n_weights = sum(parameter.numel() for parameter in learned.values())
    n_tokens = sum(len(example.token_ids) for example in itertools.chain.from_iterable(made))
    say(
        f"{n_examples:,} examples, {n_tokens:,} tokens, {n_weights:,} weights learn; step {len(losses)} of"
        f" {recipe.steps}"
    )
    began = saved = time.monotonic()
    source = batches(made, recipe)
    for _ in losses:
        next(source)
    n_seen, at_start = 0, len(losses)

    def seconds() -> float | None:
        return None if before is None else before + time.monotonic() - began

    while len(losses) < recipe.steps and time.monotonic() - began < 60 * minutes:
        rate, batch = next(source)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = gradients(batch)
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
        n_seen += sum(len(example.token_ids) for example in batch)
        pace = n_seen / (time.monotonic() - began)
        left = (recipe.steps - len(losses)) * (time.monotonic() - began) / (len(losses) - at_start)
        say(
            f"step {len(losses)} of {recipe.steps}: loss {losses[-1]:.3f}, {pace:,.0f} tokens/s, about {left / 60:.0f}"
            " min left"
        )
        if time.monotonic() - saved > every:
            _save(work / "checkpoint", identity, learned, optimizer, losses, started_at, seconds())
            saved = time.monotonic()
    _save(work / "checkpoint", identity, learned, optimizer, losses, started_at, seconds())
    if len(losses) < recipe.steps:
        return False
    adapters.save(wrapped, loaded.tokenizer, loaded.name, out)
    record = {
        "kind": "lora",
        "base": loaded.name,
        "base_revision": loaded.revision,
        "seed": recipe.phases[0].seed,
        "recipe": asdict(recipe),
        "n_weights": n_weights,
        "n_examples": n_examples,
        "n_r1": sum(example.source == "r1" for of_phase in made for example in of_phase),
        "started_at": started_at,
        "seconds": seconds(),
        "versions": versions() | {"peft": version("peft")},
        "commit": commit(),
        "steps": _steps(made, recipe, losses),
    }
    checkpoints.write_json(out / "training.json", record)
    return True


class _Gradients:
    """Puts the gradients of a batch's mean loss into what learns, and says that loss.

    In bfloat16 a batch is dealt into as many parts as torch has threads, so that threads share no product and never
    wait for one another.
    """

    def __init__(self, wrapped: Any, learned: dict[str, Any], recipe: Recipe) -> None:
        import torch

        from backend.models.finetune import HalfModel

        self._wrapped, self._learned = wrapped, list(learned.values())
        self._half = HalfModel(wrapped) if recipe.dtype == "bfloat16" else None
        if self._half:
            self._n = torch.get_num_threads()
            torch.set_num_threads(1)
            self._threads = ThreadPoolExecutor(self._n, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, batch: Sequence[Example]) -> float:
        from backend.models.finetune import completion_loss

        if self._half is None:
            summed, n = completion_loss(self._wrapped, *_padded(batch))
            (summed / n).backward()
            return summed.item() / n
        n = sum(len(example.token_ids) - example.n_prompt for example in batch)
        total = 0.0
        for loss, gradients in self._threads.map(self._of_part, _dealt(batch, self._n)):
            total += loss
            for parameter, gradient in zip(self._learned, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        for parameter in self._learned:
            parameter.grad.mul_(1 / n)
        return total / n

    def _of_part(self, part: Sequence[Example]) -> tuple[float, Any]:
        import torch

        assert self._half is not None
        sequences = [example.token_ids for example in part]
        loss, _ = self._half.completion_loss(sequences, [example.n_prompt for example in part])
        return loss.item(), torch.autograd.grad(loss, self._learned)


def _dealt(batch: Sequence[Example], n: int) -> list[list[Example]]:
    """At most n parts of about the same number of tokens; the longest examples are dealt first."""
    parts: list[list[Example]] = [[] for _ in range(n)]
    for example in sorted(batch, key=lambda example: -len(example.token_ids)):
        min(parts, key=lambda part: sum(len(one.token_ids) for one in part)).append(example)
    return [part for part in parts if part]


def _steps(made: Sequence[Sequence[Example]], recipe: Recipe, losses: Sequence[float]) -> list[list[float]]:
    """[step from 1, tokens seen so far without padding, loss in nats a completion token,
    learning rate] of each step."""
    steps, seen = [], 0
    for step, (loss, (rate, batch)) in enumerate(zip(losses, batches(made, recipe), strict=True), start=1):
        seen += sum(len(example.token_ids) for example in batch)
        steps.append([step, seen, loss, rate])
    return steps


def _example(tokenizer: Any, prompt: str, completion: str, source: str) -> Example:
    """Prompt and completion are tokenised apart, as they are when the model writes."""
    before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, completion))
    return Example((*before, *after), len(before), source)


def _real(tokenizer: Any, folder: Path, recipe: Recipe, seed: int, n: int) -> list[Example]:
    """Beginnings of real R1 traces, cut at the end of a sentence; they have no answer and do not end."""
    file = folder / "traces.jsonl"
    asked = [{"role": "user", "content": "Think aloud about a problem."}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    room = recipe.r1_tokens - len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) - 1
    made = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingError(
            f"{file} cannot be read ({error.strerror}); expected one JSON record with `response` a line."
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            response = json.loads(line)["response"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{file}, line {number}: expected a JSON record with `response` ({error}).") from error
        thinking = response.removeprefix(THINK_OPEN).partition(THINK_CLOSE)[0].strip()
        offsets = tokenizer(thinking, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        reach = offsets[min(len(offsets), room) - 1][1] if offsets else 0
        fitting = [match.end() for match in _SENTENCE_END.finditer(thinking) if match.end() <= reach]
        if fitting:
            made.append(_example(tokenizer, prompt, thinking[: fitting[-1]], "r1"))
    random.Random(seed_for("r1", seed)).shuffle(made)
    return made[:n]


def _padded(batch: Sequence[Example]) -> tuple[Any, Any, Any]:
    import torch

    longest = max(len(example.token_ids) for example in batch)
    rows = [[*example.token_ids, *[0] * (longest - len(example.token_ids))] for example in batch]
    return (
        torch.tensor(rows),
        torch.tensor([example.n_prompt for example in batch]),
        torch.tensor([len(example.token_ids) for example in batch]),
    )


def _schedule(step: int, phase: Phase) -> float:
    """Share of the learning rate: linear warm-up, a cosine towards a tenth, and from wherever that is a straight line
    to a tenth.
    """
    if step < phase.warmup:
        return (step + 1) / phase.warmup
    turn = max(phase.warmup, phase.steps - phase.cooldown)
    done = (min(step, turn) - phase.warmup) / max(1, phase.horizon - phase.warmup)
    share = 0.1 + 0.9 * (1 + math.cos(math.pi * min(1.0, done))) / 2
    return share + (0.1 - share) * max(0, step - turn) / max(1, phase.steps - 1 - turn)


def _save(
    folder: Path,
    identity: str,
    learned: dict[str, Any],
    optimizer: Any,
    losses: list[float],
    started_at: str | None,
    seconds: float | None,
) -> None:
    from backend.models import checkpoints

    tensors = {f"weight.{key}": parameter.detach().clone() for key, parameter in learned.items()}
    for key, parameter in learned.items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{slot}.{key}"] = value.detach().clone()
    state = {"identity": identity, "started_at": started_at, "seconds": seconds, "losses": losses}
    checkpoints.save(folder, len(losses), tensors, state)


def _restore(
    folder: Path, identities: Sequence[str], learned: dict[str, Any], optimizer: Any
) -> tuple[list[float], str | None, float | None]:
    """Losses so far, when training began (UTC) and the seconds it took, as far as known; weights and optimiser become
    the checkpoint's.

    `identities` of the recipe's first phase, its first two, ...: a checkpoint of the beginning of a recipe is gone on
    from.
    """
    import torch

    from backend.models import checkpoints

    found = checkpoints.load(folder)
    if found is None:
        return [], datetime.now(UTC).isoformat(timespec="seconds"), 0.0
    if found.state["identity"] not in identities:
        raise TrainingError(
            f"{folder} belongs to another recipe, model or data. Name another folder, or delete it to begin anew."
        )
    with torch.no_grad():
        for key, parameter in learned.items():
            parameter.copy_(found.tensors[f"weight.{key}"])
            optimizer.state[parameter] = {
                slot: found.tensors[f"{slot}.{key}"] for slot in ("step", "exp_avg", "exp_avg_sq")
            }
    return found.state["losses"], found.state.get("started_at"), found.state.get("seconds")
