"""The study's dictionaries of activations, one after another: recorded, trained and kept, or read from a file and kept.

1. Texts are read by the models, some at a time, and their residual streams at the layer are kept in shards
   (`precompute.recording`). Dictionaries of several layers that learn from the same texts have them read once.
2. The dictionary is trained on them. Each unit is some of the steps, so that the metrics of an unfinished training are
   seen. Checkpoints, with the metrics so far, lie in scratch too: a killed training goes on from the last one, and its
   steps come out the same.
3. The last unit rounds the weights to float16, writes them among the study's dictionaries
   (`backend.crosscoder.stored`), and is their row.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.crosscoder import stored
from backend.crosscoder.kinds import KINDS
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.schema.provenance import commit, versions
from precompute import corpus, models
from precompute.dictionary_training import Training
from precompute.estimates import Estimate, Quantities
from precompute.recording import Recorder, all_cores
from precompute.study import Crosscoder, Study
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from backend.crosscoder.dictionary import Dictionary
    from backend.crosscoder.shards import Shards
    from backend.crosscoder.train import Settings, Trainer
    from backend.crosscoder.training_data import Learned, Response

NAME, UNIT = "crosscoder", "part"
CHECKPOINT_EVERY = 120.0  # seconds
RULE = 1  # of recording and training: raise it when they change
_TEXT_TOKENS = 350  # of a generated trace with its prompt, or of a text of a file
_DTYPE = "float16"  # of recorded activations
_TEXTS_A_UNIT = 32
_STEPS_A_UNIT, _MOST_UNITS = 20, 200  # of a training: at least so many steps in a unit, at most so many units
_SIDES = ("base", "distilled")
_SETTINGS = (
    "kind",
    "n_features",
    "k",
    "penalty",
    "learning_rate",
    "steps",
    "warmup",
    "batch",
    "dead_after",
    "aux",
    "aux_k",
)


@dataclass(frozen=True)
class Plan:
    """One dictionary that the study asks for, and where its scratch is."""

    context: Context
    wanted: Crosscoder

    @cached_property
    def model_ids(self) -> list[str]:
        return [models.model_id(model) for model in self.context.study.pair]

    @cached_property
    def contents(self) -> dict[str, Any]:
        return corpus.contents(self.context, self.wanted)

    @cached_property
    def recording_id(self) -> str:
        wanted = self.wanted
        return stable_id("s", 1, self.model_ids, wanted.layer, wanted.max_tokens, _DTYPE, self.contents)

    @cached_property
    def texts_id(self) -> str:
        """Of what is read, at whatever layer."""
        return stable_id("x", self.model_ids, self.wanted.max_tokens, self.contents)

    @cached_property
    def training_id(self) -> str:
        wanted = self.wanted
        settings = {name: getattr(wanted, name) for name in _SETTINGS} | {"steps": wanted.n_steps}
        if wanted.learns_from != "whole_texts":  # the ids of before there was a choice stay
            settings["learns_from"] = wanted.learns_from
        settings |= {name: True for name in ("centred", "aux_relative") if getattr(wanted, name)}
        return stable_id("t", 1, self.recording_id, settings, self.context.study.seed)

    @property
    def shards(self) -> Path:
        return self._scratch(f"recording-{self.recording_id}")

    @property
    def checkpoint(self) -> Path:
        return self._scratch(f"training-{self.training_id}")

    def _scratch(self, name: str) -> Path:
        """What an older rule left there is not gone on with."""
        return self.context.scratch / (name if RULE == 1 else f"{name}.{RULE}")

    def groups(self) -> list[tuple[str, slice]]:
        """Unit ids of the recording, and which of the listed texts each is."""
        return [
            (f"{self.recording_id}.texts-{first:07d}", slice(first, first + _TEXTS_A_UNIT))
            for first in range(0, self.contents["n_texts"], _TEXTS_A_UNIT)
        ]

    def legs(self) -> list[tuple[str, int, int]]:
        """Unit ids of the training, with the steps before the unit and after it."""
        steps = self.wanted.n_steps
        stride = max(_STEPS_A_UNIT, -(-steps // _MOST_UNITS))
        ends = [*range(stride, steps, stride), steps]
        return [(f"{self.training_id}.step-{end:07d}", first, end) for first, end in itertools.pairwise([0, *ends])]

    @property
    def names(self) -> list[str]:
        """Ids of all units of a training."""
        return [*(name for name, _ in self.groups()), *self.others, *(name for name, *_ in self.legs())]

    @property
    def others(self) -> list[str]:
        """The unit of what is read beside reasoning, where a number of tokens is asked for."""
        wanted = self.wanted
        return [f"{self.recording_id}.others"] if wanted.tokens is not None and corpus.has_others(wanted) else []

    @cached_property
    def other_texts(self) -> corpus.Others:
        """Once the reasoning is recorded, of which they are a share."""
        from backend.crosscoder.shards import Shards

        assert self.wanted.tokens is not None
        read, share = self._n_reasoning(Shards(self.shards)), self.wanted.reasoning_share
        return corpus.others(
            self.context, self.wanted, max(0, min(self.wanted.tokens - read, int(read * (1 - share) / share)))
        )

    def _n_reasoning(self, shards: "Shards") -> int:
        """Recorded tokens of the study's CoTs and rollouts."""
        own = {source.text.text_id for source in corpus.sources(self.context, self.wanted)}
        return sum(n for name, n in shards.tokens_by_text().items() if name in own)

    def said_of_texts(self, shards: "Shards") -> dict[str, Any]:
        """How many there are of each kind."""
        wanted, contents = self.wanted, self.contents
        if wanted.tokens is None:
            n_lines = contents["n_texts"] - len(contents["cots"]) - wanted.generated
            return {"n_generated": wanted.generated, "n_lines": n_lines}
        names = [source.text.text_id for source in self.other_texts.sources] if self.others else []
        kinds = {"n_generated": "trace-", "n_lines": "line-", "n_corpus": "corpus-"}
        return {
            **{key: sum(name.startswith(kind) for name in names) for key, kind in kinds.items()},
            **({"base_texts": self.other_texts.base_texts} if wanted.base_texts else {}),
            "n_rollouts": len(contents["rollouts"]),
            "n_reasoning_tokens": self._n_reasoning(shards),
            "corpora": self.other_texts.revisions if self.others else {},
            "passes": self.steps(shards) * wanted.batch / len(shards),
        }

    def made(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of `dictionaries` is of it."""
        if self.wanted.dictionary is None:
            return bool(row["training_id"] == self.training_id)
        return row["training_id"] is None and row["layer"] == self.wanted.layer

    def settings(self, shards: "Shards") -> "Settings":
        from backend.crosscoder.train import Settings

        chosen = {name: getattr(self.wanted, name) for name in (*_SETTINGS, "aux_relative")}
        chosen["steps"] = self.steps(shards)
        seed = self.context.study.seed
        return Settings(n_models=shards.n_models, width=shards.width, widths=shards.widths, seed=seed, **chosen)

    def training(self, settings: "Settings", learned: "Learned", shards: "Shards", folder: Path) -> Training:
        """From the first step, or from the checkpoint in the folder."""
        return Training(
            settings,
            folder,
            device=self.context.study.engine.device,
            batches=lambda skip: shards.batches(settings.batch, settings.seed, skip=skip, n=len(learned.rows)),
            learned=lambda places: learned.scaled(shards, places),
            every=CHECKPOINT_EVERY,
        )

    def steps(self, shards: "Shards") -> int:
        """No more passes are made than were asked for where fewer tokens were found; the last units are empty then."""
        wanted = self.wanted
        if wanted.epochs is None:
            return wanted.n_steps
        return min(wanted.n_steps, max(1, round(wanted.epochs * len(shards) / wanted.batch)))

    def learned(self, shards: "Shards") -> "Learned":
        """What of the recording is learned from."""
        from backend.crosscoder.training_data import CONVENTIONS, centred

        found = CONVENTIONS[self.wanted.learns_from].learned(shards, self._responses(shards))
        return centred(found, shards) if self.wanted.centred else found

    def _responses(self, shards: "Shards") -> "list[Response]":
        """Texts with a first token alone were not recorded."""
        from backend.crosscoder.training_data import Response
        from backend.models.loading import load_tokenizer

        if self.wanted.learns_from == "whole_texts":
            return []
        reader, recorded = self.context.study.pair[0], set(shards.texts())
        tokenizer, found = load_tokenizer(reader.name, revision=reader.revision), []
        for source in corpus.sources(self.context, self.wanted):
            if source.text.text_id in recorded:
                told = tokenizer(source.text.text, add_special_tokens=False, return_offsets_mapping=True)
                first = sum(start < source.prompt_chars for start, _ in told["offset_mapping"])
                found.append(Response(source.text.text_id, source.problem, first))
        return found


def units(context: Context) -> list[Unit]:
    """Dictionaries that learn from the same recording share its units."""
    found: dict[str, Unit] = {}
    for plan, file in _plans(context):
        wanted = plan.wanted
        if file is not None and wanted.dictionary is not None:
            inputs = {"files": _digests(wanted.dictionary), "scale": wanted.scale, "layer": wanted.layer}
            found[file] = Unit(file, {**inputs, "models": plan.model_ids})
        elif plan.contents["n_texts"]:
            found |= {name: Unit(name, {}) for name in plan.names}
    return list(found.values())


def _plans(context: Context) -> Iterator[tuple[Plan, str | None]]:
    """Each dictionary that the study asks for, with the name of its unit where it is read from a file."""
    n_files = 0
    for wanted in context.study.crosscoder:
        if wanted.dictionary is None:
            yield Plan(context, wanted), None
            continue
        yield Plan(context, wanted), f"file-{n_files}" if n_files else "file"  # one alone is called as ever
        n_files += 1


def estimate(of: Quantities) -> Estimate | None:
    if not of.study.crosscoder:
        return None
    width, kept, recorded, operations = len(of.study.pair) * of.width, 0.0, 0.0, 0.0
    read: dict[Any, float] = {}  # of what is read once for all layers, up to the last of them
    sampled: dict[Any, float] = {}
    for wanted in of.study.crosscoder:
        texts = wanted.generated + len(corpus.lines(wanted.texts))
        asked = of.read + texts * _TEXT_TOKENS if wanted.tokens is None else wanted.tokens
        learned = 0 if wanted.dictionary else asked
        steps = 0 if wanted.dictionary else wanted.n_steps
        dense = 5 if KINDS[wanted.kind].is_signed else 1  # products in a step
        operations += steps * wanted.batch * 2 * width * wanted.n_features * dense
        own = wanted.reads
        read[own] = max(read.get(own, 0.0), learned * len(of.study.pair) * of.depth(wanted.layer))
        sampled[own] = (1 - wanted.reasoning_share) * asked / (1 + len(wanted.corpus)) if wanted.base_texts else 0.0
        recorded += learned * width * 2e-9
        kept += 24e-9 * width * wanted.n_features
    products = {"dictionary": operations}
    if written := sum(sampled.values()):
        products["sampling"] = of.operations(written)
    return of.line(
        NAME,
        len(of.study.crosscoder),
        tokens=sum(read.values()),
        by="forward",
        gigabytes=0.0,
        scratch=recorded + kept,
        products=products,
        held=max(16e-9 * width * wanted.n_features for wanted in of.study.crosscoder) + of.others_weights,
    )


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    todo = {unit.unit_id: unit for unit in units}
    plans = list(_plans(context))
    asked = [plan for plan, file in plans if file is None and any(name in todo for name in plan.names)]
    with all_cores(context.study):
        for plan, file in plans:
            if file is not None:
                if file in todo:
                    yield _read(plan, todo[file])
            elif plan in asked:
                yield from _record(plan, todo, [other for other in asked if other.texts_id == plan.texts_id])
                yield from _train(plan, todo)


def trained_plans(context: Context) -> list[Plan]:
    """Those of the dictionaries that the study trains, of two models."""
    return [plan for plan, file in _plans(context) if file is None and len(plan.model_ids) == 2]


def ensure_recorded(plan: Plan) -> None:
    """What it learns from is in scratch when this returns."""
    for _ in _record(plan, {}, [plan]):
        pass


def wanted_of(context: Context, row: Mapping[str, Any]) -> Crosscoder:
    """The table of the study file that a row of `dictionaries` is of."""
    several = context.study.crosscoder
    found = [plan.wanted for plan, _ in _plans(context) if plan.made(row)] if len(several) > 1 else several
    return found[0] if found else several[0]


def _record(plan: Plan, todo: Mapping[str, Unit], alike: Sequence[Plan]) -> Iterator[Finished]:
    """All groups are looked at, not those to do alone: their shards may have been deleted since. What the plans that
    are `alike` but for the layer learn from is recorded with it.
    """
    wanted = plan.wanted
    beside = {other.wanted.layer: other.shards for other in alike if other.wanted.layer != wanted.layer}
    recorder = Recorder(plan.context.study, wanted.layer, plan.shards, _DTYPE, wanted.max_tokens, beside)
    sources = corpus.sources(plan.context, wanted)
    for name, which in plan.groups():
        recorder.ensure([source.text for source in sources[which]])
        if name in todo:
            yield Finished(todo[name], {})
    for name in plan.others:
        recorder.ensure([source.text for source in plan.other_texts.sources])
        if name in todo:
            yield Finished(todo[name], {})


def _train(plan: Plan, todo: Mapping[str, Unit]) -> Iterator[Finished]:
    from backend.crosscoder.shards import Shards

    shards = Shards(plan.shards)
    settings = plan.settings(shards)
    learned = plan.learned(shards)
    facts = _facts(plan, shards, learned)
    training = plan.training(settings, learned, shards, plan.checkpoint)
    for name, first, end in plan.legs():
        done = min(end, settings.steps)
        training.until(done)
        if name in todo:
            rows = {
                "training_runs": [_run_row(plan, facts, training.trainer, done, training.run)],
                "training_metrics": _metrics(plan, training.steps, first, end),
            }
            if end == plan.wanted.n_steps:
                rows["dictionaries"] = [_trained_row(plan, facts, learned, training.trainer)]
            yield Finished(todo[name], rows, {"seed": settings.seed, "dtype": settings.dtype})
    training.forget()


def _run_row(
    plan: Plan, facts: Mapping[str, Any], trainer: "Trainer", done: int, run: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of training_runs as it is after `done` steps: the one of the last unit counts."""
    settings = trainer.settings
    return {
        "training_id": plan.training_id,
        "model_id": None,
        "kind": "crosscoder" if settings.n_models > 1 else "sae",
        "base": None,
        "started_at": datetime.fromisoformat(run["started_at"]).replace(tzinfo=None),
        "seconds": run["seconds"],
        "seed": plan.context.study.seed,
        "parameters": json.dumps({**facts, "settings": asdict(settings)}),
        "n_tokens": settings.batch * done,
        "n_weights": sum(weights.numel() for weights in trainer.parameters),
        "versions": json.dumps(versions()),
        "commit": commit(),
    }


def _metrics(plan: Plan, steps: Sequence[Sequence[float]], first: int, end: int) -> list[dict[str, Any]]:
    names = ("loss", "l0", "dead_share", "learning_rate", *(f"variance_explained_{side}" for side in _SIDES))
    batch = plan.wanted.batch
    return [
        {"training_id": plan.training_id, "metric": metric, "step": step, "tokens": batch * step, "value": value}
        for step, values in enumerate(steps[first:end], start=first + 1)
        for metric, value in zip(names, values, strict=False)  # an autoencoder has one variance
    ]


def _trained_row(plan: Plan, facts: Mapping[str, Any], learned: "Learned", trainer: "Trainer") -> dict[str, Any]:
    dictionary = weights_of(trainer, learned, facts)
    return _row(plan, dictionary, source="trained", training_id=plan.training_id, n_tokens=len(learned.rows))


def weights_of(trainer: "Trainer", learned: "Learned", facts: Mapping[str, Any]) -> "Dictionary":
    """What was trained, for raw activations, in float16."""
    import torch

    dictionary = trainer.dictionary(torch.tensor(learned.scale, dtype=torch.float32), facts).in_float16()
    return dictionary if learned.centre is None else dictionary.uncentred(torch.from_numpy(learned.centre))


def _facts(plan: Plan, shards: "Shards", learned: "Learned") -> dict[str, Any]:
    """What is kept with the weights: models, layer and what was read."""
    roles = (model.role for model in plan.context.study.pair)
    n_cots, wanted = len(plan.contents["cots"]), plan.wanted
    return {
        "models": [{**about, "role": role} for about, role in zip(shards.about["models"], roles, strict=True)],
        "layer": wanted.layer,
        "n_tokens": len(learned.rows),
        "n_cots": n_cots,
        **plan.said_of_texts(shards),
        "lines_sha256": plan.contents["texts"],
        "max_tokens": wanted.max_tokens,
        "recorded_as": _DTYPE,
        "learns_from": wanted.learns_from,
        "centred": wanted.centred,
        **learned.facts,
    }


def _read(plan: Plan, unit: Unit) -> Finished:
    """The dictionary of a file.

    Raises AnchorscopeError where it is not one of the study's models at this layer, as far as it says.
    """
    wanted, context = plan.wanted, plan.context
    found = dictionary_of_file(context.study, wanted)
    for number, model in enumerate(context.study.pair):
        known = context.store.model_facts(models.model_id(model))
        if known and known["d_model"] != (width := found.width(number)):
            raise AnchorscopeError(
                f"{wanted.dictionary} reads activations of width {width}; {model.name} has {known['d_model']}."
            )
        if known:
            models.require_layers([wanted.layer], known["n_layers"], "crosscoder.layer")
    placed = replace(found, facts={**found.facts, "layer": wanted.layer})
    row = _row(plan, placed, source=found.facts.get("layout", "anchorscope"), training_id=None, n_tokens=None)
    return Finished(unit, {"dictionaries": [row]})


def dictionary_of_file(study: Study, wanted: Crosscoder) -> "Dictionary":
    """One of the study's dictionaries as its file has it. Raises AnchorscopeError where the file says that it is of
    other models or of another layer, or cannot be read; so it is called before anything runs, too.
    """
    from backend.crosscoder.files import load

    pair = study.pair
    if wanted.dictionary is None or not wanted.dictionary.exists():
        raise AnchorscopeError(
            f"There is no dictionary at {wanted.dictionary}; crosscoder.dictionary is a file of weights, or a folder"
            " with one."
        )
    found = load(wanted.dictionary, scale=wanted.scale)
    if found.n_models != len(pair):
        names = ", ".join(model.name for model in pair)
        raise AnchorscopeError(
            f"{wanted.dictionary} is of {found.n_models} models; the study has {len(pair)}: {names}."
        )
    if (named := found.facts.get("layer")) is not None and named != wanted.layer:
        place = f" ({found.facts['place']})" if "place" in found.facts else ""
        raise AnchorscopeError(
            f"crosscoder.layer is {wanted.layer}, but the dictionary is of layer {named}{place}: {wanted.dictionary}."
            f" Set crosscoder.layer to {named}, or give a dictionary of layer {wanted.layer}."
        )
    return found


def _row(plan: Plan, dictionary: "Dictionary", **origin: Any) -> dict[str, Any]:
    """Keeps the weights, and then their row of dictionaries."""
    base, *distilled = plan.model_ids
    return {
        "dictionary_id": dictionary.dictionary_id,
        "kind": dictionary.kind,
        "base_model_id": base,
        "distilled_model_id": distilled[0] if distilled else None,
        "layer": plan.wanted.layer,
        "n_features": dictionary.n_features,
        "d_model": dictionary.d_model if dictionary.widths is None else None,
        "k": dictionary.k,
        "scale": dictionary.scale.tolist(),
        "sha256": stored.keep(dictionary, plan.context.store.path),
        "parameters": json.dumps({**dictionary.facts, **_firing(dictionary)}),
        **origin,
    }


def _firing(dictionary: "Dictionary") -> dict[str, Any]:
    """What `kinds.firing_of` reads."""
    if not dictionary.its_kind.is_signed or dictionary.threshold is None:
        return {}
    return {"fires": {"above": float(dictionary.threshold), "by_norms": dictionary.weighted}}


def _digests(path: Path) -> list[list[str]]:
    """Name and sha256 of all that may be part of a dictionary at `path`, weights and what describes them."""
    suffixes = (".safetensors", ".pt", ".pth", ".bin", ".npz", ".json")
    files = [file for file in sorted(path.iterdir()) if file.suffix in suffixes] if path.is_dir() else []
    if path.is_file():
        above = path.parent.parent / "hyperparams.json"  # of Llama Scope's weights, which lie in a folder of their own
        files = [path, *sorted(path.parent.glob("*.json")), *([above] if above.is_file() else [])]
    from backend.crosscoder.files import weights_file

    weights = weights_file(path)  # which says what a folder without one has, and asks for a choice
    if path.is_dir() and weights.parent != path:
        files = [*files, *sorted(weights.parent.glob("*.json")), weights]
    digests = []
    for file in files:
        with file.open("rb") as handle:
            digests.append([file.name, hashlib.file_digest(handle, "sha256").hexdigest()])
    return digests
