"""Whether a study can be believed on this machine, in minutes: its models read, steered and sampled beside plain hooks.

1. The machine: device and whether it computes, memory, versions.
2. Each model's tokenizer: the rendered prompt to read, whether tokens give the text back, its first token, its tags.
3. One chunk through what the stages do with a model, each beside the same computed plainly (`plain_checks`).
4. What a second brings, and what will not fit.

It ends in a report to paste. Nothing is stored. What deviates is a fault and makes the command fail; what is worth
knowing is a note.
"""

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from backend.cot.prompts import MANNERS, Asked, asked
from backend.cot.thoughts import TAGS
from backend.errors import AnchorscopeError, words_of
from backend.models.devices import NoDevice, require_device
from backend.models.loading import find_weights, load_model
from backend.models.model_files import read_json, weight_files
from backend.schema.provenance import commit, versions
from precompute.study import Crosscoder, Model, Study

if TYPE_CHECKING:
    from backend.models.loaded import LoadedModel
    from precompute.plain_checks import Check, Chunk

QUESTION = "How many pens do 12 boxes of 7 pens hold?"
_ROUND_TRIPS = (
    "3 + 4 = 7, so x² ≤ 49.\n\nWait — 10% of $1,000?",
    "  two  spaces\tand a tab",
    "数学 is naïve: √2 ≈ 1.41 🙂",
)
_CHAT = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<｜User｜>", "[INST]")  # tokens of chat templates
_MOST_FEATURES = 8192  # of a dictionary's trial steps


@dataclass
class Report:
    """Lines in order, and why the study cannot be believed as it is."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    n_checks: int = 0

    def title(self, words: str) -> None:
        self.lines += ["", words]

    def note(self, what: str, found: str) -> None:
        self.lines.append(f"      {what}: {found}")

    def check(self, what: str, found: str, fault: str | None = None, *, of: str = "") -> None:
        self.n_checks += 1
        self.lines.append(f"  {'ok  ' if fault is None else 'XX  '}{what}: {found if fault is None else fault}")
        if fault is not None:
            self.faults.append(f"{of}{': ' if of else ''}{what}: {fault}")

    def __str__(self) -> str:
        bad = len(self.faults)
        end = (
            [f"All {self.n_checks} checks are as they should be."]
            if not bad
            else [f"{bad} of {self.n_checks} checks deviate:", *(f"  - {fault}" for fault in self.faults)]
        )
        return "\n".join([*self.lines, "", *end])


def examine(study: Study) -> Report:
    """The report of a study's models on this machine; a model that cannot be loaded is a fault, not an error."""
    started, report = time.perf_counter(), Report()
    report.lines.append(f"doctor of the study {study.name}, code {commit() or 'unknown'}")
    if not _machine(study, report):
        return report
    residuals: dict[str, Any] = {}
    for model in study.models:
        report.title(f"{model.name} ({model.role}, {model.dtype})")
        _model(study, model, report, residuals)
    if not study.models:
        report.note("models", "the study names none that writes chains of thought, so none was tried")
    for wanted in study.crosscoder:
        _dictionary(study, wanted, report, residuals)
    report.title(f"{time.perf_counter() - started:.0f} seconds")
    return report


def _machine(study: Study, report: Report) -> bool:
    """Whether the rest can be asked at all."""
    import torch

    device, memory = study.engine.device, psutil.virtual_memory()
    report.title("machine")
    report.note("processor", f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores")
    report.note("memory", f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB")
    report.note("versions", ", ".join(f"{name} {version}" for name, version in versions().items()))
    try:
        require_device(device)
    except NoDevice as error:
        report.check(f"device {device}", "", str(error))
        return False
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        report.note("device", f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(256, 512, generator=draw), torch.randn(512, 256, generator=draw)
    exact = left.double() @ right.double()
    off = float(((left.to(device) @ right.to(device)).cpu() - exact).abs().max() / exact.abs().max())
    rounded = "its products are rounded more than float32 is (TF32?): set torch's float32 matmul precision to highest"
    report.check(f"device {device}", f"computes, products within {off:.0e}", None if off < 1e-5 else rounded)
    return True


def _model(study: Study, model: Model, report: Report, residuals: dict[str, Any]) -> None:
    import torch

    from backend.models.residuals import record_residuals
    from precompute import plain_checks

    def add(check: "Check") -> None:
        report.check(check.what, check.found, check.fault, of=model.name)

    try:
        if (fault := _too_large(study, model, report)) is not None:
            report.check("weights", "", fault, of=model.name)
            return
        loaded = load_model(model.name, revision=model.revision, dtype=model.dtype, device=study.engine.device)
        report.check("weights", f"{loaded.family}, {loaded.n_layers} layers of width {loaded.d_model}")
        report.note("revision", loaded.revision)
        prompts = [_prompt(study, model, loaded, prompt, report) for prompt in study.prompts_of(model)]
        _tokenizer(model, loaded, report)
        chunk = plain_checks.chunk_of(loaded, prompts[0].text)
        layers = _layers(study, loaded)
        for check in plain_checks.checks(loaded, chunk, layers, seed=study.seed):
            add(check)
        for check in plain_checks.throughput(loaded, chunk, rows=study.engine.rows):
            report.note(check.what, check.found)
        _fits(study, loaded, chunk, report)
        for wanted in study.crosscoder:
            if 0 <= wanted.layer < loaded.n_layers:
                with torch.inference_mode():
                    found = record_residuals(loaded, chunk.token_ids, [wanted.layer])[wanted.layer]
                residuals[f"{model.name} {wanted.layer}"] = found.cpu()
    except AnchorscopeError as error:
        report.check("loading and reading", "", str(error), of=model.name)
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        # whatever a family makes of a pass is the reason why its figures cannot be believed
        report.check("a pass", "", f"{type(error).__name__}: {words_of(error)}", of=model.name)


def _prompt(study: Study, model: Model, loaded: "LoadedModel", prompt: Any, report: Report) -> Asked:
    """The rendered prompt, escaped, line by line; and how its tokens begin."""
    tokenizer = loaded.tokenizer
    made = asked(tokenizer, QUESTION, prompt)
    report.note(
        f"prompt {prompt.name}", f"{MANNERS[made.manner]}; the thought is closed by {made.closing or 'nothing'}"
    )
    report.lines += [f"        | {escaped(line)}" for line in made.text.splitlines(keepends=True)]
    ids = tokenizer(made.text, add_special_tokens=False).input_ids
    bos = tokenizer.bos_token_id
    twice = bos is not None and ids[:2] == [bos, bos]
    twofold = f"it begins with {tokenizer.bos_token!r} twice: the template writes it more than once"
    fault = twofold if twice else None
    report.check(f"first token of prompt {prompt.name}", repr(tokenizer.decode(ids[:1])), fault, of=model.name)
    first = tokenizer("").input_ids
    if bos is not None and first[:1] == [bos] and ids[:1] != [bos]:
        report.note("note", f"the tokenizer puts {tokenizer.bos_token!r} first, and this prompt is read without it")
    if made.manner == "untemplated":
        known = next((token for token in _CHAT if token in tokenizer.get_vocab()), None)
        missing = (
            f"its tokenizer has the tokens of a chat template ({known}), but there is no chat template: copy"
            " chat_template.jinja, or the tokenizer_config.json that holds it, from where the model comes from"
        )
        report.check("chat template", "none, and no tokens of one", missing if known else None, of=model.name)
    return made


def _tokenizer(model: Model, loaded: "LoadedModel", report: Report) -> None:
    tokenizer = loaded.tokenizer
    for text in _ROUND_TRIPS:
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        back = tokenizer.decode(read.input_ids, clean_up_tokenization_spaces=False)
        ends = [end for _, end in read["offset_mapping"]]
        fault = None
        if back != text:
            report.note("note", f"tokens of {text!r} read back as {back!r}")
        if not ends or max(ends) != len(text):
            fault = f"the tokens' characters end at {max(ends, default=0)} of {len(text)}: chunks would lose text"
        report.check(f"tokens of {escaped(text)}", f"{len(ends)}, over all of it", fault, of=model.name)
    tags = [tag for pair in TAGS[:3] for tag in (pair.open, pair.close)]
    sizes = {tag: len(tokenizer(tag, add_special_tokens=False).input_ids) for tag in tags}
    single = [tag for tag, size in sizes.items() if size == 1]
    report.note("tags of thoughts that are one token", ", ".join(single) or "none")


def _layers(study: Study, loaded: "LoadedModel") -> list[int]:
    """The layers that the study steers, and the first and last that it reads; those that do not exist are refused."""
    read = study.activations.layers
    wanted = {*study.sweep.layers, *(crosscoder.layer for crosscoder in study.crosscoder)}
    wanted |= set(range(loaded.n_layers)[:: max(1, loaded.n_layers - 1)]) if read == "all" else {min(read), max(read)}
    if absent := sorted(layer for layer in wanted if layer >= loaded.n_layers):
        raise AnchorscopeError(
            f"The study names layer {absent[0]}, and {loaded.name} has layers 0 to {loaded.n_layers - 1}."
        )
    return sorted(wanted)


def _free(device: str) -> float:
    import torch

    return float(torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available)


def _too_large(study: Study, model: Model, report: Report) -> str | None:
    """Said before the weights are read: a machine that runs out of memory says nothing."""
    weights = find_weights(model.name, model.revision)
    folder = (weights.base or weights).folder
    stored = sum(file.stat().st_size for file in weight_files(folder))
    config = read_json(folder, "config.json")
    each = {"float64": 8, "float32": 4}.get(str(config.get("dtype", config.get("torch_dtype"))), 2)
    bytes_ = stored / each * (8 if model.dtype == "float64" else 4)
    free = _free(study.engine.device)
    report.note("weights", f"{bytes_ / 1e9:.1f} GB as {model.dtype}, for each of {study.engine.workers} workers")
    if bytes_ > free:
        return f"{bytes_ / 1e9:.1f} GB of weights do not fit into the {free / 1e9:.1f} GB that are free"
    return None


def _fits(study: Study, loaded: "LoadedModel", chunk: "Chunk", report: Report) -> None:
    """Keys and values of a whole batch, by the model's own configuration; unknown for families without such."""
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    all_heads = getattr(config, "num_attention_heads", None)
    if heads is None or all_heads is None:
        report.note("keys and values", "unknown for this family")
        return
    width = getattr(config, "head_dim", None) or loaded.d_model // all_heads
    size = 8 if loaded.dtype == "float64" else 4
    row = 2 * loaded.n_layers * heads * width * size * study.sampling.max_new_tokens
    free, rows, cap = _free(study.engine.device), study.engine.rows, study.sampling.max_new_tokens
    words = f"{row * rows / 1e9:.2f} GB of {rows} rows of {cap:,} tokens, {free / 1e9:.1f} GB free"
    if row * rows * study.engine.workers > free:
        fitting = int(free / study.engine.workers // row)
        words += f"; with {study.engine.workers} workers about {fitting} rows fit, and that is what will be taken"
    report.note("keys and values", words)


def _dictionary(study: Study, wanted: Crosscoder, report: Report, residuals: dict[str, Any]) -> None:
    from precompute.plain_checks import training_step

    known = [residuals.get(f"{model.name} {wanted.layer}") for model in study.pair]
    found = [one for one in known if one is not None]
    report.title(f"dictionary at layer {wanted.layer}")
    if wanted.dictionary is not None:
        report.note("read from", str(wanted.dictionary))
        return
    if len(found) < len(known):
        report.note("not tried", "a model of it could not be read")
        return
    features = min(wanted.n_features, _MOST_FEATURES)
    settings: dict[str, Any] = {
        "n_features": features,
        "kind": wanted.kind,
        "k": min(wanted.k, features),
        "penalty": wanted.penalty,
    }
    settings |= {
        "learning_rate": wanted.learning_rate,
        "aux_k": wanted.aux_k,
        "seed": study.seed,
        "batch": wanted.batch,
    }
    try:
        check = training_step(found, settings, device=study.engine.device)
    except (AnchorscopeError, RuntimeError) as error:
        report.check("two steps of the dictionary", "", words_of(error))
        return
    report.check(check.what, f"{check.found} ({features:,} features)", check.fault)


def escaped(text: str) -> str:
    """`text` on one line, with what cannot be seen written out."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)
