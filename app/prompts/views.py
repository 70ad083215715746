"""The views of the page Prompts."""

from app.prompts import by_prompt
from app.shared.views import View

BY_PROMPT = View("accuracy_by_prompt", "Accuracy by prompt and model", (by_prompt.several,), by_prompt.draw)
LENGTHS = View("length_by_prompt", "Length and answers", (by_prompt.several,), by_prompt.draw_lengths)
CONTRASTS = View("prompt_contrasts", "Differences", (by_prompt.several,), by_prompt.draw_contrasts)
ASKED = View("prompts_asked", "What was asked", (by_prompt.asked,), by_prompt.draw_asked)
VIEWS = (BY_PROMPT, LENGTHS, CONTRASTS, ASKED)
