"""How much memory each stage takes at the size of a real reasoner: a table by stage.

    python benchmarks/memory.py [--shape r1-distill-qwen-1.5b] [--layers 28] [--tokens 8000] [--chunks 120]
        [--measured 6] [--stages activations,sweep] [--folder FOLDER]

Two models of the shape, with random weights and the embedded model's tokenizer, are a pair of base and reasoner; each
has written one chain of thought of --tokens tokens, which is planted: what a model of random weights writes is no
text. Everything else is the pipeline, stage by stage, each in a process of its own with one worker, whose peak of
resident memory the system tells. Stages that read the text again for each of its chunks see it cut into --measured long
chunks; the others see --chunks of them. A stage that fails says so, and the table goes on.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHAPES = {  # config.json of the hub's repositories
    "r1-distill-qwen-1.5b": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
    },
    "qwen3-1.7b": {
        "model_type": "qwen3",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
    },
    "tiny": {
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "rope_theta": 10000.0,
    },
}
TOKENIZER = "embedded:Anchorscope-Reasoner-135M"
ONCE_A_CHUNK = (
    *("rollouts", "capped_answers", "importance", "resilience", "reference", "sweep", "geometry", "random_steps"),
    *("before_after", "influence", "commitment", "resampled_influence", "influence_agreement", "evidence", "claims"),
)  # fmt: skip
NEEDED = ("categories", "activations", "lens")  # by those of ONCE_A_CHUNK
GIB = 2**30


def make_model(folder: Path, shape: str, layers: int, seed: int) -> None:
    """Random weights, in bfloat16 on the disk; they are read as float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from backend.models.loading import load_tokenizer

    if (folder / "config.json").exists():
        return
    wanted = dict(SHAPES[shape])
    tokenizer = load_tokenizer(TOKENIZER)
    config = AutoConfig.for_model(wanted.pop("model_type"), **wanted | {"num_hidden_layers": layers})
    config.update({"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id})
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def text_of(n_tokens: int, n_chunks: int) -> str:
    """About so many tokens in so many sentences, no two alike."""
    from backend.models.loading import load_tokenizer

    tokenizer, sentences = load_tokenizer(TOKENIZER), []
    for number in range(n_chunks):
        parts, k = [], 0
        while len(tokenizer(" ".join(parts)).input_ids) < n_tokens / n_chunks - 4:
            a, b = 7 + (13 * number + 5 * k) % 89, 3 + (17 * number + 7 * k) % 41
            parts.append(f"take {a} boxes of {b} pens and note {a * b} of them,")
            k += 4 if n_tokens / n_chunks > 400 else 1
            parts += [f"then {a + j} and {b + j} make {a + b + 2 * j}," for j in range(3 if k > 1 else 0)]
        sentences.append(f"Step {number + 1}: " + " ".join(parts).rstrip(",") + ".")
    return " ".join(sentences)


def study_of(folder: Path, layers: int) -> dict:
    middle = layers // 2
    return {
        "name": "long",
        "seed": 1,
        "models": [
            {"name": str(folder / "base"), "role": "base"},
            {"name": str(folder / "reasoner"), "role": "distilled"},
        ],
        "problems": {"per_level": 1, "levels": [1]},
        "sampling": {"samples": 1, "max_new_tokens": 64, "forced_max_tokens": 8},
        "rollouts": {"n": 4, "forced": 1, "cots": 2, "min_chunks": 1, "max_chunks": 1000},
        "activations": {"layers": [middle]},
        "map": {"n_neighbors": 5},
        "sweep": {"layers": [middle], "kinds": ["per_chunk", "random"], "positions": ["anchor", "chunk"], "points": 5},
        "geometry": {"layers": [middle], "spectra": 1, "eigen": 2, "probes": 2, "neighbours": 8, "before_after": 1,
                     "n_bootstrap": 10, "n_permutations": 19},
        "random_steps": {"directions": 4},
        "crosscoder": {"layer": middle, "n_features": 4096, "steps": 20, "batch": 2048, "max_tokens": 16000},
        "lens": {"layers": [middle], "tokens": 2000, "learn_from": 4000},
        "commitment": {},
        "jacobian": {"prompts": 2, "tokens": 4},
        "diverge": {"tokens": 20_000, "max_tokens": 16_000},
        "influence": {"n_bootstrap": 10, "n_permutations": 19, "layer_ranges": 0, "nearest": 1},
        "shape": {"tokens": 200},
        "paths": {"draws": 5, "n_permutations": 19},
        "engine": {"workers": 1, "threads": int(os.environ.get("OMP_NUM_THREADS", "2"))},
    }  # fmt: skip


def run_stage(study_file: Path, stage: str, text: str | None) -> None:
    """In a process of its own. Where `text` is given, it is what the models write."""
    from backend.models import sampling
    from backend.store.unit_files import StudyFolder
    from precompute.pipeline import run_study
    from precompute.stages import STAGES
    from precompute.study import Study

    if text is not None:

        def written(loaded, sequences, requests, *_, **__):
            for request in requests:
                ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
                yield sampling.Sample(request.request_id, tuple(ids), "eos")

        sampling.sample = written
    study = Study.model_validate(json.loads(study_file.read_text("utf-8")))
    run_study(study, StudyFolder(study_file.parent / "store"), stages=STAGES, only=stage)


def measure(study_file: Path, stage: str, text_file: Path | None) -> tuple[float, float, str]:
    """Peak GiB, seconds, and the last line where it failed."""
    command = [sys.executable, __file__, "--run", stage, "--study", str(study_file)]
    command += ["--text", str(text_file)] if text_file else []
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        said.seek(0)
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
    failed = lines[-1][:160] if status and lines else ""
    return used.ru_maxrss * 1024 / GIB, time.perf_counter() - began, failed


def planted(folder: Path, study: dict, n_tokens: int, n_chunks: int) -> Path:
    """A study whose models have each written a chain of so many tokens and chunks; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study), "utf-8")
    (folder / "text.txt").write_text(text_of(n_tokens, n_chunks), "utf-8")
    for stage in ("problems", "cots", "chunks"):
        _, _, failed = measure(folder / "study.json", stage, folder / "text.txt" if stage == "cots" else None)
        if failed:
            raise SystemExit(f"{stage}: {failed}")
    return folder / "study.json"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--shape", choices=SHAPES, default="r1-distill-qwen-1.5b")
    arguments.add_argument("--layers", type=int, help="fewer blocks than the shape has")
    arguments.add_argument("--tokens", type=int, default=8000)
    arguments.add_argument("--chunks", type=int, default=120)
    arguments.add_argument("--measured", type=int, default=6)
    arguments.add_argument("--stages", help="some of them, with commas; left out: all that the study asks for")
    arguments.add_argument("--folder", type=Path, help="kept; the same command goes on with the models there")
    arguments.add_argument("--run", help=argparse.SUPPRESS)
    arguments.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.run:
        run_stage(chosen.study, chosen.run, chosen.text.read_text("utf-8") if chosen.text else None)
        return
    from backend.store.unit_files import StudyFolder
    from precompute.stages import STAGES
    from precompute.study import Study

    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        layers = chosen.layers or SHAPES[chosen.shape]["num_hidden_layers"]
        for seed, name in enumerate(("base", "reasoner")):
            make = f"from benchmarks.memory import make_model, Path; make_model(Path({str(folder / name)!r}),"
            subprocess.run(
                [sys.executable, "-c", f"{make} {chosen.shape!r}, {layers}, {seed})"],
                check=True,
                cwd=Path(__file__).resolve().parents[1],
            )
        study = study_of(folder, layers)
        Study.model_validate(study)
        files = {n: planted(folder / f"chunks-{n}", study, chosen.tokens, n) for n in (chosen.chunks, chosen.measured)}
        wanted = chosen.stages.split(",") if chosen.stages else [stage.NAME for stage in STAGES]
        peaks = []
        print(f"{'stage':22}{'chunks':>8}{'GiB':>8}{'seconds':>10}")
        for stage in wanted:
            if stage in ("problems", "cots", "chunks"):
                continue
            for n, file in files.items():
                leads = (n == chosen.measured) == (stage in ONCE_A_CHUNK)
                if not leads and stage not in NEEDED:
                    continue
                peak, seconds, failed = measure(file, stage, None)
                if leads and (failed or StudyFolder(file.parent / "store").ledger().keys(stage)):
                    peaks.append(peak)
                    print(f"{stage:22}{n:8}{peak:8.2f}{seconds:10.1f}  {failed}", flush=True)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
        print(json.dumps({"shape": chosen.shape, "layers": layers, "peak_gib": round(max(peaks), 2), "own_gib": own}))


if __name__ == "__main__":
    main()
