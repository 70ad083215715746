"""Does steering an anchor change the answer more than steering another chunk? In words, as figures and as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures import causation as figures
from app.shared import chosen_chunk
from app.shared.clicks import go_to_clicked
from app.shared.estimates import in_words
from app.shared.model_names import called, in_full
from app.shared.statistics_cache import causation_of, steered_runs_of
from app.shared.views import Here
from app.shell import keys, navigation, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from app.shell.vocabulary import CONVENTIONS, definition, direction_words, position_words, unit_words
from backend.findings import steering
from backend.findings.steering import Moved
from backend.importance import causation
from backend.importance.causation import CONTRASTS, Tested
from backend.importance.steered_effects import QUANTITIES
from backend.importance.steered_rollouts import RANDOM, STARTS, STEERED
from backend.store.store import Store

QUANTITY = declare(Field("steering_effect", "effect of steering", tuple(QUANTITIES), of=None))
CONVENTION = declare(Field("steering_convention", "convention of the effect", tuple(CONVENTIONS), of=None))
STEERED_MODEL = declare(Field("steered_model", "model that is steered", None))
PAIR = declare(Field("steered_pair", "steered pair", None, of="steered_model"))
ROLE = declare(Field("steered_role", "chunk of the steered pair", causation.ROLES, of="steered_pair"))
FROM = declare(Field("steered_from", "start of the continuations", STARTS, of="steered_pair"))
_ARM_OF = {causation.ANSWER: STEERED, causation.BY_CHANCE: RANDOM}  # of a contrast within one arm


@dataclass(frozen=True)
class Asked:
    """The pairs of one model, and the effects on them of one quantity under one convention."""

    pairs: pd.DataFrame
    effects: pd.DataFrame
    quantity: str
    convention: str

    @property
    def axis(self) -> str:
        one = QUANTITIES[self.quantity]
        return f"{one.label}, {one.unit}" + ("" if self.convention == "all" else f" · {self.convention}")


def steered(here: Here) -> Missing | None:
    """Pairs that were steered."""
    if studies.ask(here.store.causation_pairs).empty:
        return undone(here.store.path, "causation")
    return None


def asked(here: Here) -> Asked:
    """The controls, and what they choose."""
    store = here.store
    pairs = studies.ask(store.causation_pairs)
    names = {name: called(store, name) for name in pairs["model_id"].unique()}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        model = selection.checked(STEERED_MODEL, list(names), show=lambda name: names.get(name, name))
        if len(names) > 1:
            model = selection.pick(
                STEERED_MODEL,
                "Model",
                list(names),
                show=lambda name: names.get(name, name),
                width=330,
                help=in_full(store, names),
            )
        effects = studies.ask(store.causation_effects, model_id=str(model))
        there = [name for name in QUANTITIES if name in set(effects["quantity"])] or list(QUANTITIES)
        quantity = selection.pick(
            QUANTITY,
            "Effect",
            there,
            show=lambda name: f"{QUANTITIES[name].label} ({QUANTITIES[name].unit})",
            width=420,
        )
        conventions = causation.known_conventions(effects, quantity) or list(QUANTITIES[quantity].conventions)
        convention = conventions[0]
        if len(conventions) > 1:
            usual = next((one for one in pairs["convention"] if one in conventions), conventions[0])
            convention = selection.pick(
                CONVENTION, "Convention", conventions, default=usual, show=CONVENTIONS.__getitem__, width=330
            )
    own = effects[(effects["quantity"] == quantity) & (effects["convention"] == convention)]
    return Asked(pairs[pairs["model_id"] == model], own, quantity, convention)


def draw(here: Here, store: Store) -> None:
    """The answer in words, every contrast with its interval, and how it was asked."""
    at = here.once(asked)
    _chosen_run(store, at)
    found = causation_of(at.effects, at.quantity)
    show(causation.in_words(found, at.quantity))
    rows = mean_rows(found)
    data_figure(figures.means(rows, axis=at.axis), key=keys.of("causation_means"), config={"displayModeBar": False})
    data_table(contrast_table(found), hide_index=True, row_height=28, key=keys.of("causation_contrasts"))
    st.caption(f"{QUANTITIES[at.quantity].meaning} {_defined(at)} {how(at.pairs)}")
    st.caption(
        "Dawes (2025, “Features and Logits”) sets steepness beside importance, which shows what goes together; whether"
        " an anchor causes the answer is asked here, by steering it beside a chunk that is none."
    )


def draw_pairs(here: Here, store: Store) -> None:
    """Every pair, and how its differences are spread."""
    at = here.once(asked)
    rows = effect_rows(at)
    left, right = st.columns([5, 4], gap="medium")
    key = keys.of("causation_pairs_chart")
    with left:
        data_figure(
            figures.paired_effects(rows, axis=at.axis, selected=selection.get(chosen_chunk.CHUNK)),
            words={"pairs": "Pairs of an anchor and its match: how many are drawn."},
            key=key,
            on_select=lambda: go_to_clicked(key, rows["chunk_id"]),
            selection_mode="points",
            config={"scrollZoom": True},
        )
        st.caption("A line is a pair; thick: the mean over pairs. A click selects the chunk.")
    with right:
        data_figure(
            figures.differences(difference_rows(at), axis=at.axis),
            key=keys.of("causation_differences"),
            config={"displayModeBar": False},
        )
        st.caption("Right of the dotted line the anchor moved more than its match; the thick line is the mean.")


def draw_table(here: Here, store: Store) -> None:
    """The pairs as a table; a row that is picked shows what its arms answered, and opens its chunks."""
    at = here.once(asked)
    pairs = at.pairs.reset_index(drop=True)
    table = data_table(
        pair_table(pairs, at),
        hide_index=True,
        row_height=28,
        height=min(420, 40 + 28 * len(pairs)),
        key=keys.of("causation_pair_rows"),
        on_select="rerun",
        selection_mode="single-row",
    )
    st.caption(counted(at))
    picked = [row for row in table.selection.rows if row < len(pairs)]
    pair = pairs.iloc[picked[0]] if picked else _chosen_pair(at)
    if pair is None:
        st.caption("Pick a row to see what was answered, and to open its chunks.")
        return
    _one_pair(store, pair)


def _chosen_pair(at: Asked) -> pd.Series | None:
    """The pair that a link leads to."""
    if (name := selection.get(PAIR)) is None:
        return None
    own = at.pairs[at.pairs["pair_id"] == name]
    if own.empty:
        selection.forget_unknown(PAIR)
        return None
    return own.iloc[0]


def _chosen_run(store: Store, at: Asked) -> None:
    """The run of the pair that a link leads to, with the numbers that brought it there."""
    pair, role, start = _chosen_pair(at), selection.checked(ROLE), selection.checked(FROM)
    if pair is None or selection.get(FROM) is None:
        return
    name = steering.name_of(str(pair.pair_id), str(role), str(start))
    if (found := next((one for one in steered_runs_of(store) if one.run.name == name), None)) is None:
        return
    one = steering.with_control(found)
    show(f"{one.run.words}: right {steering.right(one.run)}. {in_words(steering.number_of(one))}.")
    st.caption(
        "Of this run's answers alone, q over all steered runs of the study; every answer of the pair stands under The"
        " pairs. Below: all pairs."
    )


def _one_pair(store: Store, pair: pd.Series) -> None:
    answers = store.causation_answers(pair.pair_id)
    moved = moved_table(str(pair.pair_id), steered_runs_of(store))
    if len(moved):
        data_table(moved, hide_index=True, row_height=28, key=keys.of("causation_moved"))
        st.caption(
            "How far the answers from each start moved: JSD, less what chance gives, its 95 % interval, and q over all"
            " steered runs of the study."
        )
    for column, role in zip(st.columns(2, gap="medium"), causation.ROLES, strict=True):
        with column:
            st.markdown(f"**{role.capitalize()}** · chunk {pair[f'{role}_number']}")
            show(str(pair[f"{role}_text"]))
            data_table(
                answer_table(answers[answers["role"] == role]),
                hide_index=True,
                row_height=28,
                key=keys.of(f"causation_answers_{role}"),
            )
            if st.button(
                "Open in the workspace", icon=":material/arrow_forward:", key=keys.of(f"causation_open_{role}")
            ):
                chosen_chunk.go(str(pair[f"{role}_id"]))
                navigation.go_to(navigation.CHAINS)


# Numbers


def effect_rows(at: Asked) -> pd.DataFrame:
    """An effect on a chunk with the chunk's number and text."""
    named = pd.concat(
        [
            at.pairs[["pair_id", f"{role}_number", f"{role}_text"]]
            .set_axis(["pair_id", "number", "text"], axis=1)
            .assign(role=role)
            for role in causation.ROLES
        ]
    )
    return at.effects.merge(named, on=["pair_id", "role"])


def difference_rows(at: Asked) -> pd.DataFrame:
    """Anchor less match of each pair, steered and along random directions."""
    ids = at.pairs.set_index("pair_id")["anchor_id"]
    found = [
        causation.differences(at.effects, contrast).assign(arm=arm)
        for contrast, arm in _ARM_OF.items()
        if len(at.effects)
    ]
    rows = pd.concat(found) if found else pd.DataFrame(columns=["pair_id", "difference", "cluster", "arm"])
    return rows.assign(anchor_id=rows["pair_id"].map(ids))


def mean_rows(found: Mapping[str, Tested]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": list(found),
            "label": [CONTRASTS[name].words for name in found],
            "arm": [_ARM_OF.get(name, "both") for name in found],
            "value": [one.found.mean for one in found.values()],
            "low": [one.found.low for one in found.values()],
            "high": [one.found.high for one in found.values()],
            "n": [one.found.n for one in found.values()],
        }
    )


def contrast_table(found: Mapping[str, Tested]) -> pd.DataFrame:
    """Every contrast with its interval, p, n and power; unknown is said to be unknown."""
    rows = {
        "contrast": [CONTRASTS[name].words for name in found],
        "mean": [number(one.found.mean) for one in found.values()],
        "95 % interval": [interval(one.found.low, one.found.high) for one in found.values()],
        "p": [number(one.found.p) for one in found.values()],
        "pairs": [one.found.n for one in found.values()],
        "unknown": [one.n_left_out for one in found.values()],
        "problems": [one.found.n_clusters for one in found.values()],
    }
    sizes = next(iter(found.values())).sizes
    for place, size in enumerate(sizes):
        rows[f"power at {size:g}"] = [
            "unknown" if math.isnan(one.power[place]) else f"{one.power[place]:.0%}" for one in found.values()
        ]
    return pd.DataFrame(rows)


def pair_table(pairs: pd.DataFrame, at: Asked) -> pd.DataFrame:
    """One row a pair; numbers sort, and unknown ones are empty."""
    value = at.effects.set_index(["pair_id", "role", "arm"])["value"]

    def of(role: str, arm: str) -> list[float]:
        return [value.get((pair, role, arm), math.nan) for pair in pairs["pair_id"]]

    importance = importance_words(pairs)
    return pd.DataFrame(
        {
            "anchor": [one_line(f"{row.anchor_number}: {row.anchor_text}", 80) for row in pairs.itertuples()],
            importance: pairs["anchor_importance"],
            "steered": of("anchor", STEERED),
            "random": of("anchor", RANDOM),
            "match": [one_line(f"{row.match_number}: {row.match_text}", 80) for row in pairs.itertuples()],
            f"match: {importance}": pairs["match_importance"],
            "match steered": of("match", STEERED),
            "match random": of("match", RANDOM),
            "same CoT": pairs["same_cot"].astype(bool),
            "apart in the CoT": pairs["share_apart"],
            "length ratio": pairs["length_ratio"],
        }
    )


def moved_table(pair: str, runs: Sequence[Moved]) -> pd.DataFrame:
    """Both chunks of a pair from both starts: how many answers are right, and how far steering moved them."""
    by_name = {one.run.name: one for one in runs}
    rows = []
    for role in causation.ROLES:
        for start in STARTS:
            if (one := by_name.get(steering.name_of(pair, role, start))) is not None:
                rows.append(
                    {
                        "chunk": role,
                        "from": start,
                        "right": steering.right(one.run),
                        "moved, nats": one.shift.value,
                        "95 %": interval(one.shift.low, one.shift.high),
                        "q": one.q,
                        "q, steered against random": one.q_beyond,
                    }
                )
    return pd.DataFrame(rows)


def answer_table(answers: pd.DataFrame) -> pd.DataFrame:
    """What each arm answered after the chunk and from before it, the most frequent first."""
    rows = []
    for (start, arm), own in answers.groupby(["start", "arm"], sort=False):
        said = ", ".join(
            f"{'no answer' if pd.isna(row.answer) else one_line(str(row.answer), 30)}"
            f"{' ✓' if not pd.isna(row.is_correct) and row.is_correct else ''} × {row.n}"
            for row in own.itertuples()
        )
        rows.append({"from": start, "arm": {"base": "unsteered"}.get(str(arm), arm), "answers": said})
    return pd.DataFrame(rows, columns=["from", "arm", "answers"])


# Words


def importance_words(pairs: pd.DataFrame) -> str:
    """What the importance of anchors and matches is: its metric, convention and unit."""
    conventions = "/".join(dict.fromkeys(pairs["convention"].astype(str)))
    return f"counterfactual importance ({conventions}), nats"


def counted(at: Asked) -> str:
    """Which continuations the effects in the table count."""
    one = QUANTITIES[at.quantity]
    which = (
        "in each arm rollouts from before the chunk against continuations from after it"
        if one.rescored
        else "only continuations from after the chunk; those from before it are counted in a pair's answers alone"
    )
    return f"Steered and random: {at.axis}. It counts {which}."


def how(pairs: pd.DataFrame) -> str:
    """How the pairs were made and steered, from their rows."""
    first, n = pairs.iloc[0], len(pairs)
    same = pairs["same_cot"].astype(bool)
    earlier = int((same & (pairs["match_number"] < pairs["anchor_number"])).sum())
    return (
        f"{n} pairs: an anchor (counterfactual importance ≥ {number(first.threshold)} nats, convention"
        f" {first.convention}) and a chunk below that, {int(same.sum())} of them of one CoT, the nearest there and in"
        f" length; {earlier} matches stand before their anchors, where more of the chain is still to come. Steered:"
        f" {direction_words(first.kind)}, layer {first.layer}, {position_words(first.place)}, β = {first.beta:g}"
        f" {unit_words(first.unit)}; control: {first.n_random} random directions of the same length in turn."
        f" {first.n} continuations of each arm from before and from after the chunk, all arms with the same random"
        " numbers. Intervals and p take whole problems together."
    )


def _defined(at: Asked) -> str:
    metric = QUANTITIES[at.quantity].metric
    return f"{definition(metric, at.convention)}." if metric else ""
