"""How fast a BatchTopK crosscoder trains, against plain PyTorch of the same mathematics, in turns in one process.

    python benchmarks/crosscoder.py

1. Both start from the same weights and get the same batches of synthetic activations: sparse sums of planted directions
   with noise.
2. The reference is what one would write: two einsums, relu, topk over the flattened batch, autograd, Adam as PyTorch
   has it. That both compute the same is checked on the way: their losses, step by step.
3. The first steps, in which the threshold is still unknown, are left out; of the others the median step counts.
4. `gemm_share`: multiplications that our step really does (one dense product and the sums over kept codes), as a share
   of what the machine's fastest large float32 product does in the same time. `dense_share` counts the five products of
   a dense step instead.

The last line is JSON. Alone on the machine the figures mean something; beside other work they do not.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backend.crosscoder.train import Settings, Trainer
from backend.models.linear import linear

N_MODELS = 2
PLANTED = 2000  # directions in each model's activations
ACTIVE = 24  # of them in a token
SETTLING = 6  # steps that are not timed


class Plain(torch.nn.Module):
    """The crosscoder as one would write it down."""

    def __init__(self, trainer: Trainer, settings: Settings) -> None:
        super().__init__()
        shape = (settings.n_features, settings.n_models, settings.width)
        self.encoder = torch.nn.Parameter(trainer.encoder.detach().clone().view(shape))
        self.decoder = torch.nn.Parameter(trainer.decoder.detach().clone().view(shape))
        self.encoder_bias = torch.nn.Parameter(torch.zeros(settings.n_features))
        self.decoder_bias = torch.nn.Parameter(torch.zeros(settings.n_models, settings.width))
        self.settings = settings
        self.optimizer = torch.optim.Adam(self.parameters(), lr=settings.learning_rate)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        codes = torch.relu(torch.einsum("nmd,fmd->nf", activations, self.encoder) + self.encoder_bias)
        gate = codes * self.decoder.norm(dim=2).sum(1)
        kept = torch.zeros_like(gate).flatten()
        chosen = gate.flatten().topk(len(activations) * self.settings.k).indices
        kept[chosen] = codes.flatten()[chosen]
        return torch.einsum("nf,fmd->nmd", kept.view_as(codes), self.decoder) + self.decoder_bias

    def step(self, activations: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = (self(activations) - activations).square().sum() / len(activations)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * min(1.0, (self.done + 1) / self.settings.warmup)
        self.optimizer.step()
        self.done += 1
        return loss.item()

    done = 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--width", type=int, default=576)
    arguments.add_argument("--features", type=int, default=8192)
    arguments.add_argument("--batch", type=int, default=4096)
    arguments.add_argument("--k", type=int, default=32)
    arguments.add_argument("--steps", type=int, default=12, help="timed steps of each")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(
        n_models=N_MODELS,
        width=options.width,
        n_features=options.features,
        k=options.k,
        batch=options.batch,
        steps=1_000_000,
        aux=0.0,
    )
    ours = Trainer(settings)
    plain = Plain(ours, settings)
    batch = batches(options)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    apart = 0.0
    for number in range(SETTLING + options.steps):
        activations = batch()
        if number < SETTLING:
            mine, theirs = ours.step(activations).loss, plain.step(activations)
        else:
            mine = timed(times["ours"], lambda a=activations: ours.step(a).loss)
            theirs = timed(times["plain"], lambda a=activations: plain.step(a))
        apart = max(apart, abs(mine - theirs) / theirs)
        print(
            f"step {number + 1}: loss {mine:.4f} and {theirs:.4f}"
            + (f"; {times['ours'][-1]:.2f} s and {times['plain'][-1]:.2f} s" if times["ours"] else "")
        )
    peak = fastest_product(options)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    joined = N_MODELS * options.width
    dense = 2 * options.batch * joined * options.features
    sparse = 2 * options.batch * options.k * joined
    print(
        f"tokens a second: ours {options.batch / seconds['ours']:,.0f}, plain {options.batch / seconds['plain']:,.0f};"
        f" largest difference of the losses {apart:.1e}; fastest product {peak / 1e9:.0f} GFLOP/s on {options.threads}"
        " threads"
    )
    print(
        json.dumps(
            {
                "ratio": round(seconds["plain"] / seconds["ours"], 3),
                "gemm_share": round((dense + 4 * sparse) / seconds["ours"] / peak, 3),
                "dense_share": round(5 * dense / seconds["ours"] / peak, 3),
                "tokens_per_s": round(options.batch / seconds["ours"]),
                "plain_tokens_per_s": round(options.batch / seconds["plain"]),
                "peak_gflops": round(peak / 1e9),
                "threads": options.threads,
                "losses_apart": float(f"{apart:.1e}"),
            }
        )
    )


def batches(options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    """Activations (batch, models, width) whose mean square norm is the width: sparse sums of directions, the same codes
    in both models.
    """
    rng = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(N_MODELS, PLANTED, options.width, generator=rng), dim=2)

    def draw() -> torch.Tensor:
        chosen = torch.randint(PLANTED, (options.batch, ACTIVE), generator=rng)
        sizes = torch.rand(options.batch, ACTIVE, generator=rng) + 0.5
        summed = torch.stack([torch.einsum("na,nad->nd", sizes, own[chosen]) for own in directions], dim=1)
        summed += 0.02 * torch.randn(summed.shape, generator=rng)
        return summed * (options.width / summed.square().sum(2).mean(0)[None, :, None]).sqrt()

    return draw


def timed(into: list[float], work: Callable[[], float]) -> float:
    began = time.perf_counter()
    result = work()
    into.append(time.perf_counter() - began)
    return result


def fastest_product(options: argparse.Namespace) -> float:
    """FLOP a second of the faster of PyTorch's product and ours, at the shape of the pre-activations, best of five."""
    left = torch.randn(options.batch, N_MODELS * options.width)
    right = torch.randn(options.features, N_MODELS * options.width)
    found: list[float] = []
    for product in (lambda: left @ right.t(), lambda: linear(left, right)):
        for _ in range(5):
            timed(found, lambda product=product: product()[0, 0].item())
    return 2 * options.batch * options.features * N_MODELS * options.width / min(found)


if __name__ == "__main__":
    main()
