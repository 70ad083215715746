"""Low-rank adapters (LoRA) trained on a CPU: peft's layers, over frozen weights that go to oneDNN forwards and
backwards.

A frozen weight needs no gradient of its own: backwards it only carries the gradient on, one more product of the same
size. Both products are oneDNN's float32 ones, twice as fast on a CPU as torch's default. Layers below the lowest
adapted one keep nothing for the way back.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.errors import AnchorscopeError
from backend.models import private
from backend.models.linear import linear
from backend.models.model_files import ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class FinetuneError(AnchorscopeError):
    """A model that cannot be adapted, or text that cannot be learned from."""


class _Frozen(torch.autograd.Function):
    """x · Wᵀ whose backward pass is dy · W, both by `linear`; `transposed` is Wᵀ laid out for the second."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
        ctx.transposed = transposed
        return linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return linear(gradients[0].contiguous(), ctx.transposed), None, None


def _frozen(x: torch.Tensor, weight: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
    return _Frozen.apply(x, weight, transposed)  # type: ignore[no-untyped-call]  # torch states no types for apply


class FrozenLinear(nn.Module):
    """A linear layer whose weight does not learn."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.weight = layer.weight
        self._transposed = [layer.weight.detach().t().contiguous()]  # in a list: it is no parameter of the module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _frozen(x, self.weight, self._transposed[0]) if x.requires_grad else linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class _HalfBlock:
    """Forward and backward pass of one of Llama's blocks whose seven projections are all adapted: products in
    bfloat16, what learns and the residual stream float32. Its rows are the tokens of several sequences, one sequence
    after the other, without padding.

    Processors with matrix units for bfloat16 do its products many times as fast as float32 ones, so that everything
    else counts: projections that read the same are one product, and nothing is converted twice.
    """

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.groups = [
            [attention.q_proj, attention.k_proj, attention.v_proj],
            [attention.o_proj],
            [mlp.gate_proj, mlp.up_proj],
            [mlp.down_proj],
        ]
        self._weights = [
            torch.cat([one.base_layer.weight.detach() for one in group]).bfloat16() for group in self.groups
        ]
        self._sizes = [[one.base_layer.out_features for one in group] for group in self.groups]
        self._lora_scale = attention.q_proj.scaling["default"]
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._d, self._scale = attention.head_dim, attention.scaling
        self.learned = [
            getattr(one, side)["default"].weight
            for group in self.groups
            for one in group
            for side in ("lora_A", "lora_B")
        ]

    def _heads(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(n_tokens, n_heads, d) as (n_groups, n_heads a group * n_tokens, d), with the groups of k and v."""
        return tuple(part.transpose(0, 1).reshape(v.shape[1], -1, self._d) for part in (q, k, v))

    def _halves(self, learned: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Of each group: the A of its projections on top of one another, and their B, times the adapter's scale."""
        found, at = [], 0
        for group in self.groups:
            of_group = learned[at : at + 2 * len(group)]
            at += 2 * len(group)
            found.append(
                (torch.cat(list(of_group[::2])).bfloat16(), [(self._lora_scale * b).bfloat16() for b in of_group[1::2]])
            )
        return found

    def _project(
        self, place: int, x: torch.Tensor, half: tuple[torch.Tensor, list[torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a group of projections makes of x (n, d_in), side by side, and the inner values of their adapters."""
        down, ups = half
        inner, made = x @ down.t(), x @ self._weights[place].t()
        rank = len(down) // len(ups)
        for of_one, up, part in zip(made.split(self._sizes[place], 1), ups, inner.split(rank, 1), strict=True):
            of_one.addmm_(part, up.t())
        return made, inner

    def _back(
        self,
        place: int,
        gradient: torch.Tensor,
        x: torch.Tensor,
        inner: torch.Tensor,
        half: tuple[torch.Tensor, list[torch.Tensor]],
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The gradients of x and of every A and B, in the order of `learned`."""
        down, ups = half
        rank = len(down) // len(ups)
        sides = gradient.split(self._sizes[place], 1)
        of_inner = torch.cat([side @ up for side, up in zip(sides, ups, strict=True)], 1)
        of_x = (gradient @ self._weights[place]).addmm_(of_inner, down)
        of_down = (of_inner.t() @ x).float().split(rank)
        of_up = [
            (side.t() @ part).float().mul_(self._lora_scale)
            for side, part in zip(sides, inner.split(rank, 1), strict=True)
        ]
        return of_x, [one for pair in zip(of_down, of_up, strict=True) for one in pair]

    def forward(
        self,
        x: torch.Tensor,
        ends: Sequence[int],
        cos: torch.Tensor,
        sin: torch.Tensor,
        learned: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        halves = self._halves(learned)
        n = len(x)
        normed, of_norm = _normed(x, self._norms[0])
        qkv, inner_qkv = self._project(0, normed, halves[0])
        q, k, v = (part.reshape(n, -1, self._d) for part in qkv.split(self._sizes[0], 1))
        q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        seen, mixed = [], torch.empty_like(q)
        for start, end in itertools.pairwise(ends):
            of_q, of_k, of_v = self._heads(q[start:end], k[start:end], v[start:end])
            mask = torch.full((end - start, end - start), -torch.inf, dtype=torch.bfloat16).triu_(1)
            mask = mask.repeat(of_q.shape[1] // len(mask), 1)
            seen.append(torch.softmax(torch.baddbmm(mask, of_q, of_k.transpose(1, 2), alpha=self._scale), -1))
            mixed[start:end] = torch.bmm(seen[-1], of_v).view(-1, end - start, self._d).transpose(0, 1)
        mixed = mixed.view(n, -1)
        out, inner_out = self._project(1, mixed, halves[1])
        middle = x + out
        normed_2, of_norm_2 = _normed(middle, self._norms[1])
        both, inner_both = self._project(2, normed_2, halves[2])
        gate, up = both.split(self._sizes[2], 1)
        active = nn.functional.silu(gate).mul_(up)
        made, inner_made = self._project(3, active, halves[3])
        kept = (
            halves,
            x,
            of_norm,
            normed,
            inner_qkv,
            q,
            k,
            v,
            seen,
            mixed,
            inner_out,
            middle,
            of_norm_2,
            normed_2,
            inner_both,
            gate,
            up,
            active,
            inner_made,
            ends,
            cos,
            sin,
        )
        return middle + made, kept

    def backward(self, gradient: torch.Tensor, kept: tuple[Any, ...]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        (
            halves,
            x,
            of_norm,
            normed,
            inner_qkv,
            q,
            k,
            v,
            seen,
            mixed,
            inner_out,
            middle,
            of_norm_2,
            normed_2,
            inner_both,
            gate,
            up,
            active,
            inner_made,
            ends,
            cos,
            sin,
        ) = kept
        n = len(x)
        of_active, of_down = self._back(3, gradient.bfloat16(), active, inner_made, halves[3])
        of_both = torch.cat(
            [torch.ops.aten.silu_backward(of_active * up, gate), of_active.mul_(nn.functional.silu(gate))], 1
        )
        of_normed_2, of_gate_up = self._back(2, of_both, normed_2, inner_both, halves[2])
        of_middle = gradient + _back_of_normed(of_normed_2, middle, of_norm_2, self._norms[1])
        of_mixed, of_out = self._back(1, of_middle.bfloat16(), mixed, inner_out, halves[1])
        of_mixed = of_mixed.view(n, -1, self._d)
        of_qkv = torch.empty(n, sum(self._sizes[0]), dtype=torch.bfloat16)
        of_q, of_k, of_v = (part.view(n, -1, self._d) for part in of_qkv.split(self._sizes[0], 1))
        for (start, end), attention in zip(itertools.pairwise(ends), seen, strict=True):
            each_q, each_k, each_v = self._heads(q[start:end], k[start:end], v[start:end])
            of_each = of_mixed[start:end].transpose(0, 1).reshape(each_q.shape)
            of_scores = torch.bmm(of_each, each_v.transpose(1, 2))
            of_scores = private.softmax_backward(of_scores, attention)
            of_q[start:end] = torch.bmm(of_scores, each_k).view(-1, end - start, self._d).transpose(0, 1)
            of_k[start:end] = torch.bmm(of_scores.transpose(1, 2), each_q).transpose(0, 1)
            of_v[start:end] = torch.bmm(attention.transpose(1, 2), of_each).transpose(0, 1)
        for part in (of_q, of_k):
            part.copy_(_turned(part, cos * self._scale, -sin * self._scale))
        of_normed, of_three = self._back(0, of_qkv, normed, inner_qkv, halves[0])
        of_x = of_middle + _back_of_normed(of_normed, x, of_norm, self._norms[0])
        return of_x, [*of_three, *of_out, *of_gate_up, *of_down]


def _normed(x: torch.Tensor, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """RMSNorm of x (n, d) in bfloat16, and 1 / root mean square (n, 1)."""
    inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return (x * inverse).mul_(norm.weight).bfloat16(), inverse


def _back_of_normed(gradient: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, norm: Any) -> torch.Tensor:
    of_unit, unit = gradient * norm.weight, x * inverse
    return of_unit.sub_(unit.mul_((of_unit * unit).mean(-1, keepdim=True))).mul_(inverse)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions of x (n, n_heads, d), in bfloat16; with -sin, the way back."""
    half = x.shape[-1] // 2
    other = torch.cat([-x[..., half:], x[..., :half]], -1)
    return (x * cos).addcmul_(other, sin).bfloat16()


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        block: _HalfBlock,
        ends: Sequence[int],
        cos: torch.Tensor,
        sin: torch.Tensor,
        *learned: torch.Tensor,
    ) -> torch.Tensor:
        made, ctx.kept = block.forward(x, ends, cos, sin, learned)
        ctx.block = block
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        of_x, of_learned = ctx.block.backward(gradients[0], ctx.kept)
        return of_x, None, None, None, None, *of_learned


class _HeadLoss(torch.autograd.Function):
    """Summed cross-entropy (nats) of hidden (n, d) under a head (n_vocabulary, d) in bfloat16. Its gradient is made
    with it, `N_ROWS` rows at a time, so that the logits of all rows never stand in memory.
    """

    N_ROWS = 256

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total, parts = torch.zeros((), dtype=torch.float64), []
        for rows, wanted in zip(
            hidden.bfloat16().split(_HeadLoss.N_ROWS), targets.split(_HeadLoss.N_ROWS), strict=True
        ):
            logits = (rows @ head.t()).float()
            norm = torch.logsumexp(logits, -1, keepdim=True)
            total += (norm.squeeze(-1) - logits.gather(-1, wanted[:, None]).squeeze(-1)).double().sum()
            off = logits.sub_(norm).exp_()
            off[torch.arange(len(wanted)), wanted] -= 1
            parts.append(off.bfloat16() @ head)
        ctx.of_hidden = torch.cat(parts)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] * ctx.of_hidden, None, None


class HalfModel:
    """A peft model (without dropout) of Llama's kind whose products are in bfloat16, for training on sequences packed
    behind one another. Raises FinetuneError where not every layer is adapted.
    """

    def __init__(self, wrapped: Any) -> None:
        inner = wrapped.base_model.model
        self._model, layers = inner.base_model, inner.base_model.layers
        if any(not any("lora_A" in name for name, _ in layer.named_parameters()) for layer in layers):
            raise FinetuneError("Products in bfloat16 are for models of which every layer is adapted.")
        self._blocks = [_HalfBlock(layer) for layer in layers]
        self._head = inner.get_output_embeddings().weight.detach().bfloat16()

    def completion_loss(self, sequences: Sequence[Sequence[int]], n_prompt: Sequence[int]) -> tuple[torch.Tensor, int]:
        """Summed cross-entropy (nats) of what follows the first `n_prompt[i]` tokens of each sequence, and how many
        tokens that is.
        """
        read = [torch.tensor(tokens) for tokens in sequences]
        ends = [0, *itertools.accumulate(len(tokens) - 1 for tokens in read)]
        positions = torch.cat([torch.arange(len(tokens) - 1) for tokens in read])
        x = self._model.embed_tokens(torch.cat([tokens[:-1] for tokens in read]))
        cos, sin = (part[0, :, None].float() for part in self._model.rotary_emb(x[None], position_ids=positions[None]))
        for block in self._blocks:
            x = _Block.apply(x, block, ends, cos, sin, *block.learned)  # type: ignore[no-untyped-call]  # as above
        learned = torch.cat([torch.arange(1, len(t)) >= n for t, n in zip(read, n_prompt, strict=True)])
        targets = torch.cat([tokens[1:] for tokens in read])[learned]
        hidden = self._model.norm(x[learned])
        loss: torch.Tensor = _HeadLoss.apply(hidden, self._head, targets)  # type: ignore[no-untyped-call]  # as above
        return loss, len(targets)


def adapted(
    model: "PreTrainedModel", *, rank: int, alpha: int, layers: Sequence[int], dropout: float = 0.0, seed: int = 0
) -> Any:
    """The model as a peft model with LoRA on every projection of the blocks in `layers`; only those learn.

    Raises FinetuneError for a family without the projections of Llama's blocks.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in PROJECTIONS if name not in names]:
        raise FinetuneError(
            f"{type(model).__name__} has no {', '.join(missing)}; adapters are trained for Llama-like models only."
        )
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(PROJECTIONS),
        layers_to_transform=list(layers),
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    for module in list(wrapped.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(module, name, FrozenLinear(child))
    return wrapped


def completion_loss(
    wrapped: Any, token_ids: torch.Tensor, n_prompt: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy (nats) of the completions' tokens, and how many there are.

    `token_ids` (n_rows, n_tokens) is padded on the right with anything; row i has `lengths[i]` tokens, of which the
    first `n_prompt[i]` are the prompt. Causal attention never looks at the padding, so it needs no mask. Logits exist
    for the completions' tokens alone.
    """
    inner = wrapped.base_model.model
    hidden = inner.base_model(input_ids=token_ids[:, :-1], use_cache=False).last_hidden_state
    predicted = torch.arange(1, token_ids.shape[1], device=token_ids.device)
    learned = (predicted >= n_prompt[:, None]) & (predicted < lengths[:, None])
    logits = inner.get_output_embeddings()(hidden[learned])
    return nn.functional.cross_entropy(logits, token_ids[:, 1:][learned], reduction="sum"), int(learned.sum())


def begin_from(wrapped: Any, adapter: Path) -> None:
    """Makes a fresh adapter compute what a shipped one of lower or equal rank and the same scale does: its rows come
    first, the columns of B behind them stay zero.

    Raises FinetuneError for one that has weights this one lacks.
    """
    from safetensors.torch import load_file

    learned = learned_state(wrapped)
    for name, weight in load_file(adapter / ADAPTER_WEIGHTS).items():
        key = name.replace(".weight", ".default.weight")
        if key not in learned or any(a > b for a, b in zip(weight.shape, learned[key].shape, strict=True)):
            raise FinetuneError(f"{adapter / ADAPTER_WEIGHTS}: {name} has no place in the adapter that is trained.")
        with torch.no_grad():
            learned[key][: weight.shape[0], : weight.shape[1]] = weight.to(learned[key].dtype)


def learned_state(wrapped: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by name."""
    return {name: parameter for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
