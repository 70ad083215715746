"""A study whose model is a tiny one in a folder, with real tokens and activations: what the Steering page needs, made
in seconds.
"""

import json
from pathlib import Path

from backend import ids
from backend.cot.chunking import chunk_spans, token_spans
from backend.models.loaded import LoadedModel
from backend.models.residuals import chunk_activations, record_residuals
from backend.store.publish import publish
from backend.store.unit_files import StudyFolder
from tests import small_study
from tests.had_once import copied

QUESTION, ANSWER = "What is 12 + 30?", "42"
COTS = (
    (
        "Let me think step by step. First, we need to add 12 and 30. Wait, that is not right. So the answer is"
        " \\boxed{42}."
    ),
    "We need to find the sum. However, we should check the result again. 12 + 30 = 42. The answer is \\boxed{42}.",
)
LAYERS = (1, 2)
SAMPLED = {
    "seed": 1,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16},
    "rollouts": {"encoder": "embedded:all-MiniLM-L6-v2"},
}
_TAGS = ("plan_generation", "active_computation", "self_checking", "final_answer_emission")


@copied
def make(folder: Path, loaded: LoadedModel, *, writer: str | None = None) -> Path:
    """Publish it at `folder`.

    With `writer` the CoTs were written by a model of that name, which nobody has here, and have no tokens.
    """
    own_id = loaded.model_id if writer is None else ids.stable_id("m", writer)
    problem = small_study.problem(0) | {"question": QUESTION, "answer": ANSWER}
    own = {
        "model_id": own_id,
        "name": loaded.name,
        "role": "model",
        "revision": loaded.revision,
        "dtype": loaded.dtype,
        "family": loaded.family,
        "n_layers": loaded.n_layers,
        "d_model": loaded.d_model,
        "vocab_size": loaded.vocab_size,
    }
    if writer is not None:
        own |= {"name": writer, "revision": None, "dtype": None, "n_layers": None, "d_model": None}
    tables: dict[str, list] = {name: [] for name in ("cots", "chunks", "categories", "activations", "rollouts")}
    for sample, text in enumerate(COTS):
        cot_id, prompt = ids.stable_id("c", "steerable", sample, writer), f"<|im_start|>{QUESTION} "
        encoded = loaded.tokenizer(prompt + text, add_special_tokens=False, return_offsets_mapping=True)
        n_prompt = sum(start < len(prompt) for start, _ in encoded["offset_mapping"])
        characters = chunk_spans(text)
        spans = token_spans(characters, encoded["offset_mapping"], len(prompt))
        tables["cots"].append(
            {
                "cot_id": cot_id,
                "problem_id": problem["problem_id"],
                "model_id": own_id,
                "run_id": ids.stable_id("r", 1),
                "sample": sample,
                "seed": None if writer else 3,
                "prompt": prompt,
                "text": text,
                "after_text": None,
                "prompt_name": "boxed",
                "think_close": None,
                "token_ids": None if writer else encoded["input_ids"],
                "n_prompt_tokens": n_prompt,
                "n_tokens": len(encoded["input_ids"]) - n_prompt,
                "finish": "eos",
                "answer": ANSWER,
                "answer_source": "given",
                "is_correct": True,
                "grader": "math-verify 0.9.0",
            }
        )
        residuals = record_residuals(loaded, encoded["input_ids"], LAYERS)
        for index, ((start, end), (first, last)) in enumerate(zip(characters, spans, strict=True)):
            chunk = ids.chunk_id(cot_id, index)
            tables["chunks"].append(
                {
                    "chunk_id": chunk,
                    "cot_id": cot_id,
                    "chunk_index": index,
                    "char_start": start,
                    "char_end": end,
                    "text": text[start:end],
                    "token_start": None if writer else first,
                    "token_end": None if writer else last,
                }
            )
            tables["categories"].append(
                {
                    "chunk_id": chunk,
                    "source": "classifier 1",
                    "rank": 0,
                    "category": _TAGS[index % len(_TAGS)],
                    "score": 0.7,
                }
            )
            for number in range(0 if writer else 3):
                tables["rollouts"].append(
                    {
                        "rollout_id": ids.rollout_id(chunk, "resample", number),
                        "chunk_id": chunk,
                        "cot_id": cot_id,
                        "kind": "resample",
                        "sample": number,
                        "seed": number,
                        "text": "12 + 30 is 42.",
                        "resampled_chunk": "12 + 30 is 42.",
                        "similarity": 0.5,
                        "answer": "42" if number else "41",
                        "is_correct": number > 0,
                        "grader": "math-verify 0.9.0",
                        "finish": "eos",
                        "n_tokens": 9,
                        "n_kept": None,
                        "departing_chunk": None,
                        "departing_similarity": None,
                    }
                )
            for layer in LAYERS if writer is None else ():
                found = chunk_activations(residuals[layer], [(first, last)])
                tables["activations"].append(
                    {
                        "chunk_id": chunk,
                        "model_id": own_id,
                        "layer": layer,
                        "vector": found.mean[0].numpy(),
                        "rms": float(found.rms[0]),
                        "n_tokens": last - first,
                    }
                )
    run = {
        "run_id": ids.stable_id("r", 1),
        "command": "run",
        "study": "steerable",
        "started_at": small_study._run()["started_at"],
        "seed": 1,
        "parameters": json.dumps(SAMPLED),
        "versions": "{}",
        "commit": None,
        "warnings": [],
    }
    with StudyFolder(folder).writing("test") as writer_:
        writer_.add(
            "all",
            "all",
            {"runs": [run], "models": [own], "problems": [problem], **{k: v for k, v in tables.items() if v}},
        )
        publish(writer_)
    return folder
