"""A stored chain of thought as the chosen dictionary reads it."""

import pandas as pd

from app.shared import chosen_dictionary
from app.shell import studies
from app.shell.missing import Missing, no_tokens, undone
from backend.crosscoder.on_text import TextCodes
from backend.store.store import Store


def find(store: Store, dictionary: pd.Series, cot: str) -> TextCodes | Missing:
    """The chain with its codes, or what to run where it has none."""
    name, spans = dictionary.dictionary_id, store.chunk_spans(cot)
    tokens = studies.ask(store.tokens_of_cot, dictionary_id=name, cot_id=cot)
    if tokens.empty and not spans["token_start"].isna().all():
        return undone(store.path, "codes")
    n_prompt = store.cot_to_read(cot).iloc[0].n_prompt_tokens
    if tokens.empty or pd.isna(n_prompt):
        return no_tokens(store.path)
    fires = chosen_dictionary.fires_above(dictionary)
    codes = studies.ask(store.codes_of_cot, dictionary_id=name, cot_id=cot, **fires)
    chunks = spans.assign(number=spans["chunk_index"] + 1)[["chunk_id", "number", "token_start", "token_end"]].dropna()
    return TextCodes(tokens["token"].tolist(), int(n_prompt), codes[["position", "feature", "code"]], chunks)
