"""How soon live steering answers: the first steered token, a KL(β) curve, and streaming against plain generation.

    python benchmarks/live.py

Through the real service and its worker process, on SmolLM2-135M-Instruct, with the text read beforehand as the page
does when it opens:
1. `first_token_s`: from submitting a stream (add 4 RMS at half depth, from the token before the middle chunk on) to its
   first steered token here; the median over seeds, so that nothing is answered from memory.
2. `curve_s`: from submitting a curve of 21 β for a chunk of 20 tokens at half depth to its last point; median over
   directions.
3. `stream_share`: tokens a second of the steered arm, which is streamed beside the base arm and both shadows, against
   transformers' `generate` of one sequence in a process of its own with as many threads; the two take turns.
4. Twenty requests at once: how many were answered, the longest wait, and the worker's memory.

The last line is JSON. Alone on the machine the figures mean something; beside other work they do not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backend.live.requests import Chunk, Compared, Curve, Model, Open, Sampling, Stream, Text
from backend.live.service import Limits, LiveService
from backend.models.interventions import Intervention

NAME = "embedded:SmolLM2-135M-Instruct"
LAYER, CHUNK_TOKENS = 15, 20
QUESTION = (
    "A baker fills 7 trays with 12 rolls each and sells 30 of them before noon. How many rolls are left for the"
    " afternoon?"
)
COT = (
    "First, I restate the question in my own words to be sure what is asked. The baker has 7 trays and each of them"
    " holds 12 rolls. So before noon there are 7 times 12 rolls, and that product is 84 rolls in the shop. Then 30"
    " rolls are sold before noon, so I subtract 30 from 84 and get 54. Wait, let me check the product again: 7 times 10"
    " is 70, and 7 times 2 is 14. Together that is 84, as I said above."
)
PLAIN = """
import sys, time, torch
from backend.models.loading import load_model
loaded = load_model(sys.argv[1]); torch.set_num_threads(int(sys.argv[2])); prompt = torch.tensor([eval(sys.argv[3])])
options = dict(do_sample=True, temperature=0.6, top_p=0.95, pad_token_id=0, eos_token_id=None)
with torch.inference_mode():
    loaded.model.generate(prompt, max_new_tokens=8, min_new_tokens=8, **options)
    for line in sys.stdin:
        n = int(line); began = time.monotonic()
        loaded.model.generate(prompt, max_new_tokens=1, min_new_tokens=1, **options); first = time.monotonic()
        loaded.model.generate(prompt, max_new_tokens=n + 1, min_new_tokens=n + 1, **options)
        print(n / ((time.monotonic() - first) - (first - began)), flush=True)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--tokens", type=int, default=96)
    arguments.add_argument(
        "--threads", type=int, default=None, help="of the worker and of plain generation; the service's own by default"
    )
    options = arguments.parse_args()
    service, model = LiveService(Limits(threads=options.threads)), Model(NAME)
    try:
        report(measured(service, model, options))
    finally:
        service.close()


def report(figures: dict) -> None:
    print(json.dumps(figures))


def measured(service: LiveService, model: Model, options: argparse.Namespace) -> dict:
    from backend.cot.chunking import chunk_spans
    from backend.cot.prompts import cot_prompt
    from backend.models.loading import load_tokenizer

    tokenizer = load_tokenizer(NAME)
    prompt = cot_prompt(tokenizer, QUESTION)
    ids = tokenizer(prompt + COT, add_special_tokens=False)["input_ids"]
    n_prompt = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    middle = (n_prompt + len(ids)) // 2
    spans = chunk_spans(COT)
    chunk = Chunk(
        "c", *spans[len(spans) // 2], token_start=middle, token_end=middle + CHUNK_TOKENS
    )  # cut to the length that is asked for
    text = Text(prompt, COT, (chunk,), tuple(ids), n_prompt)
    began = time.monotonic()
    done(service, "open", model, Open(text, "c"))
    print(
        f"text of {len(ids)} tokens, chunk of {CHUNK_TOKENS}; worker, model and text ready after"
        f" {time.monotonic() - began:.1f} s"
    )

    curves = []
    for seed in range(options.repeats):
        request = Curve(text, "c", intervention(seed, "chunk"), tuple(float(beta) for beta in range(-10, 11)))
        curves.append(done(service, f"curve {seed}", model, request))
    print(f"KL(β), 21 points: {[round(seconds, 2) for seconds in curves]} s")

    threads = service.limits.threads or max(1, (os.cpu_count() or 2) - 1)
    plain = subprocess.Popen(
        [sys.executable, "-c", PLAIN, NAME, str(threads), repr(ids[:middle])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    firsts, rates, plain_rates = [], [], []
    for seed in range(options.repeats):
        compared = Compared(text, "c", "before", intervention(seed, "onward"))
        first, rate = streamed(
            service, f"stream {seed}", model, Stream(compared, Sampling(max_new_tokens=options.tokens), seed)
        )
        firsts.append(first)
        rates.append(rate)
        plain.stdin.write(f"{options.tokens}\n")
        plain.stdin.flush()
        plain_rates.append(float(plain.stdout.readline()))
    plain.stdin.close()
    plain.wait()
    print(f"first steered token: {[round(seconds, 2) for seconds in firsts]} s")
    print(
        f"streamed {[round(r, 1) for r in rates]} tokens/s a arm, plain generate {[round(r, 1) for r in plain_rates]}"
        " tokens/s"
    )
    crowd = crowded(service, model, text)
    return {
        "first_token_s": round(statistics.median(firsts), 3),
        "curve_s": round(statistics.median(curves), 3),
        "stream_share": round(statistics.median(rates) / statistics.median(plain_rates), 3),
        "threads": threads,
        **crowd,
    }


def intervention(seed: int, place: str) -> Intervention:
    vector = np.random.default_rng(seed).standard_normal(576)
    return Intervention((LAYER,), place, "add", (vector / np.linalg.norm(vector)).astype(np.float32), 4.0)


def done(service: LiveService, name: str, model: Model, request: object) -> float:
    """Seconds from submitting to the end, as whoever waits here sees it."""
    began = time.monotonic()
    service.submit(name, model, request)
    status = service.wait(name, 300)
    if status.state != "finished":
        raise SystemExit(f"{name}: {status.state}, {status.error}")
    return time.monotonic() - began


def streamed(service: LiveService, name: str, model: Model, request: Stream) -> tuple[float, float]:
    """Seconds to the first steered token, and tokens a second after it."""
    began, arrived = time.monotonic(), []  # seconds at which there were so many tokens
    service.submit(name, model, request)
    while True:
        status = service.status(name)
        n = len(status.result.get("arms", {}).get("changed", {}).get("tokens", []))
        if n and (not arrived or n > arrived[-1][1]):
            arrived.append((time.monotonic() - began, n))
        if status.ended:
            if status.state != "finished" or arrived[-1][1] < 16:
                raise SystemExit(f"{name}: {status.state}, {arrived[-1:]} tokens, {status.error}")
            (first, n_first), (last, n_last) = arrived[0], arrived[-1]
            return first, (n_last - n_first) / (last - first)
        time.sleep(0.005)


def crowded(service: LiveService, model: Model, text: Text) -> dict:
    """Twenty people press at once."""
    began = time.monotonic()
    names = [f"crowd {number}" for number in range(20)]
    for number, name in enumerate(names):
        compared = Compared(text, "c", "before", intervention(100 + number, "onward"))
        service.submit(name, model, Stream(compared, Sampling(max_new_tokens=16), number))
    places = [service.status(name).place for name in names]
    ended = [service.wait(name, 300) for name in names]
    answered = sum(status.state == "finished" for status in ended)
    seconds, memory = time.monotonic() - began, service.load()["memory_bytes"]
    told = sum(place is not None for place in places)
    print(
        f"20 at once: {answered} answered, {told} told their place, the last done after {seconds:.1f} s; worker"
        f" {memory / 2**30:.2f} GiB"
    )
    return {"crowd_answered": answered, "crowd_s": round(seconds, 1), "worker_gib": round(memory / 2**30, 2)}


if __name__ == "__main__":
    main()
