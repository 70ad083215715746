"""The features of a dictionary, with all that can be filtered by."""

import pandas as pd

from app.shared.chosen_dictionary import roles
from app.shell import studies
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from backend.crosscoder.class_counts import scaling_share
from backend.crosscoder.label_suggestions import names_of
from backend.store import notes
from backend.store.labels import labels
from backend.store.store import Store

NORMS = {
    "l1": "L1 (Baek & Tegmark 2025)",
    "l2": "L2 (the training loss)",
    "rms": "RMS (L2 over √width: L2 at equal widths)",
}
NORM = declare(Field("nrn_norm", "decoder norm of NRN", NORMS))


def find(store: Store, dictionary: pd.Series) -> pd.DataFrame | Missing:
    """One row a feature with all that can be filtered by, or what to run where they are not measured yet."""
    name = dictionary.dictionary_id
    rows = studies.ask(store.features, dictionary_id=name)
    if rows.empty:
        return undone(store.path, "features")
    rows = rows.merge(studies.ask(store.reasoning_categories, dictionary_id=name), on="feature", how="left")
    rows = rows.merge(labels(store.path, name)[["feature", "label"]], on="feature", how="left")
    said = notes.of_features(store.path, name).rename(columns={notes.STAR: "starred"})
    rows = rows.merge(said, on="feature", how="left")
    return rows.assign(share_eps=scaling_share(rows["nu_eps"]), share_r=scaling_share(rows["nu_r"]))


def decoder_norms(dictionary: pd.Series, rows: pd.DataFrame) -> pd.DataFrame:
    """L2 norms of the decoder rows by feature, a column for each role."""
    sides = {role: f"norm_{'distilled' if role == 'distilled' else 'base'}_l2" for role in roles(dictionary).values()}
    return rows.set_index("feature")[list(sides.values())].set_axis(list(sides), axis=1)


def suggested_names(store: Store, dictionary: pd.Series, features: pd.DataFrame) -> dict[int, str]:
    """What each feature that fires might be called, by its examples, tokens and category."""
    writer = (
        dictionary.distilled_model_id if isinstance(dictionary.distilled_model_id, str) else dictionary.base_model_id
    )
    peaks = studies.ask(store.peak_tokens, dictionary_id=dictionary.dictionary_id, model_id=writer)
    return names_of(peaks, features)
