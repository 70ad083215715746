"""Which study a person lands on, and the shipped one: unpacked once, opened like any other, and no obstacle when it is
damaged.
"""

import os
import shutil
import time
import weakref
from contextlib import closing
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.shell import studies
from backend.store import known
from backend.store.experiments import Experiments
from backend.store.known import open_study
from backend.store.packed import pack
from backend.store.progress import Progress, write_progress
from backend.store.publish import publish
from backend.store.store import NoStore, Store
from backend.store.unit_files import StudyFolder
from tests import small_study

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return small_study.make_imported(tmp_path_factory.mktemp("studies") / "small")


@pytest.fixture
def shipped(study, tmp_path, monkeypatch) -> Path:
    """A repository of its own under tmp_path: the pack that it ships, and no study yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "STORES", tmp_path / "stores")
    monkeypatch.setenv("ANCHORSCOPE_STORES", "")
    monkeypatch.setenv("ANCHORSCOPE_DEMO", str(tmp_path / "demo"))
    pack(study, tmp_path / "demo")
    return tmp_path / "demo"


def own(study: Path, name: str, *, state: str | None, age: float) -> Path:
    """A study under `stores/` of this state (None: nothing ever ran on it), published `age` seconds ago."""
    made = Path(shutil.copytree(study, studies.STORES / name))
    if state:
        write_progress(made, Progress("sweep", 1, 2, None, None, state, time.time()))
    os.utime(made / "CURRENT", times=(time.time() - age,) * 2)
    return made


def test_a_newcomer_lands_on_the_demo_while_the_first_study_is_made_and_on_that_when_it_is_finished(study, shipped):
    assert list(studies.found()) == ["demo"]
    made = own(study, "quick", state="running", age=0)
    assert list(studies.found()) == ["demo", "quick"]
    write_progress(made, Progress("sweep", 2, 2, None, None, "finished", time.time()))
    assert list(studies.found()) == ["quick", "demo"]


def test_finished_studies_come_before_the_demo_and_unfinished_ones_after_it_newest_first(
    study, shipped, monkeypatch, tmp_path
):
    for name, state, age in (
        ("older", "finished", 90),
        ("newer", "finished", 10),
        ("imported", None, 50),
        ("failed", "failed", 5),
        ("running", "running", 1),
        ("interrupted", "interrupted", 70),
    ):
        own(study, name, state=state, age=age)
    named = Path(shutil.copytree(study, tmp_path / "elsewhere" / "named"))
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(named))
    assert list(studies.found()) == ["named", "newer", "imported", "older", "demo", "running", "failed", "interrupted"]


def test_a_study_that_somebody_is_just_beginning_is_not_finished(study, shipped):
    young = own(study, "young", state=None, age=0)
    with StudyFolder(young).writing("run young"):
        assert list(studies.found()) == ["demo", "young"]
    assert list(studies.found()) == ["young", "demo"]


def test_several_packs_are_shipped_each_under_the_name_of_its_folder(study, shipped, monkeypatch, tmp_path):
    pack(study, tmp_path / "latent-study")
    monkeypatch.setenv("ANCHORSCOPE_DEMO", os.pathsep.join([str(shipped), str(tmp_path / "latent-study")]))
    found = studies.found()
    assert list(found) == ["demo", "latent-study"]
    assert len({studies.open_store(path).generation for path in found.values()}) == 2


@pytest.mark.parametrize("place", ["shelf/mine", "shelf"])
def test_a_pack_named_among_the_stores_is_opened_as_the_shipped_ones_are(study, shipped, monkeypatch, tmp_path, place):
    pack(study, tmp_path / "shelf" / "mine")
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(tmp_path / place))
    assert list(studies.found()) == ["mine", "demo"]
    opened = studies.open_store(studies.found()["mine"])
    assert opened.whole_table("cots").equals(studies.open_store(study).whole_table("cots"))


def test_a_damaged_pack_named_among_the_stores_is_listed_and_says_what_is_wrong(study, shipped, monkeypatch, tmp_path):
    mine = tmp_path / "mine"
    pack(study, mine)
    (mine / "cots.parquet").write_bytes(b"")
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(mine))
    with pytest.raises(NoStore, match=r"cots\.parquet has sha256"):
        studies.open_store(studies.found()["mine"])


def test_a_pack_named_among_the_stores_is_no_demo(study, shipped, monkeypatch, tmp_path):
    monkeypatch.setenv("ANCHORSCOPE_STORES", str(shipped))
    monkeypatch.setenv("ANCHORSCOPE_DEMO", "")
    assert list(studies.found()) == ["demo"]
    with pytest.raises(NoStore, match="ANCHORSCOPE_DEMO names none"):
        open_study()


def test_a_pack_is_opened_by_its_path_too(study, shipped, monkeypatch, tmp_path):
    monkeypatch.setattr(known, "own_stores", lambda: tmp_path / "stores")
    pack(study, tmp_path / "mine")
    assert open_study(tmp_path / "mine").whole_table("cots").equals(studies.open_store(study).whole_table("cots"))


def test_no_demo_is_listed_where_none_is_shipped_or_wanted(shipped, monkeypatch, tmp_path):
    monkeypatch.setenv("ANCHORSCOPE_DEMO", "")
    assert studies.found() == {}
    monkeypatch.setenv("ANCHORSCOPE_DEMO", str(tmp_path / "nowhere"))
    assert studies.found() == {}
    assert not studies.STORES.exists()


def test_the_demo_opens_like_any_other_study_and_runs_on_it_are_kept_beside_it(study, shipped):
    file = studies.found()["demo"]
    assert file == studies.STORES / "demo.duckdb"
    assert studies.open_store(file).whole_table("cots").equals(studies.open_store(study).whole_table("cots"))
    before = file.read_bytes()
    run = small_study.experiments(
        {"cot_id": "c", "prompt": "p", "text": "t"}, [{"chunk_id": f"c_{k}"} for k in range(3)]
    )[-1]
    Experiments(file).keep(*run)
    assert (studies.STORES / "demo.experiments").is_dir() and file.read_bytes() == before
    assert list(studies.found()) == ["demo"]


def test_it_is_unpacked_once_in_the_life_of_the_process(shipped, monkeypatch):
    asked = []
    monkeypatch.setattr(studies, "unpack", lambda folder, file: asked.append((folder, file)))
    for _ in range(3):
        studies.found()
    assert asked == [(shipped, studies.STORES / "demo.duckdb")]


def test_a_damaged_pack_is_said_where_the_demo_is_opened_and_nowhere_else(study, shipped):
    (shipped / "cots.parquet").write_bytes(b"")
    own(study, "running", state="running", age=0)
    assert list(studies.found()) == ["running", "demo"]
    with pytest.raises(NoStore, match=r"cots\.parquet has sha256"):
        studies.open_store(studies.found()["demo"])
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run()
    assert not test.exception
    assert "cots.parquet" not in said(test)
    test.selectbox(key="pick_study").set_value("demo").run()
    assert not test.exception
    assert said(test).count("cots.parquet has sha256") == 1


def test_a_generation_is_asked_once_and_what_is_done_to_an_answer_changes_no_other(study, tmp_path, monkeypatch):
    asked, of_the_file = [], Store.frame
    monkeypatch.setattr(
        Store, "frame", lambda self, sql, **values: asked.append(sql) or of_the_file(self, sql, **values)
    )
    path = Path(shutil.copytree(study, tmp_path / "small"))
    first = studies.open_store(path).models()
    first["name"] = "another"
    again = studies.open_store(path).models()
    assert len(asked) == 1 and again.equals(of_the_file(Store(path), asked[0])) and not again.equals(first)
    known, other = again["model_id"][0], "none"
    sql = "SELECT name FROM models WHERE model_id = $id ORDER BY name"
    assert [len(studies.open_store(path).frame(sql, id=one)) for one in (known, other, known)] == [1, 0, 1]
    with StudyFolder(path).writing("publish") as writer:
        publish(writer)
    assert studies.open_store(path).models().equals(again) and len(asked) == 4  # a new generation is asked anew


def test_what_lies_beside_a_generation_is_asked_every_time(study, monkeypatch):
    asked, of_the_file = [], Store.frame
    monkeypatch.setattr(
        Store, "frame", lambda self, sql, **values: asked.append(sql) or of_the_file(self, sql, **values)
    )
    for _ in range(2):
        studies.open_store(study).frame("SELECT count(*) AS n FROM added")
    assert len(asked) == 2


def said(test: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (test.text, test.caption, test.markdown) for element in kind)


def test_of_many_studies_the_last_few_stay_open(study, tmp_path):
    folders = [Path(shutil.copytree(study, tmp_path / f"s{k}")) for k in range(studies._MOST_OPEN + 2)]
    stores = [studies.open_store(folder) for folder in folders]
    first, last = weakref.ref(stores[0]), stores[-1]
    stores.clear()
    assert first() is None and studies.open_store(folders[-1]) is last
    assert studies.open_store(folders[0]).path == folders[0] and len(studies._open()) == studies._MOST_OPEN


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads")
def test_a_study_that_is_open_has_no_more_threads_than_cores(study):
    def running() -> int:
        return len(os.listdir("/proc/self/task"))

    before = running()
    with closing(Store(study)) as store:
        assert len(store.frame("SELECT * FROM cots")) and running() - before <= os.cpu_count()
