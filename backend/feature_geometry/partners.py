"""Another place for each place: one of the same kind in another problem, so that what is shared is not the text."""

import numpy as np

NONE = -1


def partners(labels: np.ndarray, problems: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,): for each place the index of one with the same label in another problem, each taken at most once; NONE where
    there is none.

    The places of a label stand in a ring, problem after problem, and each is given the one as far on as the largest
    problem of the ring is long. `labels` and `problems` are whole numbers from 0.
    """
    found = np.full(len(labels), NONE)
    turn = rng.permutation(problems.max(initial=0) + 1)[problems]
    order = np.lexsort((rng.random(len(labels)), turn, labels))
    for ring in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(ring):
            others = np.roll(ring, -int(np.bincount(turn[ring]).max()))
            found[ring] = np.where(problems[ring] == problems[others], NONE, others)
    return found
