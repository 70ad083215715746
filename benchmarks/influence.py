"""How much faster suppression of attention is than the plain way, and whether the influences are the same.

    python benchmarks/influence.py [--tokens 600] [--chunks 30] [--plain 4] [--repeats 1] [--bare]

The text is the prompt of a question, as every CoT of this model has it before it, and reasoning in chunks of equal
size; with --bare the chunks begin at once. Plain: for each chunk one forward pass of transformers over the whole text
with a 4-D mask that takes the chunk from all later tokens, full logits, KL in float64. Ours: `influences` of the whole
text: reading it, its noise, every pair of chunks. Same model, same text, same run, one thread. The plain way is timed
at --plain chunks that are spread over the text, as each pass costs the same; its time for all is their median times the
number of chunks.

`share` is the time that our matrix products need at least (reading the text, every token read again, its unembedding; 2
operations for each weight and token, attention left out) at the fastest rate measured in the same run (`roof_gflops`),
as a share of the time taken. `most` is the ratio that products at that rate, and nothing else, would reach.
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

import torch

from backend.cot.prompts import BOXED, cot_prompt
from backend.geometry.sweep import predicting_positions
from backend.influence.suppression import influences
from backend.models.kl import kl_reference
from benchmarks.lenses import roof, weights_of_blocks
from benchmarks.sweep import load, reasoning_text

QUESTION = "A shop sells pens in boxes of 12. On seven days it sold 3, 5, 2, 8, 1, 4 and 6 boxes. How many pens?"
TARGET = 10.0  # times faster than the plain way


@torch.inference_mode()
def plain_kl(model, tokens, base, span):
    """KL(suppressed ‖ base), nats, at every position of the text, float64."""
    start, end = span
    at = torch.arange(tokens.shape[1])
    allowed = (at[None] <= at[:, None]) & ~((at[:, None] >= end) & (start <= at[None]) & (at[None] < end))
    return kl_reference(model(tokens, attention_mask=allowed[None, None]).logits[0], base)


def operations(loaded, n_tokens: int, spans: list[tuple[int, int]]) -> int:
    """Of the matrix products that `influences` needs: all tokens, then those after the first chunk for the noise and
    those after each chunk but the last for it.
    """
    end, begins = spans[-1][1] - 1, spans[0][1]  # the last token is predicted from the one before it
    again = end - begins + sum(end - b for _, b in spans[:-1])
    head = loaded.model.get_output_embeddings().weight.numel()
    return 2 * ((n_tokens + again) * weights_of_blocks(loaded) + (end - begins + again) * head)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tokens", type=int, default=600, help="tokens of the text")
    arguments.add_argument("--chunks", type=int, default=30)
    arguments.add_argument("--plain", type=int, default=4, help="chunks that the plain way is timed at")
    arguments.add_argument("--repeats", type=int, default=1)
    arguments.add_argument("--bare", action="store_true", help="no prompt before the chunks")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    loaded, name = load()
    n_prompt, ids = 1, torch.randint(0, 49152, (chosen.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    if loaded.tokenizer is not None:
        prompt = loaded.tokenizer(cot_prompt(loaded.tokenizer, QUESTION, BOXED), add_special_tokens=False).input_ids
        prompt = prompt[: 0 if chosen.bare else None]
        n_prompt, ids = max(1, len(prompt)), [*prompt, *loaded.tokenizer(reasoning_text()).input_ids][: chosen.tokens]
    tokens, size = torch.tensor([ids]), (chosen.tokens - n_prompt) / chosen.chunks
    edges = [n_prompt + round(number * size) for number in range(chosen.chunks + 1)]
    spans = {f"chunk {number}": (edges[number], edges[number + 1]) for number in range(chosen.chunks)}
    some = [round((number + 0.5) * chosen.chunks / chosen.plain) for number in range(chosen.plain)]
    list(influences(loaded, ids[:100], {"a": (1, 20), "b": (20, 100)}))
    with torch.inference_mode():
        base = loaded.model(tokens).logits[0]
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    worst, largest, roofs = 0.0, 0.0, []
    for repeat in range(chosen.repeats):
        roofs.append(roof())
        start = time.perf_counter()
        found = list(influences(loaded, ids, spans))
        times["ours"].append(time.perf_counter() - start)
        for number in some[repeat :: chosen.repeats]:
            source = found[number]
            start = time.perf_counter()
            kl = plain_kl(loaded.model, tokens, base, spans[source.source_chunk_id])
            times["plain"].append(time.perf_counter() - start)
            for row in source.rows:
                of = [
                    t
                    for t in predicting_positions(spans[row["target_chunk_id"]])
                    if t >= spans[source.source_chunk_id][1]
                ]
                expected = kl[of].mean().item()
                worst, largest = max(worst, abs(expected - row["kl"])), max(largest, expected)
        print(
            f"repeat {repeat + 1}: ours {times['ours'][-1]:.2f} s, plain {times['plain'][-1]:.2f} s a chunk", flush=True
        )
    plain, ours = statistics.median(times["plain"]) * chosen.chunks, statistics.median(times["ours"])
    least = operations(loaded, len(ids), list(spans.values())) / max(roofs)
    noise = max(one.noise for one in found if one.noise is not None)
    print(f"""
{name}, {chosen.tokens} tokens, {n_prompt} of them before the first of {chosen.chunks} chunks, float32, one thread.
  plain way, {chosen.chunks} passes at the median of {len(times["plain"])}     {plain:8.1f} s
  ours, reading the text and the noise included        {ours:8.1f} s
times faster                                           {plain / ours:8.1f}×   target {TARGET:.0f}×
  least for our products, at {max(roofs) / 1e9:.0f} GFLOP/s             {least:8.1f} s   {least / ours:.2f} of the time
  times faster if there were nothing but them          {plain / least:8.1f}×
largest difference between influences                  {worst:8.1e} nats, limit 1e-5; the largest is {largest:.2f}
largest noise                                          {noise:8.1e} nats
Both compute in float32. The plain way's products go to MKL, which torch asks on a CPU; ours go to oneDNN.
""")
    measured = {"ratio": round(plain / ours, 2), "max_abs_diff": worst, "roof_gflops": round(max(roofs) / 1e9)}
    print(json.dumps(measured | {"share": round(least / ours, 2), "most": round(plain / least, 1)}))


if __name__ == "__main__":
    main()
