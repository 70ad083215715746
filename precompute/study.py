"""A study is one TOML file. Everything that shapes its results is here, checked before anything runs.

A key that does not exist, or a value outside its range, is refused with the key, the value and what is allowed.
"""

import json
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from backend.cot import prompts as wordings
from backend.crosscoder.kinds import KINDS, SOME_KINDS_SETTINGS, TRAINED
from backend.crosscoder.null_kinds import NULL_KINDS
from backend.crosscoder.training_data import CONVENTIONS
from backend.errors import AnchorscopeError
from backend.feature_geometry import covariance_nulls
from backend.feature_geometry.curve_sets import SETS as CURVE_SETS
from backend.feature_geometry.row_sets import ROW_KINDS, layer_sets
from backend.feature_geometry.trained_on import NULLS
from backend.feature_geometry.word_spaces import CLEANINGS, FITTED_ON, NO_PCA
from backend.geometry.direction_kinds import DIRECTION_KINDS, swept_kinds
from backend.latent.kinds import SPACES, Unsaid
from backend.latent.known_tasks import TASKS
from backend.latent.need_kinds import AFTER
from backend.latent.need_kinds import PLACES as PLACES_OF_LATENTS
from backend.lens.positions import ALL, POSITION_KINDS, known_variant
from backend.models.devices import DEVICE
from backend.models.interventions import UNITS, swept_places
from backend.models.word_contexts import CONTEXTS, USUAL
from backend.plain import plain_line
from backend.root import ROOT


def _one_of(what: str, names: Callable[[], Iterable[str]]) -> AfterValidator:
    """A value that is among the names there are when it is read, which is when all have been registered."""

    def known(value: str) -> str:
        if value not in (allowed := tuple(names())):
            raise ValueError(f"there is no {what} {value!r}; allowed are {', '.join(allowed)}")
        return value

    return AfterValidator(known)


Position = Annotated[str, _one_of("position", swept_places)]
BetaUnit = Annotated[str, _one_of("unit of beta", lambda: UNITS)]
DictionaryKind = Annotated[str, _one_of("kind of dictionary that is trained", lambda: TRAINED)]
TrainingData = Annotated[str, _one_of("convention of training data", lambda: CONVENTIONS)]
RowSet = Annotated[str, _one_of("set of directions of a layer", layer_sets)]
LensVariant = Annotated[str, AfterValidator(known_variant)]
CurveName = Annotated[str, _one_of("set of words in order", lambda: CURVE_SETS)]
LatentTask = Annotated[str, _one_of("task of latent models", lambda: TASKS)]
LatentPlace = Annotated[str, _one_of("place of a replaced latent", lambda: PLACES_OF_LATENTS)]
LatentAfter = Annotated[str, _one_of("course after a replaced latent", lambda: AFTER)]
LatentSpace = Annotated[str, _one_of("space of latents", lambda: SPACES)]
SetOfRows = Annotated[
    str, _one_of("set of directions of a study", lambda: [one for one in ROW_KINDS if one != PUBLISHED_FILE])
]
CovarianceNull = Annotated[str, _one_of("covariance-matched null", lambda: covariance_nulls.NULLS)]
WordContext = Annotated[str, _one_of("context of words", lambda: CONTEXTS)]
WordCleaning = Annotated[str, _one_of("cleaning of words", lambda: CLEANINGS)]
PcaFit = Annotated[str, _one_of("population of principal components", lambda: FITTED_ON)]
DirectionKind = Annotated[str, _one_of("direction kind that a study sweeps", swept_kinds)]
PUBLISHED_FILE = "file"  # the set of directions that a study names file by file
# of what there may be many of: problems, chains, draws. Bounds are far beyond any study; they stop slips and infinities
MOST = 1_000_000
Positive = Annotated[int, Field(ge=1, le=MOST)]
Tokens = Annotated[int, Field(ge=1, le=10**10)]
Layer = Annotated[int, Field(ge=0, lt=1024)]
Layers = Annotated[tuple[Layer, ...], Field(min_length=1, max_length=1024)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
Argument = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=10_000)]
Arguments = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], Argument], Field(max_length=32)
]


class Prompt(_Part):
    """A way to put the problems to the models: a built-in one by its name, or one's own."""

    name: Word = Field(description="boxed, plain or steps; or a name of one's own, with text or like")
    text: str | None = Field(
        None, max_length=100_000, description="the user's turn; {question} stands for the question"
    )
    like: str | None = Field(None, description="the built-in prompt whose text it has, where something else differs")
    system: str | None = Field(None, min_length=1, max_length=100_000, description="a system turn before it")
    worked: bool | None = Field(
        None, description="two worked examples first, where the model does not think; left out: as boxed has them"
    )
    arguments: Arguments = Field(
        {}, description="of the chat template, as enable_thinking = false; they go before the model's"
    )

    @model_validator(mode="after")
    def _one_text(self) -> "Prompt":
        if self.name in wordings.BUILT_IN:
            if self.text is not None or self.like is not None:
                raise ValueError(
                    f"{self.name} is a built-in prompt and has its text; give one of your own another name"
                )
        elif self.name == wordings.PUBLISHED:
            raise ValueError(f"{self.name} is what prompts of imported CoTs are called; give yours another name")
        elif (self.text is None) == (self.like is None):
            raise ValueError(f"it needs text or like (built in are {', '.join(wordings.BUILT_IN)})")
        elif self.like is not None and self.like not in wordings.BUILT_IN:
            raise ValueError(
                f"there is no built-in prompt {self.like!r} to be like; there are {', '.join(wordings.BUILT_IN)}"
            )
        try:
            _ = self.worded
        except wordings.PromptError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def worded(self) -> wordings.Prompt:
        """The prompt itself, before any model's settings."""
        own = (
            wordings.Prompt(self.name, self.text)
            if self.text is not None
            else wordings.BUILT_IN[self.like or self.name]
        )
        worked = own.worked if self.worked is None else self.worked
        return replace(own, name=self.name, system=self.system, worked=worked, arguments=tuple(self.arguments.items()))


class Model(_Part):
    """A language model of the study."""

    name: str = Field(
        description="embedded:SmolLM2-135M-Instruct, embedded:Anchorscope-Reasoner-135M, a hub id such as"
        " deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B, or a folder with safetensors"
    )
    role: Literal["model", "base", "distilled"] = Field("model", description="its part in a comparison of two models")
    revision: str | None = Field(None, description="hub branch, tag or commit")
    reads: tuple[str, ...] = Field(
        (), description="names of imported models whose CoTs this model reads, for activations and steepness"
    )
    dtype: Literal["float32", "float64"] = Field(
        "float32", description="bfloat16 is refused: it moves the noise floor of KL to about 1e-3"
    )
    prompts: tuple[str, ...] | None = Field(
        None, min_length=1, description="names of the study's prompts it is asked under; left out: all"
    )
    rollout_cots: Positive | None = Field(
        None,
        description="of its CoTs so many get rollouts, at most, within rollouts.cots; left out: its turns of these",
    )
    arguments: Arguments = Field({}, description="of its chat template, as enable_thinking = false")
    template: str | None = Field(None, description="which of its chat templates, where it has several with names")
    thinks: bool | None = Field(
        None, description="whether it thinks before it answers, where its chat template does not show it"
    )

    def asked(self, prompt: Prompt) -> wordings.Prompt:
        """The prompt with this model's settings."""
        arguments = tuple((self.arguments | prompt.arguments).items())
        return replace(prompt.worded, arguments=arguments, template=self.template, thinks=self.thinks)


PROBLEM_FILES = ("gsm8k", "math", "file")  # keys that name a file of problems; each is the source of its problems


class Problems(_Part):
    """Where the questions come from. Exactly one source."""

    per_level: Positive | None = Field(None, description="our generator: problems at each level")
    levels: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        (1, 2, 3, 4, 5), min_length=1, max_length=5, description="of our generator, from easy to hard"
    )
    gsm8k: Path | None = Field(None, description="GSM8K's file, with question and answer")
    math: Path | None = Field(None, description="a file of MATH or MATH-500, with problem, solution and level")
    file: Path | None = Field(
        None, description="any other file or folder of problems that backend/cot/problems.py reads"
    )
    limit: Positive | None = Field(None, description="read at most so many problems of the file")
    hardest: Positive | None = Field(
        None, description="of these keep so many, by level, numbers in the question and size of the answer"
    )
    strict: bool = Field(
        False, description="refuse a file in which any record is no problem, instead of leaving it out"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Problems":
        given = [name for name in ("per_level", *PROBLEM_FILES) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of per_level, {', '.join(PROBLEM_FILES)} is needed, found {given or 'none'}")
        return self

    @property
    def read_from(self) -> tuple[str, Path] | None:
        """The source and its file or folder; None for our generator."""
        return next(((name, getattr(self, name)) for name in PROBLEM_FILES if getattr(self, name) is not None), None)


class Sampling(_Part):
    """How chains of thought and rollouts are drawn."""

    samples: Positive = Field(5, description="CoTs a problem and model")
    temperature: float = Field(0.6, gt=1e-6, le=2, description="of the softmax")
    top_p: float = Field(0.95, gt=0, le=1, description="the nucleus: the share of probability that is drawn from")
    max_new_tokens: int = Field(256, ge=16, le=32768, description="tokens after which a CoT or a rollout is cut")
    forced_max_tokens: int = Field(16, ge=4, le=256, description="tokens of a forced answer")
    dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = Field(
        None, description="of the forward passes that sample, and of nothing that is compared; left out: each model's"
    )

    @property
    def inputs(self) -> dict[str, Any]:
        """What samples depend on. A dtype that is left out is not named: units of before there was one stay valid."""
        return self.model_dump(exclude={"dtype"} if self.dtype is None else None)


class Rollouts(_Part):
    """Resampling from before each chunk."""

    n: int = Field(10, ge=2, le=100_000, description="continuations before each chunk")
    until: float | None = Field(
        None,
        ge=0,
        lt=0.7,
        description="nats: rollouts at a chunk go on in batches, n at most, while the interval of the counterfactual"
        " importance (JSD) of it or of the chunk before is wider than this, and those that write a chunk token for"
        " token count at the next one too; their cap counts from the CoT's last chunk. 0: n at every chunk. Left out: n"
        " at every chunk, and none counts elsewhere",
    )
    forced: int = Field(
        10, ge=0, le=100_000, description="forced answers before each chunk; 0 leaves forced importance unknown"
    )
    cots: Positive = Field(
        10,
        description="CoTs that get rollouts: those that ended by themselves and those of candidate problems come first,"
        " models taking turns",
    )
    min_chunks: Positive = Field(3, description="shorter CoTs get no rollouts")
    max_chunks: Positive = Field(30, description="longer CoTs get no rollouts")
    encoder: str = Field("embedded:all-MiniLM-L6-v2", description="of sentences, whose cosine says what is similar")


class Categories(_Part):
    """Who tags the chunks."""

    labeller: str = Field("classifier", description="classifier (embedded), or a chat model's name")


class Activations(_Part):
    """Where the residual stream is kept."""

    layers: Layers | Literal["all"] = Field("all", description="0-based blocks, or all")


class Map(_Part):
    """The latent map: UMAP of the chunks' activations."""

    layers: Layers | Literal["all"] = Field("all", description="must be among the activations' layers")
    n_neighbors: int = Field(15, ge=2, le=200, description="of UMAP")
    min_dist: float = Field(0.1, ge=0, lt=1, description="of UMAP")


class Sweep(_Part):
    """KL(beta) curves."""

    layers: Layers = Field(description="0-based blocks at whose output the residual stream is steered")
    kinds: tuple[DirectionKind, ...] = Field(
        ("per_chunk", "centered", "diff_in_means", "random"), min_length=1, description="kinds of direction"
    )
    random: Positive = Field(2, description="random directions for each layer, the same for all chunks")
    positions: tuple[Position, ...] = Field(
        ("anchor", "chunk"), min_length=1, description="the token before the chunk, or every token that predicts it"
    )
    unit: BetaUnit = Field("rms", description="of beta")
    reference: str = Field(
        "first",
        pattern=r"^[a-z0-9_-]{1,40}$",
        description="name of the frozen set of chunks that study-wide directions rest on; another name freezes another"
        " ([formats.md](formats.md))",
    )
    beta_max: float = Field(10.0, ge=1e-6, le=1e6, description="the curve goes from minus this to this")
    points: int = Field(21, ge=5, le=401, description="of the curve, an odd number: beta = 0 is one")
    anchor_threshold: float = Field(
        0.2, gt=0, le=1000, description="counterfactual importance (KL, fl) from which a chunk is an anchor"
    )

    @model_validator(mode="after")
    def _odd(self) -> "Sweep":
        if self.points % 2 == 0:
            raise ValueError(f"points must be odd, so that beta = 0 is one of them, found {self.points}")
        return self

    @property
    def betas(self) -> tuple[float, ...]:
        half = (self.points - 1) // 2
        return tuple(self.beta_max * step / half for step in range(-half, half + 1))


_OF_A_FILE = {
    "layer",
    "dictionary",
    "scale",
    "ablation_nrn",
    "ablation_targets",
}  # what can be said of a dictionary that is read
_OF_A_BUDGET = {"epochs", "rollouts", "corpus", "base_texts", "reasoning_share"}  # what needs a number of tokens
_OF_TEXTS = (
    "generated",
    "texts",
    "tokens",
    "reasoning_share",
    "rollouts",
    "corpus",
    "base_texts",
    "max_tokens",
)  # what chooses texts


class Crosscoder(_Part):
    """A dictionary of activations at one layer: a crosscoder of the study's base and distilled model, or an autoencoder
    of its one model.

    It learns from the study's CoTs, as each of the models wrote them, and from more texts where they are given; or it
    comes from a file.
    """

    layer: Layer = Field(description="0-based block whose output is read")
    dictionary: Path | None = Field(
        None, description="a file or folder that backend/crosscoder/files.py reads; then nothing is trained"
    )
    scale: tuple[Annotated[float, Field(ge=1e-9, le=1e9)], ...] | None = Field(
        None, max_length=64, description="of such a file, where it does not say: one a model"
    )
    generated: int = Field(
        0, ge=0, le=MOST, description="traces written by rule, in the distilled prompt, under a seed of their own"
    )
    texts: Path | None = Field(None, description="a JSONL file with text, or a file with one text a line")
    tokens: Tokens | None = Field(
        None, description="different tokens to learn from, about; left out, those of all CoTs and other texts"
    )
    reasoning_share: float = Field(
        0.6, gt=0, le=1, description="of those tokens at least so much is of the study's CoTs and rollouts"
    )
    rollouts: bool = Field(False, description="with tokens: where the CoTs are too few, what their rollouts wrote, too")
    corpus: tuple[Annotated[str, Field(min_length=1, max_length=400)], ...] = Field(
        (),
        max_length=16,
        description="with tokens: data sets of the hub (open-thoughts/OpenThoughts-114k,"
        " togethercomputer/RedPajama-Data-1T-Sample) or folders of such files, one or several, that fill the rest",
    )
    base_texts: bool = Field(
        False,
        description="with tokens: the base model's own free text fills the rest, as one more corpus; it writes from its"
        " first token alone, at temperature 1, up to 512 tokens a text",
    )
    max_tokens: int = Field(1024, ge=2, le=MOST, description="longer texts are cut")
    centred: bool = Field(
        False, description="each model's mean activation is taken away before scaling, and kept in the biases"
    )
    learns_from: TrainingData = Field(
        "whole_texts", description="; ".join(f"{one.name}: {one.words}" for one in CONVENTIONS.values())
    )
    kind: DictionaryKind = Field("batchtopk", description="; ".join(f"{name}: {KINDS[name].words}" for name in TRAINED))
    n_features: int = Field(4096, ge=2, le=4_194_304, description="rows of the dictionary")
    k: Positive = Field(32, description="batchtopk: codes a token; linear: so many count as firing")
    penalty: float = Field(
        2.0, ge=0, le=1e6, description="l1 and linear: weight of the penalty; 0 for linear alone: none"
    )
    learning_rate: float = Field(4e-4, gt=0, le=1, description="of Adam")
    steps: Positive = Field(3000, description="of training")
    epochs: float | None = Field(
        None, gt=0, le=1000, description="with tokens: passes over them, which say how many steps there are"
    )
    warmup: int = Field(100, ge=0, le=MOST, description="steps in which the learning rate rises")
    batch: Positive = Field(4096, description="tokens a step")
    dead_after: int = Field(
        200_000, ge=1, le=10**12, description="tokens without firing until a feature learns what others leave over"
    )
    aux: float = Field(1 / 32, ge=0, le=1000, description="weight of that; 0: never")
    aux_k: Positive = Field(256, description="such features that take part, at most, for each token")
    aux_relative: bool = Field(
        False,
        description="aux weighs beside a loss relative to the activations' variance, as in Gao et al. 2024: then 1/32"
        " brings silent features back; without it, it is too small to",
    )
    nulls: tuple[Annotated[str, _one_of("null of crosscoders", lambda: NULL_KINDS)], ...] = Field(
        (), max_length=8, description="; ".join(f"{one.name}: {one.words}" for one in NULL_KINDS.values())
    )
    null_seeds: int = Field(1, ge=1, le=64, description="trainings of each null pair; of the other nulls there is one")
    ablation_nrn: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.5,), max_length=100, description="features with NRN above it are zeroed; none: no ablations"
    )
    ablation_targets: Positive = Field(
        100, description="target tokens of a reasoning category whose logits are looked at"
    )

    @model_validator(mode="after")
    def _trained_or_read(self) -> "Crosscoder":
        given = self.model_fields_set
        if self.dictionary is not None and (idle := sorted(given - _OF_A_FILE)):
            raise ValueError(f"a dictionary that is read from a file is not trained: leave out {', '.join(idle)}")
        if self.scale is not None and self.dictionary is None:
            raise ValueError("scale is that of a dictionary from a file; a trained one finds its own")
        if idle := sorted(_OF_A_BUDGET & given) if self.tokens is None else []:
            raise ValueError(f"{', '.join(idle)} are of a dictionary that learns from so many tokens: say tokens")
        if self.epochs is not None and "steps" in given:
            raise ValueError("epochs says how many steps there are: leave out steps")
        if "null_seeds" in given and not self.nulls:
            raise ValueError('null_seeds says how often each of nulls is trained: say nulls = ["same", "noise"]')
        if len(set(self.nulls)) < len(self.nulls):
            raise ValueError(f"nulls names one twice: {', '.join(self.nulls)}")
        if self.centred and self.learns_from != "whole_texts":
            raise ValueError(f"centred is not of {self.learns_from}, which has its own way to normalise")
        its_own = TRAINED[self.kind]
        if idle := sorted((SOME_KINDS_SETTINGS - its_own) & given):
            raise ValueError(f"{self.kind} has no {', '.join(idle)}: leave it out")
        if "k" in its_own and self.k > self.n_features:
            raise ValueError(f"k is {self.k}, more than the {self.n_features} features")
        if self.aux_relative and "aux" not in its_own:
            raise ValueError(f"{self.kind} has no aux, which aux_relative is about: leave it out")
        if self.kind == "l1" and not self.penalty:
            raise ValueError("the penalty of l1 is above 0: without it nothing is sparse")
        return self

    @field_validator("corpus", mode="before")
    @classmethod
    def _one_corpus_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @property
    def n_steps(self) -> int:
        """Of its training."""
        if self.epochs is None or self.tokens is None:
            return self.steps
        return max(1, round(self.epochs * self.tokens / self.batch))

    @property
    def reads(self) -> tuple[Any, ...]:
        """All that the texts it learns from follow from, beyond the study: of two that are alike in it they are the
        same.
        """
        return tuple(getattr(self, name) for name in _OF_TEXTS)

    @property
    def makes(self) -> tuple[Any, ...]:
        """All that its dictionary follows from, beyond the study: two that are alike in it are one dictionary."""
        named = [name for name in type(self).model_fields if not name.startswith(("ablation_", "null"))]
        return tuple(getattr(self, name) for name in named)


class Dictionaries(_Part):
    """Small TopK autoencoders of every model at some layers, several seeds each, and trained nulls: the same one on a
    Gaussian cloud of the layer's mean and covariance, and on a randomly initialised model's activations.

    They learn from the study's CoTs with their prompts, its rollouts, and more texts where they are given.
    """

    layers: Layers | None = Field(None, description="0-based blocks whose outputs are read; left out, every third one")
    n_features: int = Field(2048, ge=2, le=1_048_576, description="rows of each")
    k: Positive = Field(32, description="codes a token")
    tokens: Positive = Field(500_000, description="that each learns from; the same ones again where fewer are read")
    distinct: Positive | None = Field(
        None, description="different ones that the models read for it, about; left out, as many as tokens"
    )
    seeds: int = Field(3, ge=1, le=64, description="trainings on the model's activations at each layer")
    nulls: tuple[Annotated[str, _one_of("null of dictionaries", lambda: NULLS)], ...] = Field(
        NULLS, max_length=8, description="trained alike, one seed at each layer: " + ", ".join(NULLS)
    )
    rollouts: bool = Field(True, description="learn from the rollouts too")
    generated: int = Field(
        0, ge=0, le=MOST, description="traces written by rule, in the distilled prompt, under a seed of their own"
    )
    texts: Path | None = Field(None, description="a JSONL file with text, or a file with one text a line")
    max_tokens: int = Field(1024, ge=2, le=MOST, description="longer texts are cut")
    held_out: Positive = Field(16_384, description="tokens of the held-out problems that they are measured on, at most")
    held_out_share: float = Field(0.1, gt=0, lt=1, description="of the problems; at least one is held out")
    batch: Positive = Field(2048, description="tokens a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of Adam; it falls to 0 over the last fifth")
    warmup: int = Field(20, ge=0, le=MOST, description="steps in which the learning rate rises")
    dead_after: int = Field(
        50_000, ge=1, le=10**12, description="tokens without firing until a feature learns what others leave over"
    )
    aux: float = Field(1 / 32, ge=0, le=1000, description="weight of that; 0: never")
    aux_k: Positive = Field(64, description="such features that take part, at most, for each token")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the factors of the dense product; weights and sums are float32"
    )
    recorded_as: Literal["float16", "float32"] = Field("float16", description="how activations are kept while learning")

    @model_validator(mode="after")
    def _enough(self) -> "Dictionaries":
        if self.k > self.n_features:
            raise ValueError(f"k is {self.k}, more than the {self.n_features} features")
        if self.batch > self.tokens:
            raise ValueError(f"batch is {self.batch:,}, more than the {self.tokens:,} tokens that are learned from")
        return self

    @property
    def read(self) -> int:
        """Different tokens to learn from."""
        return self.tokens if self.distinct is None else min(self.distinct, self.tokens)


class Geometry(_Part):
    """Exact local geometry at the chunks that the sweep steers, and the evidence that ties it to importance.

    Kinds of direction and the unit are the sweep's.
    """

    layers: Layers | None = Field(None, description="0-based blocks; left out, those of the sweep")
    positions: tuple[Position, ...] = Field(("anchor", "chunk"), min_length=1, description="as the sweep's")
    probes: int = Field(8, ge=2, le=4096, description="random probes of the trace of G")
    spectra: int = Field(
        60,
        ge=0,
        le=MOST,
        description="chunks of the reference set that also get eigenpairs of G and finite random steps",
    )
    eigen: int = Field(8, ge=1, le=1024, description="eigenpairs of G at each of those")
    neighbours: int = Field(
        30, ge=2, le=10_000, description="nearest chunk activations, for dimension, curvature and density"
    )
    before_after: int = Field(
        10,
        ge=0,
        le=MOST,
        description="CoTs of the reference set whose chunks are steered just before and just after; 0: none",
    )
    n_bootstrap: int = Field(2000, ge=0, le=MOST, description="draws of problems for each interval of the evidence")
    n_permutations: int = Field(2000, ge=0, le=MOST, description="permutations within CoTs for each p of the evidence")


class RandomSteps(_Part):
    """Finite steps along random directions at every chunk that the sweep steers: the averaged KL(ε), and anisotropy as
    published.

    The unit of the magnitudes is the sweep's.
    """

    layers: Layers | None = Field(None, description="0-based blocks; left out, those of the sweep")
    positions: tuple[Position, ...] = Field(("anchor",), min_length=1, description="as the sweep's")
    directions: int = Field(
        16, ge=2, le=4096, description="random directions, of each chunk, layer and position its own"
    )
    magnitudes: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (0.1, 0.3, 1.0, 3.0, 10.0),
        min_length=1,
        max_length=100,
        description="rising, about evenly in the logarithm; 1 is one",
    )

    @model_validator(mode="after")
    def _rising(self) -> "RandomSteps":
        if list(self.magnitudes) != sorted(set(self.magnitudes)) or 1.0 not in self.magnitudes:
            raise ValueError(
                f"magnitudes must rise, and 1 must be one of them, because the anisotropy ratio is taken there; found"
                f" {list(self.magnitudes)}"
            )
        return self


class Anchors(_Part):
    """Steering just before anchors and just after them, from what they say towards what the model says in their place
    (the rollouts that begin with another sentence).

    An anchor is a chunk whose importance is at least sweep.anchor_threshold, in a CoT of the reference set.
    """

    cots: Positive = Field(
        20,
        description="CoTs with an anchor that take part, with all their anchors and as many other chunks, each the"
        " nearest in its CoT; models and problems take turns",
    )
    layers: Layers | None = Field(None, description="0-based blocks; left out, those of the sweep")
    dissimilar: Positive = Field(
        3, description="rollouts at a chunk that begin with another sentence, at least; chunks with fewer take no part"
    )
    points: int = Field(
        5, ge=2, le=101, description="of beta, from −1 (the counterfactual activation) to 0 (nothing changes)"
    )
    random: Positive = Field(4, description="random directions of the same length beside each")
    alternatives: Annotated[int, Field(ge=0, le=1000)] = Field(
        4, description="single counterfactuals of each anchor that are steered at every place of its CoT; 0: none"
    )

    @property
    def betas(self) -> tuple[float, ...]:
        return tuple(step / (self.points - 1) - 1 for step in range(self.points))


class Causation(_Part):
    """Anchors and as many matched chunks that are none, steered: does steering an anchor change the answer more?

    What is written is sampled as rollouts are. The unit of beta and the threshold of an anchor are the sweep's.
    """

    pairs: Positive = Field(
        24,
        description="anchors of a model that are steered, at most, each with its match; the best of each CoT first",
    )
    n: int = Field(16, ge=2, le=100_000, description="continuations of each arm, from before and from after the chunk")
    kind: DirectionKind = Field("per_chunk", description="kind of direction; its control is random directions")
    layer: Layer | None = Field(None, description="0-based block; left out, the middle one of sweep.layers")
    place: Position = Field("chunk", description="where the residual stream is steered, as the sweep's positions")
    beta: float = Field(10.0, ge=-1e6, le=1e6, description="magnitude, in the sweep's unit")
    random: Positive = Field(8, description="random directions of the control, which its samples take in turn")
    model: str | None = Field(None, description="name of the one model whose chunks are steered; left out: every model")

    @field_validator("kind")
    @classmethod
    def _not_its_own_control(cls, name: str) -> str:
        if DIRECTION_KINDS[name].is_drawn:
            raise ValueError(f"{name} directions are the control; choose another kind")
        return name


class Jacobian(_Part):
    """The averaged Jacobians of each model (the Jacobian lens): of named tokens alone, or whole.

    They are averaged over the first 128 tokens of raw texts, without a chat template: what the models wrote in the
    study's CoTs, or the texts of a file.
    """

    prompts: Positive = Field(
        100, description="texts that are averaged; those with fewer than 18 tokens take no part, and no text twice"
    )
    tokens: int = Field(
        32,
        ge=1,
        le=4096,
        description="named tokens at most: what closes a thought, the target words of the reasoning categories, words,"
        " and the problems' answers, the most frequent first",
    )
    words: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        (), max_length=1000, description="more words to name; a word is known by its first token"
    )
    matrices: bool = Field(
        False,
        description="keep the whole matrices too, so that the lens gives probabilities; it takes a pass for each of"
        " d_model values instead of one for each named token",
    )
    texts: Path | None = Field(
        None, description="a JSONL file with text, or a file with one text a line, in place of the study's CoTs"
    )


class Pullback(_Part):
    """The exact metric averaged over chunks, and the pull-back cosines of directions under it.

    The unit of a step is the sweep's. Half of the problems make the one half of the metric, half of them the other.
    """

    layers: Layers = Field(description="0-based blocks")
    chunks: int = Field(
        64, ge=8, le=100_000, description="averaged for each model and layer; each is written out, which takes long"
    )
    position: Position = Field("anchor", description="as the sweep's positions")
    sets: tuple[RowSet, ...] = Field(
        ("mlp_out", "attention_out"), description="the model's own directions; those of dictionaries there come too"
    )


class Lens(_Part):
    """A tuned lens of each model, one affine map a layer, and the quality of every lens that the study has.

    It learns from the study's CoTs, each with its prompt and answer, and from more texts where they are given.
    """

    layers: Layers | Literal["all"] = Field("all", description="0-based blocks, or all; the last one needs no map")
    variants: tuple[LensVariant, ...] = Field(
        (ALL,),
        min_length=1,
        description="a lens each: of all positions, or of the kinds it names, joined by + ("
        + ", ".join(POSITION_KINDS)
        + ")",
    )
    texts: tuple[str, ...] = Field(
        (), max_length=1000, description="files or patterns of JSONL with text, or with one text a line"
    )
    max_tokens: int = Field(1024, ge=2, le=MOST, description="longer texts are cut")
    learn_from: Positive = Field(100_000, description="positions of the training problems that are drawn, at most")
    tokens: int = Field(
        100_000,
        ge=0,
        le=100 * MOST,
        description="that the descent reads, the same ones again where there are fewer; 0: the ridge fit alone",
    )
    batch: Positive = Field(256, description="tokens a step")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="of Adam; it falls to 0")
    validate_on: Positive = Field(1000, description="positions of the validation problems, at most")
    held_out: Positive = Field(5000, description="positions of the held-out problems that lenses are measured on")


class Commitment(_Part):
    """How probable each chain's own answer is after each of its chunks when it is forced, to both models and to lenses
    at their layers.

    Chains with rollouts take part, whose answers it is set beside.
    """

    layers: Layers | None = Field(
        None,
        description="0-based blocks that a lens reads; left out, those of the sweep. The model itself always reads",
    )


class Shape(_Part):
    """The shape of the whole: effective rank, participation ratio, intrinsic dimension and anisotropy of the chunks'
    activations, by layer and by category.
    """

    layers: Layers | None = Field(None, description="0-based blocks; left out, those of the activations")
    draws: int = Field(10, ge=2, le=1000, description="clouds drawn under each null")
    tokens: int = Field(
        0,
        ge=0,
        le=MOST,
        description="tokens of the CoTs, drawn at random, 20 a CoT, whose cloud is measured too; each such CoT takes a"
        " forward pass. 0: none",
    )


class Curves(_Part):
    """Circles and helices: whether words whose order is known lie on one, more than a smooth random curve would."""

    layers: Layers | Literal["all"] | None = Field(
        None, description="0-based blocks, or all; left out, those of the activations"
    )
    sets: tuple[CurveName, ...] = Field(
        ("weekdays", "months", "integers"), min_length=1, max_length=16, description="words that are read"
    )
    dimensions: int = Field(20, ge=2, le=1000, description="principal components in which all is measured, at most")
    draws: int = Field(1999, ge=19, le=100_000, description="curves drawn under each null")


class Paths(_Part):
    """The path of each CoT through its chunks' activations: progress, curvature, effective dimension, and whether those
    of correct and wrong CoTs differ at equal length.
    """

    layers: Layers | None = Field(None, description="0-based blocks; left out, those of the activations")
    draws: int = Field(200, ge=2, le=MOST, description="random orders of each CoT, and random walks of each length")
    n_permutations: int = Field(
        2000, ge=19, le=MOST, description="verdicts dealt anew, and draws of problems, for each comparison"
    )


class Parallelograms(_Part):
    """Whether word pairs, and decoder rows of the study's dictionaries, make parallelograms."""

    pairs: Path | None = Field(
        None, description="folder with a JSON file a class, each a list of input and output; left out, our own classes"
    )
    layers: Layers | None = Field(
        None, description="0-based blocks; left out, the input of the block at half depth, so n_layers / 2 − 1"
    )
    context: WordContext = Field(USUAL, description="in what a word is read: " + ", ".join(CONTEXTS))
    leading_space: bool = Field(True, description="words as they stand inside a text, after a space")
    cleanings: tuple[WordCleaning, ...] = Field(
        tuple(CLEANINGS), min_length=1, max_length=16, description="what is taken out of the words' vectors"
    )
    components: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = Field(
        (NO_PCA, 2, 5, 10, 20), min_length=1, max_length=32, description="principal components; 0: all dimensions"
    )
    fitted_on: tuple[PcaFit, ...] = Field(
        tuple(FITTED_ON), min_length=1, max_length=8, description="words that principal components are fitted on"
    )
    vocabulary: int = Field(
        2048, ge=64, le=MOST, description="words of the vocabulary that are drawn, for components and distractors"
    )
    shuffles: int = Field(400, ge=20, le=MOST, description="dealings of the outputs among the inputs, for the null")
    examples: int = Field(3, ge=0, le=1000, description="best and worst quadruples of each class that are kept")
    sides: int = Field(
        4096, ge=0, le=MOST, description="differences of decoder rows that are matched; 0: no rows are searched"
    )
    draws: Positive = Field(3, description="of each null of the search among decoder rows")
    features: int = Field(40, ge=0, le=MOST, description="quadruples of features that are kept")


class Diverge(_Part):
    """How far the residual streams of the base and the distilled model are apart, layer by layer, on the same tokens:
    the study's CoTs, as either of them wrote them.
    """

    tokens: Positive = Field(
        5000,
        description="that each model reads, prompts included, at most; problems take turns, and in them the writers."
        " What several texts begin with is read again and counted once",
    )
    max_tokens: int = Field(1024, ge=2, le=MOST, description="longer texts are cut")
    lens_tokens: Positive = Field(
        256,
        description="of these, at which the logit lenses are compared, at most, as each is a pass through the heads",
    )
    components: int = Field(
        10, ge=1, le=1024, description="the largest principal components, whose subspaces are compared"
    )


class Influence(_Part):
    """Which chunk acts on which, asked in three ways: by attention to a chunk suppressed, by attention itself, and by
    what rollouts write without it; and how far the three agree.
    """

    cots: Positive | None = Field(
        None,
        description="CoTs that are read, at most: those with rollouts first, and one of each problem before a second of"
        " any; left out, all of them",
    )
    nearest: int = Field(
        4,
        ge=1,
        le=64,
        description="what a chunk receives counts from chunks at least so many later: 4 as in Thought Anchors; CoTs of"
        " fewer than this and four chunks tell nothing of receiver heads",
    )
    layer_ranges: int = Field(
        3, ge=0, le=64, description="ranges of layers, as equal as can be, that are suppressed by themselves; 0: none"
    )
    heads: tuple[Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}$")], ...] = Field(
        (), max_length=64, description="heads that are suppressed by themselves, as LAYER.HEAD, both 0-based"
    )
    top: int = Field(16, ge=1, le=1024, description="receiver heads whose attention is kept chunk by chunk")
    n_bootstrap: int = Field(1000, ge=1, le=MOST, description="draws of problems for each interval")
    n_permutations: int = Field(1000, ge=19, le=MOST, description="deals of each null")


class NamedLatent(_Part):
    """A model that thinks in latents."""

    name: str = Field(
        description="embedded:Anchorscope-Latent/latent-0 (a sibling and the seed it was trained with), a folder, or a"
        " hub id such as bcywinski/codi_llama1b-answer_only"
    )
    revision: str | None = Field(None, description="hub branch, tag or commit")
    base: str | None = Field(
        None, description="folder or hub id of the model it was made of, where its own files hold no configuration"
    )
    remove_eos: bool | None = Field(
        None,
        description="CODI: whether no end token follows the question (nor, in layout A, precedes the answer); left out:"
        " true",
    )
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="CODI: LoRA is merged as alpha / r; left out: 32"
    )

    @property
    def unsaid(self) -> Unsaid:
        return Unsaid(self.base, self.remove_eos, self.lora_alpha)


class LatentNeeds(_Part):
    """Latents that are replaced, one at a time and all together: by zeros, by a mean, by another problem's."""

    places: tuple[LatentPlace, ...] = Field(
        ("whole", "z"),
        min_length=1,
        max_length=16,
        description="what is replaced: the whole latent with what layers keep of it, or z alone, the embedding that is"
        " fed",
    )
    after: tuple[LatentAfter, ...] = Field(
        ("recomputed",),
        min_length=1,
        max_length=16,
        description="later latents: recomputed by the model's own loop, or kept as they were",
    )


class Latent(_Part):
    """Reasoning in latent space: models that think in latents, run, read and steered on problems whose intermediate
    results are known.
    """

    models: tuple[NamedLatent, ...] = Field(min_length=1, max_length=64, description="one table a model")
    task: LatentTask = Field(description="kind of problem that all of them are asked")
    steps: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (3,), min_length=1, max_length=64, description="steps of the problems, as many problems of each"
    )
    problems: Positive = Field(500, description="that are scored")
    means_from: Positive = Field(
        500, description="other problems, that means, fitted vectors and lenses are made from; none of them is scored"
    )
    latents: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="latents that are run; left out, as many as each model was trained with"
    )
    max_tokens: int = Field(16, ge=1, le=1024, description="tokens after which an answer is cut")
    spaces: tuple[LatentSpace, ...] = Field(
        ("z", "h", "kv", "k", "v"), max_length=16, description="in which latents are steered by differences"
    )
    coefficients: tuple[Annotated[float, Field(ge=-100, le=100)], ...] = Field(
        (-1.0, -0.5, 0.5, 1.0), max_length=32, description="of a difference of two mean latents"
    )
    random: int = Field(20, ge=0, le=10_000, description="random vectors for each space and coefficient")
    published: tuple[Annotated[float, Field(ge=-100, le=100)], ...] = Field(
        (-1.0, 1.0),
        max_length=32,
        description="coefficients at which the published steering of h and kv is remade and taken apart, whose sign is"
        " the other one: give both of each size; none: it is not",
    )
    fitted: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (0.5, 1.0, 2.0),
        max_length=8,
        description="lengths up to which vectors are fitted by gradient as a positive control, in typical lengths of"
        " the differences; none: none is",
    )
    named: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        ("therefore",), max_length=100, description="words whose first token is followed through the readings"
    )
    needs: LatentNeeds = LatentNeeds()


class PublishedFile(_Part):
    """One published dictionary."""

    layer: Layer = Field(description="0-based block whose output it reads")
    path: Path = Field(description="its file or folder, below the folder of the table")


class Published(_Part):
    """Published dictionaries of one model: what was downloaded from one place into one folder.

    A plan needs none of the files; a run reads those that are there, and says of the others what to download to where.
    """

    model: str = Field(description="the model's name; it is not loaded")
    role: Literal["model", "base", "tuned"] = Field("model", description="its part in a comparison of two models")
    repository: str = Field(description="where the files are published: a hub id such as google/gemma-scope-2b-pt-res")
    folder: Path = Field(description="where they lie on this machine")
    files: tuple[PublishedFile, ...] = Field(
        min_length=1, max_length=10_000, description="list of { layer, path }, one a dictionary"
    )
    n_features: Positive | None = Field(None, description="rows of each; a file with others is refused")
    d_model: Positive | None = Field(None, description="values of a row; a file with others is refused")
    scale: tuple[Annotated[float, Field(ge=1e-9, le=1e9)], ...] | None = Field(
        None, max_length=64, description="of files that do not say theirs: one a model; no cosine depends on it"
    )


class Cosines(_Part):
    """Cosines of all pairs of directions, in the tails: of the models' own, of the study's dictionaries, of published
    ones.
    """

    kinds: tuple[SetOfRows, ...] = Field(
        ("mlp_out", "attention_out", "unembedding", "dictionary", "sae"),
        description="; ".join(f"{one.name}: {one.words}" for one in ROW_KINDS.values() if one.name != PUBLISHED_FILE),
    )
    layers: Layers | Literal["all"] = Field("all", description="0-based blocks of the models' own directions, or all")
    nulls: tuple[CovarianceNull, ...] = Field(
        ("rows", "activations"),
        max_length=16,
        description="covariance-matched draws beside each set; "
        + "; ".join(f"{one.name}: {one.words}" for one in covariance_nulls.NULLS.values()),
    )
    most_rows: int = Field(
        16_384, ge=4, le=262_144, description="a larger set is represented by so many of its rows, drawn by the seed"
    )
    pairs: int = Field(4, ge=0, le=1000, description="pairs that are kept of each bin, drawn among all of it")
    links: int = Field(
        500, ge=0, le=262_144, description="pairs that are kept to say which rows are connected, the strongest first"
    )
    published: tuple[Published, ...] = Field((), max_length=1000, description="published dictionaries")


class Engine(_Part):
    """Where units run. Nothing here changes a result."""

    workers: int = Field(2, ge=1, le=256, description="processes")
    threads: int = Field(1, ge=1, le=256, description="threads each")
    rows: int = Field(128, ge=1, le=4096, description="rollouts in one batch")
    device: str = Field("cpu", description="where models compute: cpu, cuda, cuda:1 (the second), mps")

    @field_validator("device")
    @classmethod
    def _a_device(cls, name: str) -> str:
        if DEVICE.fullmatch(name) is None:
            raise ValueError("there is no such device; allowed: cpu, cuda, cuda:0, cuda:1, …, mps")
        return name


class Study(_Part):
    """A study; every other table stands under one of these keys."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="its folder is stores/NAME")
    seed: int = Field(0, ge=0, lt=2**53, description="from which every other seed follows")
    models: tuple[Model, ...] = Field(
        (), max_length=64, description="one table a model; none in a study of [latent] or published dictionaries alone"
    )
    prompts: tuple[Prompt, ...] = Field(
        (Prompt(name=wordings.BOXED.name),), min_length=1, max_length=64, description="left out: boxed alone"
    )
    problems: Problems | None = Field(None, description="left out in a study of imported CoTs")
    sampling: Sampling = Sampling()
    rollouts: Rollouts = Rollouts()
    categories: Categories = Categories()
    activations: Activations = Activations()
    map: Map = Map()
    sweep: Sweep = Field(Sweep(layers=(0,)), description="must be given where there are models")
    geometry: Geometry | None = Field(None, description="left out in a study without exact geometry and evidence")
    random_steps: RandomSteps | None = Field(
        None, description="left out in a study without finite random steps at every chunk"
    )
    anchors: Anchors | None = Field(
        None, description="left out in a study whose anchors are not steered before and after"
    )
    crosscoder: tuple[Crosscoder, ...] = Field(
        (),
        max_length=16,
        description="one table [crosscoder], or several [[crosscoder]]; left out in a study without a dictionary of"
        " activations",
    )
    dictionaries: tuple[Dictionaries, ...] = Field(
        (), max_length=16, description="left out in a study without small autoencoders and their trained nulls"
    )
    causation: Causation | None = Field(None, description="left out in a study that steers no anchors against others")
    pullback: Pullback | None = Field(None, description="left out in a study without pull-back cosines")
    jacobian: Jacobian | None = Field(None, description="left out in a study without averaged Jacobians")
    lens: Lens | None = Field(None, description="left out in a study without a tuned lens and the quality of lenses")
    commitment: Commitment | None = Field(
        None, description="left out in a study whose models do not read how probable the answer is along a chain"
    )
    shape: Shape | None = Field(None, description="left out in a study that does not measure the shape of the whole")
    curves: Curves | None = Field(None, description="left out in a study that looks for no circles and helices")
    paths: Paths | None = Field(None, description="left out in a study that does not measure the paths of its CoTs")
    parallelograms: Parallelograms | None = Field(
        None, description="left out in a study that looks for no parallelograms"
    )
    diverge: Diverge | None = Field(
        None, description="left out in a study that does not compare a base and a distilled model layer by layer"
    )
    influence: Influence | None = Field(
        None, description="left out in a study that does not ask which chunk acts on which"
    )
    latent: Latent | None = Field(None, description="left out in a study without models that think in latents")
    cosines: Cosines | None = Field(None, description="left out in a study without cosines of directions")
    engine: Engine = Engine()

    @property
    def pair(self) -> tuple[Model, ...]:
        """The models whose activations a dictionary describes: the base and the distilled model, or the study's only
        one.
        """
        return (
            self.models
            if len(self.models) == 1
            else tuple(sorted((m for m in self.models if m.role != "model"), key=lambda m: m.role))
        )

    def prompts_of(self, model: Model) -> tuple[wordings.Prompt, ...]:
        """What the model is asked under, with its settings, in the study's order."""
        return tuple(
            model.asked(prompt) for prompt in self.prompts if model.prompts is None or prompt.name in model.prompts
        )

    @property
    def its_geometry(self) -> Geometry:
        """`geometry`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.geometry, "geometry")

    @property
    def its_random_steps(self) -> RandomSteps:
        """`random_steps`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.random_steps, "random_steps")

    @property
    def its_causation(self) -> Causation:
        """`causation`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.causation, "causation")

    @property
    def its_pullback(self) -> Pullback:
        """`pullback`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.pullback, "pullback")

    @property
    def its_jacobian(self) -> Jacobian:
        """`jacobian`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.jacobian, "jacobian")

    @property
    def its_lens(self) -> Lens:
        """`lens`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.lens, "lens")

    @property
    def its_shape(self) -> Shape:
        """`shape`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.shape, "shape")

    @property
    def its_curves(self) -> Curves:
        """`curves`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.curves, "curves")

    @property
    def its_paths(self) -> Paths:
        """`paths`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.paths, "paths")

    @property
    def its_cosines(self) -> Cosines:
        """`cosines`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.cosines, "cosines")

    @property
    def its_influence(self) -> Influence:
        """`influence`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.influence, "influence")

    @property
    def its_diverge(self) -> Diverge:
        """`diverge`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.diverge, "diverge")

    @property
    def its_latent(self) -> Latent:
        """`latent`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.latent, "latent")

    @property
    def its_parallelograms(self) -> Parallelograms:
        """`parallelograms`, for what works on it. Raises StudyError in a study that has none."""
        return _given(self.parallelograms, "parallelograms")

    @property
    def causation_layer(self) -> int:
        """Where anchors are steered against others."""
        layers = sorted(self.sweep.layers)
        own = self.its_causation.layer
        return layers[len(layers) // 2] if own is None else own

    @property
    def n_asked(self) -> int:
        """Pairs of a model and a prompt it is asked under."""
        return sum(len(self.prompts_of(model)) for model in self.models)

    @property
    def geometry_layers(self) -> tuple[int, ...]:
        """Layers of the exact geometry."""
        return self.sweep.layers if self.geometry is None or self.geometry.layers is None else self.geometry.layers

    @property
    def random_step_layers(self) -> tuple[int, ...]:
        """Layers of the finite random steps."""
        wanted = self.random_steps
        return self.sweep.layers if wanted is None or wanted.layers is None else wanted.layers

    @property
    def commitment_layers(self) -> tuple[int, ...]:
        """Layers at which a lens reads how probable the answer is."""
        wanted = self.commitment
        return self.sweep.layers if wanted is None or wanted.layers is None else wanted.layers

    @property
    def its_anchors(self) -> Anchors:
        """Raises StudyError where it has none."""
        return _given(self.anchors, "anchors")

    @property
    def anchor_layers(self) -> tuple[int, ...]:
        """Layers at which anchors are steered before and after."""
        return self.sweep.layers if self.anchors is None or self.anchors.layers is None else self.anchors.layers

    @field_validator("crosscoder", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        """A table alone is a list of one; none is an empty one."""
        return given if isinstance(given, list | tuple) else () if given is None else (given,)

    @field_validator("crosscoder")
    @classmethod
    def _each_another(cls, given: tuple[Crosscoder, ...]) -> tuple[Crosscoder, ...]:
        made = [one.makes for one in given]
        if len(set(made)) < len(made):
            raise ValueError("two of them would be the same dictionary; tell them apart by a layer or a setting")
        return given

    @model_validator(mode="after")
    def _something_to_do(self) -> "Study":
        if not self.models:
            if self.latent is None and not (self.cosines and self.cosines.published):
                raise ValueError(
                    "a study needs [[models]], or [latent] with models that think in latents, or"
                    " [[cosines.published]] with dictionaries that are published"
                )
            return self
        if "sweep" not in self.model_fields_set:
            raise ValueError("a study with models needs [sweep], which says at which layers they are steered")
        if self.problems is None and not any(model.reads for model in self.models):
            raise ValueError("a study needs [problems], or a model that reads imported CoTs (models.reads)")
        return self

    @model_validator(mode="after")
    def _prompts_by_name(self) -> "Study":
        names = [prompt.name for prompt in self.prompts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"prompts has {twice[0]} twice; a CoT knows its prompt by its name")
        for model in self.models:
            if strangers := [name for name in model.prompts or () if name not in names]:
                raise ValueError(
                    f"models.prompts of {model.name} has {strangers[0]!r}, and the study's prompts are"
                    f" {', '.join(names)}"
                )
        return self

    @model_validator(mode="after")
    def _steers_a_model_it_has(self) -> "Study":
        names = [model.name for model in self.models]
        if self.causation is not None and self.causation.model not in (None, *names):
            raise ValueError(
                f"causation.model is {self.causation.model!r}, and the study's models are {', '.join(names)}"
            )
        return self

    @model_validator(mode="after")
    def _a_pair_to_compare(self) -> "Study":
        if self.crosscoder and len(self.models) > 1 and [model.role for model in self.pair] != ["base", "distilled"]:
            found = ", ".join(model.role for model in self.models)
            raise ValueError(
                f"crosscoder needs one model of role base and one of role distilled, or one model at all; found {found}"
            )
        return self

    @model_validator(mode="after")
    def _a_pair_for_nulls(self) -> "Study":
        if any(one.nulls for one in self.crosscoder) and len(self.pair) != 2:
            raise ValueError("crosscoder.nulls are of a base and a distilled model; this study has one model")
        return self

    @model_validator(mode="after")
    def _a_pair_that_may_part(self) -> "Study":
        if self.diverge is not None and [model.role for model in self.pair] != ["base", "distilled"]:
            found = ", ".join(model.role for model in self.models)
            raise ValueError(f"diverge needs one model of role base and one of role distilled; found {found or 'none'}")
        return self

    @model_validator(mode="after")
    def _layers_agree(self) -> "Study":
        if self.activations.layers != "all":
            for part, layers in {
                "map": self.map.layers,
                "sweep": self.sweep.layers,
                "geometry": self.geometry_layers,
                "random_steps": self.random_step_layers,
                "causation": () if self.causation is None else (self.causation_layer,),
                "shape": () if self.shape is None else self.shape.layers or (),
                "paths": () if self.paths is None else self.paths.layers or (),
            }.items():
                missing = sorted(set(() if layers == "all" else layers) - set(self.activations.layers))
                if missing:
                    raise ValueError(
                        f"{part}.layers has {missing}, which activations.layers {list(self.activations.layers)} does"
                        " not have"
                    )
        return self


class StudyError(AnchorscopeError):
    """A study file that cannot be used."""


_Given = TypeVar("_Given", bound=_Part)


def _given(part: _Given | None, key: str) -> _Given:
    if part is None:
        raise StudyError(f"The study has no [{key}], and this works on one; add it to the study file.")
    return part


def stored_study(parameters: str) -> Study:
    """The study that a row of `runs` stored. It says every field, those of a crosscoder too that its kind has not,
    which stand there at their defaults. Raises ValidationError for one that is no study of this version.
    """
    data = json.loads(parameters)
    if isinstance(data, dict) and (parts := data.get("crosscoder")):
        usual = {
            name: about["default"]
            for name, about in Crosscoder.model_json_schema()["properties"].items()
            if "default" in about
        }
        data["crosscoder"] = [
            {name: value for name, value in part.items() if name not in usual or value != usual[name]}
            for part in (parts if isinstance(parts, list) else [parts])
        ]
    return Study.model_validate_json(json.dumps(data))


def study_file(path: Path) -> Path:
    """The file at `path`, or the shipped one that is called so: `studies/quick.toml` names one anywhere."""
    shipped = sorted((ROOT / "studies").glob("*.toml"))
    if path.exists():
        return path
    if path.parent == Path("studies") and (file := ROOT / path) in shipped:
        return file
    names = ", ".join(f"studies/{file.name}" for file in shipped)
    raise StudyError(f"No study file at {path}. The shipped ones are in studies/: {names}.")


def load_study(path: Path) -> Study:
    """The study in a TOML file. Raises StudyError naming the file, every wrong key, its value and what is allowed."""
    try:
        data = tomllib.loads(study_file(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StudyError(f"{path} is not TOML: {error}") from error
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        problems = [{**problem, "loc": _as_written(problem["loc"], data)} for problem in error.errors()]
        raise StudyError("\n".join([f"{path} cannot be used:", *_sentences(problems)])) from error


def _as_written(location: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    """A place of the study without the number of a table that stands alone in the file."""
    own: list[Any] = []
    for part in location:
        if isinstance(part, int) and isinstance(data, dict):
            continue
        own.append(part)
        data = data[part] if isinstance(data, list) and isinstance(part, int) else _inside(data, part)
    return tuple(own)


def _inside(data: Any, key: Any) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _sentences(problems: list[Any]) -> list[str]:
    """A line for each; of a list or table with wrong parts, the parts alone, since what is left without them says
    nothing.
    """
    locations = [problem["loc"] for problem in problems]
    return [
        f"  {_sentence(problem)}"
        for problem in problems
        if not any(
            location != problem["loc"] and location[: len(problem["loc"])] == problem["loc"] for location in locations
        )
    ]


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{key}: there is no such key; allowed here: {', '.join(_keys_beside(problem['loc']))}"
    if problem["type"] == "missing":
        return f"{key}: missing; it must be given"
    words = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # a whole table, whose keys contradict each other: the words name them
        return f"{key}: {words}"
    return f"{key} = {plain_line(repr(problem['input']), 200)}: {words}"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    """The keys of the table in which the last part of `location` stands."""
    table: Any = Study
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = table.model_fields[part].annotation
        parts = {
            "models": Model,
            "prompts": Prompt,
            "problems": Problems,
            "geometry": Geometry,
            "random_steps": RandomSteps,
            "anchors": Anchors,
            "crosscoder": Crosscoder,
            "dictionaries": Dictionaries,
            "causation": Causation,
            "pullback": Pullback,
            "jacobian": Jacobian,
            "lens": Lens,
            "commitment": Commitment,
            "shape": Shape,
            "curves": Curves,
            "paths": Paths,
            "cosines": Cosines,
            "published": Published if table is Cosines else annotation,
            "files": PublishedFile,
            "parallelograms": Parallelograms,
            "diverge": Diverge,
            "influence": Influence,
        }
        table = parts.get(part, annotation)
    return sorted(table.model_fields)
