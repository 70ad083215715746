"""Named corpora are read from local stand-ins of the two layouts: Parquet with turns of conversations, and files of
JSON lines for each kind of text.
"""

import gzip
import json
from types import SimpleNamespace

import fsspec
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precompute import corpora
from precompute.corpora import CorpusError, collected, find, texts_of


@pytest.fixture
def thoughts(tmp_path):
    """As OpenThoughts-114k lies on the hub: parts of `data/`, and other columns under `metadata/`."""
    for number in range(2):
        rows = [
            {
                "system": "Think.",
                "conversations": [{"from": "user", "value": f"q{number}{k}"}, {"from": "assistant", "value": "a"}],
            }
            for k in range(3)
        ]
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"train-{number:05d}-of-00002.parquet")
    (tmp_path / "metadata").mkdir()
    pq.write_table(pa.table({"problem": ["p"], "text": ["not read"]}), tmp_path / "metadata" / "train.parquet")
    (tmp_path / "README.md").write_text("words")
    return tmp_path


@pytest.fixture
def pajama(tmp_path):
    """As RedPajama's sample: a file of JSON lines for each kind, and a script, which is never run."""
    for kind, n in (("arxiv", 4), ("wikipedia", 2)):
        lines = [json.dumps({"text": f"{kind} {k}", "meta": {}}) for k in range(n)] + ["", json.dumps({"meta": {}})]
        (tmp_path / f"{kind}_sample.jsonl").write_text("\n".join(lines))
    with gzip.open(tmp_path / "zipped.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "zipped"}))
    (tmp_path / "RedPajama-Data-1T-Sample.py").write_text("raise SystemExit('it was run')")
    return tmp_path


def test_turns_of_a_conversation_are_one_text_and_parts_take_turns(thoughts):
    assert list(texts_of(find(str(thoughts)))) == [f"q{part}{k}\n\na" for k in range(3) for part in range(2)]


def test_kinds_of_text_take_turns_until_each_ends(pajama):
    assert list(texts_of(find(str(pajama)))) == [
        "arxiv 0",
        "wikipedia 0",
        "zipped",
        "arxiv 1",
        "wikipedia 1",
        "arxiv 2",
        "arxiv 3",
    ]


def test_no_more_is_fetched_than_is_asked_for_and_the_next_time_nothing(pajama, tmp_path, monkeypatch):
    file = tmp_path / "kept" / "corpus.jsonl"
    found = collected(str(pajama), file, n_tokens=10, count=len, longest=6)
    assert found.texts == ["arxiv ", "wikipe"] and found.revision is None  # 12 characters, the first to reach 10
    monkeypatch.setattr(corpora, "find", lambda name: pytest.fail("it is read again"))
    assert collected(str(pajama), file, n_tokens=10, count=len, longest=6) == found


def test_a_stream_that_breaks_leaves_nothing_behind(pajama, tmp_path):
    (pajama / "wikipedia_sample.jsonl").write_text("{no json")
    file = tmp_path / "kept.jsonl"
    with pytest.raises(CorpusError, match=r"wikipedia_sample\.jsonl of the corpus"):
        collected(str(pajama), file, n_tokens=10**6, count=len, longest=100)
    assert not file.exists()


def test_what_has_no_texts_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="has none of the files"):
        find(str(tmp_path))
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "?"}))
    with pytest.raises(CorpusError, match="has no texts"):
        collected(str(tmp_path), tmp_path / "kept", n_tokens=1, count=len, longest=9)


def test_a_name_on_the_hub_is_read_at_one_commit(thoughts, monkeypatch):
    """The hub is a folder here: what is asked of it is a data set at a revision, and files under its commit."""
    asked = []

    class Api:
        def dataset_info(self, name, revision=None):
            asked.append((name, revision))
            return SimpleNamespace(sha="c0ffee")

    class Hub:
        def __init__(self):
            self.local = fsspec.filesystem("file")

        def find(self, root):
            return [path.replace(str(thoughts), root) for path in self.local.find(str(thoughts))]

        def open(self, path, mode):
            return self.local.open(path.replace("datasets/some/thoughts@c0ffee", str(thoughts)), mode)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", Hub)
    found = find("some/thoughts@v1")
    assert asked == [("some/thoughts", "v1")] and found.revision == "c0ffee"
    assert len(list(texts_of(found))) == 6


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    class Api:
        def dataset_info(self, name, revision=None):
            raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(CorpusError, match=r"some/thoughts could not be reached.*name a folder"):
        find("some/thoughts")
