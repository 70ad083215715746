"""Readings of a chain's answer among the rows of the small study, for the panel Commitment."""

from contextlib import closing
from itertools import product
from pathlib import Path

from backend.store.publish import publish
from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from tests import small_study


def rolled(study: Path) -> str:
    """A chain with rollouts and an answer."""
    with closing(Store(study)) as store:
        return str(store.own_answers().dropna(subset="answer")["cot_id"].iloc[0])


def add_readings(study: Path, *, by_both: bool = False) -> str:
    """The model that wrote one chain (or both models of the pair) reads it at a layer and at its last; it becomes sure
    of the answer at chunk 3. Returns the chain's id.
    """
    cot = rolled(study)
    with closing(Store(study)) as store:
        chain, chunks = store.own_answers(cot).iloc[0], store.chunks_of([cot])[cot]
        last = store.model_facts(chain.model_id)["n_layers"] - 1
        readers = store.models()["model_id"].tolist() if by_both else [chain.model_id]
    rows = []
    for reader, n_read in product(readers, range(len(chunks) + 1)):
        for layer in (5, last):
            sure = n_read >= 3 and layer == last
            rows.append(
                {
                    "chunk_id": chunks[max(n_read - 1, 0)]["chunk_id"],
                    "cot_id": cot,
                    "side": "after" if n_read else "before",
                    "model_id": reader,
                    "lens_id": "logit",
                    "lens": "logit",
                    "layer": layer,
                    "answer": str(chain.answer),
                    "n_tokens": 2,
                    "logprob": -0.05 if sure else -12.0 - n_read,
                    "first_logprob": -0.02 if sure else -9.0,
                    "other_answer": small_study.HOSTILE[0],
                    "other_n_tokens": 2,
                    "other_logprob": -8.0,
                    "other_first_logprob": -5.0,
                }
            )
    with StudyFolder(study).writing("test") as writer:
        writer.add("commitment", "all", {"answer_readings": rows})
        publish(writer)
    return cot
