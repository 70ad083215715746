"""Units of chains of thought: those that studies had before there were prompts keep their keys, and a prompt is another unit."""

from types import SimpleNamespace

import pytest

from precompute.stages import cots
from precompute.study import Study
from precompute.units import Context

PROBLEM = "p_1"


@pytest.fixture
def keys(tiny_folder):
    """`keys(**changes)`: the units of a study of one problem, as model name -> keys."""

    def of(model=None, **changes) -> list[str]:
        content = {"name": "s", "seed": 3, "models": [{"name": str(tiny_folder("llama")), **(model or {})}],
                   "problems": {"per_level": 1}, "sweep": {"layers": [0]}, **changes}  # fmt: skip
        store = SimpleNamespace(study_problems=lambda: [{"problem_id": PROBLEM}])
        return [unit.key.partition(".")[2] for unit in cots.units(Context(Study.model_validate(content), "r", store, print))]

    return of


def test_the_key_of_a_study_without_prompts_is_what_it_was_before_there_were_any(keys):
    assert keys() == ["p_1@6ae6961c2d2aea30"]
    assert keys(prompts=[{"name": "boxed"}]) == keys()


def test_a_prompt_more_keeps_what_there_is_and_every_setting_makes_another_unit(keys):
    both = keys(prompts=[{"name": "boxed"}, {"name": "plain"}])
    assert both[:1] == keys() and both[1].startswith("p_1.plain@")
    settings = [{"arguments": {"enable_thinking": False}}, {"arguments": {"enable_thinking": True}}, {"thinks": True}, {"template": "rag"}]
    texts = [{"text": "{question}"}, {"text": "{question}!"}, {"text": "{question}", "system": "Be brief."}, {"like": "steps"}]
    found = [keys()[0], *(keys(model=one)[0] for one in settings), *(keys(prompts=[{"name": "own", **one}])[0] for one in texts)]
    assert len(set(found)) == len(found)
