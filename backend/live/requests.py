"""What can be asked of the live worker: plain records that travel to another process. Nothing here imports a model.

A text is prompt + CoT, cut into chunks. A request names a chunk of it and an intervention: a change of the residual
stream (`Intervention`), or another wording of the chunk. The arms it compares are `base`, the text as it is, and
`changed`.
"""

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from backend.cot.prompts import Prompt
from backend.errors import AnchorscopeError
from backend.ids import stable_id
from backend.lens.kinds import LENSES
from backend.models.interventions import Intervention
from backend.models.word_contexts import CONTEXTS, USUAL

STARTS = ("before", "after")
REWORDINGS = ("same", "paraphrase")  # arms beside a reworded one: its controls
MAX_NEW_TOKENS, MAX_CONTINUATIONS, MAX_CHARS = 2048, 256, 200_000
MAX_WORD = 60  # characters of a word
MAX_CHOSEN = 8  # tokens that a lens follows

TOKENS = "tokens"  # what some progress is counted in
_LATER = {"later": True}  # of a field that came in when runs were kept already: at its default it is no part of an id


class RequestError(AnchorscopeError):
    """A request that cannot be done as asked."""


@dataclass(frozen=True)
class Model:
    """A model by name, as `load_model` takes it."""

    name: str
    revision: str | None = None
    dtype: str = "float32"
    device: str = "cpu"  # where it computes, which shapes no result
    called: str | None = field(default=None, compare=False)  # what people read while it is loaded


@dataclass(frozen=True)
class Chunk:
    """A span of the CoT. The token span is None where the live model has yet to tokenise the text."""

    chunk_id: str
    char_start: int
    char_end: int
    token_start: int | None = None
    token_end: int | None = None


@dataclass(frozen=True)
class Posed:
    """A question under a prompt that is not the usual one."""

    question: str
    prompt: Prompt


@dataclass(frozen=True)
class Text:
    """What the model reads.

    `token_ids` are those it was sampled as, where the live model wrote it; else the worker tokenises.
    """

    prompt: str
    text: str
    chunks: tuple[Chunk, ...]
    token_ids: tuple[int, ...] | None = None
    n_prompt_tokens: int | None = None
    question: str | Posed | None = (
        None  # where given, the prompt is the model's own prompt for it, and `prompt` is ignored
    )

    def __post_init__(self) -> None:
        if len(self.prompt) + len(self.text) > MAX_CHARS:
            raise RequestError(
                f"The text has {len(self.prompt) + len(self.text):,} characters; at most {MAX_CHARS:,} can be read"
                " here."
            )

    @property
    def text_id(self) -> str:
        return stable_id(
            "t", self.prompt, self.text, self.token_ids, _plain(self.question), [asdict(chunk) for chunk in self.chunks]
        )


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.6
    top_p: float = 0.95
    max_new_tokens: int = 224

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 2 and 0 < self.top_p <= 1):
            raise RequestError(f"Temperature {self.temperature} (0 to 2) and top-p {self.top_p} (above 0, at most 1).")
        if not 1 <= self.max_new_tokens <= MAX_NEW_TOKENS:
            raise RequestError(f"{self.max_new_tokens} new tokens were asked for; 1 to {MAX_NEW_TOKENS} are possible.")


@dataclass(frozen=True)
class Open:
    """Read the text: its tokens, the logit lens before the chunk, the noise floor, and chunk activations at
    `activations` layers.
    """

    text: Text
    chunk_id: str | None
    activations: tuple[int, ...] = ()
    floor: bool = True


@dataclass(frozen=True)
class Curve:
    """KL(β) of the chunk along the intervention's vector, and along each control vector with the same norm."""

    text: Text
    chunk_id: str
    intervention: Intervention
    betas: tuple[float, ...]
    controls: tuple[Any, ...] = field(default=(), repr=False)  # unit vectors (d_model,)

    def __post_init__(self) -> None:
        if not self.betas or not all(math.isfinite(beta) for beta in self.betas):
            raise RequestError(f"Every β of a curve must be a number, got {list(self.betas)}.")


@dataclass(frozen=True)
class Compared:
    """What the arms of a continuation are. Exactly one of `intervention` and `wording` says what is changed."""

    text: Text
    chunk_id: str | None
    start: str = "after"  # continue from before or from after the chunk
    intervention: Intervention | None = None
    wording: str | None = None  # the chunk's text instead; "" deletes it. Continued from after it

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise RequestError(f"Continuations start {STARTS[0]} or {STARTS[1]} the chunk, not {self.start!r}.")
        if (self.intervention is None) == (self.wording is None):
            raise RequestError("Say what is changed: the residual stream, or the wording of the chunk, and not both.")
        if self.wording is not None and (self.chunk_id is None or self.start != "after"):
            raise RequestError("Another wording needs a chunk, and is continued from after it.")


@dataclass(frozen=True)
class Stream:
    """One continuation of each arm, token by token."""

    compared: Compared
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Continue:
    """`n` continuations of each arm, judged against `truth` where one is known; `controls` are vectors for the random
    arm.

    `answers` are those of stored rollouts that the arms will be compared with: equal answers are found among all of
    them together. `rewordings`, beside another wording, are its controls: an arm of REWORDINGS each, with its words.
    """

    compared: Compared
    sampling: Sampling
    seed: int
    n: int = 16
    truth: str | None = None
    controls: tuple[Any, ...] = field(default=(), repr=False)
    answers: tuple[str, ...] = field(default=(), repr=False)
    rewordings: tuple[tuple[str, str], ...] = field(default=(), metadata=_LATER)

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_CONTINUATIONS:
            raise RequestError(f"{self.n} continuations were asked for; 1 to {MAX_CONTINUATIONS} are possible.")
        arms = [arm for arm, _ in self.rewordings]
        if arms and (self.compared.wording is None or len(set(arms)) < len(arms) or not set(arms) <= set(REWORDINGS)):
            raise RequestError(f"Beside another wording can stand {' and '.join(REWORDINGS)}, once each; got {arms}.")


@dataclass(frozen=True)
class Dose:
    """`n` continuations at each β, and KL(β) on the chunk's own tokens."""

    compared: Compared
    sampling: Sampling
    seed: int
    betas: tuple[float, ...]
    n: int = 8
    truth: str | None = None

    def __post_init__(self) -> None:
        if not self.betas or not all(math.isfinite(beta) for beta in self.betas):
            raise RequestError(f"Every β of a dose–response must be a number, got {list(self.betas)}.")
        if not 1 <= self.n * len(self.betas) <= 4 * MAX_CONTINUATIONS:
            raise RequestError(
                f"{self.n} continuations at {len(self.betas)} β are too many; at most {4 * MAX_CONTINUATIONS} in all."
            )
        if self.compared.intervention is None:
            raise RequestError("A dose–response needs a change of the residual stream, whose size is the dose.")


@dataclass(frozen=True)
class ControlledDose(Dose):
    """A dose–response with random vectors beside it: `n` continuations at each β under each of `controls` too, with the
    same random numbers. One β is 0, which all are held against.
    """

    controls: tuple[Any, ...] = field(default=(), repr=False)  # unit vectors (d_model,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0.0 not in self.betas:
            raise RequestError("Continuations along β are held against those at β = 0, which must be one of them.")
        if (asked := self.n * len(self.betas) * (1 + len(self.controls))) > 4 * MAX_CONTINUATIONS:
            raise RequestError(f"{asked} continuations are too many; at most {4 * MAX_CONTINUATIONS} in all.")


@dataclass(frozen=True)
class Codes:
    """Codes of a dictionary at every token of prompt + text but the first.

    The model that is asked is its base model, or its only one.
    """

    study: str  # path of the study that has the dictionary's weights
    dictionary_id: str
    layer: int
    text: str
    prompt: str = ""
    beside: Model | None = None  # the distilled model, which reads the same tokens

    def __post_init__(self) -> None:
        if len(self.prompt) + len(self.text) > MAX_CHARS:
            raise RequestError(
                f"The text has {len(self.prompt) + len(self.text):,} characters; at most {MAX_CHARS:,} can be read"
                " here."
            )
        if not self.text.strip():
            raise RequestError("There is no text to read.")


@dataclass(frozen=True)
class Stored:
    """What the study knows of a rollout that new ones are pooled with."""

    chunk_id: str  # the chunk before which it starts
    text: str | None
    resampled_chunk: str | None
    similarity: float | None
    answer: str | None
    is_correct: bool | None
    finish: str | None
    sample: int | None = None  # its number at the chunk
    answer_source: str | None = None
    # Of the chain that it writes token for token, as in the table `rollouts`.
    n_kept: int | None = field(default=None, metadata=_LATER)
    departing_chunk: str | None = field(default=None, metadata=_LATER)
    departing_similarity: float | None = field(default=None, metadata=_LATER)


@dataclass(frozen=True)
class Resample:
    """More rollouts from before a chunk and before the next one, in batches, until a metric is known well enough.

    After every batch they are pooled with the stored ones. It stops when half of the metric's 95 % interval is at most
    `half_width`, or when `most` new rollouts of each chunk were written (`resample` says what that does to the
    interval). Rollout k of a chunk is drawn from the study's seed and k, and k goes on where the stored ones end: they
    are those that a study with a larger n would have. `stored` are of the two chunks, and of earlier ones those that
    reach them, where the metric counts these.
    """

    text: Text
    chunk_id: str
    metric: str
    convention: str
    half_width: float  # in the metric's unit
    sampling: Sampling
    seed: int  # the study's
    truth: str | None
    stored: tuple[Stored, ...] = field(default=(), repr=False)
    batch: int = 16  # new rollouts of each chunk between two looks
    most: int = 128
    encoder: str = "embedded:all-MiniLM-L6-v2"
    n_outcomes: int = field(default=0, metadata=_LATER)  # answers of the problem, where the metric asks

    def __post_init__(self) -> None:
        if not (math.isfinite(self.half_width) and self.half_width > 0):
            raise RequestError(f"The width to reach is a positive number, got {self.half_width}.")
        if self.batch < 1 or not 1 <= self.most <= MAX_CONTINUATIONS:
            raise RequestError(
                f"{self.most} rollouts in batches of {self.batch} were asked for; at most {MAX_CONTINUATIONS} are"
                " possible."
            )


@dataclass(frozen=True)
class UnderLens:
    """A lens by which a model's streams are read: a kind of `LENSES`, and of a fitted one which fit of which study."""

    kind: str = "logit"
    study: str | None = None
    lens_id: str | None = None

    def __post_init__(self) -> None:
        if LENSES[self.kind].is_fitted != (self.lens_id is not None):
            raise RequestError(f"{self.lens_id} names no fit of a {LENSES[self.kind].label}.")


@dataclass(frozen=True)
class Lens:
    """Which tokens a vector writes to the logits, and as strongly random ones do.

    `vector` and `controls` are unit vectors (d_model,) at the output of block `layer`, which a fitted lens carries from
    there to the last block's output, linearly.
    """

    vector: Any = field(repr=False)
    controls: tuple[Any, ...] = field(repr=False)
    n: int = 12  # tokens of either end
    lens: UnderLens = field(default=UnderLens(), metadata=_LATER)
    layer: int | None = field(default=None, metadata=_LATER)

    def __post_init__(self) -> None:
        if LENSES[self.lens.kind].is_fitted and self.layer is None:
            raise RequestError(f"A {LENSES[self.lens.kind].label} carries a vector from its layer; none was named.")


@dataclass(frozen=True)
class LensMap:
    """What the lens says at every layer: first at the last token of each chunk, then at every token; or, of `means`, of
    the mean stream of each chunk's tokens.

    Of `chosen` texts, the first token is followed: its rank and log-probability everywhere. "#ID" is a token by its id.
    """

    text: Text
    lens: UnderLens = UnderLens()
    chosen: tuple[str, ...] = ()
    means: bool = False
    with_prompt: bool = False

    def __post_init__(self) -> None:
        if len(self.chosen) > MAX_CHOSEN:
            raise RequestError(f"{len(self.chosen)} tokens were to be followed; at most {MAX_CHOSEN} are.")


@dataclass(frozen=True)
class LensCell:
    """The likeliest tokens of one cell: of the mean stream of the tokens `start` … `end` − 1 at a layer."""

    text: Text
    layer: int
    start: int
    end: int
    lens: UnderLens = UnderLens()
    n: int = 20


@dataclass(frozen=True)
class CostOfVector:
    """KL(β) along an intervention's vector and along each control, at chunks of several texts."""

    chunks: tuple[tuple[Text, str], ...]  # a text, and the id of a chunk of it
    intervention: Intervention
    betas: tuple[float, ...]
    controls: tuple[Any, ...] = field(repr=False)  # unit vectors (d_model,)

    def __post_init__(self) -> None:
        if not self.betas or not all(math.isfinite(beta) for beta in self.betas):
            raise RequestError(f"Every β of an audit must be a number, got {list(self.betas)}.")
        if not self.chunks:
            raise RequestError("An audit needs chunks to steer; there are none that this model can read.")


@dataclass(frozen=True)
class TextsUnderVector:
    """`n` chains of thought of each question: unsteered, under the intervention, and under random vectors like it."""

    questions: tuple[tuple[str, Text], ...]  # a problem's id, and its question without a chain of thought
    intervention: Intervention
    sampling: Sampling
    seed: int
    n: int
    controls: tuple[Any, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.n * len(self.questions) <= MAX_CONTINUATIONS:
            raise RequestError(
                f"{self.n} texts of {len(self.questions)} questions were asked for; 1 to {MAX_CONTINUATIONS} are"
                " possible."
            )


@dataclass(frozen=True)
class LensLocal:
    """The Jacobian lens of one cell alone: what the streams of tokens `start` … `end` − 1 at a layer do to this text's
    own last streams, read out; and how far the averaged lens `average` agrees, where one is named.
    """

    text: Text
    layer: int
    start: int
    end: int
    average: UnderLens = UnderLens()
    n: int = 20


@dataclass(frozen=True)
class Words:
    """The residual stream at words of one token each, after a space, at the output of block `layer`."""

    words: tuple[str, ...]
    layer: int
    context: str = USUAL

    def __post_init__(self) -> None:
        if not self.words or not all(word.strip() and len(word) <= MAX_WORD for word in self.words):
            raise RequestError(f"Each word must have 1 to {MAX_WORD} characters, got {list(self.words)}.")
        if self.context not in CONTEXTS:
            raise RequestError(f"There is no context {self.context!r} of words; there are {', '.join(CONTEXTS)}.")


@dataclass(frozen=True)
class Answered:
    """What follows a CoT, as the table `cots` has it."""

    answer: str
    after_text: str | None = None
    think_close: str | None = None


@dataclass(frozen=True)
class Influences:
    """What each chunk of the text does to those after it, and to the answer where one is given: attention to it
    suppressed in a part of the model, `all`, `layers A-B` or `head L.H`.
    """

    text: Text
    suppressed: str = "all"
    answered: Answered | None = None


Audit = CostOfVector | TextsUnderVector
LensRequest = LensMap | LensCell
Request = (
    Open
    | Curve
    | Stream
    | Continue
    | Dose
    | Codes
    | Resample
    | Lens
    | LensRequest
    | LensLocal
    | Audit
    | Words
    | Influences
)


def experiment_id(model_id: str, request: Request) -> str:
    """The id of what this request gives with this model: equal for equal requests, vectors included to the last bit."""
    return stable_id("x", model_id, type(request).__name__, _plain(request))


def _plain(value: Any) -> Any:
    """What JSON can hold of a request; a vector is its digest."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value, np.float32).tobytes()).hexdigest()
    if is_dataclass(value):
        shaping = [
            part.name
            for part in fields(value)
            if not (isinstance(value, Model) and part.name == "device")
            and not (part.metadata.get("later") and getattr(value, part.name) == part.default)
        ]
        return {name: _plain(getattr(value, name)) for name in shaping}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value
