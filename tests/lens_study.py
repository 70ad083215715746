"""A study of a tiny model for lenses: chains of twelve problems that begin alike, with tokens and chunks."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from backend import ids
from backend.cot.chunking import chunk_spans
from backend.models.loaded import LoadedModel
from backend.schema.tables import TABLES
from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.models import model_row
from precompute.pipeline import run_study
from precompute.stages import lens, lens_quality
from precompute.study import Study
from tests.had_once import copied

PROBLEMS, COTS, WIDTH, LAYERS = 12, 2, 64, 4
LENS_TABLES = ("lenses", "lens_layers", "lens_rows", "lens_quality")


def row(table: str, **known: Any) -> dict[str, Any]:
    return dict.fromkeys(TABLES[table].columns) | known


def chains(loaded: LoadedModel) -> Iterator[dict[str, Any]]:
    for number in range(PROBLEMS):
        problem = ids.stable_id("p", number)
        prompt = f"<|im_start|>Let me think. What is {number} + 30? "
        for sample in range(COTS):
            text = f"First, we add {number} and 30. Wait, {sample + 3} apples. " * 2
            text += f"So the answer is \\boxed{{{number + 30}}}."
            tokens = loaded.tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
            yield row(
                "cots",
                cot_id=ids.stable_id("c", number, sample),
                problem_id=problem,
                model_id=loaded.model_id,
                prompt_name="boxed",
                sample=sample,
                seed=1,
                prompt=prompt,
                text=text,
                token_ids=tokens,
                n_prompt_tokens=10,
                n_tokens=len(tokens) - 10,
            )


def make(path: Path, loaded: LoadedModel) -> StudyFolder:
    return StudyFolder(_made(path, loaded))


@copied
def _made(path: Path, loaded: LoadedModel) -> Path:
    cots = list(chains(loaded))
    chunks = [
        row(
            "chunks",
            chunk_id=ids.chunk_id(cot["cot_id"], index),
            cot_id=cot["cot_id"],
            chunk_index=index,
            char_start=start,
            char_end=end,
            text=cot["text"][start:end],
        )
        for cot in cots
        for index, (start, end) in enumerate(chunk_spans(cot["text"]))
    ]
    problems = [row("problems", problem_id=name) for name in dict.fromkeys(cot["problem_id"] for cot in cots)]
    tables = {"models": [model_row(loaded, "model")], "problems": problems, "cots": cots, "chunks": chunks}
    folder = StudyFolder(path)
    with folder.writing("test") as writer:
        writer.add("cots", "all", tables)
        publish(writer)
    return path


def asked(model: str, **wanted: Any) -> Study:
    settings = {"tokens": 512, "batch": 64, "learning_rate": 3e-3, "layers": [0, 2], **wanted}
    return Study.model_validate(
        {
            "name": "lenses",
            "models": [{"name": model}],
            "problems": {"per_level": 1},
            "sweep": {"layers": [1]},
            "lens": settings,
            "engine": {"workers": 1},
        }
    )


def run(study: Study, folder: StudyFolder, stages: Any = (lens, lens_quality)) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=stages, console=Console(file=said, width=200))
    return said.getvalue()


def tables(folder: StudyFolder) -> dict[str, list[dict[str, Any]]]:
    with contextlib.closing(Store(folder.path)) as store:
        return {table: store.whole_table(table).to_pylist() for table in LENS_TABLES}
