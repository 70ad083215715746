"""`evaluate-latent`: the embedded latent models on problems whose combinations no training saw, and their card.

1. Every model answers the same problems, of the trained lengths and longer ones, with every number of latents k. An
   answer is right where it is the number and then the end. Task and recipe were chosen on other held-out problems;
   of lengths with so few that no others are left, the same are asked again.
2. A share has Wilson's interval. Two siblings are compared problem by problem, with as many latents on both sides
   (`none` has no latents): exact McNemar test, Newcombe's interval of the difference.
3. Necessity: the share of problems that are right with as many latents as steps and wrong without any.
4. The teacher is the same model writing the results of the steps in words before it answers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.errors import AnchorscopeError
from backend.latent.asked import batches
from backend.latent.kinds import SIBLINGS
from backend.latent.tasks import OURS
from backend.root import PRECOMPUTE
from backend.schema.provenance import commit, versions
from backend.statistics.intervals import wilson
from backend.statistics.paired import mcnemar

if TYPE_CHECKING:
    import numpy as np

    from backend.latent.loop import LatentModel
    from backend.latent.problems import LatentProblem
    from backend.latent.tasks import GeneratedTask

SEED = 8  # of the problems
CHOSEN_ON = 7  # the seed of those by which task and recipe were chosen
N = 2000  # of each length, where there are so many
LONGER = 2  # lengths beyond those trained
BAR = 0.1  # latent − pause, at the longest trained length
MOST_OF_PAUSE, LEAST_OF_TEACHER = 0.6, 0.99  # where a task is kept


def answered(latent: "LatentModel", problems: "Sequence[LatentProblem]", most: int) -> "np.ndarray":
    """Whether each problem is right with k = 0 … `most` latents, (n_problems, most + 1)."""
    import numpy as np

    from backend.latent.loop import run

    right = np.zeros((len(problems), most + 1), dtype=bool)
    for rows, questions in batches(latent, problems):
        expected = [tuple(latent.tokenizer.convert_tokens_to_ids([problems[row].answer])) for row in rows]
        state = run(latent, questions, 0)
        for k in range(most + 1):
            if k:
                state = latent.feed(state, latent.next_z(state))
            right[rows, k] = [one == other for one, other in zip(latent.answer(state, 2), expected, strict=True)]
    return right


def taught(latent: "LatentModel", problems: "Sequence[LatentProblem]") -> "np.ndarray":
    """Whether the model is right where it writes results before it answers, (n_problems,); greedy."""
    import numpy as np
    import torch

    right = np.zeros(len(problems), dtype=bool)
    for rows, questions in batches(latent, problems):
        n_tokens = max(problems[row].n_steps for row in rows) + len(latent.after) + 2
        with torch.inference_mode():
            state, tokens = latent.start(questions), []
            h = state.h
            for _ in range(n_tokens):
                tokens.append(latent.model.get_output_embeddings()(h).argmax(-1))
                h = latent.model.base_model(
                    input_ids=tokens[-1][:, None], past_key_values=state.cache, use_cache=True
                ).last_hidden_state[:, -1]
        for row, written in zip(rows, torch.stack(tokens, 1).tolist(), strict=True):
            answer = latent.tokenizer.convert_tokens_to_ids(problems[row].answer)
            right[row] = _after(written, latent.after)[:2] == [answer, latent.end]
    return right


def _after(tokens: list[int], marker: tuple[int, ...]) -> list[int]:
    """What stands after the first `marker`; nothing where there is none."""
    n = len(marker)
    starts = (i + n for i in range(len(tokens)) if tuple(tokens[i : i + n]) == marker)
    return tokens[next(starts, len(tokens)) :]


def evaluate(out: Path, *, n: int = N, say: Callable[[str], None] = print) -> str:
    """Measures every model in `out`, writes card.json and README.md there, and returns the latter. What was measured of
    other tasks (`tried`) stays in the card. Raises AnchorscopeError where there is no model.
    """
    before = out / "card.json"
    tried = json.loads(before.read_text(encoding="utf-8")).get("tried", []) if before.is_file() else []
    card = measure(out, n=n, say=say) | {"tried": tried}
    _write(out, card)
    return words(card)


def add_tried(out: Path, folder: Path, *, n: int = N, say: Callable[[str], None] = print) -> str:
    """Measures the models of another task in `folder` and adds their numbers to the card in `out`."""
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    found = measure(folder, n=n, say=say)
    card["tried"] = [one for one in card["tried"] if one["task"] != found["task"]] + [found]
    _write(out, card)
    return words(card)


def _write(out: Path, card: Mapping[str, Any]) -> None:
    from backend.models.checkpoints import write_json

    write_json(out / "card.json", card)
    (out / "README.md").write_text(words(card), encoding="utf-8")


def unseen(task: "GeneratedTask", n: int, steps: int) -> "list[LatentProblem]":
    """`n` held-out problems of which no choice was made; where not so many are left, any that are held out."""
    fresh = task.at_most(n, steps=(steps,), seed=SEED, held_out=True, unlike=CHOSEN_ON)
    return fresh if len(fresh) == n else task.at_most(n, steps=(steps,), seed=SEED, held_out=True)


def measure(folder: Path, *, n: int = N, say: Callable[[str], None] = print) -> dict[str, Any]:
    """All that is known of the models in a folder, which are of one task."""
    from backend.latent import files
    from backend.latent.loading import load_latent
    from backend.models.loading import weights_sha256

    names = sorted(path.name for path in folder.glob("*") if files.is_one(path))
    models = {name: load_latent(str(folder / name)) for name in names}
    tasks = {latent.facts["task"] for latent in models.values()}
    if len(tasks) != 1:
        raise AnchorscopeError(
            f"{folder} has models of {len(tasks)} tasks ({', '.join(sorted(tasks)) or 'none'}); expected those of one."
            " Make them by train-latent."
        )
    task = next(one for one in OURS if one.name in tasks)
    recipe = next(iter(models.values())).facts["recipe"]
    trained = recipe["lengths"]
    lengths = [*trained, *range(max(trained) + 1, max(trained) + 1 + LONGER)]
    asked = {steps: unseen(task, n, steps) for steps in lengths}
    most = recipe["shape"]["n_latents"]
    right: dict[tuple[str, int, int], Any] = {}  # sibling, seed, steps: (n_problems, k)
    rows: dict[str, dict[str, Any]] = {}
    for name, latent in models.items():
        say(f"{name}: {sum(map(len, asked.values())):,} problems, 0 to {latent.n_latents} latents")
        key = (latent.sibling, latent.facts["seed"])
        accuracy, teacher = [], []
        for steps, problems in asked.items():
            found = right[*key, steps] = answered(latent, problems, latent.n_latents)
            accuracy += [{"n_steps": steps, "k": k, **_share(found[:, k])} for k in range(found.shape[1])]
            teacher.append({"n_steps": steps, **_share(taught(latent, problems))})
        facts = {key: value for key, value in latent.facts.items() if key not in ("recipe", "identity", "task")}
        rows[name] = {
            "sibling": latent.sibling,
            **facts,
            "sha256": weights_sha256(folder / name),
            "accuracy": accuracy,
            "teacher": teacher,
        }
    return {
        "task": task.name,
        "words": task.words,
        "trained_steps": trained,
        "n_latents": most,
        "problems_seed": SEED,
        "n_problems": {str(steps): len(problems) for steps, problems in asked.items()},
        "recipe": recipe,
        "models": rows,
        "differences": _differences(right, most),
        "necessity": _necessity(right),
        "versions": versions(),
        "commit": commit(),
    }


def _share(right: "np.ndarray") -> dict[str, Any]:
    n, n_right = len(right), int(right.sum())
    low, high = wilson(n_right, n)
    return {"n": n, "right": n_right, "share": n_right / n, "low": low, "high": high}


def _differences(right: Mapping[tuple[str, int, int], Any], most: int) -> list[dict[str, Any]]:
    """latent − pause with as many latents, and latent − none, of each seed, length and k."""
    rows = []
    for (sibling, seed, steps), of_latent in right.items():
        for other in ("pause", "none"):
            if sibling != "latent" or (other, seed, steps) not in right:
                continue
            base = right[other, seed, steps]
            for k in range(most + 1):
                found = mcnemar(base[:, min(k, base.shape[1] - 1)].tolist(), of_latent[:, k].tolist())
                rows.append({"seed": seed, "against": other, "n_steps": steps, "k": k, **asdict(found)})
    return rows


def _necessity(right: Mapping[tuple[str, int, int], Any]) -> list[dict[str, Any]]:
    rows = []
    for (sibling, seed, steps), found in right.items():
        if sibling != "none":
            k = min(steps, found.shape[1] - 1)
            needed = found[:, k] & ~found[:, 0]
            rows.append({"sibling": sibling, "seed": seed, "n_steps": steps, "k": k, **_share(needed)})
    return rows


def at(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any] | None:
    """The row with these values; None where there is none."""
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def finding(card: Mapping[str, Any]) -> str:
    """What the card says of the recurrence, in one sentence."""
    steps = max(card["trained_steps"])
    rows = [row for row in card["differences"] if row["against"] == "pause" and row["n_steps"] == row["k"] == steps]
    if not rows:
        return "Latent and pause siblings of one seed were not trained both, so nothing is said of the recurrence."
    found = ", ".join(f"{_points(row['difference'])} {_interval(row)}" for row in rows)
    used = all(row["difference"] >= BAR and row["low"] > 0 for row in rows)
    return (
        f"The recurrence is {'used' if used else 'not shown to be used'}: on {rows[0]['n']:,} held-out problems of"
        f" {steps} steps with {steps} latents, latent − pause is {found} points in {len(rows)} seeds."
    )


def words(card: Mapping[str, Any]) -> str:
    """README.md."""
    one = next(iter(card["models"].values()))
    recipe, shape = card["recipe"], card["recipe"]["shape"]
    steps = ", ".join(map(str, card["trained_steps"]))
    parts = [
        f"# Anchorscope-Latent\n\n{finding(card)}\n",
        f"""Small models that think in latents, made to be looked into: {shape["n_layers"]} Llama layers of width
{shape["d_model"]}, a vocabulary of words in which every number is one token, CODI's projection from the last hidden
state to the next latent. For each seed there are three siblings, which began with the same language model and saw the
same problems in the same order: `latent`; `pause`, whose extra positions have learned embeddings, the same for every
problem; and `none`, which answers at once. They are no use for anything but the task below.

`embedded:Anchorscope-Latent/latent-0` names one (sibling, seed).

## Task

{card["words"]} Trained on {steps} steps. A tenth of all combinations of operations and
operands is held out by its hash; a quarter of the problems has a number that is of no use. No intermediate result is a
number of the question, and none comes twice.
""",
        _accuracy(card),
        _difference_table(card),
        _necessity_table(card),
        f"""## Recipe

CODI's self-distillation (arXiv 2502.21074), written anew: the teacher writes the results of the steps and the answer,
the student has k latents instead. {recipe["teacher"]:,} training steps of the teacher alone, then both together to
{recipe["steps"]:,}, in batches of {recipe["batch"]}. As many latents as steps at first; from training step
{recipe["mixed"]:,} on, in half of the batches 0 to {card["n_latents"]}, drawn. AdamW, rate {recipe["learning_rate"]:g}
after {recipe["warmup"]} steps of warm-up, from {recipe["mixed"]:,} on falling to {recipe["last_rate"]:g} by a cosine;
γ = {recipe["gamma"]:g}.
Weights are rounded to float16 at the end, and these are what is measured.
`{PRECOMPUTE} train-latent` does it again; the losses are in each model's latent.json.
""",
        _models_table(card),
        _tried_table(card),
        f"""## What it can and cannot do

- The teacher's hidden states teach the student at one position alone, where the answer starts: no latent is told what
  it should hold. But the teacher, too, reads <bot> before it writes, so that position 0 says the first result, as a
  lens sees, is by construction; later positions are read by circuits that learned on the results in words.
- Task, question and recipe were chosen among several by what the siblings reached on other held-out problems
  (docs/latent.md, Trials). Those above, of {max(card["trained_steps"])} steps and more, were never used for a choice;
  of fewer steps there are too few for that.
- Every k from 0 to {card["n_latents"]} was met in training, so a model that is stopped early is asked something that it
  has learned. Problems of more than {max(card["trained_steps"])} steps were never met.
- A small gap between siblings on short problems says that these can be solved in one pass, not that latents are idle.
- All siblings had as many training steps; what `pause` would reach with many more is not known from this table.
- Measured at commit {card["commit"]}, trained at {one["commit"]}; torch {card["versions"]["torch"]}, transformers
  {card["versions"]["transformers"]}.
""",
    ]
    return "\n".join(part for part in parts if part)


def _accuracy(card: Mapping[str, Any]) -> str:
    header = ["model", "steps", "teacher", *(f"k = {k}" for k in range(card["n_latents"] + 1))]
    lines = []
    for sibling in SIBLINGS:
        for name, model in card["models"].items():
            if model["sibling"] != sibling:
                continue
            for teacher in model["teacher"]:
                steps = teacher["n_steps"]
                label = f"{steps}{'' if steps in card['trained_steps'] else ' (not trained)'}"
                found = (at(model["accuracy"], n_steps=steps, k=k) for k in range(card["n_latents"] + 1))
                lines.append([name, label, *map(_percent, (teacher, *found))])
    counts = ", ".join(f"{n:,} of {steps} steps" for steps, n in card["n_problems"].items())
    return f"""## Accuracy

Per cent of held-out problems whose whole answer is right with k latents ({counts}: fewer than {N:,} where no more are
held out). The teacher is the same model writing the results of the steps before it answers. Wilson's intervals are in
card.json; with {N:,} problems they reach at most 2.2 points to either side.

{_table(header, lines)}"""


def _difference_table(card: Mapping[str, Any]) -> str:
    header = ["seed", "steps", "k", "latent − pause", "latent − none", "problems"]
    lines = []
    for row in card["differences"]:
        if row["against"] == "pause" and row["k"] == min(row["n_steps"], card["n_latents"]):
            none = at(card["differences"], seed=row["seed"], against="none", n_steps=row["n_steps"], k=row["k"])
            other = "" if none is None else f"{_points(none['difference'])} {_interval(none)}"
            mine = f"{_points(row['difference'])} {_interval(row)}"
            lines.append([row["seed"], row["n_steps"], row["k"], mine, other, f"{row['n']:,}"])
    return f"""## With and without recurrence

Differences in points on the same problems, with 95 % intervals (Newcombe's for paired shares).

{_table(header, lines)}"""


def _necessity_table(card: Mapping[str, Any]) -> str:
    lines = [
        [row["sibling"], row["seed"], row["n_steps"], row["k"], f"{_percent(row)} {_interval(row)}"]
        for row in card["necessity"]
    ]
    return f"""## Necessity

Problems that are right with k latents and wrong with none, per cent of all.

{_table(["sibling", "seed", "steps", "k", "needed"], lines)}"""


def _models_table(card: Mapping[str, Any]) -> str:
    lines = [
        [name, f"{one['n_weights']:,}", f"{one['n_tokens']:,}", f"{one['cpu_minutes']:.1f}", one["sha256"][:12]]
        for name, one in card["models"].items()
    ]
    return f"""## Models

{_table(["model", "weights", "tokens seen", "CPU minutes", "sha256"], lines)}"""


def _tried_table(card: Mapping[str, Any]) -> str:
    """What decided between the tasks: the teacher, and pause, at the longest trained length."""
    lines = []
    for one in [card, *card["tried"]]:
        steps = max(one["trained_steps"])
        for name, model in one["models"].items():
            teacher = at(model["teacher"], n_steps=steps)
            found = (at(model["accuracy"], n_steps=steps, k=k) for k in (0, steps))
            shares = map(_percent, (teacher, *found))
            lines.append([one["task"], name, steps, *shares, f"{one['recipe']['steps']:,}"])
    return f"""## Tasks tried

A task is kept where the teacher reaches {LEAST_OF_TEACHER:.0%} and `pause` stays at or below {MOST_OF_PAUSE:.0%} at the
longest trained length. The first is the one that is shipped.{"" if card["tried"] else " No other was measured."}

{_table(["task", "model", "steps", "teacher", "k = 0", "k = steps", "training steps"], lines)}"""


def _table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows) + "\n"


def _percent(row: Mapping[str, Any] | None) -> str:
    """Empty where the model has not so many latents."""
    return "" if row is None else f"{100 * row['share']:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _interval(row: Mapping[str, Any]) -> str:
    return f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
