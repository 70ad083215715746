"""What is refused before anything runs: a device that is not here, models that cannot be used or asked, and a
dictionary that is not theirs.
"""

from backend.cot.prompts import asked
from backend.live.available import is_here
from backend.models.devices import require_device
from backend.models.loading import check_model, is_hub_id, load_tokenizer
from precompute.stages.crosscoder import dictionary_of_file
from precompute.study import Study


def require_usable(study: Study) -> None:
    """Raise where the device is not on this machine, and where `require_usable_models` does."""
    require_device(study.engine.device)
    require_usable_models(study)


def require_usable_models(study: Study) -> None:
    """Raise where a model of the study cannot be used, or cannot be asked under one of its prompts; and where the file
    of its dictionary is of other models or of another layer. A model that is still on a hub is not fetched to find out.
    """
    for model in study.models:
        elsewhere = model.name.startswith("embedded:") or is_hub_id(model.name)
        if is_here(model.name, model.revision) or not elsewhere:
            check_model(model.name, revision=model.revision, dtype=model.dtype)
            tokenizer = None if study.problems is None else load_tokenizer(model.name, revision=model.revision)
            for prompt in () if tokenizer is None else study.prompts_of(model):
                asked(tokenizer, "What is 1 + 1?", prompt)
    for wanted in study.crosscoder:
        if wanted.dictionary is not None:
            dictionary_of_file(study, wanted)
