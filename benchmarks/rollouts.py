"""Tokens a second of rollouts: this project's sampler against `model.generate` called chunk by chunk.

Both continue the same CoTs (which the embedded model writes first) from before the same chunks, with the same number of
rollouts at each, temperature, top-p and cap, in float32. The sampler runs in two processes of one thread each;
`generate` runs with one or two threads, whichever is found faster on the first chunk, with a batch of all rollouts of a
chunk. Counted are tokens drawn for rollouts that had not ended, end tokens included. The two take turns in short
spells, so that whatever else the machine does meets both alike. Two threads that share their cores with another busy
process stall at every small operation: measure on an idle machine, or with
--threads 1.

The sampler does all rollouts of all chunks, so that its figure includes filling and draining its batches, and is held
while `generate` continues one chunk after another, in a shuffled order; each of the sampler's turns is twice as long as
the chunk before it took.

    python benchmarks/rollouts.py [--rollouts 10] [--rows 128] [--cap 224] [--seconds 8]
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

from backend.cot.chunking import chunk_spans, token_spans
from backend.ids import seed_for

MODEL = "embedded:SmolLM2-135M-Instruct"
QUESTIONS = (
    "A baker makes 12 trays of 18 rolls and sells 150 rolls. How many rolls are left?",
    "A train travels 60 km in 45 minutes. How far does it travel in 2 hours?",
    "Tom has 3 boxes of 14 pens. He gives 5 pens to each of his 6 friends. How many pens does he keep?",
    "A shirt costs 24 dollars and is sold at a discount of 25 percent. What do 3 shirts cost?",
    "A garden is 15 m long and 8 m wide. A fence costs 12 dollars a metre. What does the whole fence cost?",
    "Anna reads 35 pages a day. Her book has 420 pages. How many days does she need for two thirds of it?",
)
TEMPERATURE, TOP_P = 0.6, 0.95


@dataclass(frozen=True)
class Point:
    """A chunk of a CoT: rollouts continue the sequence's first `prefix_length` tokens."""

    sequence_id: str
    prefix_length: int


def write_cots(loaded: Any, cap: int) -> tuple[dict[str, list[int]], list[Point]]:
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    tokenizer = loaded.tokenizer
    texts = {
        f"cot-{number}": tokenizer.apply_chat_template(
            [{"role": "user", "content": question + " Think step by step and put the answer in \\boxed{}."}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for number, question in enumerate(QUESTIONS)
    }
    prompts = {key: tokenizer.encode(text, add_special_tokens=False) for key, text in texts.items()}
    requests = [SampleRequest(key, key, len(prompt), seed_for("cot", key)) for key, prompt in prompts.items()]
    sequences, points = {}, []
    for written in sample(loaded, prompts, requests, SamplingParameters(TEMPERATURE, TOP_P, cap)):
        key = written.request_id
        cot = tokenizer.decode(written.token_ids)
        encoded = tokenizer(texts[key] + cot, return_offsets_mapping=True, add_special_tokens=False)
        sequences[key] = encoded["input_ids"]
        spans = token_spans(chunk_spans(cot), encoded["offset_mapping"], text_start=len(texts[key]))
        points += [Point(key, start) for start, _ in spans]
    return sequences, points


def sampler_process(
    number: int,
    sequences: dict[str, list[int]],
    points: list[Point],
    options: argparse.Namespace,
    gate: Any,
    ready: Any,
    results: Any,
) -> None:
    import torch

    torch.set_num_threads(1)
    from backend.models.loading import load_model
    from backend.models.sampling import SampleRequest, SamplingParameters, sample

    loaded = load_model(MODEL)
    parameters = SamplingParameters(TEMPERATURE, TOP_P, options.cap)
    requests = [
        SampleRequest(f"{place}-{n}", point.sequence_id, point.prefix_length, seed_for(place, n, number))
        for place, point in enumerate(points)
        for n in range(options.rollouts)
    ]
    list(
        sample(loaded, sequences, requests[:2], SamplingParameters(TEMPERATURE, TOP_P, 2))
    )  # weights are packed before the clock runs
    active = 0.0
    last = None

    def wait_for_turn() -> bool:
        nonlocal active, last
        if last is not None:
            active += time.perf_counter() - last
        gate.wait()
        last = time.perf_counter()
        return False

    ready.release()
    tokens = sum(
        len(s.token_ids) + (s.finish == "eos")
        for s in sample(loaded, sequences, requests, parameters, rows=options.rows, should_stop=wait_for_turn)
    )
    active += time.perf_counter() - last
    results.put((tokens, active))


class Generator:
    """`model.generate`, one chunk after another, in spells."""

    def __init__(
        self, loaded: Any, sequences: dict[str, list[int]], points: list[Point], options: argparse.Namespace
    ) -> None:
        self.loaded, self.sequences, self.points, self.options = loaded, sequences, points, options
        self.tokens, self.seconds, self.next = 0, 0.0, 0

    def continue_from(self, point: Point) -> int:
        import torch

        prefix = torch.tensor([self.sequences[point.sequence_id][: point.prefix_length]])
        end = self.loaded.tokenizer.eos_token_id
        out = self.loaded.model.generate(
            prefix,
            attention_mask=torch.ones_like(prefix),
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
            max_new_tokens=self.options.cap,
            num_return_sequences=self.options.rollouts,
            pad_token_id=end,
        )[:, point.prefix_length :]
        ended = (out == end).cumsum(1)
        return int(((ended == 0) | ((ended == 1) & (out == end))).sum())

    def spell(self) -> float:
        """One chunk; the seconds it took."""
        started = time.perf_counter()
        self.tokens += self.continue_from(self.points[self.next % len(self.points)])
        self.next += 1
        spent = time.perf_counter() - started
        self.seconds += spent
        return spent

    def rate_with(self, threads: int) -> float:
        import torch

        torch.set_num_threads(threads)
        started = time.perf_counter()
        return self.continue_from(self.points[0]) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Rollout tokens a second: the sampler against model.generate, side by side."
    )
    parser.add_argument("--rollouts", type=int, default=10, help="rollouts at each chunk, and generate's batch")
    parser.add_argument("--rows", type=int, default=128, help="rows a batch in each of the sampler's two processes")
    parser.add_argument("--cap", type=int, default=224, help="most new tokens a rollout")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="length of the sampler's first turn, and the least of the others"
    )
    parser.add_argument(
        "--threads",
        type=int,
        choices=(1, 2),
        help="threads of generate; without it, the faster of the two on one chunk",
    )
    options = parser.parse_args()
    import torch

    from backend.models.loading import load_model

    torch.set_num_threads(1)

    loaded = load_model(MODEL)
    sequences, points = write_cots(loaded, options.cap)
    print(
        f"{len(sequences)} CoTs of {min(map(len, sequences.values()))} to {max(map(len, sequences.values()))} tokens"
        f" with their prompts, {len(points)} chunks, {options.rollouts} rollouts at each",
        flush=True,
    )

    context = multiprocessing.get_context("spawn")
    gate, ready, results = context.Event(), context.Semaphore(0), context.Queue()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the two processes: their linear algebra starts with one thread
    by_process = [[p for p in points if int(p.sequence_id.split("-")[1]) % 2 == half] for half in range(2)]
    workers = [
        context.Process(
            target=sampler_process, args=(number, sequences, part, options, gate, ready, results), daemon=True
        )
        for number, part in enumerate(by_process)
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    shuffled = random.Random(0).sample(points, len(points))
    plain = Generator(loaded, sequences, shuffled, options)
    plain.rate_with(1)  # warm
    rates = {threads: plain.rate_with(threads) for threads in ((options.threads,) if options.threads else (1, 2))}
    best = max(rates, key=rates.get)
    torch.set_num_threads(best)
    found = ", ".join(f"{rate:.0f} tokens/s with {threads} thread(s)" for threads, rate in rates.items())
    print(f"generate on one chunk: {found}; it runs with {best}", flush=True)

    spells, turn = 0, options.seconds
    while any(worker.is_alive() for worker in workers):
        gate.set()
        until = time.perf_counter() + turn
        while time.perf_counter() < until and results.qsize() < 2 and any(worker.is_alive() for worker in workers):
            time.sleep(0.05)
        gate.clear()
        if results.qsize() == 2:
            break
        time.sleep(0.5)  # steps under way end
        turn = max(options.seconds, 2 * plain.spell())
        spells += 1
    finished = [results.get(timeout=10) for _ in workers]
    ours = sum(tokens for tokens, _ in finished) / max(seconds for _, seconds in finished)
    theirs = plain.tokens / plain.seconds
    print(
        f"sampler: {sum(t for t, _ in finished)} tokens, {ours:.1f} tokens/s ({options.rows} rows, two processes of one"
        " thread)"
    )
    print(
        f"generate: {plain.tokens} tokens, {theirs:.1f} tokens/s (batches of {options.rollouts}, {best} thread(s)),"
        f" {spells} turns each"
    )
    print(json.dumps({"ratio": round(ours / theirs, 2)}))


if __name__ == "__main__":
    main()
