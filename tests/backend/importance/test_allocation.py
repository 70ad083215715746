"""Rollouts until known: on chains whose importances are planted."""

import pandas as pd
import pytest

from backend.importance.allocation import BATCH, Wanted, first_batch, next_batches
from backend.importance.saved import most_until, saved
from tests.planted_chains import allocated, chain, known, table, tokens

CHAINS = [chain(seed) for seed in (3, 4)]
WANTED = Wanted(0.3, 60, 1)


@pytest.mark.parametrize("own", CHAINS)
def test_a_chunk_is_known_as_well_as_asked_or_has_the_most_on_both_sides(own):
    numbers = allocated(own, WANTED)
    rows = known(own, table(own, numbers))
    assert all(n % BATCH == 0 and n <= WANTED.most for n in numbers.values())
    for place, one in enumerate(rows):
        pair = [numbers[chunk] for chunk in own.ids[place : place + 2]]
        # The last look drew other numbers of the same posterior.
        assert one.width <= WANTED.until * 1.1 or pair == [WANTED.most] * 2
    assert tokens(own, numbers) < tokens(own, dict.fromkeys(own.ids, WANTED.most))


def test_the_order_of_rows_decides_nothing():
    own = CHAINS[0]
    numbers = dict.fromkeys(own.ids, first_batch(WANTED))
    rows = table(own, numbers)
    more = next_batches(rows, own.ids, numbers, WANTED)
    assert more and more == next_batches(rows.sample(frac=1, random_state=1), own.ids, numbers, WANTED)


def test_until_0_is_the_most_at_once():
    wanted = Wanted(0.0, 30, 1)
    numbers = dict.fromkeys(CHAINS[0].ids, first_batch(wanted))
    assert set(numbers.values()) == {30}
    assert not next_batches(table(CHAINS[0], numbers), CHAINS[0].ids, numbers, wanted)


def test_what_was_saved_is_against_the_most_at_every_chunk():
    rows = pd.DataFrame({"chunk_id": ["a", "b"], "n": [10, 40], "tokens": [1000, 2000], "n_reaching": [3, 0]})
    assert saved(rows, 40).startswith("50 rollouts until known, 3,000 tokens: 50 % of what 40 at each of 2 chunks")
    assert saved(rows.head(0), 40) == ""


def test_what_was_asked_for_is_read_from_the_newest_study_file_and_not_from_an_import():
    until, without = '{"rollouts": {"n": 40, "until": 0.1}}', '{"rollouts": {"n": 9}}'
    rows = [("import thought-anchors", '{"rollouts": true}'), ("refresh", until), ("run", without)]
    runs = pd.DataFrame(rows, columns=["command", "parameters"])
    assert most_until(runs) == 40
    assert most_until(runs.tail(1)) is None
    assert most_until(runs.head(1)) is None
