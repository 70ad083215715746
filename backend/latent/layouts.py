"""Latent models as other people publish them: one state dict that holds the whole language model.

                 CODI A                        CODI B                          Coconut
    keys         codi.base_model.model.*, prj.*                                base_causallm.*, embedding.weight
    tokenizer    the base model's              its own, with <|bocot|> and     the base model's, and
                                               <|eocot|>                       three more
    embeddings   V + 3                         as many as its tokenizer has    as many as the tokenizer has
    thinking     (eos) V + 1                   (eos) <|bocot|>                 line break, <|start-latent|>
    answering    V + 2 (eos)                   <|eocot|>                       <|end-latent|>
    without      never trained                 (eos) <|eocot|>                 as it is with latents
    z            Linear, GELU, Linear, LayerNorm of h                          h
    answers      of all ids but the last       of all ids but the last         of all ids

V is the base model's vocabulary; (eos) is left out with remove_eos. The base gives its configuration and its
tokenizer alone: every weight stands in the state dict. LoRA is merged in float32 as W + (alpha / r) B A, transposed for
the layers of GPT-2, whose biases stay. Which layout a file is in is told by its keys and the tokenizer beside it; a key
too many or too few is refused by name, and only an unembedding tied to the embeddings may be missing.
Sources: Shen et al., arXiv 2502.21074, and its code (A); the models of bcywinski (B); Hao et al., arXiv 2412.06769.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.latent import state_dicts
from backend.latent.fresh import projection
from backend.latent.kinds import LatentError, Unsaid
from backend.latent.loop import LatentModel
from backend.models import families
from backend.models.loading import SMALL_FILES, find_folder, remembered_sha256, tokenizer_in
from backend.models.model_files import has_tokenizer, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CODI, COCONUT = "codi.base_model.model.", "base_causallm."
_PARALLEL = "module."  # before every key of what was saved from several devices
BOCOT, _EOCOT = "<|bocot|>", "<|eocot|>"
_COCONUT_TOKENS = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")
_ADDED = 3  # tokens that CODI A adds: padding, the start of thinking, the start of the answer
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # of older versions of transformers: no weights
REMOVE_EOS, LORA_ALPHA, N_LATENTS = True, 32.0, 6  # as published, where nobody says otherwise
_LORA = ("base_layer.weight", "lora_A.default.weight", "lora_B.default.weight")


@dataclass(frozen=True)
class _Said:
    """What is known of a model beside its files."""

    remove_eos: bool
    lora_alpha: float
    n_latents: int


@dataclass(frozen=True, eq=False)
class _Read:
    """One published model, on its way into memory."""

    name: str
    file: Path
    tensors: dict[str, torch.Tensor]  # what was not taken yet
    base: str  # its name
    base_folder: Path
    said: _Said


@dataclass(frozen=True)
class _Tokens:
    """What stands around the latents, by token ids."""

    tokenizer: Any
    n_embeddings: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    direct: tuple[int, ...] | None
    n_answer_tokens: int


def is_codi_a(folder: Path) -> bool:
    return _has_keys(folder, CODI) and not _knows_bocot(folder)


def is_codi_b(folder: Path) -> bool:
    return _has_keys(folder, CODI) and _knows_bocot(folder)


def is_coconut(folder: Path) -> bool:
    return _has_keys(folder, COCONUT)


def identity(folder: Path, unsaid: Unsaid) -> str:
    """Of the weights, of the base's configuration and tokenizer, and of what else was said of the model."""
    _, base_folder, base = _base(folder, unsaid)
    own = remembered_sha256(_file(folder))
    if base is None:
        small = sorted(file for pattern in SMALL_FILES for file in base_folder.glob(pattern))
        lines = [f"{remembered_sha256(file)}  {file.name}\n" for file in small]
        base = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    rest = json.dumps(asdict(_as_published(unsaid)), sort_keys=True)
    return f"{base}+{own}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def _as_published(unsaid: Unsaid) -> _Said:
    """What nobody said, filled in."""
    return _Said(
        REMOVE_EOS if unsaid.remove_eos is None else unsaid.remove_eos,
        LORA_ALPHA if unsaid.lora_alpha is None else unsaid.lora_alpha,
        N_LATENTS if unsaid.n_latents is None else unsaid.n_latents,
    )


def read_codi_a(folder: Path, name: str, revision: str, unsaid: Unsaid) -> LatentModel:
    return _codi(_opened(folder, name, unsaid), revision, "codi-a", _tokens_a)


def read_codi_b(folder: Path, name: str, revision: str, unsaid: Unsaid) -> LatentModel:
    return _codi(_opened(folder, name, unsaid), revision, "codi-b", _tokens_b)


def read_coconut(folder: Path, name: str, revision: str, unsaid: Unsaid) -> LatentModel:
    one = _opened(folder, name, unsaid)
    tokens = _tokens_coconut(one)
    twice = one.tensors.pop("embedding.weight", None)  # the wrapper holds the embeddings by a name of its own too
    model = _language_model(one, COCONUT, tokens.n_embeddings)
    if twice is not None and not torch.equal(twice.float(), model.get_input_embeddings().weight):
        raise LatentError(f"{one.file}: embedding.weight is not {COCONUT}'s embeddings, and nothing says which counts.")
    _refuse_left(one)
    return _latent_model(one, revision, "coconut", tokens, model, None)


def _codi(one: _Read, revision: str, layout: str, tokens_of: Any) -> LatentModel:
    tokens = tokens_of(one)
    model = _language_model(one, CODI, tokens.n_embeddings)
    made = _projection(one, int(model.config.hidden_size))
    _refuse_left(one)
    return _latent_model(one, revision, layout, tokens, model, made)


def _latent_model(
    one: _Read, revision: str, layout: str, tokens: _Tokens, model: "PreTrainedModel", made: nn.Module | None
) -> LatentModel:
    return LatentModel(
        model=model,
        tokenizer=tokens.tokenizer,
        projection=made,
        thoughts=None,
        before=tokens.before,
        after=tokens.after,
        end=int(tokens.tokenizer.eos_token_id),
        n_latents=one.said.n_latents,
        n_answer_tokens=tokens.n_answer_tokens,
        name=one.name,
        revision=revision,
        layout=layout,
        facts={"base": one.base, "remove_eos": one.said.remove_eos, "lora_alpha": one.said.lora_alpha},
        direct=tokens.direct,
    )


# ---- Tokens
# --------------------------------------------------------------------------------------------------------------------


def _tokens_a(one: _Read) -> _Tokens:
    """Ids that the tokenizer does not know stand behind the base's vocabulary."""
    tokenizer = _tokenizer(one, one.base_folder, one.base)
    size = read_json(one.base_folder, "config.json").get("vocab_size")
    if not isinstance(size, int):
        raise LatentError(f"{one.base_folder / 'config.json'} has no vocab_size, so nothing says which token thinks.")
    end = _eos(tokenizer, one.base)
    eos = () if one.said.remove_eos else (end,)
    return _Tokens(tokenizer, size + _ADDED, (*eos, size + 1), (size + 2, *eos), None, size + _ADDED - 1)


def _tokens_b(one: _Read) -> _Tokens:
    """Its tokenizer knows them all."""
    tokenizer = _tokenizer(one, one.file.parent, one.name)
    eos = () if one.said.remove_eos else (_eos(tokenizer, one.name),)
    _eos(tokenizer, one.name)
    bot, eot = (_token(tokenizer, token, one.file.parent) for token in (BOCOT, _EOCOT))
    n = len(tokenizer)
    return _Tokens(tokenizer, n, (*eos, bot), (eot,), (*eos, eot), n - 1)


def _tokens_coconut(one: _Read) -> _Tokens:
    """Its own tokenizer where it has one, else the base's with three tokens more."""
    own = has_tokenizer(one.file.parent)
    tokenizer = _tokenizer(one, one.file.parent if own else one.base_folder, one.name if own else one.base)
    tokenizer.add_tokens(list(_COCONUT_TOKENS))
    start, end, _ = (_token(tokenizer, token, one.file.parent) for token in _COCONUT_TOKENS)
    _eos(tokenizer, one.base)
    line = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return _Tokens(tokenizer, len(tokenizer), (*line, start), (end,), None, len(tokenizer))


def _tokenizer(one: _Read, folder: Path, whose: str) -> Any:
    try:
        return tokenizer_in(whose, folder)
    except AnchorscopeError as error:
        raise LatentError(f"{one.name} needs a tokenizer: {error}") from error


def _eos(tokenizer: Any, whose: str) -> int:
    if tokenizer.eos_token_id is None:
        raise LatentError(f"The tokenizer of {whose} has no end token, so no answer would end. Set eos_token in it.")
    return int(tokenizer.eos_token_id)


def _token(tokenizer: Any, token: str, folder: Path) -> int:
    if (found := tokenizer.get_vocab().get(token)) is None:
        raise LatentError(f"{folder}: the tokenizer has no {token}. Is it another model's?")
    return int(found)


# ---- Files
# --------------------------------------------------------------------------------------------------------------------


def _has_keys(folder: Path, prefix: str) -> bool:
    file = state_dicts.weights_file(folder)
    return file is not None and any(key.removeprefix(_PARALLEL).startswith(prefix) for key in state_dicts.keys(file))


def _knows_bocot(folder: Path) -> bool:
    if not has_tokenizer(folder):
        return False
    return BOCOT in tokenizer_in(str(folder), folder).get_vocab()


def _file(folder: Path) -> Path:
    if (file := state_dicts.weights_file(folder)) is None:
        raise LatentError(f"{folder} has no {' or '.join(state_dicts.FILES)}. Is the download complete?")
    return file


def _base(folder: Path, unsaid: Unsaid) -> tuple[str, Path, str | None]:
    """Name, folder and commit (None: a folder) of what says how the model is built."""
    if unsaid.base is None:
        if not (folder / "config.json").is_file():
            raise LatentError(
                f"{folder} does not say which language model it was made of: name that (base), a folder or hub id such"
                " as gpt2 or meta-llama/Llama-3.2-1B-Instruct."
            )
        return str(folder), folder, None
    try:
        found, commit = find_folder(unsaid.base, None, files=SMALL_FILES)
    except AnchorscopeError as error:
        raise LatentError(f"The base model of {folder} cannot be used: {error}") from error
    return unsaid.base, found, commit


def _opened(folder: Path, name: str, unsaid: Unsaid) -> _Read:
    base, base_folder, _ = _base(folder, unsaid)
    file = _file(folder)
    tensors = {key.removeprefix(_PARALLEL): tensor for key, tensor in state_dicts.read(file).items()}
    return _Read(name, file, tensors, base, base_folder, _as_published(unsaid))


# ---- Weights
# --------------------------------------------------------------------------------------------------------------------


def _language_model(one: _Read, prefix: str, n_embeddings: int) -> "PreTrainedModel":
    """The language model in float32, LoRA merged; its tensors are taken out of `one`."""
    model = _empty(one, n_embeddings)
    for key in [key for key in one.tensors if key.startswith(prefix) and key.endswith(_BUFFERS)]:
        del one.tensors[key]
    expected = model.state_dict()
    (embedding,) = (f"{n}.weight" for n, part in model.named_modules() if part is model.get_input_embeddings())
    _check_embeddings(one, prefix + embedding, n_embeddings, tuple(expected[embedding].shape))
    turned = {f"{n}.weight" for n, part in model.named_modules() if type(part).__name__ == "Conv1D"}
    tied = "lm_head.weight" if model.config.tie_word_embeddings else None
    weights = {
        key: _weight(one, prefix, key, tuple(value.shape), is_turned=key in turned)
        for key, value in expected.items()
        if key != tied
    }
    unembedding = None if tied is None else one.tensors.pop(prefix + tied, None)
    if unembedding is not None and not torch.equal(unembedding.float(), weights[embedding]):
        raise LatentError(
            f"{one.file}: {prefix}{tied} is not {prefix}{embedding}, to which the configuration of {one.base} ties it,"
            " and nothing says which counts."
        )
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def _empty(one: _Read, n_embeddings: int) -> Any:
    """The architecture, its weights not set."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    try:
        families.check_config(one.base, read_json(one.base_folder, "config.json"))
        config = AutoConfig.from_pretrained(one.base_folder, local_files_only=True, trust_remote_code=False)
        config.vocab_size = n_embeddings
        with no_init_weights():
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except AnchorscopeError as error:
        raise LatentError(f"The base model of {one.name} cannot be used: {error}") from error


def _check_embeddings(one: _Read, key: str, n_embeddings: int, shape: tuple[int, ...]) -> None:
    if key in one.tensors and (found := tuple(one.tensors[key].shape)) != shape:
        raise LatentError(
            f"{one.file}: {key} has shape {found}, and {shape} was expected: {n_embeddings:,} tokens, with those that"
            f" the layout adds, of the width of {one.base}. Is that its base model?"
        )


def _weight(one: _Read, prefix: str, key: str, shape: tuple[int, ...], *, is_turned: bool) -> torch.Tensor:
    """One weight in float32, taken out of the file's; with LoRA, merged."""
    part, _, what = key.rpartition(".")
    wrapped, down_key, up_key = (f"{prefix}{part}.{name}" for name in _LORA)
    if f"{prefix}{part}.base_layer.{what}" in one.tensors and what != "weight":
        return _taken(one, f"{prefix}{part}.base_layer.{what}", shape)  # a bias, which stays
    if wrapped not in one.tensors:
        return _taken(one, prefix + key, shape)
    weight = _taken(one, wrapped, shape)
    n_out, n_in = reversed(shape) if is_turned else shape
    rank = one.tensors[down_key].shape[0] if down_key in one.tensors and one.tensors[down_key].dim() == 2 else 0
    down, up = _taken(one, down_key, (rank, n_in)), _taken(one, up_key, (n_out, rank))
    change = (one.said.lora_alpha / rank) * (up @ down)
    return weight + (change.T if is_turned else change)


def _taken(one: _Read, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of the file, in float32. Raises LatentError, which names it, where it is not there or not so."""
    if (found := one.tensors.pop(key, None)) is None:
        raise LatentError(
            f"{one.file} lacks {key}. All weights of a model like {one.base} were expected; only an unembedding that is"
            " tied to the embeddings may be missing."
        )
    if tuple(found.shape) != shape or not found.is_floating_point():
        raise LatentError(
            f"{one.file}: {key} has shape {tuple(found.shape)} ({str(found.dtype).removeprefix('torch.')}), and"
            f" {shape} was expected for a model like {one.base}."
        )
    if not bool(torch.isfinite(found).all()):
        raise LatentError(f"{one.file}: {key} has values that are NaN or infinite. The checkpoint is damaged.")
    return found.float()


def _projection(one: _Read, d_model: int) -> nn.Module:
    """From h to z. Its parts are counted as in the file: 1 and 3 are the linear maps, ln the norm."""
    first = one.tensors.get("prj.1.weight")
    width = int(first.shape[0]) if first is not None and first.dim() == 2 else 0
    shapes: Mapping[str, tuple[int, ...]] = {
        "1.weight": (width, d_model),
        "1.bias": (width,),
        "3.weight": (d_model, width),
        "3.bias": (d_model,),
        "ln.weight": (d_model,),
        "ln.bias": (d_model,),
    }
    places = {"1": "0", "3": "2", "ln": "3"}
    weights = {}
    for key, shape in shapes.items():
        part, _, what = key.partition(".")
        weights[f"{places[part]}.{what}"] = _taken(one, f"prj.{key}", shape)
    made = projection(d_model, width)
    made.load_state_dict(weights, assign=True)
    return made.eval().requires_grad_(False)


def _refuse_left(one: _Read) -> None:
    if left := sorted(one.tensors):
        raise LatentError(
            f"{one.file} has {left[0]} ({len(left)} such), for which this layout has no place, so that another model"
            f" would be run than the one that was trained. Is {one.base} its base model?"
        )
