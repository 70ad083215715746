"""How long exact Fisher steepness takes against the 21-point sweep, and whether it is the limit of KL(β)/β² as β → 0.

    python benchmarks/fisher.py [--repeats 3] [--tokens 400] [--chunks 4] [--directions 4]

Sweep: `sweep_cot`, 21 β in [−10, 10]. Fisher: `fisher_cot`, the same text, chunks and directions, at a third of the
layers, anchor position; both encode the text themselves. Torch: the same derivatives by torch's own forward mode
instead of our dual numbers. Same run, one thread, alternating; medians. The limit:
KL(β)/β² at ±β, averaged so that odd terms cancel, at β and 2β extrapolated to 0 (Richardson); β is the smallest of
0.02, 0.04, … 1.28 at which both KLs are more than 100 times the noise floor. The model is the embedded
SmolLM2-135M-Instruct, or else random weights of its shape.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from backend.geometry.directions import diff_in_means, per_chunk, random
from backend.geometry.fisher import fisher_cot
from backend.geometry.sweep import noise_floor, sweep_cot
from backend.models import tangents
from backend.models.edits import encode
from backend.models.residuals import chunk_activations
from benchmarks.sweep import load, reasoning_text

TARGET_SHARE, TARGET_DIFFERENCE = 1 / 3, 0.01
BETAS = tuple(0.02 * 2**half for half in range(8))  # candidates for the limit: 0.02 to 2.56 RMS
ABOVE_FLOOR = 100.0
CHUNK = 20  # tokens


def limits(loaded, ids, spans, directions, layer):
    """By curve id: the extrapolated limit of KL(β)/β² and the β used; curves that never rise far enough above the floor
    are left out.
    """
    betas = [sign * beta for beta in BETAS for sign in (-1, 1)]
    floors = noise_floor(loaded, ids, spans, encoded=encode(loaded, ids, layers=[layer]))
    found = {}
    for row in sweep_cot(loaded, ids, spans, directions, layers=[layer], positions=["anchor"], betas=betas).kl_curves:
        kl = np.reshape(row["kl"], (len(BETAS), 2))
        ratios = kl.mean(1) / np.square(BETAS)
        for i in range(len(BETAS) - 1):
            if kl[i].min() > ABOVE_FLOOR * floors[row["chunk_id"]]:
                found[row["curve_id"]] = (4 * ratios[i] - ratios[i + 1]) / 3, BETAS[i + 1]
                break
    return found


def fisher_by_torch(*args, **asked):
    """`fisher_cot` without the rules of dual numbers."""
    made = tangents.UpperLayers.__init__

    def without_rules(layers, *args, **kwargs):
        made(layers, *args, **kwargs)
        layers._has_rules = False

    tangents.UpperLayers.__init__ = without_rules
    try:
        return fisher_cot(*args, **asked)
    finally:
        tangents.UpperLayers.__init__ = made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--tokens", type=int, default=400, help="tokens of the text")
    arguments.add_argument("--chunks", type=int, default=4, help="chunks of 20 tokens, spread over the text")
    arguments.add_argument(
        "--directions", type=int, default=4, help="directions a chunk: its own, one of all chunks, the rest random"
    )
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    loaded, name = load()
    layer = loaded.n_layers // 3
    if loaded.tokenizer is None:
        ids = torch.randint(0, 49152, (chosen.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    else:
        ids = loaded.tokenizer(reasoning_text()).input_ids[: chosen.tokens]
    ends = np.linspace(chosen.tokens // chosen.chunks, chosen.tokens, chosen.chunks).astype(int).tolist()
    spans = {f"chunk_{i}": (end - CHUNK, end) for i, end in enumerate(ends)}
    means = chunk_activations(encode(loaded, ids, layers=[layer]).residual(layer), list(spans.values())).mean.numpy()
    activations = dict(zip(spans, means, strict=True))
    directions = [
        *per_chunk(activations, model_id=loaded.model_id, layer=layer).made,
        *diff_in_means(
            activations, dict.fromkeys(spans, 0.0) | {"chunk_0": 1.0}, model_id=loaded.model_id, layer=layer
        ).made,
        *random(chosen.directions - 2, means.shape[1], model_id=loaded.model_id, layer=layer, seed=0).made,
    ]
    asked = {"chunk_spans": spans, "directions": directions, "layers": [layer], "positions": ["anchor"]}

    ways = {"sweep": sweep_cot, "torch": fisher_by_torch, "fisher": fisher_cot}
    times = {way: [] for way in ways}
    fisher_cot(loaded, ids, **asked)
    for repeat in range(chosen.repeats):
        for way, compute in ways.items():
            start = time.perf_counter()
            rows = compute(loaded, ids, **asked)
            times[way].append(time.perf_counter() - start)
        print(
            f"repeat {repeat + 1}: " + ", ".join(f"{way} {spent[-1]:.2f} s" for way, spent in times.items()), flush=True
        )
    sweep, by_torch, fisher = (statistics.median(times[way]) for way in ways)

    found = limits(loaded, ids, spans, directions, layer)
    differences = []
    for row in rows:
        if row["curve_id"] in found:
            limit, beta = found[row["curve_id"]]
            differences.append(abs(row["fisher_steepness"] - limit) / limit)
            print(
                f"{row['chunk_id']} {row['kind']:14} Fisher {row['fisher_steepness']:.5e}, "
                f"limit {limit:.5e} from β = {beta / 2:g} and {beta:g}: {differences[-1]:.3%} apart"
            )
    print(f"""
{name}, layer {layer} of {loaded.n_layers}, text of {chosen.tokens} tokens, {len(spans)} chunks of {CHUNK} tokens, {len(rows)} curves,
float32, one thread; medians of {chosen.repeats} runs.
  21-point sweep of every curve            {sweep:8.2f} s
  Fisher steepness of every curve          {fisher:8.2f} s
  the same by torch's forward mode         {by_torch:8.2f} s     dual numbers are worth a factor of {by_torch / fisher:.2f}
  share of the time                        {fisher / sweep:8.3f}     target {TARGET_SHARE:.3f}
  curves above {ABOVE_FLOOR:.0f} times the noise floor   {len(differences):5d} of {len(rows)}
  largest relative difference              {max(differences):8.4f}     target {TARGET_DIFFERENCE}
""")  # noqa: E501
    ratios = {"time_share": round(fisher / sweep, 4), "of_torch": round(fisher / by_torch, 4)}
    print(json.dumps(ratios | {"max_rel_diff": round(max(differences), 6)}))


if __name__ == "__main__":
    main()
