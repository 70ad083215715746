"""How much faster a KL(β) sweep is than the plain way, and whether the curves are the same.

    python benchmarks/sweep.py [--repeats 5] [--tokens 600] [--chunk 20]

Plain: for each β one full forward pass of the context with a hook that steers the anchor token at half depth, then
logits and the KL at the chunk's positions in float64. Ours: `encode` once and `sweep_chunk`. Same model, same context,
same run, one thread, alternating; medians. The model is the embedded SmolLM2-135M-Instruct where its cache exists, and
otherwise random weights of its shape.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from backend.geometry.directions import per_chunk
from backend.geometry.sweep import BETAS, predicting_positions, sweep_chunk
from backend.models.edits import encode
from backend.models.kl import kl_reference
from backend.models.layers import layers_of, residual_of, with_residual
from backend.models.residuals import chunk_activations

TARGET = 35.0  # times faster than the plain way
STEPS = (
    "Let me see. On day {n} the shop sold {a} pens at {b} cents each, which gives {c} cents.",
    "Wait, I should check that: {a} times {b} is {c}, so the line above is right.",
    "Therefore the box with {a} rows of {b} tiles needs {c} tiles in all.",
    "But if a worker lays {b} tiles an hour, then after {a} hours {c} of them are down.",
    "So far the sum is {c}. Next we have to take away {a}, and {b} more for the broken ones.",
)


def load():
    """The embedded model, or, where its weights cannot be had, random weights of the same shape."""
    from backend.errors import AnchorscopeError
    from backend.models.embedded import MODEL_NAME
    from backend.models.loading import load_model

    try:
        return load_model(f"embedded:{MODEL_NAME}"), f"embedded:{MODEL_NAME}"
    except AnchorscopeError as error:
        from transformers import LlamaConfig, LlamaForCausalLM

        print(f"The embedded model is not at hand ({error}); random weights of its shape are timed instead.")
        torch.manual_seed(0)
        model = (
            LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=49152,
                    hidden_size=576,
                    intermediate_size=1536,
                    num_hidden_layers=30,
                    num_attention_heads=9,
                    num_key_value_heads=3,
                    tie_word_embeddings=True,
                    max_position_embeddings=8192,
                    initializer_range=0.1,
                )
            )
            .eval()
            .requires_grad_(False)
        )
        return (
            SimpleNamespace(model=model, model_id="m_random", n_layers=30, tokenizer=None),
            "random weights of SmolLM2-135M's shape",
        )


@torch.inference_mode()
def plain_curve(model, tokens, span, layer, unit_vector):
    """KL(β) as the definition says, with the model's own forward pass of the whole context for each β."""
    anchor, at = span[0] - 1, predicting_positions(span)
    logits = []
    for beta in BETAS:

        def steer(_block, _inputs, output, beta=beta):
            h = residual_of(output).clone()
            h[0, anchor] += beta * h[0, anchor].square().mean().sqrt() * unit_vector
            return with_residual(output, h)

        handle = layers_of(model).blocks[layer].register_forward_hook(steer)
        try:
            logits.append(model(tokens).logits[0, at])
        finally:
            handle.remove()
    base = logits[BETAS.index(0.0)]
    return [kl_reference(steered, base).mean().item() for steered in logits]


def reasoning_text() -> str:
    """Sentences of arithmetic, no two alike: a text that repeats itself would make the model too sure to be steered."""
    numbers = [(n, 7 + 13 * n % 29, 3 + 17 * n % 41) for n in range(1, 200)]
    return " ".join(STEPS[n % len(STEPS)].format(n=n, a=a, b=b, c=a * b) for n, a, b in numbers)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--tokens", type=int, default=600, help="tokens of the context")
    arguments.add_argument("--chunk", type=int, default=20, help="tokens of the chunk, which ends the context")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    loaded, name = load()
    model, layer = loaded.model, loaded.n_layers // 2
    if loaded.tokenizer is None:
        ids = torch.randint(0, 49152, (chosen.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    else:
        ids = loaded.tokenizer(reasoning_text()).input_ids[: chosen.tokens]
    tokens, span = torch.tensor([ids]), (chosen.tokens - chosen.chunk, chosen.tokens)
    encoded = encode(loaded, ids, layers=[layer])
    activation = chunk_activations(encoded.residual(layer), [span]).mean[0].numpy()
    (direction,) = per_chunk({"chunk": activation}, model_id=loaded.model_id, layer=layer).made
    unit_vector = torch.from_numpy(direction.vector)

    def ours(encoded):
        return sweep_chunk(loaded, encoded, "chunk", span, [direction], positions=["anchor"], betas=BETAS).kl_curves[0][
            "kl"
        ]

    ours(encoded)
    times = {"plain": [], "encode": [], "sweep": []}
    worst = 0.0
    for repeat in range(chosen.repeats):
        start = time.perf_counter()
        expected = plain_curve(model, tokens, span, layer, unit_vector)
        times["plain"].append(time.perf_counter() - start)
        start = time.perf_counter()
        encoded = encode(loaded, ids, layers=[layer])
        times["encode"].append(time.perf_counter() - start)
        for _ in range(3):
            start = time.perf_counter()
            curve = ours(encoded)
            times["sweep"].append(time.perf_counter() - start)
            worst = max(worst, max(abs(a - b) for a, b in zip(curve, expected, strict=True)))
        last = {key: seconds[-1] for key, seconds in times.items()}
        print(
            f"repeat {repeat + 1}: plain {last['plain']:.2f} s, encode {last['encode']:.2f} s, sweep"
            f" {last['sweep']:.3f} s",
            flush=True,
        )

    plain, encoding, sweep = (statistics.median(times[key]) for key in ("plain", "encode", "sweep"))
    n_chunks = chosen.tokens // chosen.chunk
    print(f"""
{name}, layer {layer} of {loaded.n_layers}, context {chosen.tokens} tokens, chunk {chosen.chunk} tokens, {len(BETAS)} β in [−10, 10],
float32, one thread; medians of {chosen.repeats} plain and {3 * chosen.repeats} own runs. KL at β = 10: {expected[-1]:.4f} nats.
  plain way, one curve: {len(BETAS)} forward passes of the context      {plain:8.3f} s
  encoding the context once                                   {encoding:8.3f} s
  one curve from an encoded context                           {sweep:8.3f} s
times faster than the plain way:
  (i)   a curve when the CoT is already encoded               {plain / sweep:8.1f}×   target {TARGET:.0f}×
  (ii)  with its share of the encoding, {n_chunks} chunks a CoT        {plain / (sweep + encoding / n_chunks):8.1f}×
  (iii) with the whole encoding, for a single curve           {plain / (sweep + encoding):8.1f}×
largest difference between the curves                         {worst:8.1e} nats, limit 1e-5
"ratio" below is (i): the plain way's median time over that of one curve whose CoT is already encoded.
Both compute in float32. The plain way is the model's own forward, whose products torch gives to MKL on a CPU; ours go to oneDNN.
""")  # noqa: E501
    print(json.dumps({"ratio": round(plain / sweep, 2), "max_abs_diff": worst}))


if __name__ == "__main__":
    main()
