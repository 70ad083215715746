"""What a lens says of a text, for the live worker: a first picture, then the whole map in strips of layers.

1. The text is read once, at all layers; what the worker has read before is not read again.
2. The model's own logits are computed as the model does, over the whole text: they are the last row. Where they would
   fill the memory, the text is taken in windows of tokens, one after the other.
3. The first picture is the last token of each chunk, at all layers.
4. A strip is as many layers as make a large matrix product; each is a part of the result.

At the end it says what the map cost beside its floor: the time that its matrix products alone take, at the rate that
this machine reaches for a large square one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, assert_never

import torch

from backend.lens import stored
from backend.lens.cells import Cells, OwnPredictions, cells, named_cells, own_cells
from backend.lens.jacobian import NamedRows, stored_rows
from backend.lens.kinds import LENSES, LensError
from backend.lens.lens import Lens, LogitLens, Readout
from backend.live.jobs import Read, Reader, Steps
from backend.live.requests import LensCell, LensMap, LensRequest, RequestError, UnderLens
from backend.models.linear import linear, weight_and_bias
from backend.models.loaded import LoadedModel
from backend.models.residuals import chunk_activations
from backend.store.store import Store

T = TypeVar("T")
Rows = dict[int, dict[str, Any]]  # by layer, what its cells hold: arrays (n_places,) and (n_chosen, n_places)

_ROWS = 1536  # streams of a strip: enough for a product at full speed, and the head is read only a few times
_OWN_BYTES = 1 << 30  # of the model's own logits and probabilities that are there at a time
_SQUARE = 1024  # of the product that the machine's rate is measured by


def under_lens(reader: Reader, request: LensRequest) -> Steps:
    """The steps of a request of either kind."""
    match request:
        case LensMap():
            return _map(reader, request)
        case LensCell():
            return _cell(reader, request)
        case _:
            assert_never(request)


def lens_of(loaded: LoadedModel, asked: UnderLens) -> Lens | NamedRows:
    """The lens that is asked for; of a Jacobian lens that was averaged for named tokens alone, their rows.

    Raises LensError for one that is not there, or is of another model.
    """
    if asked.study is None or asked.lens_id is None:
        return LogitLens()
    return _stored(asked.study, asked.lens_id, loaded.model_id, str(loaded.model.device))


@lru_cache(maxsize=4)
def _stored(study: str, lens_id: str, model_id: str, device: str) -> Lens | NamedRows:
    store = Store(Path(study))
    try:
        found = store.lenses(model_id).set_index("lens_id")
        if lens_id not in found.index:
            raise LensError(f"{study} has no lens {lens_id} of model {model_id}.")
        if found.loc[lens_id, "is_whole"]:
            return stored.lens_of(store, lens_id, device=device)
        return stored_rows(store, lens_id)
    finally:
        store.close()


# The map


@torch.inference_mode()
def _map(reader: Reader, request: LensMap) -> Steps:
    under = _under(reader, request)
    yield "part", under.facts()
    if request.means:
        yield "part", under.means()
        return
    places = range(0 if request.with_prompt else max(0, under.read.n_prompt - 1), len(under.read.token_ids))
    windows = under.windows(places)
    yield "part", under.first()
    under.prepare()
    before = _rate(reader.loaded)
    for number, window in enumerate(windows):
        yield "part", {"windows": {number: {"first": window.start, "end": window.stop, "rows": {}}}}
        for done, rows in under.strips(window, under.own(window)):
            yield "part", {"windows": {number: {"rows": rows}}, "words": under.words(rows)}
            yield "progress", (number * reader.loaded.n_layers + done, len(windows) * reader.loaded.n_layers)
    yield "part", {"cost": under.cost(max(before, _rate(reader.loaded)))}


def _under(reader: Reader, request: LensMap) -> "_Under":
    loaded, began, was_read = reader.loaded, time.perf_counter(), reader.has_read(request.text)
    lens, followed = lens_of(loaded, request.lens), [_followed(loaded, words) for words in request.chosen]
    under = _Under(loaded, reader.read(request.text), lens, followed)
    if not was_read:
        under.flop += 2 * len(under.read.token_ids) * _n_block_weights(loaded)
    under.seconds = time.perf_counter() - began
    return under


@dataclass
class _Under:
    """A text that was read, the lens it is read by, and what that took."""

    loaded: LoadedModel
    read: Read
    lens: Lens | NamedRows
    followed: list[dict[str, Any]]  # the tokens that are followed
    seconds: float = 0.0  # of this request's own work
    flop: int = 0  # of its matrix products
    _said: set[int] = field(default_factory=set)  # tokens whose words were sent

    def __post_init__(self) -> None:
        self.readout = Readout(self.loaded)
        self.chosen = [one["id"] for one in self.followed]
        self.last = self.read.encoded.residual(self.loaded.n_layers - 1)

    def facts(self) -> dict[str, Any]:
        """What the text is to the model."""
        return {
            "token_ids": list(self.read.token_ids),
            "tokens": [_word(self.loaded, token) for token in self.read.token_ids],
            "n_prompt": self.read.n_prompt,
            "spans": dict(self.read.spans),
            "n_layers": self.loaded.n_layers,
            "n_vocabulary": self.loaded.vocab_size,
            "followed": self.followed,
            "n_named": len(self.lens.cotangents.token_ids) if isinstance(self.lens, NamedRows) else None,
        }

    def prepare(self) -> None:
        """For many products with the head: what the first picture is not kept waiting for."""
        self._timed(self.readout.pack)

    def windows(self, places: range) -> list[range]:
        """The tokens, so many at a time that the model's own predictions of them fit."""
        most = max(1, _OWN_BYTES // (2 * 4 * self.loaded.vocab_size))
        return [places[first : first + most] for first in range(0, len(places), most)]

    def own(self, places: range) -> OwnPredictions:
        """What the model says at these tokens: bit for bit, where its logits of the whole text fit."""
        return self._timed(lambda: OwnPredictions.of(self.readout, self._own_logits(places)))

    def _own_logits(self, places: range) -> torch.Tensor:
        some = slice(places.start, places.stop)
        if len(self.windows(range(len(self.last)))) == 1:
            self._count(len(self.last), is_carried=False)
            return self.readout.logits(self.last)[some]
        self._count(len(places), is_carried=False)
        return self.readout.logits(self.last[some])

    def first(self) -> dict[str, Any]:
        """The last token of each chunk at all layers."""
        ends = [end - 1 for start, end in self.read.spans.values() if end > start] or [len(self.last) - 1]
        streams = [self.read.encoded.residual(layer)[ends] for layer in range(self.loaded.n_layers)]
        rows = self._few(streams)
        return {"first": {"places": ends, "rows": rows, "seconds": self.seconds}, "words": self.words(rows)}

    def means(self) -> dict[str, Any]:
        """The mean stream of each chunk's tokens at all layers; the last row reads the mean of the last streams."""
        names = [name for name, (start, end) in self.read.spans.items() if end > start]
        spans = [self.read.spans[name] for name in names]
        if not spans:
            raise RequestError("No chunk of this text has a token, so there are no means to read.")
        of = self.read.encoded.residual
        streams = [chunk_activations(of(layer), spans).mean for layer in range(self.loaded.n_layers)]
        rows = self._few(streams)
        return {"means": {"chunks": names, "rows": rows, "seconds": self.seconds}, "words": self.words(rows)}

    def _few(self, streams: list[torch.Tensor]) -> Rows:
        """All layers of a few streams at once; the last row differs from the model's own by rounding."""
        self._count(len(streams[-1]), is_carried=False)
        own = self._timed(lambda: OwnPredictions.of(self.readout, self.readout.logits(streams[-1])))
        below = [streams[layer] for layer in self.below]
        return (self._rows(below, self.below, own) if below else {}) | self._last_row(own)

    def strips(self, places: range, own: OwnPredictions) -> Iterator[tuple[int, Rows]]:
        """The rows of the map from the last layer down, some at a time, each with how many there are by then."""
        yield 1, self._last_row(own)
        done, most = 1, max(1, _ROWS // len(places))
        for first in range(0, len(self.below), most):
            layers = self.below[::-1][first : first + most]
            streams = [self.read.encoded.residual(layer)[places.start : places.stop] for layer in layers]
            done += len(layers)
            yield done, self._rows(streams, layers, own)

    def words(self, rows: Rows) -> dict[int, str]:
        """The tokens named in these rows that have not been sent yet, by id."""
        new = {int(token) for row in rows.values() for token in row["token"]} - self._said
        self._said |= new
        return {token: _word(self.loaded, token) for token in sorted(new)}

    def cost(self, rate: float) -> dict[str, float]:
        """Seconds, beside those that the matrix products take alone at `rate` FLOP a second."""
        return {
            "seconds": self.seconds,
            "gflop": self.flop / 1e9,
            "gflop_a_second": rate / 1e9,
            "floor_seconds": self.flop / rate,
        }

    @property
    def below(self) -> list[int]:
        """The layers below the last that the lens reads."""
        return [layer for layer in range(self.loaded.n_layers - 1) if self.lens.reads(layer)]

    def _rows(self, streams: Sequence[torch.Tensor], layers: Sequence[int], own: OwnPredictions) -> Rows:
        if isinstance(self.lens, NamedRows):
            named = self.lens
            return _sent(self._timed(lambda: named_cells(named, streams, layers, self.chosen)), layers)
        lens = self.lens
        self._count(len(layers) * len(own.logits), is_carried=LENSES[lens.kind].is_fitted)
        found = self._timed(lambda: cells(self.readout, lens, streams, layers, own, self.chosen))
        return _sent(found, layers)

    def _last_row(self, own: OwnPredictions) -> Rows:
        return _sent(self._timed(lambda: own_cells(own, self.chosen)), [self.loaded.n_layers - 1])

    def _count(self, n_streams: int, *, is_carried: bool) -> None:
        d = self.loaded.d_model
        self.flop += 2 * n_streams * d * (self.loaded.vocab_size + (d if is_carried else 0))

    def _timed(self, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += time.perf_counter() - began


def _sent(found: Cells, layers: Sequence[int]) -> Rows:
    """As it travels: ids and ranks as whole numbers, the others in float64."""
    whole = {name: getattr(found, name).cpu().int().numpy() for name in ("token", "rank")}
    real = {name: getattr(found, name).cpu().double().numpy() for name in ("probability", "entropy", "kl", "log_prob")}
    every: Mapping[str, Any] = whole | real
    return {
        layer: {
            name: values[:, number] if name in ("rank", "log_prob") else values[number]
            for name, values in every.items()
        }
        for number, layer in enumerate(layers)
    }


def _followed(loaded: LoadedModel, words: str) -> dict[str, Any]:
    """The first token of these words: what was asked for, its id and word, and of how many tokens it is the first."""
    number = words.removeprefix("#")
    if words != number and number.isascii() and number.isdecimal():
        if int(number) >= loaded.vocab_size:
            raise RequestError(f"Token {words} was asked for; the model knows #0 to #{loaded.vocab_size - 1}.")
        return {"asked": words, "id": int(number), "word": _word(loaded, int(number)), "n_tokens": 1}
    tokens = loaded.tokenizer(words, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise RequestError("A token to follow was left empty. Name a word, or a token by its number, like #42.")
    return {"asked": words, "id": tokens[0], "word": _word(loaded, tokens[0]), "n_tokens": len(tokens)}


def _word(loaded: LoadedModel, token: int) -> str:
    return loaded.tokenizer.decode([token], clean_up_tokenization_spaces=False)


# One cell


@torch.inference_mode()
def _cell(reader: Reader, request: LensCell) -> Steps:
    """Its likeliest tokens as [id, word, probability, logit], and its entropy, nats."""
    loaded, read, layer = reader.loaded, reader.read(request.text), request.layer
    lens = lens_of(loaded, request.lens)
    if not (0 <= layer < loaded.n_layers and 0 <= request.start < request.end <= len(read.token_ids)):
        raise RequestError(
            f"Layer {layer}, tokens {request.start} to {request.end - 1} were asked for; there are layers 0 to"
            f" {loaded.n_layers - 1} and tokens 0 to {len(read.token_ids) - 1}."
        )
    stream = chunk_activations(read.encoded.residual(layer), [(request.start, request.end)]).mean
    if isinstance(lens, NamedRows) and layer < loaded.n_layers - 1:
        scores = lens.scores(stream, layer)[0]
        order = scores.argsort(descending=True)[: request.n].tolist()
        named = [(lens.cotangents.token_ids[at], float(scores[at])) for at in order]
        rows = [[token, _word(loaded, token), None, score] for token, score in named]
        yield "part", {"top": rows, "entropy": None}
        return
    logits = Readout(loaded).logits(stream if isinstance(lens, NamedRows) else lens.carried(stream, layer))[0]
    log_p = logits.double().log_softmax(-1)
    top = logits.topk(min(request.n, len(logits))).indices.tolist()
    rows = [[token, _word(loaded, token), float(log_p[token].exp()), float(logits[token])] for token in top]
    yield "part", {"top": rows, "entropy": float(-(log_p.exp() * log_p).sum())}


# The floor


def _rate(loaded: LoadedModel) -> float:
    """FLOP a second of a large square product here, the best of three."""
    square = torch.ones(_SQUARE, _SQUARE, device=loaded.model.device)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        linear(square, square)[0, 0].item()
        seconds.append(time.perf_counter() - began)
    return 2 * _SQUARE**3 / min(seconds)


def _n_block_weights(loaded: LoadedModel) -> int:
    """Weights of the linear layers that every token goes through before the final norm."""
    kept = loaded.model.get_output_embeddings()
    found = [part for part in loaded.model.modules() if part is not kept]
    return sum(made[0].numel() for part in found if (made := weight_and_bias(part)) is not None)
