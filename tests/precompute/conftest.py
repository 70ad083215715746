"""The study of a module whose stages are run once and then read: its `study_of(model)`, by its `run(study, folder)`."""

from contextlib import closing

import pytest

from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.study import Study


@pytest.fixture(scope="module")
def study(request, tiny_folder) -> Study:
    return request.module.study_of(str(tiny_folder("llama")))


@pytest.fixture(scope="module")
def folder(request, study, tmp_path_factory) -> StudyFolder:
    folder = StudyFolder(tmp_path_factory.mktemp("stores") / "tiny")
    request.module.run(study, folder)
    return folder


@pytest.fixture(scope="module")
def store(folder):
    with closing(Store(folder.path)) as store:
        yield store
