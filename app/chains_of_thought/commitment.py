"""When the chain commits to its answer: its text, its forced answers, and what models read of it; and which of these
comes first over all chains.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.figures import commitment as figures
from app.figures.commitment import Curve
from app.shared import chosen_stream, parting, views
from app.shared.answer_shares import part_of
from app.shared.clicks import go_to_clicked
from app.shared.model_names import called
from app.shared.statistics_cache import commitment_of, commitments_compared
from app.shared.views import Here
from app.shell import keys, selection, studies
from app.shell.data_figure import data_figure
from app.shell.data_table import data_table
from app.shell.fields import Field, declare
from app.shell.missing import no_rollouts, say, undone
from app.shell.numbers import interval, number
from app.shell.untrusted import one_line, show
from backend.importance import commitment
from backend.importance.commitment import COUNTED, CURVES, DRAWN, FORCED, OWN, SCALES, TEXT, Compared
from backend.lens.kinds import LENSES
from backend.statistics.commitment import KNOWN, Change, factors_under_other_priors
from backend.store.store import Store

COUNTING = declare(
    Field("commitment_counts", "what counts as an outcome of a commitment", tuple(COUNTED), default=OWN, of=None)
)
SCALE = declare(Field("commitment_scale", "scale of a reading", tuple(SCALES), default=DRAWN, of=None))
_COLOURS = {TEXT: "#0070C3", FORCED: "#AD4605"}
_READERS = ("#7D5BF7", "#409067", "#BD8701", "#C67FC7")  # reading models in turn
_KINDS = {TEXT: "text", FORCED: "forced answers"}
_POINT = ["curve", "n_read", "value", "low", "high", "told", "chunk_id"]


@dataclass(frozen=True)
class Along:
    """One curve of the chain, with its change."""

    curve: Curve
    said: str  # what a sentence calls it
    change: Change | None


def draw(here: Here, store: Store) -> None:
    where = here.chunk
    chains = store.own_answers(where.cot)
    outcomes, every = store.outcomes_along(where.cot), store.answer_readings(where.cot)
    if outcomes.empty and every.empty:
        has_tokens = pd.notna(store.chunk_spans(where.cot)["token_start"]).all()
        say(no_rollouts(store.coverage().iloc[0], store.path, has_tokens=bool(has_tokens)))
        return
    chain = chains.iloc[0]
    with views.controls():
        counted = selection.pick(COUNTING, "Outcomes", list(COUNTED), show=lambda name: COUNTED[name].label, width=230)
        scale, lens, layer = _pick_reading(store)
    readings = commitment.under(every, lens, layer)
    chunks = store.tagged_chunks(where.cot, "")["chunk_id"].tolist()
    found = [*_counted(outcomes, chain, counted), *_read(store, readings, chain, scale)]
    selected = chunks.index(where.chunk) + 1 if where.chunk in chunks else None
    key = keys.of("commitment_curves")
    data_figure(
        figures.commitment_curves(
            _points(outcomes, readings, chain, counted, found, chunks),
            _logs(readings, found),
            _gaps(found),
            [one.curve for one in found],
            int(chain.n_chunks),
            selected=selected,
            axis=_axis(counted),
        ),
        key=key,
        on_select=lambda: go_to_clicked(key, pd.Series(chunks)),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    show(f"This chain: {sentence(found)}. {_own_answer(chain)}")
    table = change_table(found, readings, int(chain.n_chunks), scale)
    data_table(table, hide_index=True, row_height=28, height="content", key=keys.of("commitment_changes"))
    st.caption(_explained(counted, outcomes) + _read_words(readings, scale))
    if every.empty:
        say(undone(store.path, "commitment"))
    _all_chains(store, counted, scale, (lens, layer))


def _pick_reading(store: Store) -> tuple[str, str | None, int | None]:
    """The scale of readings, the kind of lens and the layer at which it reads, those of all views where they were read;
    None where no lens reads any chain.
    """
    there = studies.ask(store.readings_of)
    if there.empty:
        return DRAWN, None, None
    scale = selection.pick(SCALE, "Readings change in", list(SCALES), show=lambda one: SCALES[one].label, width=190)
    by_lens = there[~there["is_model"].astype(bool)]
    if by_lens.empty:
        return scale, None, None
    kinds = [kind for kind in LENSES if kind in set(by_lens["lens"])]
    lens = chosen if (chosen := selection.get("lens")) in kinds else kinds[0]
    if len(kinds) > 1:
        selection.offer(
            "pick_reading_lens",
            "Lens",
            kinds,
            lens,
            lambda kind: selection.choose(lens=kind),
            show=lambda kind: LENSES[kind].label,
            width=150,
        )
    return scale, lens, _pick_layer(store, by_lens[by_lens["lens"] == lens])


def _pick_layer(store: Store, by_lens: pd.DataFrame) -> int | None:
    layers = sorted(set(by_lens["layer"].astype(int)))
    streams = [chosen_stream.Stream(row.model_id, int(row.layer)) for row in by_lens.itertuples()]
    nearest = chosen_stream.nearest(store, streams)
    shown, beside = nearest.layer, parting.at_layer(store, nearest.model, nearest.layer)
    if selection.is_offered(chosen_stream.LAYER):
        return shown

    def take(value: str) -> None:
        selection.choose({chosen_stream.LAYER: value})

    options = list(map(str, layers))
    selection.offer("pick_reading_layer", "Lens at layer", options, str(shown), take, width=130, help=beside)
    return shown


def _counted(outcomes: pd.DataFrame, chain: pd.Series, counted: str) -> Iterator[Along]:
    for kind, label in _KINDS.items():
        if (outcomes["kind"] == kind).any():
            change = commitment.change_of(outcomes, kind, chain, counted)
            curve = Curve(kind, label, _COLOURS[kind], verdict(change))
            yield Along(curve, label, change)


def _read(store: Store, readings: pd.DataFrame, chain: pd.Series, scale: str) -> Iterator[Along]:
    """Each reading model: the model itself, and the lens at the layer."""
    readers = list(dict.fromkeys(readings["model_id"]))
    for (model, lens_id, layer), rows in readings.groupby(["model_id", "lens_id", "layer"], sort=False):
        first = rows.iloc[0]
        colour, who = _READERS[readers.index(model) % len(_READERS)], reader_words(store, first, chain)
        said = "the model itself" if first.is_model else f"{LENSES[first.lens].label}, layer {layer}"
        change = commitment.reading_change(rows, int(chain.n_chunks), scale)
        dash = "solid" if first.is_model else "dash"
        curve = Curve(f"{model}:{lens_id}:{layer}", f"{who}, {said}", colour, verdict(change), dash)
        yield Along(curve, f"{said} ({who})", change)


def reader_words(store: Store, reading: pd.Series, chain: pd.Series) -> str:
    """Who reads, and whether it wrote the chain."""
    who = called(store, reading.model_id)
    return f"{who}, the writer" if reading.model_id == chain.model_id else who


def _rows_of(readings: pd.DataFrame, name: str) -> pd.DataFrame:
    model, lens_id, layer = name.split(":")
    return readings[
        (readings["model_id"] == model) & (readings["lens_id"] == lens_id) & (readings["layer"] == int(layer))
    ]


def _points(
    outcomes: pd.DataFrame,
    readings: pd.DataFrame,
    chain: pd.Series,
    counted: str,
    found: Sequence[Along],
    chunks: Sequence[str],
) -> pd.DataFrame:
    rows = [
        (
            row.curve,
            row.n_read,
            row.share,
            row.low,
            row.high,
            f"{_KINDS[row.curve]} after {row.n_read} chunks<br>{row.k} of {row.n}, {row.n_without} more without an"
            f" answer<br>share {row.share:.0%}, 95 % {row.low:.0%} to {row.high:.0%}",
            chunks[row.n_read],
        )
        for row in commitment.points(outcomes, chain, counted).itertuples()
    ]
    for one in found:
        if one.curve.name in _KINDS:
            continue
        for row in _rows_of(readings, one.curve.name).itertuples():
            told = f"{one.curve.label} after {row.n_read} chunks<br>probability {math.exp(row.logprob):.3g}"
            after = chunks[row.n_read] if row.n_read < len(chunks) else None
            rows.append((one.curve.name, row.n_read, math.exp(row.logprob), None, None, told, after))
    return pd.DataFrame(rows, columns=_POINT)


def _logs(readings: pd.DataFrame, found: Sequence[Along]) -> pd.DataFrame:
    parts = [
        _rows_of(readings, one.curve.name).assign(curve=one.curve.name) for one in found if one.curve.name not in _KINDS
    ]
    rows = pd.concat(parts) if parts else readings.assign(curve=None)
    return rows.rename(columns={"other_logprob": "other"})[["curve", "n_read", "logprob", "other"]]


def _gaps(found: Sequence[Along]) -> pd.DataFrame:
    rows = [
        (one.curve.name, *gap, posterior, gap in one.change.credible, gap == one.change.likeliest)
        for one in found
        if one.change is not None and one.change.is_known
        for gap, posterior in zip(one.change.gaps, one.change.posterior, strict=True)
    ]
    return pd.DataFrame(rows, columns=["curve", "first", "last", "posterior", "is_credible", "is_likeliest"])


def _axis(counted: str) -> str:
    return "share of correct" if counted == commitment.CORRECT else "share of its own answer"


# Words


def chunk_words(gap: tuple[int, int]) -> str:
    """The chunk in a gap, or the chunks where those between were not measured."""
    return str(gap[1]) if gap[1] == gap[0] + 1 else f"{gap[0] + 1}–{gap[1]}"


def set_words(change: Change) -> str:
    return ", ".join(chunk_words(gap) for gap in change.credible)


def factor_words(factor: float) -> str:
    return "over 10,000" if factor > 10_000 else f"{factor:,.0f}" if factor >= 10 else f"{factor:.2g}"


def verdict(change: Change | None) -> str:
    """What is known of a curve's change."""
    if change is None:
        return "not measured twice"
    factor = f"Bayes factor {factor_words(change.factor)}"
    if not change.is_known:
        return f"unknown, {factor}"
    does = "commits" if change.rises else "turns away"
    return f"{does} at {chunk_words(change.likeliest)}, {factor}"


def sentence(found: Sequence[Along]) -> str:
    """Which curve commits at which chunk, which turns away, and of which nothing is known."""
    at: dict[str, list[str]] = {state: [] for state in commitment.STATES}
    for one in found:
        state = commitment.state_of(one.change)
        where = "" if one.change is None or not one.change.is_known else f" at {chunk_words(one.change.likeliest)}"
        verb = f" {state}" if where and not at[state] else ""
        at[state].append(f"{one.said}{verb}{where}")
    known = [", ".join(at[state]) for state in (commitment.COMMITS, commitment.TURNS_AWAY) if at[state]]
    unknown = at[commitment.UNKNOWN]
    known += [f"unknown (Bayes factor below {KNOWN:g}): {', '.join(unknown)}"] if unknown else []
    unmeasured = at[commitment.UNMEASURED]
    known += [f"not measured: {', '.join(unmeasured)}"] if unmeasured else []
    return "; ".join(known) or "nothing was counted or read"


def change_table(found: Sequence[Along], readings: pd.DataFrame, n_chunks: int, scale: str) -> pd.DataFrame:
    """Of each curve its change, how sure it is, how much the prior decides, and what the control does."""
    rows = []
    for one in found:
        row = {"curve": one.curve.label, "change": "not measured", "95 % set": "–", "factor": "–"}
        if one.change is not None:
            state = commitment.state_of(one.change)
            at = f" at {chunk_words(one.change.likeliest)}" if one.change.is_known else ""
            row |= {"change": f"{state}{at}", "factor": factor_words(one.change.factor)}
            row["95 % set"] = set_words(one.change) if one.change.is_known else "–"
        if one.curve.name in _KINDS:
            row |= {"other priors": "–", "other answer": "–"}
        else:
            own = _rows_of(readings, one.curve.name)
            low, high = factors_under_other_priors(commitment.scaled(own, n_chunks, scale), SCALES[scale].prior)
            row["other priors"] = f"{factor_words(low)} to {factor_words(high)}"
            row["other answer"] = _of_control(commitment.reading_change(own, n_chunks, scale, "other_logprob"))
        rows.append(row)
    return pd.DataFrame(rows)


def _of_control(change: Change | None) -> str:
    if change is None:
        return "not read"
    if not change.is_known:
        return "no known change"
    return f"{'rises' if change.rises else 'falls'} at {chunk_words(change.likeliest)}"


def _own_answer(chain: pd.Series) -> str:
    if pd.isna(chain.answer):
        return "The chain gives no answer, so no curve of its own answer exists."
    how = {"forced": "forced of it at its end", "published": "as published"}.get(chain.answer_source, "as it gives it")
    verdict_ = "of unknown correctness" if pd.isna(chain.is_correct) else "correct" if chain.is_correct else "wrong"
    return f"Its own answer is {one_line(chain.answer, 40)} ({how}; {verdict_})."


def _explained(counted: str, outcomes: pd.DataFrame) -> str:
    sizes = outcomes.groupby(["kind", "n_read"])["n"].sum().sort_index(level="kind", ascending=False)
    n = "; ".join(
        f"{_KINDS[kind]}: {own.min()} to {own.max()} after each of {len(own)} numbers of chunks"
        if own.min() != own.max()
        else f"{_KINDS[kind]}: {own.min()} at each of {len(own)} cuts"
        for kind, own in sizes.groupby("kind", sort=False)
        if kind in _KINDS
    )
    without = int(outcomes.loc[outcomes["cluster"].isna(), "n"].sum())
    return (
        f"Rollouts ({n or 'none'}), {part_of(without, int(outcomes['n'].sum()))} of them without an answer, which take"
        f" no part. Outcomes: {COUNTED[counted].words}. Bands: 95 % of the posterior, α = ½ for each of the two. A"
        f" change is known from a Bayes factor of {KNOWN:g} on; the last chunk takes no part in it, since nothing was"
        " sampled after it."
    )


def _read_words(readings: pd.DataFrame, scale: str) -> str:
    if readings.empty:
        return ""
    answers = readings["other_answer"].dropna()
    control = "no rollout of this problem gives another answer, so there is none"
    if len(answers):
        control = f"the most frequent other answer of this problem's rollouts, {one_line(answers.iloc[0], 40)}"
    return (
        " Lines without a band are readings: the probability of the whole answer after the same forcing words, one"
        f" exact number a cut; they change in the {SCALES[scale].words}. Control (dotted): {control}."
    )


# All chains


def _all_chains(store: Store, counted: str, scale: str, lens: tuple[str | None, int | None]) -> None:
    rows = commitment_of(store, counted, scale, *lens)
    found = commitments_compared(rows)
    measured = rows[rows["state"] != commitment.UNMEASURED]
    if measured.empty:
        return
    st.markdown("**All chains with rollouts: which commits first**")
    data_figure(
        figures.which_first(first_rows(found)), key=keys.of("commitment_first"), config={"displayModeBar": False}
    )
    data_table(first_table(found), hide_index=True, row_height=28, key=keys.of("commitment_pairs"))
    data_table(state_table(rows, *lens), hide_index=True, row_height=28, key=keys.of("commitment_states"))
    show(all_words(found))
    st.caption(
        "Of chains in which both curves have a known commitment. Difference: first less second, in chunks, with a 95 %"
        " interval and a p (sign flips) over whole problems; detectable: the mean difference that four in five studies"
        f" like this one would find. Outcomes: {COUNTED[counted].words}. Readings are those of the model that wrote the"
        " chain, unless the other one is named."
    )


def _pair(one: Compared) -> str:
    return f"{CURVES[one.first]} – {CURVES[one.second]}"


def first_rows(found: Sequence[Compared]) -> pd.DataFrame:
    rows = [(_pair(one), one.n_first, one.n_same, one.n_second) for one in found if one.difference.n]
    return pd.DataFrame(rows, columns=["pair", "n_first", "n_same", "n_second"])


def first_table(found: Sequence[Compared]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "first – second": [_pair(one) for one in found],
            "n": [one.difference.n for one in found],
            "left out": [one.n_left_out for one in found],
            "difference, chunks": [
                f"{number(one.difference.mean)} {interval(one.difference.low, one.difference.high)}"
                if one.difference.n
                else "–"
                for one in found
            ],
            "p": [number(one.difference.p) if one.difference.n else "–" for one in found],
            "detectable": ["none" if math.isinf(one.detectable) else number(one.detectable) for one in found],
        }
    )


def state_table(rows: pd.DataFrame, lens: str | None, layer: int | None) -> pd.DataFrame:
    """How many chains each curve commits in, turns away in, is unknown in; and its median chunk."""
    table = []
    for curve, label in CURVES.items():
        own = rows[rows["curve"] == curve]
        counts = {state: int((own["state"] == state).sum()) for state in commitment.STATES}
        if counts[commitment.UNMEASURED] == len(own):
            continue
        at = f"{label}: {lens}, layer {layer}" if curve == commitment.OWN_LENS else label
        table.append({"curve": at, **counts, "median chunk": number(own["chunk"].median())})
    return pd.DataFrame(table)


_FEWEST = 6  # problems below which no p can fall to 0.05


def all_words(found: Sequence[Compared]) -> str:
    """Which of two comes first over all chains, pair by pair; a difference that is not shown says its power."""
    enough = [one for one in found if one.difference.n_clusters >= _FEWEST]
    few = [f"{_pair(one)} ({one.difference.n})" for one in found if one not in enough]
    words = [_said(one) for one in enough] + ([f"too few chains to compare {', '.join(few)}"] if few else [])
    return f"This study: {'; '.join(words) or 'nothing to compare'}."


def _said(one: Compared) -> str:
    first, second, found = CURVES[one.first], CURVES[one.second], one.difference
    of = f"n = {found.n} chains of {found.n_clusters} problems, p = {number(found.p)}"
    if found.p <= 0.05:
        earlier, later = (first, second) if found.mean < 0 else (second, first)
        return (
            f"the change of {earlier} comes {number(abs(found.mean))} chunks before that of {later} on average ({of})"
        )
    size = "no size tried would be" if math.isinf(one.detectable) else f"{number(one.detectable)} chunks would be"
    return f"neither {first} nor {second} is shown to come first ({of}; {size} found in four of five such studies)"
