"""The study of a module whose stages are run once and then read: its `study_of(model)`, by its `run(study, folder)`."""

from contextlib import closing
from multiprocessing import forkserver

import pytest

from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute.engines.local import IMPORTED
from precompute.study import Study


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The process that workers are copies of is one a test process, and has imported what whoever starts it first asked
    for: now what any of them asks for, so that no worker imports torch anew.
    """
    server, asked = forkserver._forkserver, [*IMPORTED, "transformers.models.llama.modeling_llama"]

    def set_preload(modules: list[str]) -> None:
        asked.extend(name for name in modules if name not in asked)
        server.set_forkserver_preload(asked)

    forkserver.set_forkserver_preload = set_preload
    set_preload([])


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
