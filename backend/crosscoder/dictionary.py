"""A crosscoder of two models, or a sparse autoencoder of one: what it encodes and what it decodes.

1. The activations a_m of model m are multiplied by scale_m (for our own, their mean norm becomes √d).
2. Codes f = act(Σ_m a_m · encoder_m + encoder_bias), where act is relu and then, by kind, a rule that keeps few of
   them; of a linear one there is no act, and what fires is said by `kinds`.
3. The reconstruction of model m is (f · decoder_m + decoder_bias_m) / scale_m.

Models of unequal width stand in one tensor of the larger width d: what lies beyond a model's own is zero in weights,
activations and reconstructions, so that no sum, norm or gradient knows of it.

Sources: Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing"; Baek & Tegmark 2025,
section 3; BatchTopK: Bussmann et al. 2024 and Minder et al. 2025 (arXiv:2504.02922).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from backend.crosscoder.kinds import KINDS, DictionaryError, Kind
from backend.ids import stable_id


@dataclass(frozen=True, eq=False)
class Dictionary:
    """m models, d width of the residual stream, D features; every tensor is float32. Raises DictionaryError for what
    contradicts itself.

    By kind, codes are kept: `l1`, `relu` and `linear` all of them; `batchtopk` and `jumprelu` where the gate value
    exceeds the threshold; `topk` the k with the largest gate values of each token.
    """

    kind: str  # one of KINDS
    encoder: Tensor  # (m, d, D)
    encoder_bias: Tensor  # (D,)
    decoder: Tensor  # (m, D, d)
    decoder_bias: Tensor  # (m, d)
    scale: Tensor  # (m,): activations are multiplied by it first, reconstructions are divided by it
    threshold: Tensor | None  # (D,) or (), in units of the gate value; None for kinds without one
    k: int | None  # codes a token: of topk, and what batchtopk and linear were trained with
    weighted: bool  # the gate value is f_k · Σ_m ‖decoder_m,k‖₂ instead of f_k; for l1 it says the same of the penalty
    subtract: bool  # the encoder reads scaled activations less decoder_bias
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # models, layer, source, hyperparameters: anything JSON holds
    widths: tuple[int, ...] | None = None  # of each model, where they differ; the largest is d

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DictionaryError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        if self.encoder.ndim != 3:
            raise DictionaryError(f"encoder has shape {tuple(self.encoder.shape)}; expected (models, width, features).")
        m, d, n_features = self.encoder.shape
        expected = {
            "encoder": ((m, d, n_features),),
            "encoder_bias": ((n_features,),),
            "decoder": ((m, n_features, d),),
            "decoder_bias": ((m, d),),
            "scale": ((m,),),
            "threshold": ((n_features,), ()),
        }
        for name, shapes in expected.items():
            tensor = getattr(self, name)
            if tensor is None and name == "threshold":
                continue
            if tuple(tensor.shape) not in shapes:
                wanted = " or ".join(map(str, shapes))
                raise DictionaryError(
                    f"{name} has shape {tuple(tensor.shape)}; expected {wanted}, as encoder is {(m, d, n_features)}."
                )
            if tensor.dtype != torch.float32:
                raise DictionaryError(f"{name} is {tensor.dtype}; expected torch.float32.")
        if not bool((self.scale > 0).all() and torch.isfinite(self.scale).all()):
            raise DictionaryError(
                f"scale is {self.scale.tolist()}; expected finite factors above 0, one for each model."
            )
        if self.its_kind.has_threshold != (self.threshold is not None):
            rule = "needs a threshold" if self.threshold is None else "has no threshold: it keeps codes by another rule"
            raise DictionaryError(f"A dictionary of kind {self.kind} {rule}.")
        if (self.k is None and self.its_kind.needs_k) or (self.k is not None and not 1 <= self.k <= n_features):
            raise DictionaryError(
                f"k is {self.k} for kind {self.kind}; expected 1 to {n_features}, the number of features."
            )
        self._check_widths()

    def _check_widths(self) -> None:
        if self.widths is None:
            return
        if len(self.widths) != self.n_models or max(self.widths) != self.d_model or min(self.widths) < 1:
            raise DictionaryError(
                f"widths are {self.widths}; expected one for each of {self.n_models} models, the largest {self.d_model}"
                " as encoder is."
            )
        if len(set(self.widths)) == 1:
            raise DictionaryError(f"widths are {self.widths}; expected None, as the models' widths are equal.")
        beyond = {"encoder": self.encoder, "decoder": self.decoder.mT, "decoder_bias": self.decoder_bias[:, :, None]}
        for name, by_width in beyond.items():
            for model, width in enumerate(self.widths):
                if by_width[model, width:].any():
                    raise DictionaryError(
                        f"{name} of model {model} is not zero beyond its width {width}; expected zeros there."
                    )

    @property
    def its_kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def n_models(self) -> int:
        return self.encoder.shape[0]

    @property
    def d_model(self) -> int:
        return self.encoder.shape[1]

    @property
    def n_features(self) -> int:
        return self.encoder.shape[2]

    def width(self, model: int) -> int:
        """Of the residual stream of one of its models."""
        return self.d_model if self.widths is None else self.widths[model]

    def side_by_side(self, streams: Sequence[Tensor]) -> Tensor:
        """(n, m, d) of what each model has, (n, its width): what `encode` reads."""
        for model, stream in enumerate(streams):
            if stream.shape[-1] != self.width(model):
                raise DictionaryError(
                    f"A residual stream has {stream.shape[-1]} values; expected the dictionary's {self.width(model)}."
                )
        padded = [torch.nn.functional.pad(stream, (0, self.d_model - stream.shape[-1])) for stream in streams]
        return torch.stack(padded, dim=1)

    def raw_rows(self, model: int) -> Tensor:
        """(D, its width): the features' decoder rows of one model, in units of its raw activations."""
        return self.decoder[model, :, : self.width(model)] / self.scale[model]

    @cached_property
    def fires_above(self) -> Tensor:
        """(D,): feature k fires where |f_k| exceeds it. 0 in every kind but `linear`."""
        if not self.its_kind.is_signed:
            return torch.zeros(self.n_features)
        assert self.threshold is not None  # of a kind that has one
        norms = self._norms if self.weighted else torch.ones(self.n_features)
        return torch.where(norms > 0, self.threshold / norms, torch.inf)

    @cached_property
    def dictionary_id(self) -> str:
        """Follows from weights and rule alone: the same wherever and by whichever layout the dictionary was read."""
        digest = hashlib.sha256()
        for name in ("encoder", "encoder_bias", "decoder", "decoder_bias", "scale", "threshold"):
            tensor = getattr(self, name)
            digest.update(f"{name} {None if tensor is None else tuple(tensor.shape)};".encode())
            if tensor is not None:
                digest.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).view("u1"))
        of_unequal = () if self.widths is None else (list(self.widths),)
        return stable_id("w", digest.hexdigest(), self.kind, self.k, self.weighted, self.subtract, *of_unequal)

    def scaled(self, activations: Tensor) -> Tensor:
        """Raw activations (n, m, d), in the units the weights were trained in."""
        expected = (self.n_models, self.d_model)
        if activations.ndim != 3 or tuple(activations.shape[1:]) != expected:
            raise DictionaryError(
                f"activations have shape {tuple(activations.shape)}; expected (n, {expected[0]}, {expected[1]})."
            )
        return activations.to(torch.float32) * self.scale[:, None]

    def encode(self, activations: Tensor) -> Tensor:
        """Codes (n, D) of raw activations (n, m, d), by the rule of inference: no token's codes depend on the others in
        the batch.
        """
        inputs = self.scaled(activations)
        if self.subtract:
            inputs = inputs - self.decoder_bias
        codes = inputs.flatten(1) @ self.encoder.flatten(0, 1) + self.encoder_bias
        if self.its_kind.is_signed:
            return codes
        codes = torch.relu(codes)
        if not self.its_kind.has_threshold and not self.its_kind.needs_k:
            return codes
        gate = codes * self._norms if self.weighted else codes
        if self.threshold is not None:
            return codes * (gate > self.threshold)
        kept = torch.zeros_like(codes)
        assert self.k is not None  # of topk, which is refused without it
        chosen = gate.topk(self.k, dim=1, sorted=False).indices
        return kept.scatter_(1, chosen, codes.gather(1, chosen))

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions (n, m, d), in the units of raw activations, from codes (n, D)."""
        if codes.ndim != 2 or codes.shape[1] != self.n_features:
            raise DictionaryError(f"codes have shape {tuple(codes.shape)}; expected (n, {self.n_features}).")
        by_model = torch.matmul(codes.to(torch.float32), self.decoder) + self.decoder_bias[:, None]  # (m, n, d)
        return by_model.transpose(0, 1) / self.scale[:, None]

    def reconstruction(self, codes: Tensor, model: int) -> Tensor:
        """(n, its width), of one model."""
        return self.decode(codes)[:, model, : self.width(model)]

    def in_float16(self) -> "Dictionary":
        """The same with encoder and decoder rounded to float16, which halves its file.

        Raises DictionaryError for values beyond 65,504.
        """
        rounded = {name: getattr(self, name).half().float() for name in ("encoder", "decoder")}
        for name, tensor in rounded.items():
            if not torch.isfinite(tensor).all():
                raise DictionaryError(
                    f"{name} has values up to {getattr(self, name).abs().max():.3g}, which float16 cannot hold."
                )
        return replace(self, **rounded)

    def uncentred(self, centre: Tensor) -> "Dictionary":
        """The same for raw activations, of one that was trained on activations less `centre` (m, d, raw units): the
        biases take it away, and put it back.
        """
        added = centre.double() * self.scale.double()[:, None]
        bias = self.encoder_bias.double() - added.flatten() @ self.encoder.double().flatten(0, 1)
        return replace(self, encoder_bias=bias.float(), decoder_bias=(self.decoder_bias.double() + added).float())

    @cached_property
    def _norms(self) -> Tensor:
        return self.decoder.norm(dim=2).sum(0)
