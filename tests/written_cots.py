"""CoTs written by hand, with words of reasoning, in the place of what a tiny model would write."""

from backend.models.loading import load_model
from precompute import models
from precompute.units import Context, Finished, Unit

PROMPT = "<|im_start|>What is 12 + 30? "
TEXTS = (
    "Wait, that is not right. Therefore the answer is 42.",
    "First 12, wait, then 30. Wait, 12 + 30 = 42. But check it. Wait.",
    "Therefore 42. However, wait: 12 + 30 is 42. Thus it is 42.",
    "We need the sum. Wait, is that the sum? But yes. Therefore yes.",
)


class Written:
    """CoTs by hand: every one is of a problem of its own."""

    NAME, UNIT = "cots", "study"

    @staticmethod
    def units(context: Context) -> list[Unit]:
        return [Unit("all", {})]

    @staticmethod
    def compute(context, units):
        pair = [(load_model(model.name), model.role) for model in context.study.pair]
        rows = {"models": [models.model_row(*one) for one in pair], "problems": [], "cots": []}
        for number, text in enumerate(TEXTS):
            tokens = pair[0][0].tokenizer(PROMPT + text, add_special_tokens=False)["input_ids"]
            n_prompt = len(pair[0][0].tokenizer(PROMPT, add_special_tokens=False)["input_ids"])
            rows["problems"].append(
                {
                    "problem_id": f"p{number}",
                    "source": "test",
                    "source_key": str(number),
                    "level": 1,
                    "difficulty": None,
                    "question": "?",
                    "answer": "42",
                    "solution": None,
                }
            )
            rows["cots"].append(
                {
                    "cot_id": f"c{number}",
                    "problem_id": f"p{number}",
                    "model_id": pair[number % 2][0].model_id,
                    "run_id": "r",
                    "sample": 0,
                    "seed": 1,
                    "prompt": PROMPT,
                    "text": text,
                    "after_text": None,
                    "prompt_name": "boxed",
                    "think_close": None,
                    "token_ids": tokens,
                    "n_prompt_tokens": n_prompt,
                    "n_tokens": len(tokens) - n_prompt,
                    "finish": "eos",
                    "answer": "42",
                    "answer_source": "given",
                    "is_correct": True,
                    "grader": "test",
                }
            )
        yield Finished(units[0], rows)
