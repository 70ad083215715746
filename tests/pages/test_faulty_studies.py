"""A study that was deleted, damaged, or whose files hold anything: the page says so, and never shows another one in its
place.
"""

import errno
import os
import shutil
import time
from dataclasses import replace

import pytest

from app.shell import studies
from backend.store.progress import Progress, write_progress
from backend.store.publish import publish
from backend.store.store import generations_of
from backend.store.unit_files import StudyFolder
from tests.pages.conftest import words


@pytest.fixture
def study(imported, tmp_path):
    return shutil.copytree(imported, tmp_path / "here" / "small")


def test_a_study_that_is_gone_is_said_and_not_replaced_by_another(opened, study, tmp_path):
    other = shutil.copytree(study, tmp_path / "here" / "other")
    test = opened("chains_of_thought", study, other, study="small")
    assert test.session_state["selection"]["study"] == "small" and not test.exception
    shutil.rmtree(study)
    test.run()
    assert not test.exception
    assert "There is no study small here. Its folder was deleted" in words(test) and "Choose another one" in words(test)
    assert test.query_params["study"] in ("small", ["small"]) and not test.header  # nothing of the other
    test.selectbox(key="study_instead").select("other").run()
    assert test.session_state["selection"]["study"] == "other" and "There is no study" not in words(test)


def test_where_the_only_study_is_gone_the_page_says_both(opened, study):
    test = opened("overview", study, study="small")
    shutil.rmtree(study)
    said = words(test.run())
    assert (
        "There is no study small here" in said
        and "python -m precompute run studies/quick.toml" in said
        and not test.exception
    )


def test_a_name_in_a_link_is_text(opened, study):
    test = opened("overview", study, study="**x** ![p](http://tracker.invalid/p.png)\x1b[31m")
    assert "There is no study **x** ![p](http://tracker.invalid/p.png)␛[31m here" in "\n".join(
        text.value for text in test.text
    )
    assert not any("tracker" in str(element.value) for element in (*test.markdown, *test.caption))


def test_results_that_were_cut_are_replaced_by_those_before_with_a_word(opened, study):
    with StudyFolder(study).writing("publish") as writer:
        publish(writer)
    newest, before = generations_of(study)[:2]
    newest.write_bytes(newest.read_bytes()[:5000])
    test = opened("chains_of_thought", study, study="small")
    assert not test.exception and before.exists()
    assert f"The newest results of this study are damaged ({newest.name})" in words(test) and "## Chunk " in words(test)


@pytest.mark.parametrize("name", ["progress.json", "CURRENT", "labels.jsonl", "lock"])
@pytest.mark.parametrize("content", [b"", bytes(range(256)), b"[" * 100_000], ids=["empty", "binary", "deep"])
def test_state_files_may_hold_anything(opened, study, name, content):
    (study / name).write_bytes(content)
    test = opened("overview", study, study="small")
    assert not test.exception and test.title[0].value == "About this study"


def test_a_run_whose_process_is_gone_is_said_at_once(opened, study):
    now = Progress("cots", 3, 12, 0.5, 18.0, "running", time.time()).by_this_process()
    write_progress(study, replace(now, began=now.began - 1000))
    assert "cots: 3 of 12 units · ended without a word" in words(opened("overview", study, study="small"))
    write_progress(study, now)
    assert "cots: 3 of 12 units · running" in words(opened("overview", study, study="small"))


def test_a_fault_of_the_machine_is_a_sentence_on_the_page(opened, study, monkeypatch):
    def refused(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(studies, "open_store", refused)
    test = opened("chains_of_thought", study, study="small")
    assert not test.exception and "Too many files are open in this process" in words(test)
