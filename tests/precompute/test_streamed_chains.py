"""A few published problems, streamed from rows as they lie on the hub: path, filename, extension, size_bytes, content.

The stand-in is a folder of Parquet in that layout, or the same behind a hub on this machine.
"""

import io
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from rich.console import Console
from typer.testing import CliRunner

from backend.store.store import Store
from backend.store.unit_files import StudyFolder
from precompute import cli, corpora, streamed_chains
from precompute.corpora import CorpusError
from precompute.importers.thought_anchors import read_thought_anchors
from precompute.importing import import_folder
from precompute.streamed_chains import streamed
from precompute.terminal import ours
from tests.local_hub import COMMIT, Hub, serving
from tests.precompute.importers.test_thought_anchors import COT, MODEL, folder, rollout, top, write  # noqa: F401

CASE = f"{MODEL}/temperature_0.6_top_p_0.95/correct_base_solution"
SAID = ours(Console(file=io.StringIO(), width=200))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANCHORSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def published(folder, tmp_path):  # noqa: F811
    """Five problems, each with rollouts and forced answers, in two Parquet files of small groups of rows."""
    place = tmp_path / "tree" / CASE
    for number in range(5):
        for file in folder.glob("*.json"):
            words = file.read_text().replace("Tom", f"Tom{number}").replace("How many?", f"How many, {number}?")
            write(place / f"problem_{number}" / file.name, words)
        write(place / f"problem_{number}" / "chunk_1" / "solutions.json", [rollout()])
        forced = place.with_name(place.name + "_forced_answer") / f"problem_{number}"
        write(forced / "chunk_1" / "solutions.json", [rollout(rollout="7", chunk_resampled=None)])
    write(tmp_path / "tree" / "README.json", {})
    return rows_of(tmp_path / "tree", tmp_path / "rows")


def rows_of(tree, target, **changed):
    files = sorted(file for file in tree.rglob("*") if file.is_file())
    rows = [
        {
            "path": file.relative_to(tree).as_posix(),
            "filename": file.name,
            "extension": file.suffix,
            "size_bytes": file.stat().st_size,
            "content": file.read_text(),
        }
        | changed
        for file in files
    ]
    (target / "data").mkdir(parents=True)
    for part, chosen in enumerate(half for half in (rows[:20], rows[20:]) if half):
        name = target / "data" / f"default-{part:05d}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist(chosen), name, row_group_size=4)
    return target


def fetched(source, **how) -> list[str]:
    root = streamed(str(source), **{"problems": 2, "gigabytes": 1.0, "console": SAID} | how)
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def test_the_first_problems_come_whole_with_their_forced_answers_and_read_as_published(published, tmp_path):
    root = streamed(str(published), problems=2, gigabytes=1.0, console=SAID)
    found, right = read_thought_anchors(root), read_thought_anchors(tmp_path / "tree")
    assert [cot["text"] for cot in found.tables["cots"]] == [COT.replace("Tom", f"Tom{k}") for k in range(2)]
    wanted = {cot["cot_id"] for cot in found.tables["cots"]}
    for table in ("cots", "chunks", "rollouts"):
        assert found.tables[table] == [row for row in right.tables[table] if row["cot_id"] in wanted]
    assert {row["kind"] for row in found.tables["rollouts"]} >= {"resample", "forced"}


def test_no_group_of_rows_is_read_that_holds_nothing_wanted(published, monkeypatch):
    read = []

    class Watched(pq.ParquetFile):
        def iter_batches(self, *args, **how):
            read.extend(how.get("row_groups", ()) if how["columns"] == ["content"] else ())
            return super().iter_batches(*args, **how)

    monkeypatch.setattr(streamed_chains.pq, "ParquetFile", Watched)
    fetched(published, problems=1)
    assert 0 < len(read) < 6  # of 12 groups


def test_a_part_is_chosen_by_path_and_rollouts_can_stay_where_they_are(published):
    names = fetched(published, only="problem_3/", rollouts=False)
    assert names and all("problem_3/" in name for name in names)
    assert not any("chunk_1/" in name or "forced" in name or "resampled" in name for name in names)


def test_a_stopped_fetch_goes_on_and_more_problems_cost_what_is_new(published, monkeypatch):
    written, write_file = [], streamed_chains._write

    def stopping(file, content):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(file.name)
        write_file(file, content)

    monkeypatch.setattr(streamed_chains, "_write", stopping)
    with pytest.raises(KeyboardInterrupt):
        fetched(published)
    monkeypatch.setattr(streamed_chains, "_write", lambda f, content: (written.append(f.name), write_file(f, content)))
    two = fetched(published)
    assert len(written) == len(two)
    assert len(fetched(published, problems=3)) == len(written) > len(two)


def test_plain_files_of_the_same_tree_are_taken_too(published, tmp_path):
    assert fetched(tmp_path / "tree") == fetched(published)


def test_a_path_that_leads_out_of_the_folder_stays_in_it(folder, tmp_path):  # noqa: F811
    tree = tmp_path / "odd"
    for file in folder.glob("*.json"):
        write(tree / CASE / "problem_1" / file.name, file.read_text())
    rows_of(tree, tmp_path / "rows")
    for file in (tmp_path / "rows" / "data").iterdir():
        table = pq.read_table(file)
        paths = [f"../../../../{path}" for path in table["path"].to_pylist()]
        pq.write_table(table.set_column(0, "path", pa.array(paths, pa.string())), file)
    assert all(name.startswith(CASE) for name in fetched(tmp_path / "rows"))
    assert not (tmp_path / MODEL).exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"only": "qwen-999b"},
            r"has no whole problem whose path holds 'qwen-999b': .*problem_N/FILE\.json were",
        ),
        ({"gigabytes": 1e-9}, r"these problems are 0\.0 GB, and at most 1e-09 GB are fetched\. Ask for fewer"),
    ],
)
def test_what_is_not_there_or_too_much_is_said_before_anything_is_fetched(published, tmp_path, how, said):
    with pytest.raises(CorpusError, match=said):
        fetched(published, **how)
    assert not (tmp_path / "cache" / "streamed").exists()


def test_rows_in_another_layout_and_a_file_too_large_are_refused(published, tmp_path):
    (tmp_path / "other" / "data").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "other" / "data" / "a.parquet")
    with pytest.raises(CorpusError, match=r"has the columns text; path and content were expected"):
        fetched(tmp_path / "other")
    rows_of(tmp_path / "tree", tmp_path / "large", size_bytes=1 << 30)
    with pytest.raises(CorpusError, match=r"problem_0/.* has 1,073,741,824 bytes; at most 268,435,456 are read"):
        fetched(tmp_path / "large", gigabytes=1000.0)
    rows_of(tmp_path / "tree", tmp_path / "empty", content=None)
    with pytest.raises(CorpusError, match=r"the content of .* is NoneType; text was expected"):
        fetched(tmp_path / "empty")


def test_the_command_makes_a_study_of_them(published, tmp_path):
    target = tmp_path / "study"
    words = f"import thought-anchors {published} --hub --problems 2 --no-rollouts --store {target}".split()
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    with closing(Store(target)) as store:
        assert store.mean_lengths() and len(StudyFolder(target).ledger().keys("imported")) == 2


def test_what_was_streamed_before_is_not_imported_again(published, tmp_path):
    target, said = StudyFolder(tmp_path / "study"), io.StringIO()
    for problems in (2, 3):
        root = streamed(str(published), problems=problems, rollouts=False, gigabytes=1.0, console=SAID)
        console = Console(file=said, width=200)
        import_folder("thought-anchors", root, target, wait=False, console=console, rollouts=False)
    assert "2 of 3 CoTs are there already" in said.getvalue()


def test_the_data_set_is_read_over_the_hub_at_one_commit(published, monkeypatch):
    with serving(Hub(repositories={"datasets/some/rollouts": published})) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        assert fetched("some/rollouts") == fetched(published)
        resolved = [path for path in hub.asked if "/resolve/" in path]
        assert resolved and all(COMMIT in path for path in resolved)


def test_without_a_network_it_is_a_sentence(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CorpusError, match=r"uzaymacar/math-rollouts could not be reached .* name a folder"):
        fetched(streamed_chains.MATH_ROLLOUTS)
    with pytest.raises(CorpusError, match="could not be reached"):
        corpora.find("some/texts")
    with pytest.raises(CorpusError, match="Only thought-anchors can be streamed"):
        streamed_chains.require_streamable("seed-study")
