"""A study as files for others: one portable .duckdb, or a folder of Parquet, one file a table.

The rows are those of the published generation, and the live runs as they are now: they are read from their own ledger,
so that neither runs kept since the last publication are missing nor a pipeline that holds the study is waited for. The
weights of dictionaries are no rows: their folders go beside the one file, as NAME.dictionaries, or into the other
folder; so do the files of what people said: labels, saved searches, notes. A crosscoder can leave by itself, in the
layout that others publish.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from backend.crosscoder import stored
from backend.errors import AnchorscopeError
from backend.schema.tables import SCHEMA_VERSION, TABLES
from backend.store import dictionaries, lines
from backend.store.beside import beside
from backend.store.experiments import Experiments, Kept
from backend.store.publish import take_in_experiments
from backend.store.store import Store
from precompute.terminal import say_error


def export_duckdb(study: Path, file: Path) -> None:
    """Copy the study's published generation and its live runs to `file`, whole or not at all; it opens wherever a
    folder does.
    """
    with contextlib.closing(Store(study)) as store:  # refuses what cannot be opened
        _refuse_older(store)
        stored.check(store)
        of_dictionaries, generation = store.dictionary_ids(), store.generation
    _refuse_existing(file)
    _refuse_existing(
        beside(file)
    )  # runs on a file of that name which is gone: they would be taken for runs on this one
    _refuse_existing(dictionaries.beside(file))
    for said in (lines.beside(file, name) for name in lines.NAMES):  # they too
        if said.exists():
            _refuse_existing(said)
    temporary = file.with_name(file.name + ".tmp")
    with _nothing_left_on_failure(dictionaries.beside(file), temporary, temporary.with_name(temporary.name + ".wal")):
        dictionaries.copy(of_dictionaries, study, dictionaries.beside(file))
        shutil.copyfile(generation, temporary)
        take_in_experiments(temporary, _live_runs(study))
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, file)
        lines.copy(study, file)


def export_parquet(study: Path, folder: Path) -> list[Path]:
    """One zstd Parquet file a table, with the schema version in its metadata. Returns the files."""
    _refuse_existing(folder)
    temporary = folder.with_name(folder.name + ".tmp")
    with contextlib.closing(Store(study)) as store, _nothing_left_on_failure(temporary):
        _refuse_older(store)
        stored.check(store)
        kept = _live_runs(study)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for table in TABLES:
            rows = kept.tables[table] if table in kept.tables else store.whole_table(table)
            rows = rows.replace_schema_metadata({"anchorscope_schema_version": str(SCHEMA_VERSION)})
            pq.write_table(rows, temporary / f"{table}.parquet", compression="zstd", write_page_checksum=True)
        dictionaries.copy(store.dictionary_ids(), study, temporary / dictionaries.FOLDER)
        lines.copy(study, temporary)
        os.replace(temporary, folder)
    return sorted(folder.glob("*.parquet"))


def export_crosscoder(study: Path, folder: Path) -> list[Path]:
    """The study's crosscoder in the crosscoder_learning layout, with latent_df.csv: what others' code reads.

    Returns the files.
    """
    from backend.crosscoder.files import export_crosscoder_learning
    from backend.crosscoder.latent_df import NAME, latent_df

    _refuse_existing(folder)
    with contextlib.closing(Store(study)) as store:
        of_two = [name for name in store.dictionary_ids() if len(stored.read_from(store, name).scale) == 2]
        if len(of_two) != 1:
            what = (
                "Add [crosscoder] to its file and run it."
                if not of_two
                else "Run it with the one [crosscoder] that is wanted."
            )
            raise AnchorscopeError(f"{study} has {len(of_two)} crosscoders of two models; expected one. {what}")
        features, n_features = store.features(of_two[0]), stored.read_from(store, of_two[0]).n_features
        if len(features) != n_features:
            raise AnchorscopeError(
                f"{study}: {len(features)} of {n_features} features of its crosscoder are measured; run the study to"
                " the end of the stage features, then export."
            )
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    crosscoder = stored.read(study, of_two[0])
    with _nothing_left_on_failure(temporary):
        export_crosscoder_learning(crosscoder, temporary)
        latent_df(crosscoder.decoder, features).to_csv(temporary / NAME)
        os.replace(temporary, folder)
    return sorted(folder.iterdir())


def _live_runs(study: Path) -> Kept:
    """The study's live runs; those whose files are damaged are named, since a file for others does not show what it
    lacks.
    """
    kept = Experiments(study).everything()
    for line in kept.damaged:
        say_error(f"damaged live run {line.key} is left out; steer again to have it")
    return kept


@contextlib.contextmanager
def _nothing_left_on_failure(*made: Path) -> Iterator[None]:
    """Remove what was half-made: it would keep a full disk full, and the same command from going on."""
    try:
        yield
    except BaseException:  # an interrupt too; it is raised again
        for path in made:
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _refuse_older(store: Store) -> None:
    """A file for others does not show what it lacks."""
    if store.older is not None:
        raise AnchorscopeError(store.older)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise AnchorscopeError(f"{target} exists already; name a new one, or delete it first.")
    if not target.parent.is_dir():
        raise AnchorscopeError(f"the folder {target.parent} does not exist; make it first.")
