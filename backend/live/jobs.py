"""What the worker does with a request: generators that give control back after every step.

Each yields (kind, payload): `part` (merged into the result: dicts are entered, lists grow), or `progress` (done, of),
with what is counted where it is not steps. A generator that is closed stops there; nothing it did outlives it but
encodings of texts, which anybody may use.
"""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import torch

from backend.cot.answers import Judge, cluster_answers, extract_answer, grader
from backend.cot.chunking import token_spans
from backend.cot.degeneration import compression_ratio, is_degenerate, reflection_words, repetition
from backend.cot.prompts import BOXED, cot_prompt
from backend.cot.thinking_tokens import spent
from backend.cot.thoughts import closing_tag
from backend.geometry.fits import quadratic_fit
from backend.geometry.sweep import Predictions, check_float32, noise_floor, predicting_positions
from backend.ids import seed_for
from backend.live.requests import (
    TOKENS,
    Compared,
    Continue,
    ControlledDose,
    Curve,
    Dose,
    Open,
    Posed,
    RequestError,
    Stream,
    Text,
)
from backend.models.continuation import continuation_text
from backend.models.edits import Encoded, encode
from backend.models.interventions import Intervention
from backend.models.loaded import LoadedModel
from backend.models.residuals import chunk_activations
from backend.models.sampling import PAGE, ROW_MULTIPLE, SampleRequest, SamplingParameters, prepare, sampled_in_steps
from backend.models.streaming import Arm, Drawn, stream
from backend.models.written import Written

_TEXTS_BYTES = 1 << 30  # encodings kept, all texts of a model together
_ROWS = 640  # tokens edited in one batch of a curve: large enough for full-speed matrix products
_CONTROL_ROWS = (
    160  # the same for its controls, which nobody waits for: small enough that others' tokens come in between
)
_BATCH_BYTES = 1 << 30  # keys and values of the continuations that are written at a time
_PATIENCE = 0.1  # seconds between two looks at whether the judge has finished

Steps = Generator[tuple[str, Any], None, None]
Asked = Open | Curve | Stream | Continue | Dose


@dataclass(frozen=True)
class Read:
    """A text as the model reads it."""

    token_ids: tuple[int, ...]
    n_prompt: int
    prompt: str
    text: str
    spans: dict[str, tuple[int, int]]  # chunk id -> token span [s, e)
    characters: dict[str, tuple[int, int]]
    encoded: Encoded

    def span(self, chunk_id: str | None) -> tuple[int, int]:
        """Token span of the chunk; without one, the empty span at the end of the text."""
        if chunk_id is None:
            return len(self.token_ids), len(self.token_ids)
        if chunk_id not in self.spans:
            raise RequestError(f"The text has no chunk {chunk_id}.")
        return self.spans[chunk_id]


class Reader:
    """A loaded model and the texts it has read lately, the least recently used leaving first."""

    def __init__(self, loaded: LoadedModel) -> None:
        check_float32(loaded)
        prepare(loaded)
        self.loaded = loaded
        self._texts: OrderedDict[str, Read] = OrderedDict()

    def has_read(self, text: Text) -> bool:
        """Whether its encoding is still here."""
        return text.text_id in self._texts

    def read(self, text: Text) -> Read:
        """Tokens, spans and the encoding at every layer; once for each text."""
        key = text.text_id
        if key not in self._texts:
            self._texts[key] = self._encoded(text)
            while len(self._texts) > 1 and sum(self._bytes(kept) for kept in self._texts.values()) > _TEXTS_BYTES:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]

    def _encoded(self, text: Text) -> Read:
        tokenizer = self.loaded.tokenizer
        prompt = text.prompt
        if text.question is not None:
            posed = text.question if isinstance(text.question, Posed) else Posed(text.question, BOXED)
            prompt = cot_prompt(tokenizer, posed.question, posed.prompt)
        characters = {chunk.chunk_id: (chunk.char_start, chunk.char_end) for chunk in text.chunks}
        if text.token_ids is not None:
            token_ids, n_prompt, spans = text.token_ids, *_stated(text)
        else:
            found = tokenizer(prompt + text.text, add_special_tokens=False, return_offsets_mapping=True)
            offsets = found["offset_mapping"]
            token_ids, n_prompt = tuple(found["input_ids"]), sum(start < len(prompt) for start, _ in offsets)
            found_spans = token_spans(list(characters.values()), offsets, len(prompt))
            spans = dict(zip(characters, found_spans, strict=True))
        if not token_ids:
            raise RequestError("There is nothing to read: the prompt and the text are both empty.")
        limit = getattr(self.loaded.model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and len(token_ids) > limit:
            raise RequestError(f"The text has {len(token_ids):,} tokens; {self.loaded.name} reads at most {limit:,}.")
        return Read(tuple(token_ids), n_prompt, prompt, text.text, spans, characters, encode(self.loaded, token_ids))

    def rows(self, max_new_tokens: int) -> int:
        """How many continuations to write at a time; it bounds memory and changes no result."""
        fitting = _BATCH_BYTES // (self._cached_bytes() * -(-max_new_tokens // PAGE) * PAGE)
        return max(1, min(128 // ROW_MULTIPLE, fitting // ROW_MULTIPLE)) * ROW_MULTIPLE

    def _bytes(self, read: Read) -> int:
        residuals = 4 * self.loaded.n_layers * self.loaded.model.config.get_text_config().hidden_size
        return len(read.token_ids) * (residuals + self._cached_bytes())

    def _cached_bytes(self) -> int:
        """Of the keys and values of one token."""
        config = self.loaded.model.config.get_text_config()
        queries = (
            getattr(config, "num_attention_heads", None) or 1
        )  # a family without attention keeps states of about one head's width
        heads = getattr(config, "num_key_value_heads", None) or queries
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // queries
        return 4 * self.loaded.n_layers * 2 * heads * head_dim


def _stated(text: Text) -> tuple[int, dict[str, tuple[int, int]]]:
    """Where the prompt of a text ends that comes with its tokens, and the token spans of its chunks."""
    spans = {
        chunk.chunk_id: (chunk.token_start, chunk.token_end)
        for chunk in text.chunks
        if chunk.token_start is not None and chunk.token_end is not None
    }
    if text.n_prompt_tokens is None or len(spans) < len(text.chunks):
        raise RequestError(
            "A text that comes with its tokens must say how many of them are the prompt's and where each chunk's lie."
        )
    return text.n_prompt_tokens, spans


def run(reader: Reader, request: Asked, judge: Callable[[], Judge]) -> Steps:
    """The steps of a request of any kind; `judge` gives the judge of answers when one is needed."""
    match request:
        case Open():
            return _open(reader, request)
        case Curve():
            return _curve(reader, request)
        case Stream():
            return _stream(reader, request)
        case Continue():
            return _continue(reader, request, judge)
        case ControlledDose():
            return _controlled(reader, request, judge)
        case Dose():
            return _dose(reader, request, judge)
        case _:
            assert_never(request)


# Reading a text


@torch.inference_mode()
def _open(reader: Reader, request: Open) -> Steps:
    read = reader.read(request.text)
    span = read.span(request.chunk_id)
    encoded, parts, anchor = read.encoded, read.encoded.parts, span[0] - 1
    if anchor < 0:
        raise RequestError(
            "There is no token before this chunk, so nothing predicts it; choose another chunk or give a prompt."
        )
    yield (
        "part",
        {
            "n_tokens": len(read.token_ids),
            "n_prompt": read.n_prompt,
            "prompt": read.prompt,
            "spans": dict(read.spans),
            "span": tuple(span),
            "n_layers": reader.loaded.n_layers,
            "d_model": reader.loaded.d_model,
            "model_id": reader.loaded.model_id,
            "revision": reader.loaded.revision,
            "dtype": reader.loaded.dtype,
            "anchor_token": reader.loaded.tokenizer.decode([read.token_ids[anchor]]),
        },
    )
    if request.activations:
        names = [name for name, (start, end) in read.spans.items() if end > start]
        spans = [read.spans[name] for name in names]
        vectors = {
            layer: chunk_activations(encoded.residual(layer), spans).mean.cpu().numpy() for layer in request.activations
        }
        yield "part", {"activations": {layer: dict(zip(names, rows, strict=True)) for layer, rows in vectors.items()}}
    h = torch.stack([encoded.residual(layer)[anchor] for layer in range(reader.loaded.n_layers)])
    top = parts.unembed(parts.final_norm(h)).softmax(-1).topk(5)
    probabilities, tokens = (found.cpu().tolist() for found in top)
    decode = reader.loaded.tokenizer.decode
    yield (
        "part",
        {
            "lens": {
                layer: [[decode([token]), p] for token, p in zip(tokens[layer], probabilities[layer], strict=True)]
                for layer in range(len(h))
            },
            "rms": {layer: float(value) for layer, value in enumerate(h.double().square().mean(-1).sqrt().cpu())},
        },
    )
    if request.floor and request.chunk_id is not None and span[1] > span[0]:
        floors = noise_floor(reader.loaded, read.token_ids, {request.chunk_id: span}, encoded=encoded)
        yield "part", {"noise_floor": floors[request.chunk_id]}


# KL(β)


@torch.inference_mode()
def _curve(reader: Reader, request: Curve) -> Steps:
    read = reader.read(request.text)
    span = read.span(request.chunk_id)
    predicting = predicting_positions(span)
    if not predicting:
        raise RequestError("This chunk has no tokens of its own, so there is nothing to take a KL over.")
    base = Predictions(read.encoded, predicting)
    betas = list(request.betas)
    yield (
        "part",
        {"betas": betas, "unit": request.intervention.unit, "n_tokens": len(predicting), "kl": [], "controls": []},
    )
    kl: list[float] = []
    for some in blocks(betas, len(predicting)):
        kl += mean_kl(base, read, span, [request.intervention.with_beta(beta) for beta in some])
        if len(kl) < len(betas):
            yield "progress", (len(kl), len(betas))
    fit = quadratic_fit(betas, kl)
    yield "part", {"kl": kl, "fit": {"a": fit.a, "b": fit.b, "c": fit.c, "r2": fit.r2, "steepness": fit.steepness}}
    for number, vector in enumerate(request.controls):
        control: list[float] = []
        for some in blocks(betas, len(predicting), rows=_CONTROL_ROWS):
            control += mean_kl(
                base, read, span, [request.intervention.with_vector(vector).with_beta(beta) for beta in some]
            )
            yield "progress", (number + 1, len(request.controls))
        yield "part", {"controls": [control]}


def mean_kl(base: Predictions, read: Read, span: tuple[int, int], interventions: Sequence[Intervention]) -> list[float]:
    """Mean KL(steered ‖ base), nats, over the chunk's tokens, of each intervention."""
    return (
        base.kl([intervention.edits(span, n_prompt=read.n_prompt) for intervention in interventions])
        .mean(-1)
        .cpu()
        .tolist()
    )


def blocks(betas: Sequence[float], n_tokens: int, *, rows: int = _ROWS) -> list[Sequence[float]]:
    size = max(1, rows // n_tokens)
    return [betas[i : i + size] for i in range(0, len(betas), size)]


# Continuations


@dataclass(frozen=True)
class _Arms:
    """The arms of a comparison, and the CoT's text that stands before what each writes."""

    base: Arm
    changed: Arm
    before: dict[str, str]  # arm -> text of the CoT so far, for reading the answer
    span: tuple[int, int]
    read: Read

    def under(self, intervention: Intervention) -> Arm:
        """The base text under another intervention."""
        edits = intervention.edits(self.span, n_prompt=self.read.n_prompt)
        return Arm(self.base.token_ids, edits, self.read.encoded)


def _arms(reader: Reader, compared: Compared) -> _Arms:
    read = reader.read(compared.text)
    span = read.span(compared.chunk_id)
    cut = span[0] if compared.start == "before" else span[1]
    tokens = read.token_ids[:cut]
    base = Arm(tokens, (), read.encoded)
    before = read.text
    if compared.chunk_id is not None:
        before = read.text[: read.characters[compared.chunk_id][0 if compared.start == "before" else 1]]
    if compared.intervention is not None:
        edits = compared.intervention.edits(span, n_prompt=read.n_prompt)
        return _Arms(base, Arm(tokens, edits, read.encoded), {"base": before, "changed": before}, span, read)
    assert compared.chunk_id is not None and compared.wording is not None  # `Compared` has seen to it
    start, end = read.characters[compared.chunk_id]
    if compared.wording == read.text[start:end]:
        raise RequestError("The wording is the chunk's own; nothing is changed.")
    changed, said = _reworded(reader, read, compared.chunk_id, compared.wording)
    as_written, _ = _reworded(reader, read, compared.chunk_id, read.text[start:end])
    return _Arms(as_written, changed, {"base": before, "changed": said}, span, read)


def _reworded(reader: Reader, read: Read, chunk_id: str, words: str) -> tuple[Arm, str]:
    """The text with these words in the chunk's place, as far as their end: its tokens, and the CoT so far.

    The chunk's own words are its own tokens: written again they change nothing. Every arm is read anew, so that what
    the arms differ in is their words alone.
    """
    (start, end), (first, last) = read.characters[chunk_id], read.span(chunk_id)
    so_far, kept = read.text[:start] + words, read.token_ids[:first]
    if words == read.text[start:end]:
        return Arm(read.token_ids[:last]), so_far
    written = continuation_text(reader.loaded.tokenizer, read.token_ids[: read.n_prompt], kept[read.n_prompt :])
    overlap = max(0, len(written) - start)  # a token of the chunk before may hold the first characters of this one
    said = words[overlap:] if words[:overlap] == read.text[start : start + overlap] else words
    return Arm((*kept, *reader.loaded.tokenizer(said, add_special_tokens=False)["input_ids"])), so_far


def _stream(reader: Reader, request: Stream) -> Steps:
    arms = _arms(reader, request.compared)
    tokenizer = reader.loaded.tokenizer
    pieces = {"base": _Pieces(tokenizer, arms.base.token_ids), "changed": _Pieces(tokenizer, arms.changed.token_ids)}
    began = time.monotonic()
    yield (
        "part",
        {
            "arms": {"base": {"tokens": [], "finish": None}, "changed": {"tokens": [], "finish": None}},
            "first_divergence": None,
        },
    )
    parameters = SamplingParameters(
        request.sampling.temperature, request.sampling.top_p, request.sampling.max_new_tokens
    )
    divergence, number = None, -1
    written: dict[str, list[int]] = {name: [] for name in pieces}
    for number, pair in enumerate(stream(reader.loaded, arms.base, arms.changed, parameters, seed=request.seed)):
        drawn = {"base": pair.base, "changed": pair.changed}
        part: dict[str, Any] = {"arms": {}}
        for name, token in drawn.items():
            own: dict[str, Any] = {}
            if token is not None:
                own["tokens"] = [_shown(token, pieces[name])]
                written[name].append(token.token_id)
            if name in pair.finish:
                own["finish"] = pair.finish[name]
            part["arms"][name] = own
        if divergence is None and _id(pair.base) != _id(pair.changed):
            part["first_divergence"] = divergence = number
        seconds = time.monotonic() - began
        yield "part", part | {"seconds": seconds, "tokens_per_second": (number + 1) / seconds}
    yield "part", {"arms": {name: {"spent": _spent(reader, arms, name, drawn)} for name, drawn in written.items()}}


def _spent(reader: Reader, arms: "_Arms", name: str, drawn: Sequence[int]) -> dict[str, int | str | None]:
    """Where the tokens of an arm's one continuation went."""
    prompt, before = arms.read.prompt, arms.before[name]
    prefix = (arms.base if name == "base" else arms.changed).token_ids
    written = _written(reader.loaded.tokenizer, prefix, drawn, tag=closing_tag(before, prompt))
    return spent(written, len(drawn), prompt=prompt, before=before).row()


def _id(drawn: Drawn | None) -> int | None:
    return None if drawn is None else drawn.token_id


def _shown(drawn: Drawn, pieces: "_Pieces") -> dict[str, Any]:
    top = [[pieces.alone(token), p, q] for token, p, q in drawn.top]
    return {"id": drawn.token_id, "text": pieces.next(drawn.token_id), "kl": drawn.kl, "top": top}


class _Pieces:
    """What each token adds to the text; a character that takes several tokens appears with its last one."""

    def __init__(self, tokenizer: Any, prefix: Sequence[int]) -> None:
        self._tokenizer, self._prefix, self._said = tokenizer, list(prefix[-8:]), ""
        self._new: list[int] = []

    def next(self, token: int) -> str:
        self._new.append(token)
        said = continuation_text(self._tokenizer, self._prefix, self._new)
        if said.endswith("\ufffd"):
            return ""
        piece = said[len(self._said) :]
        self._said = said
        if (
            len(self._new) > 16 and not piece.isspace()
        ):  # a window is enough: what stands before does not change the spacing any more
            self._prefix, self._new, self._said = [*self._prefix, *self._new][-8:], [], ""
        return piece

    def alone(self, token: int) -> str:
        return self._tokenizer.decode([token], clean_up_tokenization_spaces=False)


def _written(tokenizer: Any, prefix: Sequence[int], drawn: Sequence[int], *, tag: str | None) -> Callable[[int], str]:
    """The text that the first k of the drawn tokens add, the tag that closes the thought included."""
    return lambda k: continuation_text(tokenizer, prefix, drawn[:k], tag=tag)


def _continue(reader: Reader, request: Continue, judge: Callable[[], Judge]) -> Steps:
    arms = _arms(reader, request.compared)
    conditions = [
        ("base", None, arms.base, arms.before["base"]),
        ("changed", None, arms.changed, arms.before["changed"]),
    ]
    sources = {"base": [0], "changed": [1]}
    if request.controls and request.compared.intervention is not None:
        sources["random"] = list(range(2, 2 + len(request.controls)))
        conditions += [
            ("random", None, arms.under(request.compared.intervention.with_vector(vector)), arms.before["base"])
            for vector in request.controls
        ]
    for arm, words in request.rewordings:
        assert request.compared.chunk_id is not None  # `Compared` has seen to it
        sources[arm] = [len(conditions)]
        conditions.append((arm, None, *_reworded(reader, arms.read, request.compared.chunk_id, words)))
    yield from _sampled(reader, conditions, sources, request, judge)


def _dose(reader: Reader, request: Dose, judge: Callable[[], Judge]) -> Steps:
    arms = _arms(reader, request.compared)
    intervention = request.compared.intervention
    assert intervention is not None  # `Dose` has seen to it
    if request.compared.chunk_id is not None and predicting_positions(arms.span):
        base = Predictions(arms.read.encoded, predicting_positions(arms.span))
        for beta in request.betas:
            kl = mean_kl(base, arms.read, arms.span, [intervention.with_beta(beta)])
            yield "part", {"betas": [beta], "kl": kl}
    conditions = [
        ("changed", beta, arms.under(intervention.with_beta(beta)), arms.before["base"]) for beta in request.betas
    ]
    sources = {("changed", number): [number] for number in range(len(conditions))}
    yield from _sampled(reader, conditions, sources, request, judge)


def _controlled(reader: Reader, request: ControlledDose, judge: Callable[[], Judge]) -> Steps:
    """As `_dose`, then the same under each control, whose arms are called random; β = 0 is the same for all."""
    arms = _arms(reader, request.compared)
    intervention = request.compared.intervention
    assert intervention is not None  # `Dose` has seen to it
    vectors = [intervention, *(intervention.with_vector(vector) for vector in request.controls)]
    if request.compared.chunk_id is not None and (predicting := predicting_positions(arms.span)):
        base = Predictions(arms.read.encoded, predicting)
        yield "part", {"betas": list(request.betas)}
        for number, one in enumerate(vectors):
            kl = mean_kl(base, arms.read, arms.span, [one.with_beta(beta) for beta in request.betas])
            yield "part", {"controls": [kl]} if number else {"kl": kl}
            yield "progress", (number + 1, len(vectors))
    wanted = [
        (number, beta) for number in range(len(vectors)) for beta in request.betas if beta or not number
    ]  # β = 0 once
    conditions = [
        (f"{number}", beta, arms.under(vectors[number].with_beta(beta)), arms.before["base"]) for number, beta in wanted
    ]
    sources = {condition: [condition] for condition in range(len(conditions))}
    for kind, payload in _sampled(reader, conditions, sources, request, judge):
        for row in payload["samples"] if kind == "part" and "samples" in payload else ():
            number = int(row["arm"])
            row["arm"] = "random" if number else "changed"
            row["sample"] += request.n * max(0, number - 1)
        yield kind, payload


def _sampled(
    reader: Reader,
    conditions: Sequence[tuple[str, float | None, Arm, str]],
    sources: dict[Any, list[int]],
    request: Continue | Dose,
    judge: Callable[[], Judge],
) -> Steps:
    """`request.n` continuations of each arm. An arm with several conditions (random directions) takes them in turn.

    Sample k of every arm draws with the same random numbers, so that arms are compared pair by pair.
    """
    tokenizer, prompt = reader.loaded.tokenizer, reader.read(request.compared.text).prompt
    seeds = [seed_for(request.seed, "continuation", number) for number in range(request.n)]
    asked = {
        f"{condition}.{number}": (conditions[condition], number)
        for own in sources.values()
        for number in range(request.n)
        for condition in [own[number % len(own)]]
    }
    wanted = [
        SampleRequest(name, name.split(".")[0], len(condition[2].token_ids), seeds[number])
        for name, (condition, number) in asked.items()
    ]
    used = sorted({int(request_.sequence_id) for request_ in wanted})
    parameters = SamplingParameters(
        request.sampling.temperature, request.sampling.top_p, request.sampling.max_new_tokens
    )
    rows: dict[str, dict[str, Any]] = {}
    begun = time.monotonic()
    written = Written(len(wanted), parameters.max_new_tokens)
    yield "progress", (0, written.most, TOKENS)
    encodings = {str(k): encoded for k in used if (encoded := conditions[k][2].encoded) is not None}
    for finished in sampled_in_steps(
        reader.loaded,
        {str(k): conditions[k][2].token_ids for k in used},
        wanted,
        parameters,
        edits={str(k): conditions[k][2].edits for k in used},
        encoded=encodings,
        rows=reader.rows(parameters.max_new_tokens),
        drawn=written.draw,
    ):
        written.end(finished)
        for sample in finished:
            (name, beta, arm, before), number = asked[sample.request_id]
            written_by = _written(tokenizer, arm.token_ids, sample.token_ids, tag=closing_tag(before, prompt))
            text = written_by(len(sample.token_ids))
            rows[sample.request_id] = {
                "arm": name,
                "beta": beta,
                "sample": number,
                "seed": seeds[number],
                "text": text,
                "answer": extract_answer(before + text),
                "finish": sample.finish,
                "n_tokens": len(sample.token_ids),
                **spent(written_by, len(sample.token_ids), prompt=prompt, before=before).row(),
                "reflection_words": reflection_words(text),
                "repetition": repetition(text),
                "compression_ratio": compression_ratio(text),
                "degenerate": is_degenerate(text),
            }
        yield "progress", (written.tokens, written.most, TOKENS)
    ordered = [rows[name] for name in asked]
    clusters = yield from judged(ordered, request.truth, getattr(request, "answers", ()), judge)
    yield "part", {"samples": ordered, "clusters": clusters, "seconds": time.monotonic() - begun}


def judged(
    rows: list[dict[str, Any]], truth: str | None, others: Sequence[str], judge: Callable[[], Judge]
) -> Generator[tuple[str, Any], None, dict[str, str]]:
    """Adds verdict and cluster to the rows; the cluster of every answer, those of `others` among them.

    The judge is other processes: meanwhile the worker goes on with other people's requests.
    """
    found: dict[str, Any] = {}
    nobody_asks = threading.Event()

    def work() -> None:
        with _JUDGING, contextlib.suppress(_NobodyAsks):
            pool = _WhileAsked(judge(), nobody_asks)
            found["verdicts"] = pool.judge([(row["answer"], truth) for row in rows])
            found["clusters"] = cluster_answers([*[row["answer"] for row in rows], *others], pool)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_PATIENCE)
            yield "progress", (len(rows), len(rows))
    finally:
        nobody_asks.set()
    if "clusters" not in found:
        raise RequestError("The continuations were written, but the judge of answers failed. Press again.")
    for row, verdict in zip(rows, found["verdicts"], strict=True):
        row |= {
            "is_correct": verdict,
            "grader": grader() if truth is not None else None,
            "cluster": found["clusters"].get(row["answer"]) if row["answer"] is not None else None,
        }
    return found["clusters"]


class _NobodyAsks(Exception):
    """Whose answers are being judged has been cancelled."""


@dataclass(frozen=True)
class _WhileAsked:
    """A judge that goes on only while somebody waits: a pair may take it seconds, and the next request waits for it."""

    pool: Judge
    nobody_asks: threading.Event

    def judge(self, pairs: Sequence[tuple[str | None, str | None]]) -> list[bool | None]:
        return [self._one(pair) for pair in pairs]

    def _one(self, pair: tuple[str | None, str | None]) -> bool | None:
        if self.nobody_asks.is_set():
            raise _NobodyAsks
        return self.pool.judge([pair])[0]


_JUDGING = threading.Lock()
