"""What the views of latents share: the models that think in latents, and the problem that is open."""

import pandas as pd

from app.shared.views import Here
from app.shell import selection
from app.shell.fields import Field, declare
from app.shell.missing import Missing, undone
from app.shell.untrusted import one_line
from backend.latent.kinds import SIBLINGS
from backend.models.names import short_name

MODEL = declare(Field("latent_model", "model that thinks in latents", None))
PROBLEM = declare(Field("latent_problem", "problem of latents", None))


def latents(here: Here) -> Missing | None:
    """Need of a view: models that thought in latents."""
    return undone(here.store.path, "latents") if here.once(models).empty else None


def models(here: Here) -> pd.DataFrame:
    """One row a model, with `label`, what pickers and legends call it."""
    found = here.store.latent_models()
    return found.assign(label=[label(row) for row in found.to_dict("records")])


def label(model: dict[str, object]) -> str:
    """The sibling, with the seed of its training where that is known; the model's name of one without."""
    if model["training_seed"] is None or pd.isna(model["training_seed"]):
        return short_name(model["name"])
    kind = SIBLINGS.get(str(model["sibling"]))
    return f"{kind.label if kind else model['sibling']}, seed {model['training_seed']}"


def chosen_model(here: Here) -> pd.Series:
    """The model that views of one model show, behind a picker that stands once on a page."""
    return here.once(_pick_model)


def _pick_model(here: Here) -> pd.Series:
    found = here.once(models).set_index("model_id", drop=False)
    labels = found["label"].to_dict()
    return found.loc[selection.pick(MODEL, "Model", list(labels), show=labels.__getitem__)]


def chosen_problem(here: Here) -> pd.Series:
    """The scored problem that is open, behind a picker that stands once on a page."""
    return here.once(_pick_problem)


def _pick_problem(here: Here) -> pd.Series:
    found = here.store.latent_problems()
    found = found[found["is_scored"].astype(bool)].set_index("problem_id", drop=False)
    questions = {name: one_line(question, 110) for name, question in found["question"].items()}
    return found.loc[selection.pick(PROBLEM, "Problem", list(questions), show=questions.__getitem__)]
