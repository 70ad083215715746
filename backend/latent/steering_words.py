"""What steered latents show, in sentences made of their numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from backend.latent.kinds import SPACES
from backend.latent.outcomes import ALPHA, AgainstRandom, Estimated
from backend.latent.published import DEFECTS, PUBLISHED, Arm

REPORTED = (
    "“Latent Reasoning Sprint #3” reports, of a model with six latents, that steering hidden states by differences of"
    " mean latents acts like random vectors, and that steering the KV cache raises accuracy for some pairs at step 5,"
    " none of them with both signs."
)


def of_map(found: AgainstRandom, *, early: bool) -> str:
    """Whether differences do anything, and more than random vectors."""
    when = "when the answer is forced at once" if early else "when the loop goes on to its end"
    return f"{_cells(found, when)} {_beside_random(found)} {_power(found)}"


def _cells(found: AgainstRandom, when: str) -> str:
    if not found.n_cells:
        return f"No cell is known {when}."
    told = (
        f"No cell of {found.n_cells} differs from"
        if not found.n_higher + found.n_lower
        else f"Of {found.n_cells} cells {found.n_higher} are above and {found.n_lower} below"
    )
    of_random = (
        ""
        if not found.n_random_cells
        else f"; of {found.n_random_cells} cells of random vectors {found.n_random_found}"
        f" ({found.n_random_found / found.n_random_cells:.0%}) pass its strictest bar"
    )
    return f"{told} the unsteered run of the same length after Holm, {when}{of_random}."


def _beside_random(found: AgainstRandom) -> str:
    if math.isnan(found.difference):
        return "Beside random vectors it is unknown."
    numbers = (
        f"differences change accuracy by {points(found.pairs)} on average, random vectors as long by"
        f" {points(found.random)}: {points(found.difference)} apart {span(found.low, found.high)}, p ="
        f" {found.p_helps:.2g}; without regard to sign they move it by {points(found.size_pairs, sign=False)} and"
        f" {points(found.size_random, sign=False)}, p = {found.p_moves:.2g}"
    )
    return f"{verdict(found)}: {numbers}."


def verdict(found: AgainstRandom) -> str:
    """In a few words. An effect needs its interval and its permutations."""
    if math.isnan(found.difference):
        return "Unknown"
    is_apart = found.p_helps <= ALPHA and not found.low <= 0 <= found.high
    if is_apart:
        return "Above random vectors" if found.difference > 0 else "Below random vectors"
    if found.p_moves <= ALPHA:
        more = found.size_pairs > found.size_random
        return f"No better or worse than random vectors, but accuracy moves {'more' if more else 'less'}"
    return "Not told from random vectors"


def _power(found: AgainstRandom) -> str:
    if math.isnan(found.detectable):
        return f"With {found.n} problems no change of a single cell is certain to be found."
    return (
        f"A change of {points(found.detectable, sign=False)} in a single cell would be found four times in five"
        f" (n = {found.n} problems, median over cells, Holm counted in)."
    )


@dataclass(frozen=True)
class Part:
    """One way to draw the map."""

    arm: Arm
    change: Estimated
    random: Estimated
    likeness: Estimated  # with the published map
    apart: Estimated  # differences less random vectors


def of_lengths(hidden: float, embedded: float) -> str:
    """How long what the wrong space gets is, in typical lengths of differences of its own."""
    return (
        f"A difference of hidden states, {hidden:.2g} long, is {hidden / embedded:.2g} times as long as one of"
        " embeddings, to which the published study adds it."
    )


def of_parts(space: str, parts: Sequence[Part]) -> str:
    """Which of the published defects makes the published map, and its likeness to random vectors, as far as these maps
    say.
    """
    return f"{_of_pattern(space, parts)} {_of_apart(space, parts)}".strip()


def _of_apart(space: str, parts: Sequence[Part]) -> str:
    """Whether differences are told from random vectors as published, and which mended defect parts them most."""
    published = PUBLISHED[space]
    known = {part.arm: part.apart for part in parts if not math.isnan(part.apart.value)}
    whole = known.get(Arm(space, published))
    mended = {
        name: known[arm] for name in DEFECTS if name in published and (arm := Arm(space, published - {name})) in known
    }
    if whole is None or not mended:
        return ""
    most = max(mended, key=lambda name: abs(mended[name].value))
    told = "not told" if whole.low <= 0 <= whole.high else "told"
    ours = known.get(Arm(space))
    return (
        f"As published, differences are {told} from random vectors as long: {points(whole.value)} apart"
        f" {span(whole.low, whole.high)}. They are furthest apart with the {DEFECTS[most].label} mended:"
        f" {points(mended[most].value)} {span(mended[most].low, mended[most].high)}"
        + ("." if ours is None else f"; with all mended {points(ours.value)} {span(ours.low, ours.high)}.")
    )


def _of_pattern(space: str, parts: Sequence[Part]) -> str:
    published = PUBLISHED[space]
    by_arm = {part.arm: part for part in parts}
    mended = {
        name: by_arm[arm].likeness
        for name in DEFECTS
        if name in published and (arm := Arm(space, published - {name})) in by_arm
    }
    known = {name: one for name, one in mended.items() if not math.isnan(one.value)}
    if not known:
        return "Which defect makes the published map is unknown: its maps have not been run, or nothing moves in them."
    least = min(known, key=lambda name: known[name].value)
    order = ", ".join(
        f"{DEFECTS[name].label} {one.value:.2f} {_span(one.low, one.high)}"
        for name, one in sorted(known.items(), key=lambda item: item[1].value)
    )
    made = (
        f"Mending the {DEFECTS[least].label} changes the published map most"
        if known[least].high < 1 - 1e-9
        else "No single defect, when it is mended, changes the published map"
    )
    return f"{made}. Correlation with it when one is mended: {order}.{_ours(by_arm.get(Arm(space)))}"


def _ours(part: Part | None) -> str:
    if part is None or math.isnan(part.likeness.value):
        return ""
    one = part.likeness
    return f" With all of them mended it is {one.value:.2f} {_span(one.low, one.high)} over {one.n} cells."


def of_siblings(found: Sequence[tuple[str, str, AgainstRandom]]) -> str:
    """Space by space, how many models of each sibling show more than random vectors; of (sibling, space, map)."""
    parts = []
    for space in dict.fromkeys(space for _, space, _ in found):
        own = [(sibling, one) for sibling, other, one in found if other == space]
        told = []
        for sibling in dict.fromkeys(sibling for sibling, _ in own):
            verdicts = [verdict(one) for other, one in own if other == sibling]
            above, below = (verdicts.count(f"{word} random vectors") for word in ("Above", "Below"))
            told.append(f"{sibling}: above in {above}, below in {below} of {len(verdicts)}")
        parts.append(f"{SPACES[space].name} ({'; '.join(told)})")
    return (
        f"Beside random vectors as long, accuracy is in {', '.join(parts)}." if parts else "No map has been run here."
    )


def of_both_signs(by_sign: Mapping[int, pd.DataFrame]) -> str:
    """Whether a cell is above unsteered with a coefficient and with its opposite; `by_sign` has a table each for 1 and
    −1.
    """
    if set(by_sign) != {1, -1}:
        return "The opposite coefficient has not been run."
    above = {
        sign: {(row.a, row.b, row.target) for row in table.itertuples() if row.p_holm <= ALPHA and row.difference > 0}
        for sign, table in by_sign.items()
    }
    both = len(above[1] & above[-1])
    return (
        f"Of both signs of this size, {len(above[1] | above[-1])} cells are above unsteered with one or the other, and"
        f" {both or 'none'} with both."
    )


def of_fitted(table: pd.DataFrame) -> str:
    """Whether the positive control worked; `table` has fitted vectors of one space or more."""
    if table.empty:
        return "No vector has been fitted: that differences do nothing would then say little."
    parts = []
    for space, own in table.groupby("space", sort=False):
        helped = own[(own["p_holm"] <= ALPHA) & (own["difference"] > 0)]
        if helped.empty:
            best = own.loc[own["difference"].idxmax()]
            parts.append(
                f"in {SPACES[str(space)].name} none of {len(own)} helps (at most {points(best['difference'])}"
                f" {span(best['low'], best['high'])})"
            )
            continue
        shortest = helped.loc[helped["bound"].idxmin()]
        most = helped.loc[helped["difference"].idxmax()]
        parts.append(
            f"in {SPACES[str(space)].name} {len(helped)} of {len(own)} help, from {shortest['bound']:g} typical lengths"
            f" of a difference on; the most at latent {most['target']:.0f}, {points(most['difference'])}"
            f" {span(most['low'], most['high'])} at {most['lengths']:.2g}"
        )
    return f"Vectors fitted by gradient on other problems: {'; '.join(parts)}."


def points(share: float, *, sign: bool = True) -> str:
    return f"{100 * share:+.1f} points" if sign else f"{100 * share:.1f} points"


def span(low: float, high: float) -> str:
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _span(low: float, high: float) -> str:
    return "[unknown]" if math.isnan(low) or math.isnan(high) else f"[{low:.2f}, {high:.2f}]"
