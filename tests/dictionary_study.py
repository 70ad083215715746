"""A study of a tiny pair of models with dictionaries, and the stages that come to them."""

import io
from dataclasses import dataclass

from rich.console import Console

from backend.ids import chunk_index
from backend.models.loading import load_model
from backend.store.unit_files import StudyFolder
from precompute.pipeline import run_study
from precompute.stages import chunks, codes, cots, crosscoder, features, problems, splices, tokens
from precompute.study import Study
from precompute.train_reasoner import reasoner_template
from precompute.units import Context, Finished, Unit
from tests.conftest import make_tiny_model, tune

LAYER, STEPS, N_FEATURES = 1, 47, 48


class Tags:
    """Every second chunk computes and the others check: the shipped classifier is not needed here."""

    NAME, UNIT = "categories", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        kinds = ("active_computation", "self_checking")
        rows = [
            {
                "chunk_id": chunk["chunk_id"],
                "source": "test",
                "rank": 0,
                "category": kinds[chunk_index(chunk["chunk_id"]) % 2],
                "score": None,
            }
            for chunk in context.store.chunks_to_tag()
        ]
        yield Finished(units[0], {"categories": rows})


STAGES = (problems, cots, tokens, chunks, Tags, crosscoder, codes, features, splices)


def pair_of(tiny_folder, tmp_path_factory) -> tuple[str, str]:
    """A tiny model, and one that was made from it and thinks."""
    folder = make_tiny_model("llama", tmp_path_factory.mktemp("distilled"))
    loaded = load_model(str(folder))
    tune(loaded.model)
    loaded.tokenizer.chat_template = reasoner_template(loaded.tokenizer.chat_template)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(tiny_folder("llama")), str(folder)


def study_of(names: tuple[str, ...], **keys) -> Study:
    roles = ("base", "distilled") if len(names) == 2 else ("model",)
    learned = {
        "generated": 6,
        "n_features": N_FEATURES,
        "batch": 64,
        "warmup": 5,
        "learning_rate": 4e-3,
        "dead_after": 640,
    } | ({} if "kind" in keys else {"k": 4})
    learned |= {} if "epochs" in keys else {"steps": STEPS}
    learned |= {} if keys.get("kind") == "linear" else {"aux_k": 8}
    return Study.model_validate(
        {
            "name": "pair",
            "seed": 3,
            "models": [{"name": name, "role": role} for name, role in zip(names, roles, strict=True)],
            "problems": {"per_level": 2, "levels": [1]},
            "sampling": {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 40, "forced_max_tokens": 4},
            "sweep": {"layers": [1]},
            "engine": {"workers": 1, "rows": 8},
            "crosscoder": {"layer": LAYER, **(keys if "dictionary" in keys else learned | keys)},
        }
    )


def run(study: Study, folder: StudyFolder) -> str:
    said = io.StringIO()
    run_study(study, folder, stages=STAGES, console=Console(file=said, width=200))
    return said.getvalue()


@dataclass(frozen=True)
class Made:
    study: Study
    folder: StudyFolder
