"""The metric G of a chunk, written out from its definition in float64: E_p[∇log p · ∇log pᵀ] of the model's own plain
forward pass.
"""

import copy
from types import SimpleNamespace

import torch

from backend.models.layers import layers_of, private_copy, residual_of, with_residual


def in_float64(loaded):
    """The same model in float64, its own copy (the families' RMS norms still compute in float32)."""
    return SimpleNamespace(model=copy.deepcopy(loaded.model).double(), model_id=loaded.model_id)


def explicit_metric(model, tokens, span, layer, unit="rms"):
    """G (d_model, d_model) in float64 of the chunk with token span [s, e), by position set: numpy arrays."""
    parts, (start, end) = layers_of(private_copy(model)), (span[0] - 1, span[1] - 1)
    text, seen = torch.tensor([tokens]), []

    def normed(h):
        def replace(_block, _inputs, output):
            old = residual_of(output)
            seen.append(old[0, start:end].detach())
            return output if h is None else with_residual(output, torch.cat([old[:, :start], h[None], old[:, end:]], 1))

        handle = parts.blocks[layer].register_forward_hook(replace)
        try:
            return parts.trunk(input_ids=text, use_cache=False).last_hidden_state[0, start:end]
        finally:
            handle.remove()

    jacobian = torch.autograd.functional.jacobian
    n = normed(None).detach()
    h = seen[0].clone()
    p = parts.unembed(n).softmax(-1)
    log_p = torch.stack(
        [jacobian(lambda one: parts.unembed(one).log_softmax(-1), one, vectorize=True) for one in n]
    )  # (n_tokens, vocab_size, d_model)
    size = {"rms": h.square().mean(-1).sqrt(), "norm": h.norm(dim=-1), "absolute": torch.ones(len(h), dtype=h.dtype)}[
        unit
    ]
    moved = torch.einsum("tkn,tnsd->tksd", log_p, jacobian(normed, h)) * size[:, None]
    by_position = {"anchor": moved[:, :, 0], "chunk": moved.sum(2)}
    return {
        position: torch.einsum("tk,tka,tkb->ab", p, j, j).detach().numpy() / len(h)
        for position, j in by_position.items()
    }
