"""What seeing a kept run again brings back: all that Steering's controls choose, and nothing else that was selected."""

from types import ModuleType

from app import views
from app.shared.live import OF_A_RUN
from app.shell.fields import FIELDS, Field
from app.steering import both_models, controls, runs, steered_text, text_and_curve
from app.steering.steered_text import AGAINST, RUN


def chosen_in(module: ModuleType) -> set[str]:
    return {one.name for one in vars(module).values() if isinstance(one, Field)}


def test_it_is_every_choice_of_steering_and_no_other_that_is_declared():
    views.registered()
    controlled = set().union(*map(chosen_in, (both_models, controls, runs, steered_text, text_and_curve)))
    assert controlled - {RUN.name, AGAINST.name} <= OF_A_RUN <= set(FIELDS)


def test_where_the_person_stands_is_no_part_of_a_run():
    of_the_person = {
        "study",
        "run",
        "second_run",
        "tour",
        "dock",
        "dock_arranged",
        "pinned_chunk",
        "pinned_run",
        "search",
    }
    assert not OF_A_RUN & of_the_person
    assert not [name for name in OF_A_RUN if FIELDS[name].of is None]
