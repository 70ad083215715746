"""Dictionaries from files and to files: our own form, and the layouts that others publish (docs/dictionaries.md has
each in full).

| layout | weights | beside it |
|---|---|---|
| our own | dictionary.safetensors | dictionary.json with the weights' sha256 |
| crosscoder_learning, dictionary_learning | model.safetensors, or a state dict (ae.pt) | config.json,
trainer_config.json, latent_df.csv |
| crosscoder-model-diff-replication (Kissane et al.) | cc_weights.pt, or 3.pt | cfg.json, or 3_cfg.json |
| SAELens, version 6 and before | sae_weights.safetensors | cfg.json |
| sparsify (EleutherAI) | sae.safetensors | cfg.json; the folder bears the hook point's name |
| Gemma Scope 1 and 2 | params.npz, params.safetensors | config.json of the second; the folders bear layer and site |
| Llama Scope | checkpoints/final.safetensors | hyperparams.json, in the folder above |

Names, keys and shapes in the folder say which layout it is. What would change the codes and has no place in a
Dictionary (another architecture, a normalisation of each token, an unknown tensor) is refused, naming file and key:
nothing is guessed. So is a dictionary of anything but the residual stream at the output of a block: what the files say
of their hook point (`backend.models.hook_points`) becomes facts["layer"]. Such files are not to be trusted: nothing in
them is run (PyTorch with weights_only, NumPy without pickle), and shapes are checked before values are read.

Layouts whose encoder or decoder has other units are rewritten exactly, in float64 and rounded once:
- activations less a mean μ, times g:  encoder_bias − g·Σ_m μ_m·encoder_m, decoder_bias + g·μ, scale g;
- codes counted in decoder norms:      encoder, bias and threshold times ‖decoder_k‖, decoder rows over it.
"""

import hashlib
import json
import math
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from backend.crosscoder import latent_df
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.kinds import DictionaryError
from backend.errors import stands_for_another, words_of
from backend.models.hook_points import HookPointError, hook_point_of_folder, hook_point_stated, name_of, together
from backend.models.pickles import refused_object

WEIGHTS, DESCRIPTION = "dictionary.safetensors", "dictionary.json"
_VERSION, _UNEQUAL_VERSION = 1, 2  # of our own form; the second has `widths`, and programs that know none refuse it
MAX_BYTES = 16 * 2**30  # of all tensors as float32
_MAX_JSON = 16 * 2**20
_AT_ONCE = 2**20  # values of a tensor that are looked at
_OURS = "anchorscope"  # our entry in trainer_config.json, which that layout's own code does not read
_NAMES = (
    WEIGHTS,
    "sae_weights.safetensors",
    "sae.safetensors",
    "params.npz",
    "params.safetensors",
    "model.safetensors",
    "ae.pt",
    "pytorch_model.bin",
    "checkpoints/final.safetensors",
)
_WRAPPERS = (
    "_orig_mod",
    "module",
)  # torch.compile and DataParallel put them into every key, one or both, at the front or deeper
_ENCODERS = frozenset({"encoder", "encoder.weight", "W_enc", "w_enc"})  # its key, in all layouts
_TENSORS = ("encoder", "encoder_bias", "decoder", "decoder_bias", "scale", "threshold")
_DAMAGE = (  # what damaged bytes raise in torch.load and NumPy, which interpret them before they check them
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OSError,
    OverflowError,
    MemoryError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
)
_CODE_NORMALIZATIONS = {1: "CROSSCODER", 2: "SAE", 3: "MIXED", 4: "NONE", 5: "DECOUPLED"}
_NORMALIZER = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")
# dict_class of dictionary_learning: kind, key of the decoder's bias,
# whether the encoder reads activations less that bias
_SAES = {
    "AutoEncoder": ("relu", "bias", True),
    "AutoEncoderNew": ("relu", "decoder.bias", False),
    "AutoEncoderTopK": ("topk", "b_dec", True),
    "BatchTopKSAE": ("batchtopk", "b_dec", True),
}


def load(path: Path | str, *, scale: Sequence[float] | None = None) -> Dictionary:
    """The dictionary in a folder, or in one file of weights with its configuration beside it, in any of the layouts
    above.

    `scale` is for files trained on activations that something else had multiplied, and that do not hold the factors:
    one for each model, by which raw activations are to be multiplied. Such layouts are refused without it, and those
    that hold their own with it. Raises DictionaryError.
    """
    weights = _opened(weights_file(Path(path)))
    return _layout(weights)(weights, scale)


@dataclass(frozen=True, eq=False)
class Decoder:
    """What a dictionary decodes, without what encodes."""

    decoder: Tensor  # (m, D, d), as in Dictionary
    scale: Tensor
    widths: tuple[int, ...] | None
    facts: Mapping[str, Any]

    @property
    def n_models(self) -> int:
        return self.decoder.shape[0]

    def rows(self, model: int) -> np.ndarray:
        """(D, width of that model) float32, in units of scaled activations."""
        if not 0 <= model < self.n_models:
            raise DictionaryError(f"This dictionary decodes {self.n_models} models; there is none of number {model}.")
        width = self.decoder.shape[2] if self.widths is None else self.widths[model]
        return self.decoder[model, :, :width].numpy()


def load_decoder(path: Path | str, *, scale: Sequence[float] | None = None) -> Decoder:
    """As `load`, with the same refusals, but the encoder's values stay in the file: half the memory of a large one."""
    weights = replace(_opened(weights_file(Path(path))), unread=_ENCODERS)
    found = _layout(weights)(weights, scale)
    return Decoder(found.decoder, found.scale, found.widths, found.facts)


def save(dictionary: Dictionary, folder: Path | str) -> None:
    """Writes our own form, which `load` reads back bit for bit: what float16 holds exactly takes the half of the space.
    The description, with the weights' sha256, comes last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(dictionary, name) for name in _TENSORS if getattr(dictionary, name) is not None}
    save_file(
        {name: _narrowest(tensor.detach().cpu().contiguous()) for name, tensor in tensors.items()}, folder / WEIGHTS
    )
    description: dict[str, Any] = {
        "version": _VERSION if dictionary.widths is None else _UNEQUAL_VERSION,
        "sha256": _sha256(folder / WEIGHTS),
        "kind": dictionary.kind,
        "k": dictionary.k,
        "weighted": dictionary.weighted,
        "subtract": dictionary.subtract,
        "facts": dict(dictionary.facts),
    }
    if dictionary.widths is not None:
        description["widths"] = list(dictionary.widths)
    _write_json(folder / DESCRIPTION, description)


def export_crosscoder_learning(dictionary: Dictionary, folder: Path | str) -> None:
    """Writes an l1 or batchtopk dictionary as CrossCoder or BatchTopKCrossCoder: model.safetensors, config.json and
    trainer_config.json.

    As that layout is since June 2025, its normaliser has one factor a model: ours stand there, with means of 0 and the
    standard deviations that give them, so that its code reads raw activations. That code opens the folder with
    from_pretrained(folder, from_hub=True). What it has no place for stands in trainer_config.json under "anchorscope".
    Raises DictionaryError where the layout has no place for what the dictionary does.
    """
    kind, threshold = dictionary.kind, dictionary.threshold
    if dictionary.widths is not None:
        raise DictionaryError(
            f"crosscoder_learning holds dictionaries of models of one width; this one's are {dictionary.widths}. Write"
            " our own form with save()."
        )
    if kind not in ("l1", "batchtopk") or dictionary.subtract or (threshold is not None and threshold.ndim):
        raise DictionaryError(
            "crosscoder_learning holds dictionaries of kind l1 or batchtopk with one threshold for all features and an"
            f" encoder that reads activations as they are; this one is {kind}, threshold"
            f" {None if threshold is None else tuple(threshold.shape)}, subtract {dictionary.subtract}. Write our own"
            " form with save()."
        )
    if kind == "batchtopk" and dictionary.k is None:
        raise DictionaryError("crosscoder_learning stores k with a batchtopk dictionary; this one's k is None.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    code_normalization = "CROSSCODER" if dictionary.weighted else "NONE"
    scale = dictionary.scale.detach().cpu()
    std = (
        (1 / (scale.double() * math.sqrt(dictionary.d_model))).float()[:, None].repeat(1, dictionary.d_model)
    )  # 1/scale is its norm
    tensors: dict[str, Tensor] = {
        "encoder.weight": dictionary.encoder,
        "encoder.bias": dictionary.encoder_bias,
        "decoder.weight": dictionary.decoder,
        "decoder.bias": dictionary.decoder_bias,
        "activation_mean": torch.zeros_like(std),
        "activation_std": std,
        "activation_global_scale": scale,
        "target_rms": torch.tensor(1.0),
        "code_normalization_id": torch.tensor(
            next(key for key, name in _CODE_NORMALIZATIONS.items() if name == code_normalization)
        ),
    }
    config = {
        "activation_dim": dictionary.d_model,
        "dict_size": dictionary.n_features,
        "num_layers": dictionary.n_models,
        "code_normalization": code_normalization,
        "target_rms": 1.0,
    }
    if threshold is not None:
        tensors |= {"k": torch.tensor(dictionary.k, dtype=torch.int32), "threshold": threshold}
        config["k"] = dictionary.k
    save_file(
        {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors"
    )
    _write_json(folder / "config.json", config)
    trainer = config | {"dict_class": "BatchTopKCrossCoder" if kind == "batchtopk" else "CrossCoder"}
    if isinstance(layer := dictionary.facts.get("layer"), int):
        trainer |= {"layer": layer, "submodule_name": name_of(layer)}
    _write_json(folder / "trainer_config.json", {"trainer": trainer, _OURS: {"facts": dict(dictionary.facts)}})


@dataclass(frozen=True)
class _Weights:
    """The tensors of one file by key: their shapes at once, their values when asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    is_fresh: bool = False  # what is read has memory of its own, and is not copied once more
    unread: frozenset[str] = frozenset()  # keys whose values are left in the file: tensors of a shape alone

    def tensor(self, key: str, shape: tuple[int, ...], *, or_nan: bool = False) -> Tensor:
        """float32, of exactly this shape, every value finite (or, where NaN means something, finite or NaN)."""
        if key not in self.shapes:
            raise _unfit(self.path, key, "missing", f"a tensor of shape {shape} beside {_some(self.shapes)}")
        if self.shapes[key] != shape:
            raise _unfit(self.path, key, f"of shape {self.shapes[key]}", f"{shape}, to fit the other tensors")
        if key in self.unread:
            return torch.empty(shape, dtype=torch.float32, device="meta")
        tensor = self.read(key).to(torch.float32, copy=not self.is_fresh)
        if n_unusable := _n_unusable(tensor, or_nan=or_nan):
            raise _unfit(self.path, key, f"NaN or infinite in {n_unusable} places", "numbers")
        return tensor

    def whole_number(self, key: str) -> int:
        value = self.tensor(key, ()).item()
        if value != int(value):
            raise _unfit(self.path, key, value, "a whole number")
        return int(value)

    def only(self, what: str, *known: str) -> None:
        """Refuses tensors of unknown meaning: they may change the codes."""
        if unknown := sorted(set(self.shapes) - set(known)):
            found = f"a tensor of shape {self.shapes[unknown[0]]} of unknown meaning"
            raise _unfit(self.path, unknown[0], found, f"only those of {what}: {', '.join(known)}")


def _n_unusable(tensor: Tensor, *, or_nan: bool) -> int:
    """Values that are infinite or, unless they may be, NaN; counted part by part, as a large tensor has no room beside
    it.
    """
    parts = tensor.reshape(-1).split(_AT_ONCE)
    return sum(int((torch.isinf(part) if or_nan else ~torch.isfinite(part)).sum()) for part in parts)


def weights_file(path: Path) -> Path:
    """The file of weights in a folder, or the file itself.

    Raises DictionaryError, which names the choices where there are several.
    """
    if path.is_file():
        return path
    found = [path / name for name in _NAMES if (path / name).is_file()] or sorted(
        [*path.glob("*.pt"), *path.glob("*.safetensors")]
    )
    if len(found) == 1:
        return found[0]
    if not found and (inner := _inner(path)):
        expected = f"one of the folders that have one, by name: {_some(inner)}"
        raise _unfit(path, "the file of weights", "missing", expected)
    names = ", ".join(one.name for one in found)
    expected = f"one of {', '.join(_NAMES)} or *.pt, or the name of one file"
    raise _unfit(path, "the file of weights", f"one of {names}" if names else "missing", expected)


def _inner(path: Path) -> list[str]:
    """Folders inside, one or two levels down, that have weights: sparsify and Gemma Scope keep one for each place in
    the model.
    """
    inner = [one.parent for name in _NAMES for pattern in (f"*/{name}", f"*/*/{name}") for one in path.glob(pattern)]
    names = {one.relative_to(path).as_posix() for one in inner}
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def _opened(path: Path) -> _Weights:
    openers = {
        ".safetensors": _open_safetensors,
        ".pt": _open_pytorch,
        ".pth": _open_pytorch,
        ".bin": _open_pytorch,
        ".npz": _open_npz,
    }
    if path.suffix not in openers:
        raise _unfit(path, "its ending", path.suffix or "missing", ", ".join(openers))
    try:
        with path.open("rb") as file:
            placeholder = stands_for_another(file.read(64))
    except OSError as error:
        raise _damaged(path, error) from error
    if placeholder is not None:
        raise DictionaryError(f"{path} {placeholder}")
    weights = _unwrapped(openers[path.suffix](path))
    claimed = 4 * sum(math.prod(shape) for shape in weights.shapes.values())
    if claimed > MAX_BYTES:
        raise _unfit(
            path, "its size as float32", f"{claimed / 2**30:,.1f} GiB", f"at most {MAX_BYTES / 2**30:,.0f} GiB"
        )
    return weights


def _unwrapped(weights: _Weights) -> _Weights:
    """The same tensors by the keys of the module itself."""
    keys: dict[str, str] = {}
    for key in weights.shapes:
        own = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if own in keys:
            raise _unfit(weights.path, key, f"the same tensor as {keys[own]}", f"one of them, as both are {own}")
        keys[own] = key
    return replace(
        weights,
        shapes={own: weights.shapes[key] for own, key in keys.items()},
        read=lambda own: weights.read(keys[own]),
    )


def _open_safetensors(path: Path) -> _Weights:
    def read(key: str) -> Tensor:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(key)

    try:
        with safe_open(path, framework="pt") as file:
            return _Weights(path, {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}, read)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _open_pytorch(path: Path) -> _Weights:
    """A state dict, its values left in the file until they are read."""
    if not zipfile.is_zipfile(path):
        raise _unfit(path, "its form", "no zip archive", "one, as torch.save writes since version 1.6")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _unfit(
            path, "its content", f"{refused_object(error)}, which is never run", "a state dict of plain tensors"
        ) from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if isinstance(state, dict) and isinstance(
        inner := state.get("state_dict"), dict
    ):  # a training checkpoint, with what else it keeps
        state = inner
    if not isinstance(state, dict) or not state:
        raise _unfit(path, "its content", f"of type {type(state).__name__}", "a state dict, tensors by key")
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise _unfit(path, key, f"of type {type(value).__name__}", "a dense tensor")
    if (
        n_values := sum(value.numel() for value in state.values())
    ) > path.stat().st_size:  # views that repeat some of them
        raise _unfit(path, "its number of values", f"{n_values:,}", f"no more than its {path.stat().st_size:,} bytes")
    by_key = {str(key): value for key, value in state.items()}
    return _Weights(path, {key: tuple(value.shape) for key, value in by_key.items()}, lambda key: by_key[key].detach())


def _open_npz(path: Path) -> _Weights:
    def array(archive: zipfile.ZipFile, key: str, *, with_values: bool) -> Any:
        with archive.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, is_fortran, dtype = header(member)
            if dtype.kind != "f" or dtype.itemsize > 8:
                raise _unfit(
                    path, key, f"an array of {dtype}", "numbers of at most 64 bits; pickled objects are never run"
                )
            n_bytes = math.prod(shape) * dtype.itemsize
            if member.tell() + n_bytes != archive.getinfo(f"{key}.npy").file_size:
                raise ValueError(f"{key} says {shape} of {dtype}, which is not what follows")
            if not with_values:
                return shape
            content = bytearray(member.read(n_bytes))  # which the tensor keeps: large ones are not copied once more
            values = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
            return torch.from_numpy(values.astype(np.float32, copy=False))

    def read(key: str) -> Tensor:
        try:
            with zipfile.ZipFile(path) as archive:
                return array(archive, key, with_values=True)
        except _DAMAGE as error:
            raise _damaged(path, error) from error

    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            return _Weights(path, {key: array(archive, key, with_values=False) for key in keys}, read, is_fresh=True)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DictionaryError:
    return _unfit(
        path,
        "its content",
        f"unreadable ({words_of(error)})",
        "a whole file: this one is missing, damaged or cut short",
    )


def _unfit(path: Path, key: str, found: Any, expected: str) -> DictionaryError:
    """Every refusal says the same four things."""
    return DictionaryError(f"{path}: {key} is {found}; expected {expected}.")


def _layout(weights: _Weights) -> Callable[[_Weights, Sequence[float] | None], Dictionary]:
    """Our own form and NumPy archives by the file's name, the rest by their keys and the rank of the encoder."""
    path, rank = weights.path, {key: len(shape) for key, shape in weights.shapes.items()}
    if path.name == WEIGHTS:
        return _own
    if path.suffix == ".npz":
        return _gemma_scope
    match rank.get("encoder.weight"), rank.get("W_enc"):
        case 3, None:
            return _crosscoder_learning
        case 2, None if "W_dec" in rank:
            return _sparsify
        case 2, None:
            return _dictionary_learning if _hyperparameters(path) is None else _llama_scope
        case None, 3:
            return _model_diff_replication
        case None, 2:
            return _sae_lens if (path.parent / "cfg.json").is_file() else _dictionary_learning
        case None, None if rank.get("w_enc") == 2:
            return _gemma_scope
    expected = "encoder.weight or W_enc, of rank 3 (a crosscoder) or 2 (a sparse autoencoder)"
    raise _unfit(path, "its encoder", f"unknown among {_some(weights.shapes)}", expected)


def _own(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    path, description = weights.path, weights.path.with_name(DESCRIPTION)
    described = _json(description)
    if (version := described.get("version")) not in (_VERSION, _UNEQUAL_VERSION):
        expected = f"{_VERSION} or {_UNEQUAL_VERSION}, which this version of the program reads"
        raise _unfit(description, "version", version, expected)
    wanted: dict[str, type | tuple[type, ...]] = {
        "kind": str,
        "k": (int, type(None)),
        "weighted": bool,
        "subtract": bool,
        "facts": dict,
        "sha256": str,
    }
    for key, types in wanted.items():
        if key not in described or not isinstance(described[key], types):
            raise _unfit(description, key, repr(described.get(key)), "what save() writes")
    if (found := _sha256(path)) != described["sha256"]:
        raise _unfit(
            path, "its sha256", found, f"{described['sha256']}, as {DESCRIPTION} says; the file is damaged or another's"
        )
    _refuse_scale(weights, scale)
    weights.only("our own form", *_TENSORS)
    tensors: dict[str, Any] = {
        name: weights.tensor(name, weights.shapes[name]) for name in _TENSORS if name in weights.shapes
    }
    if missing := set(_TENSORS) - set(tensors) - {"threshold"}:
        raise _unfit(path, min(missing), "missing", "a tensor, as save() writes it")
    rule = {key: described[key] for key in ("kind", "k", "weighted", "subtract", "facts")}
    widths = _widths(description, described) if version == _UNEQUAL_VERSION else None
    return Dictionary(threshold=tensors.pop("threshold", None), **tensors, **rule, widths=widths)


def _widths(description: Path, described: Mapping[str, Any]) -> tuple[int, ...]:
    widths = described.get("widths")
    if not isinstance(widths, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in widths):
        raise _unfit(description, "widths", repr(widths), "whole numbers, one for each model")
    return tuple(widths)


def _crosscoder_learning(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """CrossCoder and BatchTopKCrossCoder: relu, and for the second a threshold on the code times its code
    normalisation.
    """
    m, d, n_features = weights.shapes["encoder.weight"]
    config = _settings(
        weights,
        {
            "activation_dim": d,
            "dict_size": n_features,
            "num_layers": m,
            "decoder_type": "linear",
            "encoder_layers": list(range(m)),
        },
    )
    is_batchtopk = "threshold" in weights.shapes or "k" in weights.shapes
    _expect_class(weights, config, "BatchTopKCrossCoder" if is_batchtopk else "CrossCoder")
    optional = ("code_normalization_id", "k", "threshold", *_NORMALIZER)
    weights.only("a crosscoder", "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias", *optional)
    encoder, decoder = (
        weights.tensor("encoder.weight", (m, d, n_features)),
        weights.tensor("decoder.weight", (m, n_features, d)),
    )
    encoder_bias, decoder_bias, factor = _unnormalized(
        weights,
        encoder,
        weights.tensor("encoder.bias", (n_features,)),
        weights.tensor("decoder.bias", (m, d)),
        subtract=False,
    )
    facts = _facts(weights, "crosscoder_learning", config, config)
    if isinstance(ours := config.get(_OURS), dict):
        if "scale" in ours:  # as our exports had it while that layout had one factor for all models
            if factor is not None:
                raise _unfit(
                    weights.path,
                    "activation_mean",
                    "set, where trainer_config.json holds factors as well",
                    "NaN, for off",
                )
            factor = _factors(weights, ours["scale"], m)
        kept = ours.get("facts") or {}
        facts = kept if "layer" in kept else {key: facts[key] for key in ("layer", "place") if key in facts} | kept
    if (statistics := weights.path.with_name(latent_df.NAME)).is_file():
        facts = facts | {latent_df.NAME: latent_df.published(statistics, decoder)}
    if factor is not None:
        _refuse_scale(weights, scale)
    normalization = _code_normalization(weights, config)
    threshold = k = None
    if is_batchtopk:
        k, threshold = weights.whole_number("k"), _threshold(weights)
        if (
            normalization == "SAE"
        ):  # f·‖(d_A, d_B)‖ > θ is f > θ/‖(d_A, d_B)‖, and nothing exceeds it where that norm is 0
            never = torch.finfo(torch.float32).max
            threshold = (
                (threshold.double() / decoder.double().norm(dim=(0, 2))).float().nan_to_num(nan=never, posinf=never)
            )
        elif normalization not in ("CROSSCODER", "NONE"):
            expected = (
                "CROSSCODER, SAE or NONE, by code_normalization_id or in config.json, as the threshold is in its units"
            )
            raise _unfit(weights.path, "code_normalization", normalization or "missing", expected)
    return Dictionary(
        kind="batchtopk" if is_batchtopk else "l1",
        encoder=encoder,
        encoder_bias=encoder_bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        scale=factor if factor is not None else _factors(weights, [1.0] * m if scale is None else scale, m),
        threshold=threshold,
        k=k,
        # Files older than the tensor were all trained with CROSSCODER. In an l1 dictionary it concerns the penalty
        # alone, not the codes.
        weighted=normalization == "CROSSCODER" or (normalization is None and not is_batchtopk),
        subtract=False,
        facts=facts,
    )


def _dictionary_learning(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """A sparse autoencoder of one model. Its class must be stated: two of them have the same keys and other rules."""
    config = _settings(weights, {"decoder_type": "linear"})
    name = config.get("dict_class")
    if name == "JumpReluAutoEncoder":
        return _jump_relu_autoencoder(weights, config, scale)
    if name not in _SAES:
        raise _unfit(
            weights.path.with_name("config.json"),
            "dict_class",
            repr(name),
            f"{', '.join(_SAES)} or JumpReluAutoEncoder",
        )
    kind, bias, subtract = _SAES[name]
    counters = ("k", "threshold") if bias == "b_dec" else ()
    weights.only(name, "encoder.weight", "encoder.bias", "decoder.weight", bias, *counters, *_NORMALIZER)
    n_features, d = weights.shapes["encoder.weight"]
    _settings(weights, {"activation_dim": d, "dict_size": n_features})
    encoder = weights.tensor("encoder.weight", (n_features, d)).T.contiguous()[None]
    decoder = weights.tensor("decoder.weight", (d, n_features)).T.contiguous()[None]
    encoder_bias, decoder_bias, factor = _unnormalized(
        weights,
        encoder,
        weights.tensor("encoder.bias", (n_features,)),
        weights.tensor(bias, (d,))[None],
        subtract=subtract,
    )
    if factor is not None:
        _refuse_scale(weights, scale)
    return Dictionary(
        kind=kind,
        encoder=encoder,
        encoder_bias=encoder_bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        scale=factor if factor is not None else _factors(weights, [1.0] if scale is None else scale, 1),
        threshold=(
            _threshold(weights) if kind == "batchtopk" else None
        ),  # top-k files hold one too, which their code does not use
        k=weights.whole_number("k") if bias == "b_dec" else None,
        weighted=False,
        subtract=subtract,
        facts=_facts(weights, "dictionary_learning", config, config),
    )


def _jump_relu_autoencoder(weights: _Weights, config: dict[str, Any], scale: Sequence[float] | None) -> Dictionary:
    weights.only("JumpReluAutoEncoder", "W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    d, n_features = weights.shapes["W_enc"]
    _settings(weights, {"activation_dim": d, "dict_size": n_features})
    encoder, encoder_bias, decoder, threshold = _in_decoder_norms(
        weights,
        weights.tensor("W_enc", (d, n_features)),
        weights.tensor("b_enc", (n_features,)),
        weights.tensor("W_dec", (n_features, d)),
        weights.tensor("threshold", (n_features,)),
    )
    return Dictionary(
        kind="jumprelu",
        encoder=encoder[None],
        encoder_bias=encoder_bias,
        decoder=decoder[None],
        decoder_bias=weights.tensor("b_dec", (d,))[None],
        scale=_factors(weights, [1.0] if scale is None else scale, 1),
        threshold=threshold,
        k=None,
        weighted=False,
        subtract=False,
        facts=_facts(weights, "dictionary_learning", config, config),
    )


def _model_diff_replication(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """Kissane et al.: an L1 crosscoder whose penalty weighs codes by the sum of decoder norms, on activations of mean
    norm √d.
    """
    m, d, n_features = weights.shapes["W_enc"]
    beside = weights.path.with_name(f"{weights.path.stem}_cfg.json")
    config_path = beside if beside.is_file() else weights.path.with_name("cfg.json")
    config = _json(config_path)
    for key, found in {"d_in": d, "dict_size": n_features, "n_models": m}.items():
        if config.get(key, found) != found or (key == "d_in" and key not in config):
            raise _unfit(config_path, key, repr(config.get(key)), f"{found}, as W_enc of {weights.path.name} has it")
    weights.only("this layout", "W_enc", "b_enc", "W_dec", "b_dec")
    if scale is None:
        expected = (
            f"{m} numbers: √d over the mean norm of each model's activations, which this layout lacks; ones where they"
            " are folded in"
        )
        raise _unfit(weights.path, "scale", "not given", expected)
    return Dictionary(
        kind="l1",
        encoder=weights.tensor("W_enc", (m, d, n_features)),
        encoder_bias=weights.tensor("b_enc", (n_features,)),
        decoder=weights.tensor("W_dec", (n_features, m, d)).transpose(0, 1).contiguous(),
        decoder_bias=weights.tensor("b_dec", (m, d)),
        scale=_factors(weights, scale, m),
        threshold=None,
        k=None,
        weighted=True,
        subtract=False,
        # its `site` and `layer` are left over from another program: the hook point alone says what was read
        facts=_facts(weights, "crosscoder-model-diff-replication", config, {"hook_point": config.get("hook_point")}),
    )


def _sae_lens(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    d, n_features = weights.shapes["W_enc"]
    config_path = weights.path.with_name("cfg.json")
    config = _json(config_path)

    def refused(key: str, expected: str) -> DictionaryError:
        return _unfit(config_path, key, repr(config.get(key)), expected)

    for key, found in {"d_in": d, "d_sae": n_features}.items():
        if config.get(key) != found:
            raise refused(key, f"{found}, as W_enc of {weights.path.name} has it")
    architecture = config.get("architecture", "standard")  # versions before it was written had no other
    activation_key = "activation_fn_str" if "activation_fn_str" in config else "activation_fn"
    activation = config.get(activation_key, "relu")
    if architecture not in ("standard", "topk", "jumprelu"):
        raise refused("architecture", "standard, topk or jumprelu")
    if architecture == "standard" and activation == "topk":  # before topk was an architecture
        architecture = "topk"
    if activation != "relu" and (activation, architecture) != ("topk", "topk"):
        raise refused(activation_key, "relu, or topk in a top-k autoencoder")
    normalization = config.get("normalize_activations") or "none"
    if normalization is True or normalization == "expected_average_only_in":
        if scale is None:
            raise refused("normalize_activations", "none, or scale=(s,) with it: √d over the mean norm of activations")
    elif normalization != "none":
        raise refused(
            "normalize_activations",
            "none or expected_average_only_in: a factor for each token has no place in a Dictionary",
        )
    if scale is not None and normalization == "none":
        _refuse_scale(weights, scale)

    if config.get("reshape_activations", "none") not in ("none", None):
        raise refused("reshape_activations", "none: activations of heads are not the residual stream")
    thresholds = ("threshold",) if architecture == "jumprelu" else ()
    weights.only(f"a {architecture} autoencoder", "W_enc", "b_enc", "W_dec", "b_dec", *thresholds, "scaling_factor")
    if "scaling_factor" in weights.shapes and not (weights.tensor("scaling_factor", (n_features,)) == 1).all():
        raise _unfit(
            weights.path,
            "scaling_factor",
            "other than 1 in places",
            "1 everywhere: a finetuned factor is not read here",
        )
    encoder, encoder_bias, decoder = (
        weights.tensor("W_enc", (d, n_features)),
        weights.tensor("b_enc", (n_features,)),
        weights.tensor("W_dec", (n_features, d)),
    )
    threshold = weights.tensor("threshold", (n_features,)) if thresholds else None
    k = None
    if architecture == "topk":
        k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
        if not isinstance(k, int) or isinstance(k, bool):
            raise refused("k", "a whole number (or activation_fn_kwargs with k, before version 6)")
        if config.get("rescale_acts_by_decoder_norm"):
            encoder, encoder_bias, decoder, _ = _in_decoder_norms(
                weights, encoder, encoder_bias, decoder, torch.zeros(n_features)
            )
    metadata = config.get("metadata")  # since version 6; before, the same keys stand beside the others
    stated = {**config, **metadata} if isinstance(metadata, dict) else config
    subtract = config.get("apply_b_dec_to_input", True)  # that library's default
    if not isinstance(subtract, bool):
        raise refused("apply_b_dec_to_input", "true or false")
    return Dictionary(
        kind={"standard": "relu"}.get(architecture, architecture),
        encoder=encoder[None],
        encoder_bias=encoder_bias,
        decoder=decoder[None],
        decoder_bias=weights.tensor("b_dec", (d,))[None],
        scale=_factors(weights, [1.0] if scale is None else scale, 1),
        threshold=threshold,
        k=k,
        weighted=False,
        subtract=subtract,
        facts=_facts(weights, "SAELens", config, stated),
    )


def _sparsify(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """EleutherAI's SparseCoder: the k largest codes of each token, of activations less b_dec."""
    n_features, d = weights.shapes["encoder.weight"]
    config_path = weights.path.with_name("cfg.json")
    config = _json(config_path)

    def refused(key: str, expected: str) -> DictionaryError:
        return _unfit(config_path, key, repr(config.get(key)), expected)

    if config.get("d_in") != d:
        raise refused("d_in", f"{d}, as encoder.weight of {weights.path.name} has it")
    if (stated := config.get("num_latents") or d * config.get("expansion_factor", 0)) not in (0, n_features):
        raise _unfit(
            config_path,
            "num_latents",
            f"{stated} (or d_in · expansion_factor)",
            f"{n_features}, as encoder.weight has it",
        )
    for key in ("transcode", "skip_connection", "signed"):
        if config.get(key):
            raise refused(key, "false: a transcoder, or signed codes, have no place in a Dictionary")
    if config.get("activation", "topk") != "topk":  # files of before the key have no other
        raise refused("activation", "topk")
    k = config.get("k")
    if not isinstance(k, int) or isinstance(k, bool):
        raise refused("k", "a whole number, the codes a token")
    _refuse_scale(weights, scale)
    weights.only("sparsify", "encoder.weight", "encoder.bias", "W_dec", "b_dec")
    folder = weights.path.parent.name  # the module's name, unless somebody gave another
    return Dictionary(
        kind="topk",
        encoder=weights.tensor("encoder.weight", (n_features, d)).T.contiguous()[None],
        encoder_bias=weights.tensor("encoder.bias", (n_features,)),
        decoder=weights.tensor("W_dec", (n_features, d))[None],
        decoder_bias=weights.tensor("b_dec", (d,))[None],
        scale=torch.ones(1),
        threshold=None,
        k=k,
        weighted=False,
        subtract=True,
        facts=_facts(weights, "sparsify", config, {"hookpoint": folder, **config} if "." in folder else config),
    )


def _hyperparameters(path: Path) -> Path | None:
    """Llama Scope's description of weights in its folder, or in `checkpoints` below it."""
    return next(
        (
            found
            for found in (path.with_name("hyperparams.json"), path.parent.parent / "hyperparams.json")
            if found.is_file()
        ),
        None,
    )


def _llama_scope(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """One threshold for all features, or the k largest, of codes in decoder norms; activations of mean norm √d, whose
    mean is stated.
    """
    n_features, d = weights.shapes["encoder.weight"]
    config_path = _hyperparameters(weights.path) or weights.path.with_name("hyperparams.json")
    config = _json(config_path)

    def refused(key: str, expected: str) -> DictionaryError:
        return _unfit(config_path, key, repr(config.get(key)), expected)

    if config.get("d_model") != d:
        raise refused("d_model", f"{d}, as encoder.weight of {weights.path.name} has it")
    kinds = {"jumprelu": "jumprelu", "topk": "topk", "relu": "relu"}
    if (act := config.get("act_fn")) not in kinds:
        raise refused("act_fn", f"one of {', '.join(kinds)}")
    if config.get("use_glu_encoder"):
        raise refused("use_glu_encoder", "false: a gated encoder has no place in a Dictionary")
    threshold: Any = config.get("jump_relu_threshold")
    k = config.get("top_k")
    if act == "jumprelu" and (not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf):
        raise refused("jump_relu_threshold", "a number, 0 or more")
    if act == "topk" and (not isinstance(k, int) or isinstance(k, bool)):
        raise refused("top_k", "a whole number, the codes a token")
    match config.get("norm_activation"):
        case "inference":  # folded into the weights
            factor = 1.0
        case "dataset-wise":
            stated = config.get("dataset_average_activation_norm")
            norms: dict[str, Any] = stated if isinstance(stated, dict) else {}
            norm = norms.get("in")
            if not isinstance(norm, (int, float)) or not 0 < norm < math.inf or norms.get("out", norm) != norm:
                raise refused(
                    "dataset_average_activation_norm",
                    "the mean norm of the activations, above 0 and the same for in and out",
                )
            factor = math.sqrt(d) / norm
        case _:
            raise refused(
                "norm_activation", "dataset-wise or inference: a factor for each token has no place in a Dictionary"
            )
    _refuse_scale(weights, scale)
    weights.only("Llama Scope", "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
    has_bias = config.get("use_decoder_bias", True)
    return Dictionary(
        kind=kinds[act],
        encoder=weights.tensor("encoder.weight", (n_features, d)).T.contiguous()[None],
        encoder_bias=weights.tensor("encoder.bias", (n_features,)),
        decoder=weights.tensor("decoder.weight", (d, n_features)).T.contiguous()[None],
        decoder_bias=(weights.tensor("decoder.bias", (d,)) if has_bias else torch.zeros(d))[None],
        scale=torch.tensor([factor]),
        threshold=torch.tensor(float(threshold)) if act == "jumprelu" else None,
        k=k if act == "topk" else None,
        weighted=bool(config.get("sparsity_include_decoder_norm", True)),
        subtract=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        facts=_facts(weights, "Llama Scope", config, config),
    )


def _gemma_scope(weights: _Weights, scale: Sequence[float] | None) -> Dictionary:
    """JumpReLU on raw activations.

    The keys are W_enc and W_dec, in some copies and in the second edition w_enc and w_dec.
    """
    path = weights.path
    if any(part.startswith("embedding") for part in path.parts[-4:-1]):
        raise _unfit(path, "its folder", "one of embeddings, which are read over √d", "one of a layer's output")
    _refuse_scale(weights, scale)
    config = _json(beside) if (beside := path.with_name("config.json")).is_file() else {}
    if config.get("architecture", "jump_relu") not in ("jump_relu", "jumprelu"):
        raise _unfit(beside, "architecture", repr(config["architecture"]), "jump_relu")
    w = "w" if "w_enc" in weights.shapes else "W"
    weights.only("Gemma Scope", f"{w}_enc", f"{w}_dec", "b_enc", "b_dec", "threshold")
    if len(weights.shapes.get(f"{w}_enc", ())) != 2:
        raise _unfit(
            path,
            f"{w}_enc",
            f"of shape {weights.shapes.get(f'{w}_enc')}",
            f"(width, features), among {_some(weights.shapes)}",
        )
    d, n_features = weights.shapes[f"{w}_enc"]
    return Dictionary(
        kind="jumprelu",
        encoder=weights.tensor(f"{w}_enc", (d, n_features))[None],
        encoder_bias=weights.tensor("b_enc", (n_features,)),
        decoder=weights.tensor(f"{w}_dec", (n_features, d))[None],
        decoder_bias=weights.tensor("b_dec", (d,))[None],
        scale=torch.ones(1),
        threshold=weights.tensor("threshold", (n_features,)),
        k=None,
        weighted=False,
        subtract=False,
        facts=_facts(weights, "Gemma Scope", {"folder": "/".join(path.parts[-4:-1]), **config}, config),
    )


def _unnormalized(
    weights: _Weights, encoder: Tensor, encoder_bias: Tensor, decoder_bias: Tensor, *, subtract: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Both biases with the mean folded in, and the factor for each model; None where the normaliser is off (NaN) or
    absent.

    That code divides by g + 1e-8 where ours divides by g.
    """
    if not any(key in weights.shapes for key in _NORMALIZER[:2]):
        return encoder_bias, decoder_bias, None
    m, d, _ = encoder.shape
    shape = weights.shapes.get("activation_mean", ())
    shape = shape if m == 1 and shape == (d,) else (m, d)
    mean, std = (weights.tensor(key, shape, or_nan=True).reshape(m, d) for key in _NORMALIZER[:2])
    unset = torch.isnan(mean), torch.isnan(std)
    if all(one.all() for one in unset):
        return encoder_bias, decoder_bias, None
    if any(one.any() for one in unset):
        raise _unfit(
            weights.path, "activation_mean or activation_std", "NaN in part", "NaN everywhere in both (off) or nowhere"
        )
    # Files since June 2025 have one factor a model, those before one for all, as autoencoders still do. Without it
    # activations were divided by std, dimension by dimension.
    stated = weights.shapes.get("activation_global_scale")
    factor = (
        weights.tensor("activation_global_scale", stated if stated in ((m,), (m, 1), (1,)) else ())
        .reshape(-1)
        .expand(m)
    )
    if (factor <= 0).any():
        raise _unfit(weights.path, "activation_global_scale", factor.tolist(), "factors above 0")
    if not mean.any():
        return encoder_bias, decoder_bias, factor.clone()
    shift = factor.double()[:, None] * mean.double()
    # Where the encoder reads activations less decoder_bias, the mean in that bias is enough.
    if not subtract and not encoder.is_meta:
        encoder_bias = (encoder_bias.double() - sum(shift[i] @ encoder[i].double() for i in range(m))).float()
    return encoder_bias, (decoder_bias.double() + shift).float(), factor.clone()


def _in_decoder_norms(
    weights: _Weights, encoder: Tensor, encoder_bias: Tensor, decoder: Tensor, threshold: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(d, D), (D,), (D, d) and (D,) such that the codes come out as f_k·‖decoder_k‖ and the reconstruction stays what
    it was.
    """
    norms = decoder.double().norm(dim=1)
    if (norms == 0).any():
        found = f"zero in {int((norms == 0).sum())} whole rows"
        raise _unfit(weights.path, "W_dec", found, "rows with a norm, by which this layout divides")
    scaled = (
        encoder.double() * norms.to(encoder.device),
        encoder_bias.double() * norms,
        decoder.double() / norms[:, None],
        threshold.double() * norms,
    )
    return tuple(one.float() for one in scaled)


def _threshold(weights: _Weights) -> Tensor:
    threshold = weights.tensor("threshold", ())
    if threshold < 0:
        raise _unfit(weights.path, "threshold", f"{threshold.item()}, as training never set it", "0 or more")
    return threshold


def _code_normalization(weights: _Weights, config: Mapping[str, Any]) -> str | None:
    stated = config.get("code_normalization")
    if "code_normalization_id" not in weights.shapes:
        return stated
    number = weights.whole_number("code_normalization_id")
    if number not in _CODE_NORMALIZATIONS or stated not in (None, _CODE_NORMALIZATIONS[number]):
        found = f"{number}, where config.json says {stated!r}"
        raise _unfit(weights.path, "code_normalization_id", found, f"one of {_CODE_NORMALIZATIONS}, the same in both")
    return _CODE_NORMALIZATIONS[number]


def _settings(weights: _Weights, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json and trainer_config.json say, with their `trainer` entries at the top; a key that contradicts
    `expected` is refused.

    Both may be missing: then nothing is said. The first to state a key has it.
    """
    settings: dict[str, Any] = {}
    for name in ("config.json", "trainer_config.json"):
        path = weights.path.with_name(name)
        content = _json(path) if path.is_file() else {}
        trainer = content.pop("trainer", {})
        for key, value in ({**trainer, **content} if isinstance(trainer, dict) else content).items():
            if value is not None and key in expected and value != expected[key]:
                raise _unfit(path, key, repr(value), f"{expected[key]!r}, to agree with {weights.path.name}")
            settings.setdefault(key, value)
    return settings


def _expect_class(weights: _Weights, config: Mapping[str, Any], expected: str) -> None:
    if (stated := config.get("dict_class", expected)) != expected:
        why = (
            f"as {weights.path.name} has an encoder of rank 3 and {'both' if 'k' in weights.shapes else 'neither'} of k"
            " and threshold"
        )
        raise _unfit(weights.path.with_name("config.json"), "dict_class", repr(stated), f"{expected}, {why}")


def _refuse_scale(weights: _Weights, scale: Sequence[float] | None) -> None:
    if scale is not None:
        raise _unfit(
            weights.path, "scale", f"given as {tuple(scale)}", "none: the file says itself how activations are scaled"
        )


def _factors(weights: _Weights, scale: Any, m: int) -> Tensor:
    numbers = isinstance(scale, Sequence) and all(isinstance(one, (int, float)) for one in scale)
    if not numbers or len(scale) != m or not all(math.isfinite(one) and one > 0 for one in scale):
        raise _unfit(weights.path, "scale", repr(scale), f"{m} numbers above 0, one for each model")
    return torch.tensor(scale, dtype=torch.float32)


def _facts(weights: _Weights, layout: str, config: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a file, with the layer and the words that say it where `stated`, or the names of the folders, say
    it.

    Raises DictionaryError where they say another hook point than the residual stream at the output of a block.
    """
    facts: dict[str, Any] = {"layout": layout, "file": weights.path.name, "config": dict(config)}
    buffer, folders = stated.get("buffer"), weights.path.absolute().parts[:-1]
    near = [
        *(one for one in folders[-8:-4] if "scope" in one.lower()),
        *folders[-4:],
    ]  # a release stands above revision and hook point
    try:
        point = hook_point_stated({**stated, "io": buffer.get("io")} if isinstance(buffer, dict) else stated)
        if point is None or point.block is None:
            point = together([one for one in (point, hook_point_of_folder(near)) if one is not None])
    except HookPointError as error:
        raise DictionaryError(f"{weights.path.parent}: {error}") from error
    if point is not None:
        if (fault := point.fault()) is not None:
            raise DictionaryError(
                f"{weights.path.parent}: {fault}. Only dictionaries of the residual stream after a block can be used."
            )
        if point.layer is not None:
            facts |= {"layer": point.layer, "place": f"{point.said} is {point.words}"}
    return facts


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise _unfit(path, "its size", f"{path.stat().st_size:,} bytes", f"at most {_MAX_JSON:,}")
        content = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=str
        )  # NaN, which JSON lacks, becomes the text "NaN"
    except (OSError, ValueError, RecursionError) as error:
        raise _unfit(
            path, "its content", f"unreadable ({words_of(error)})", "JSON that describes the weights beside it"
        ) from error
    if not isinstance(content, dict):
        raise _unfit(path, "its content", f"of type {type(content).__name__}", "an object with keys")
    return content


def _narrowest(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(keys: Any) -> str:
    keys = [str(key)[:60] for key in keys]
    return ", ".join(keys[:12]) + (f" and {len(keys) - 12} more" if len(keys) > 12 else "") if keys else "nothing"
