"""At which layers the base and the distilled model part, on the same tokens."""

import pandas as pd
import streamlit as st

from app.figures.geometry_divergence import divergence_by_layer
from app.shared.model_names import called
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import show
from backend.feature_geometry.divergence_kinds import ALL, COT, MEASURES, PROMPT
from backend.store.store import Store

PAIR = declare(Field("parting_pair", "pair of models that part", None))
_BESIDE = {"control": "the base alone", "null": "and what is left where nothing is shared"}
BESIDE = declare(Field("parting_beside", "what stands beside the parting of models", _BESIDE, of=None))
REPORTED = (
    "Merchant et al. (2020, arXiv:2004.14448) compared BERT before and after fine-tuning by representational"
    " similarity: mostly the top layers had changed. Murphy et al. (2024, arXiv:2405.01012) report that the usual CKA"
    " is high even for independent random data where there are few points for the dimensions; here it is the debiased"
    " one."
)


def measured(here: Here) -> Missing | None:
    """Layers at which two models were compared."""
    return None if len(studies.ask(here.store.divergence)) else undone(here.store.path, "diverge")


def draw(here: Here, store: Store) -> None:
    """All measures by layer, and what they say."""
    rows = _chosen(store, studies.ask(store.divergence))
    beside = selection.pick(
        BESIDE, "Beside the two models", show=_BESIDE.__getitem__, widget=st.segmented_control, required=True
    )
    data_figure(
        divergence_by_layer(rows, with_null=beside == "null"),
        key=keys.of("divergence"),
        config={"displayModeBar": False},
    )
    show(f"{REPORTED} {in_words(rows)}")
    st.caption(definition(rows))


def _chosen(store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """Of one pair, behind a picker where there are several."""
    pairs = {
        f"{base}:{distilled}": f"{called(store, base)} and {called(store, distilled)}"
        for base, distilled in rows[["base_model_id", "distilled_model_id"]].drop_duplicates().itertuples(index=False)
    }
    pair = next(iter(pairs))
    if len(pairs) > 1:
        pair = selection.pick(PAIR, "Models", list(pairs), show=pairs.__getitem__, width=480)
    base, distilled = pair.split(":")
    return rows[(rows["base_model_id"] == base) & (rows["distilled_model_id"] == distilled)]


def in_words(rows: pd.DataFrame) -> str:
    """What the rows of a pair say."""
    norms = _of(rows, "relative_norm")
    if norms.empty:
        return "In this study nothing is known of any layer: too few tokens were compared."
    return " ".join(filter(None, (_norms(norms), _alike(rows), _angles(rows), _lenses(rows), _kinds(rows))))


def _of(rows: pd.DataFrame, measure: str, positions: str = ALL) -> pd.DataFrame:
    chosen = (rows["measure"] == measure) & (rows["positions"] == positions) & rows["value"].notna()
    return rows[chosen].sort_values("layer", ignore_index=True)


def _norms(norms: pd.DataFrame) -> str:
    if (norms["value"] == 0).all():
        return f"In this study the two are equal, bit for bit, at all of the {len(norms)} layers."
    equal = norms[(norms["value"] == 0).cummin()]
    same = f"equal, bit for bit, up to layer {equal['layer'].max()}" if len(equal) else "apart from the first layer on"
    half, most = norms.iloc[(len(norms) - 1) // 2], norms.loc[norms["value"].idxmax()]
    at_half = "" if half["layer"] == most["layer"] or half["value"] == 0 else f"{_at(half)} and "
    control = f", where the base alone differs by {number(most['control'])} between two places of one token"
    return (
        f"In this study base and reasoner are {same}. The relative norm of the difference is {at_half}at most"
        f" {_at(most)}"
        + ("" if pd.isna(most["control"]) else control)
        + ("." if pd.isna(most["null"]) else f", and any two tokens by {number(most['null'])}.")
    )


def _at(row: pd.Series, unit: str = "") -> str:
    return f"{number(row['value'])}{unit} {interval(row['low'], row['high'])} at layer {row['layer']}"


def _alike(rows: pd.DataFrame) -> str:
    alike = _of(rows, "cka")
    if alike.empty:
        return ""
    least = alike.loc[alike["value"].idxmin()]
    control = "" if pd.isna(least["control"]) else f" (the same token elsewhere in the base: {least['control']:.3g})"
    return (
        f"CKA falls to {least['value']:.4g} {_fine(least)} at layer {least['layer']}{control}; pairing tokens at random"
        f" gives 0 ± {number(least['null_sd'])}."
    )


def _fine(row: pd.Series) -> str:
    known = pd.notna(row["low"]) and pd.notna(row["high"])
    return f"[{row['low']:.4g}, {row['high']:.4g}]" if known else "[unknown]"


def _angles(rows: pd.DataFrame) -> str:
    angles = _of(rows, "principal_angle")
    if angles.empty:
        return ""
    most = angles.loc[angles["value"].idxmax()]
    beside = (
        "" if pd.isna(most["control"]) else f"; halves of the base's own problems are {number(most['control'])}° apart"
    )
    k = len(most["angles"])
    return (
        f"The subspaces of the {k} largest components are apart by at most {_at(most, '°')} (mean angle; the largest of"
        f" the {k} is {number(max(most['angles']))}°){beside}, random ones {number(most['null'])}°."
    )


def _lenses(rows: pd.DataFrame) -> str:
    kl = _of(rows, "kl")
    if kl.empty:
        return ""
    most, last = kl.loc[kl["value"].idxmax()], kl.iloc[-1]
    reverse = _of(rows, "kl_reverse").set_index("layer")["value"]
    said = f"What the lenses say differs most at layer {most['layer']}, by {number(most['value'])} nats"
    said += f" {interval(most['low'], most['high'])} (reversed {number(reverse.get(most['layer']))}"
    said += "" if pd.isna(most["control"]) else f"; the same token elsewhere in the base {number(most['control'])}"
    at_the_end = "" if last["layer"] == most["layer"] else f", by {number(last['value'])}"
    return said + f"). The last layer is what the models themselves say next{at_the_end}."


def _kinds(rows: pd.DataFrame) -> str:
    prompt, cot = (_of(rows, "relative_norm", kind) for kind in (PROMPT, COT))
    both = prompt.merge(cot, on="layer", suffixes=("_prompt", "_cot"))
    if both.empty or (both["value_cot"] == 0).all():
        return ""
    at = both.loc[both["value_cot"].idxmax()]
    sure = at["low_cot"] > at["high_prompt"] or at["high_cot"] < at["low_prompt"]
    return (
        f"At layer {at['layer']} the relative norm is {number(at['value_prompt'])}"
        f" {interval(at['low_prompt'], at['high_prompt'])} in prompts and {number(at['value_cot'])}"
        f" {interval(at['low_cot'], at['high_cot'])} in chains of thought"
        + ("." if sure else ": the intervals overlap, so that no difference is shown.")
    )


def definition(rows: pd.DataFrame) -> str:
    """What is drawn, and of how much."""
    controls = "; ".join(
        f"{MEASURES[name].label}: {MEASURES[name].control} / {MEASURES[name].null}"
        for name in ("relative_norm", "principal_angle", "cka")
    )
    return (
        "Both models read the same tokens of chains that either of them wrote, prompts included, without each text's"
        f" first token. {_n(rows)} Bands: 95 %, jackknife over groups of problems. Base alone / nothing shared:"
        f" {controls}; KL as the relative norm. Largest components: those of each model's own streams, centred. Each"
        " kind of position has components and CKA of its own."
    )


def _n(rows: pd.DataFrame) -> str:
    counts = {measure: _of(rows, measure)[["n_tokens", "n_problems"]].max() for measure in ("relative_norm", "kl")}
    first, lens = counts["relative_norm"], counts["kl"]
    if first.isna().any():
        return ""
    at = "" if lens.isna().any() else f"; lenses at {int(lens['n_tokens']):,} of them"
    return f"n = {int(first['n_tokens']):,} positions of {int(first['n_problems'])} problems{at}."
