"""Latents that were replaced: which are needed, which are specific, and which problems need any."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.figures.latent_needs import needed_and_specific
from app.latent_steps.chosen import models
from app.latent_steps.readings import siblings
from app.shared import clicks
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.more import more
from app.shell.numbers import number
from app.shell.untrusted import for_markdown, one_line, show
from backend.latent.need_kinds import AFTER, MEAN, PLACES, PLAIN, REPLACEMENTS, SWAP, ZERO
from backend.latent.needed import GROUPS, Effect, correlation, effects, grouped, needing
from backend.store.store import Store

PLACE = declare(Field("latent_replaced", "what of a latent is replaced", PLACES, before="replaced"))
LATER = declare(Field("latent_later", "latents after a replaced one", AFTER, before="later latents"))
LOST_BY = declare(Field("latent_lost_by", "what latents are needed against", (MEAN, ZERO), before="needed against"))
GROUP = declare(Field("latent_group", "problems by their need of latents", GROUPS, before="problems"))
MARK = declare(Field("latent_mark", "replaced latent", None))
ALL = "all"


def replaced(here: Here) -> Missing | None:
    """Need of a view: latents that were replaced."""
    return undone(here.store.path, "latent_needs") if here.once(_rows).empty else None


@dataclass(frozen=True)
class Chosen:
    """How latents were replaced, as it was picked."""

    place: str
    after: str
    lost_by: str
    group: str


def _rows(here: Here) -> pd.DataFrame:
    return studies.ask(here.store.latent_needs)


def _chosen(here: Here) -> Chosen:
    rows = here.once(_rows)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = _pick(PLACE, "Replaced", [name for name in PLACES if name in set(rows["place"])], PLACES)
        with more(LATER, LOST_BY, GROUP):
            after = _pick(LATER, "Later latents", [name for name in AFTER if name in set(rows["after"])], AFTER)
            lost_by = _pick(LOST_BY, "Needed against", [MEAN, ZERO], REPLACEMENTS)
            group = _pick(GROUP, "Problems", list(GROUPS), GROUPS)
    return Chosen(place, after, lost_by, group)


def _pick(field: Field, label: str, names: list[str], of: Any) -> str:
    if len(names) == 1:
        return names[0]
    return selection.pick(field, label, names, show=lambda name: of[name].label, width=200)


def _by_model(here: Here, group: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each model that is shown, with its rows of the group's problems."""
    rows, groups = here.once(_rows), here.once(_groups)
    for model in here.once(siblings).models.to_dict("records"):
        own = rows[rows["model_id"] == model["model_id"]]
        if group != "all":
            own = own[own["problem_id"].map(groups[model["model_id"]]) == group]
        yield model, own


def _groups(here: Here) -> dict[str, pd.Series]:
    rows = here.once(_rows)
    return {str(model): grouped(own) for model, own in rows.groupby("model_id")}


def _effects(here: Here, group: str) -> list[tuple[dict[str, Any], list[Effect]]]:
    at = here.once(_chosen)
    return [
        (model, list(effects(own, replacement=at.lost_by, place=at.place, after=at.after)))
        for model, own in _by_model(here, group)
    ]


def draw(here: Here, store: Store) -> None:
    at = here.once(_chosen)
    found = _effects(here, at.group)
    key = keys.of("latent_needs")
    data_figure(
        needed_and_specific(marks(found), lost_by=REPLACEMENTS[at.lost_by].label),
        key=key,
        on_select=lambda: _open(key),
        config={"displayModeBar": False},
    )
    show(GROUPS[at.group].words + " " + PLACES[at.place].words + " " + AFTER[at.after].words)
    for model, own in found:
        if said := control_words(str(model["label"]), own):
            show(said)
    show(
        "Dilgren & Wiegreffe 2026 (arXiv:2604.04902) find that published latent reasoners often answer the same without"
        " their latents, and that steps of the gold solution can be decoded, for up to 65 to 93 % of right answers,"
        " where latents are needed."
    )
    counts = here.once(_groups)
    for model, own in found:
        show(own_words(str(model["label"]), own, counts.get(str(model["model_id"]), pd.Series(dtype=object))))


def _open(key: str) -> None:
    if (clicked := next(iter(clicks.marks(key)), None)) is not None:
        selection.choose({MARK: str(clicked)})


def marks(found: list[tuple[dict[str, Any], list[Effect]]]) -> pd.DataFrame:
    """Rows of the figure."""
    rows = [
        {
            "mark": f"{model['model_id']}.{effect.step or ALL}",
            "model": model["label"],
            "sibling": model["sibling"],
            "name": str(effect.step or ALL),
            "needed": -100 * effect.needed.difference,
            "needed_low": -100 * effect.needed.high,
            "needed_high": -100 * effect.needed.low,
            "specific": 100 * effect.specific.difference,
            "specific_low": 100 * effect.specific.low,
            "specific_high": 100 * effect.specific.high,
            "n": effect.needed.n,
        }
        for model, own in found
        for effect in own
    ]
    columns = ["mark", "model", "sibling", "name", "needed", "needed_low", "needed_high"]
    return pd.DataFrame(rows, columns=[*columns, "specific", "specific_low", "specific_high", "n"])


def control_words(label: str, found: list[Effect]) -> str:
    """What the positive control says of a model; nothing of one that has no latents."""
    every = next((effect for effect in found if effect.step is None), None)
    if every is None:
        return ""
    if pd.isna(every.specific.difference):
        return f"{label}: whether swaps work at all is unknown: no problem has a donor."
    low, high = map(_percent, every.donors_interval)
    without = f", {every.specific.n_left_out} without a donor" if every.specific.n_left_out else ""
    told = (
        f"{label}, all latents of another problem at once: {_percent(every.donors)} of the answers become its answer"
        f" [{low}, {high}], {_percent(every.donors_by_mean)} do under the mean (n = {every.specific.n}{without})."
    )
    if every.specific.low > 0:
        return f"{told} Swaps carry the other problem's answer, so that single latents can be told apart by them."
    return (
        f"{told} Swaps do not carry the other problem's answer, so that specific says nothing of single latents here."
    )


def own_words(label: str, found: list[Effect], groups: pd.Series) -> str:
    """What this study shows beside the published claims."""
    need = needing(groups)
    if not need.n:
        return f"{label}: nothing is stored of it yet."
    share = (
        f"{_percent(need.share)} of {need.n} problems need latents [{_percent(need.interval.low)},"
        f" {_percent(need.interval.high)}], {_percent(need.share_of_right)} of those answered right"
    )
    r, n = correlation(found)
    if not found:
        return f"Here, {label}: it has no latents."
    if pd.isna(r):
        return f"Here, {label}: {share}; r of needed and specific is unknown over {n} latents."
    return f"Here, {label}: r = {r:.2f} over {n} latents; {share}."


def _percent(share: float) -> str:
    return "unknown" if pd.isna(share) else f"{100 * share:.0f} %"


def draw_table(here: Here, store: Store) -> None:
    """Every latent, over all problems and over those that need latents or do without."""
    rows = []
    for group in ("all", "needs", "does without"):
        for model, own in _effects(here, group):
            rows += [_table_row(str(model["label"]), GROUPS[group].label, effect) for effect in own]
    if not rows:
        st.caption("No model here has latents.")
        return
    table = pd.DataFrame(rows)
    data_table(table, hide_index=True, row_height=26, key=keys.of("latent_needs_table"), column_config=_FORMATS)
    st.caption(
        "Percentage points and per cent, with 95 % intervals. Of problems that need latents or do without, every plain"
        " answer is right, so that answers can only be lost: compare latents within a group, not groups."
    )


_FORMATS = {
    name: st.column_config.NumberColumn(format="%.1f")
    for name in ("needed", "specific", "right", "donor's", "by the mean")
}


def _table_row(label: str, group: str, effect: Effect) -> dict[str, Any]:
    return {
        "model": label,
        "problems": group,
        "latent": str(effect.step or ALL),
        "needed": -100 * effect.needed.difference,
        "needed in": _within(-effect.needed.high, -effect.needed.low),
        "p": number(effect.needed.p),
        "right": 100 * effect.right,
        "specific": 100 * effect.specific.difference,
        "specific in": _within(effect.specific.low, effect.specific.high),
        "donor's": 100 * effect.donors,
        "by the mean": 100 * effect.donors_by_mean,
        "n": effect.needed.n,
        "n with donor": effect.specific.n,
    }


def _within(low: float, high: float) -> str:
    return "unknown" if pd.isna(low) or pd.isna(high) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def draw_needing(here: Here, store: Store) -> None:
    """Which problems need latents at all, model by model."""
    groups = here.once(_groups)
    rows = []
    for model in here.once(models).to_dict("records"):
        if (own := groups.get(str(model["model_id"]))) is None:
            continue
        found = needing(own)
        share = {
            "need latents, %": 100 * found.share,
            "in": _within(*found.interval),
            "of those right, %": 100 * found.share_of_right,
            "of those right in": _within(*found.interval_of_right),
        }
        counts = {GROUPS[name].label: n for name, n in found.counts.items()}
        rows.append({"model": model["label"], "n": found.n} | share | counts)
    format_ = {name: st.column_config.NumberColumn(format="%.1f") for name in ("need latents, %", "of those right, %")}
    data_table(pd.DataFrame(rows), hide_index=True, row_height=26, key=keys.of("latent_needing"), column_config=format_)
    st.caption(" ".join(f"{group.label}: {group.words}" for group in list(GROUPS.values())[1:]))


def draw_runs(here: Here, store: Store) -> None:
    """Problem by problem, what one latent's replacements made of the answer."""
    at, found = here.once(_chosen), dict(_options(here))
    if not found:
        st.caption("No model here has latents.")
        return
    mark = selection.pick(MARK, "Latent", list(found), show=found.__getitem__, width=260)
    model_id, _, name = mark.rpartition(".")
    table = runs_of(here.once(_rows), model_id, None if name == ALL else int(name), at.place, at.after)
    if at.group != "all":
        table = table[table["problem_id"].map(here.once(_groups)[model_id]) == at.group]
    questions = store.latent_problems().set_index("problem_id")
    told = pd.DataFrame(
        {
            "question": [one_line(questions.loc[one, "question"], 110) for one in table["problem_id"]],
            "right": [questions.loc[one, "answer"] for one in table["problem_id"]],
            "plain": table[PLAIN].tolist(),
            "zeros": table[ZERO].tolist(),
            "the mean": table[MEAN].tolist(),
            "another problem's": table[SWAP].tolist(),
            "whose answer is": table["donors_answer"].tolist(),
        }
    )
    data_table(told, hide_index=True, row_height=26, height=300, key=keys.of("latent_need_runs"))
    st.caption(f"{len(told)} problems; answers as numbers, nothing where there is none.")


def _options(here: Here) -> Iterator[tuple[str, str]]:
    for model, own in _effects(here, "all"):
        for effect in own:
            latent = "all latents" if effect.step is None else f"latent {effect.step}"
            yield f"{model['model_id']}.{effect.step or ALL}", f"{for_markdown(str(model['label']))}, {latent}"


def runs_of(rows: pd.DataFrame, model_id: str, step: int | None, place: str, after: str) -> pd.DataFrame:
    """A row a problem: the plain answer, and that under each replacement of the latent."""
    own = rows[rows["model_id"] == model_id]
    of_step = own["step"].isna() if step is None else own["step"] == step
    here = own[of_step & (own["place"] == place) & (own["after"] == after)]
    both = pd.concat([own[own["replacement"] == PLAIN], here])
    wide = both.pivot(index="problem_id", columns="replacement", values="answer")
    wide = wide.reindex(columns=[PLAIN, ZERO, MEAN, SWAP])
    order = own[own["replacement"] == PLAIN].set_index("problem_id")["donors_answer"]
    return wide.reindex(order.index).assign(donors_answer=order).reset_index()
