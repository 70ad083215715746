"""How near lenses come to the least they can cost: the matrix products they need at this machine's fastest rate.

    python benchmarks/lenses.py [--threads 1] [--repeats 3] [--tokens 300] [--layers 21] [--named 8] [--prompts 4]

1. `roof_gflops`: the fastest large float32 product, measured in the same run between the others.
2. Logit lens of a whole map: a forward pass, and top token, probability, entropy and KL of every token at some layers,
   as the live worker computes them.
3. First picture: the live request, in this process, until the last token of each chunk of 20 is there at all layers
   (`first_picture_s`).
4. Tuned lens of the whole map: as 2, with a translator of drawn weights at each layer.
5. Jacobian lens: a prompt's rows of named tokens at all layers, and what 32 tokens and 100 prompts would take.

`share` is the products' operations over the time, as a share of the roof: 2 for each weight and token (or cotangent),
attention left out; `cpu_share` is over the time that the process computed, which other work beside it does not
lengthen. The model is the embedded SmolLM2-135M-Instruct. The last line is JSON. Alone on the machine the figures mean
something; beside other work they do not.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if "--threads" not in sys.argv:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from backend.lens.cells import OwnPredictions, cells, own_cells
from backend.lens.jacobian import MAX_TOKENS, cotangents_of, positions_of, prompt_rows
from backend.lens.lens import Lens, LogitLens, Readout, TunedLens
from backend.live.jobs import Reader
from backend.live.lens_map import under_lens
from backend.live.requests import Chunk, LensMap, Text
from backend.models.edits import encode
from backend.models.layers import layers_of
from backend.models.linear import linear
from backend.models.pullbacks import Pullbacks
from benchmarks.sweep import load, reasoning_text

CHUNK = 20  # tokens
WANTED = (32, 100)  # named tokens and prompts of the estimate
STRIP = 1536  # streams of one, as the live worker takes them


@dataclass
class Measured:
    """Something that is timed, and the operations of the matrix products that it needs."""

    name: str
    work: Callable[[], object]
    operations: float
    seconds: list["Spent"] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(one.wall for one in self.seconds)

    @property
    def cpu(self) -> float:
        return statistics.median(one.cpu for one in self.seconds)


@dataclass(frozen=True)
class Spent:
    """Seconds that something took, and that its process computed meanwhile, a thread: beside other work they differ."""

    wall: float
    cpu: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--tokens", type=int, default=300, help="tokens of the text")
    arguments.add_argument("--layers", type=int, default=21, help="of the whole map, the last ones")
    arguments.add_argument("--named", type=int, default=8, help="named tokens of the Jacobian lens")
    arguments.add_argument("--prompts", type=int, default=4, help="prompts that are averaged")
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    loaded, name = load()
    if loaded.tokenizer is None:
        raise SystemExit("The weights of the embedded model are needed here.")
    report(name, chosen, *measured(loaded, chosen))


def measured(loaded, chosen: argparse.Namespace) -> tuple[float, list[Measured], Spent]:
    """The roof, operations a second; what was timed; and what a prompt's rows of the named tokens wanted take."""
    ids, roofs = text(loaded, chosen.tokens), []
    works = timed(loaded, ids, chosen)
    encode(loaded, ids[:8])
    for repeat in range(chosen.repeats):
        roofs.append(roof())
        for one in works:
            one.seconds.append(seconds(one.work))
        print(
            f"repeat {repeat + 1}: roof {roofs[-1] / 1e9:.0f} GFLOP/s, "
            + ", ".join(f"{one.name} {one.seconds[-1].wall:.2f} s" for one in works),
            flush=True,
        )
    pullbacks, vectors = Pullbacks(loaded), cotangents_of(loaded, range(100, 100 + WANTED[0])).vectors
    prompt = text(loaded, MAX_TOKENS)
    a_prompt = seconds(lambda: prompt_rows(pullbacks, prompt, vectors, range(loaded.n_layers - 1)))
    return max(roofs), works, a_prompt


def timed(loaded, ids: Sequence[int], chosen: argparse.Namespace) -> list[Measured]:
    d, n_layers, weights = loaded.d_model, loaded.n_layers, weights_of_blocks(loaded)
    forward, head = 2 * weights * len(ids), 2 * d * loaded.vocab_size
    layers = list(range(n_layers - chosen.layers, n_layers))
    n_chunks = -(-len(ids) // CHUNK)
    draw = torch.Generator().manual_seed(0)
    translators = {
        layer: (0.01 * torch.randn((d, d), generator=draw), torch.zeros(d)) for layer in layers if layer < n_layers - 1
    }
    whole = forward + len(layers) * len(ids) * head
    named, n_prompts = cotangents_of(loaded, range(100, 100 + chosen.named)), chosen.prompts
    prompts = [text(loaded, MAX_TOKENS * (number + 1))[-MAX_TOKENS:] for number in range(n_prompts)]
    read = len(positions_of(MAX_TOKENS)) + positions_of(MAX_TOKENS).start

    def rows() -> None:
        pullbacks = Pullbacks(loaded)
        for prompt in prompts:
            prompt_rows(pullbacks, prompt, named.vectors, range(n_layers - 1))

    return [
        Measured("map", lambda: picture(loaded, LogitLens(), ids, layers), whole),
        Measured("first_picture", lambda: first_picture(loaded, ids, n_chunks), forward + n_layers * n_chunks * head),
        Measured(
            "tuned",
            lambda: picture(loaded, TunedLens(n_layers, translators), ids, layers),
            whole + len(translators) * len(ids) * 2 * d * d,
        ),
        Measured("rows", rows, n_prompts * read * 2 * weights * (1 + chosen.named)),
    ]


def picture(loaded, lens: Lens, ids: Sequence[int], layers: Sequence[int]) -> None:
    """The whole map: what the live worker computes, in its strips of layers."""
    readout, streams = Readout(loaded), encode(loaded, ids).residual
    readout.pack()
    own = OwnPredictions.of(readout, readout.logits(streams(loaded.n_layers - 1)))
    own_cells(own, ())
    below = [layer for layer in layers if layer < loaded.n_layers - 1]
    for first in range(0, len(below), most := max(1, STRIP // len(ids))):
        strip = below[first : first + most]
        cells(readout, lens, [streams(layer) for layer in strip], strip, own, ())


def first_picture(loaded, ids: Sequence[int], n_chunks: int) -> None:
    """The live request until its first picture is there."""
    chunks = tuple(Chunk(f"c{n}", n, n + 1, CHUNK * n, min(CHUNK * (n + 1), len(ids))) for n in range(n_chunks))
    whole = Text("", "." * n_chunks, chunks, tuple(ids), 0)
    next(part for kind, part in under_lens(Reader(loaded), LensMap(whole)) if kind == "part" and "first" in part)


def text(loaded, n_tokens: int) -> list[int]:
    return loaded.tokenizer(reasoning_text()).input_ids[:n_tokens]


def weights_of_blocks(loaded) -> int:
    """Weights of the blocks' products: every token meets each of them once."""
    blocks = layers_of(loaded.model).blocks
    return sum(weight.numel() for weight in blocks.parameters() if weight.ndim == 2)


def roof() -> float:
    """Operations a second of the fastest of some large products."""
    best = 0.0
    for rows, n_in, n_out in ((2048, 2048, 2048), (4096, 576, 1536), (1024, 576, 16384)):
        a, weight = torch.randn(rows, n_in), torch.randn(n_out, n_in)
        linear(a, weight)
        best = max(
            best, 2 * rows * n_in * n_out / min(seconds(lambda a=a, b=weight: linear(a, b)).wall for _ in range(5))
        )
    return best


def seconds(work: Callable[[], object]) -> Spent:
    began, computed = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - began, (time.process_time() - computed) / torch.get_num_threads())


def report(name: str, chosen: argparse.Namespace, fastest: float, works: Sequence[Measured], a_prompt: Spent) -> None:
    print(
        f"\n{name}, float32, {chosen.threads} threads; medians of {chosen.repeats} runs; {chosen.tokens} tokens of text"
    )
    shares = {one.name: one.operations / one.median / fastest for one in works}
    of_cpu = {one.name: one.operations / one.cpu / fastest for one in works}
    for one in works:
        least = one.operations / fastest
        print(
            f"  {one.name:14} {one.median:7.2f} s, {one.operations / 1e9:6.0f} GFLOP, at the roof {least:.2f} s: share"
            f" {shares[one.name]:.2f}, of the time it computed {of_cpu[one.name]:.2f}"
        )
    named, prompts = WANTED
    print(
        f"  rows: {chosen.named} named tokens, {chosen.prompts} prompts of {MAX_TOKENS} tokens; {named} tokens take"
        f" {a_prompt.wall:.1f} s a prompt ({a_prompt.cpu:.1f} s computed), {prompts} prompts"
        f" {a_prompt.cpu * prompts / 60:.0f} minutes alone on the machine"
    )
    found = {one.name: one for one in works}
    figures = {
        "roof_gflops": round(fastest / 1e9, 1),
        "share": {key: round(share, 3) for key, share in shares.items()},
        "cpu_share": {key: round(share, 3) for key, share in of_cpu.items()},
        "first_picture_s": round(found["first_picture"].median, 3),
        "map_s": round(found["map"].median, 2),
        "rows_prompt_s": round(found["rows"].median / chosen.prompts, 2),
        "rows_estimate_minutes": round(a_prompt.cpu * prompts / 60, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
