"""What somebody registered in this process, kept with a study: values, words, and the source that computed them.

1. Whatever is registered and is not Anchorscope's own is taken: metrics of importance, geometry columns, kinds of
   direction.
2. With `steer`, the study's chunks are steered along its kinds of direction and along those too, by the study's model.
3. A metric is computed from the stored rollouts, a column from the stored rows, and both are written as units of their
   own, beside the words and the digest of the source.
4. The evidence of the study's pairs is brought up to them.

Another process opens all of it without the code: it has the values and the words, and says that the code is not there.
"""

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa

from backend.cot.answers import Judge
from backend.errors import AnchorscopeError
from backend.geometry import direction_kinds
from backend.geometry.direction_kinds import DIRECTION_KINDS, DirectionKind
from backend.ids import seed_for, stable_id
from backend.importance import metric_registry
from backend.importance.metric_registry import METRICS, Metric
from backend.root import PRECOMPUTE, own_stores
from backend.schema.provenance import OF_A_STUDY_FILE
from backend.store import geometry_columns
from backend.store.geometry_columns import COLUMNS, GeometryColumn
from backend.store.known import by_name
from backend.store.publish import publish
from backend.store.registered import NAME
from backend.store.store import Store
from backend.store.unit_files import StudyFolder, Writer
from precompute import own_arrays
from precompute.bring_up import bring_up
from precompute.checked_json import row
from precompute.pipeline import run_row
from precompute.stages import claims, evidence, sweep
from precompute.stages.importance import importance_tables
from precompute.study import Study, stored_study

STAGE = "registered"


class KeepError(AnchorscopeError):
    """Nothing to keep, or no study to keep it with."""


def keep(study: str | Path, *, steer: bool = False) -> Path:
    """Compute what is registered here for a study, by name or folder, and store it there; returns the folder.

    Raises KeepError before anything is written, MetricError and others as the registered code does.
    """
    own = _own()
    folder = _folder(study)
    with contextlib.closing(Store(folder.path)) as store:
        settings = _settings(store)
    kinds = [entry.name for entry in own if isinstance(entry, DirectionKind) and entry.swept is not None]
    if steer:
        settings = _steered_too(settings, kinds, folder)
    run_id = stable_id("r", STAGE, folder.name, datetime.now(UTC).isoformat())
    named = {"kept": [f"{_kind(entry)} {entry.name}" for entry in own], "steer": steer}
    with folder.writing(f"keep {folder.name}") as writer:
        run = run_row(run_id, "keep", folder.name, settings.seed, json.dumps(named))
        writer.add("runs", run_id, {"runs": [run]})
        if steer:
            bring_up(writer, settings, [sweep], run_id)
        with contextlib.closing(Store(folder.path)) as store:
            for entry in own:
                _keep(writer, store, entry, settings, run_id)
        publish(writer)
        bring_up(writer, settings, [evidence, claims], run_id)
    return folder.path


def _own() -> list[Metric | GeometryColumn | DirectionKind]:
    found: list[Metric | GeometryColumn | DirectionKind] = [
        *(DIRECTION_KINDS[name] for name in DIRECTION_KINDS if name not in direction_kinds.SHIPPED),
        *(METRICS[name] for name in METRICS if name not in metric_registry.SHIPPED),
        *(COLUMNS[name] for name in COLUMNS if name not in geometry_columns.SHIPPED),
    ]
    if not found:
        raise KeepError(
            "Nothing is registered in this process that is not Anchorscope's own. Register a metric, a geometry column"
            " or a kind of direction first (docs/extending)."
        )
    for entry in found:
        if not NAME.fullmatch(entry.name):
            raise KeepError(
                f"The {_kind(entry)} is called {entry.name!r}; up to 63 small letters, digits and _ were expected, a"
                " letter first."
            )
        if isinstance(entry, Metric) and entry.needs_returns:
            raise KeepError(
                f"The metric {entry.name} needs every sentence of the rollouts embedded; `{PRECOMPUTE} run` computes it"
                " where its entry stands in backend/importance/metric_registry.py."
            )
    return found


def _kind(entry: Metric | GeometryColumn | DirectionKind) -> str:
    return "metric" if isinstance(entry, Metric) else "column" if isinstance(entry, GeometryColumn) else "direction"


def _folder(study: str | Path) -> StudyFolder:
    path = Path(study)
    if not path.is_dir():
        path = by_name(own_stores(), {}).get(str(study), path)
    if not StudyFolder(path).manifest.exists():
        raise KeepError(
            f"{path} is no study's folder; the name or path of one was expected. A shipped pack or a portable .duckdb"
            " file takes in nothing."
        )
    return StudyFolder(path)


def _settings(store: Store) -> Study:
    """The study as its last run understood it; of a study from arrays, or an import, what evidence needs."""
    runs = store.frame("SELECT command, seed, parameters FROM runs ORDER BY started_at DESC").to_dict("records")
    for run in runs:
        if run["command"] in OF_A_STUDY_FILE:
            with contextlib.suppress(ValueError, TypeError):  # of another version
                found = stored_study(run["parameters"])
                return found if found.geometry else own_arrays.settings(found.name, found.seed)
    said = [run for run in runs if run["command"] == own_arrays.STAGE]
    draws = json.loads(said[0]["parameters"]).get("draws", own_arrays.DRAWS) if said else own_arrays.DRAWS
    seed = next((int(run["seed"]) for run in runs if not pd.isna(run["seed"])), 0)
    return own_arrays.settings(store.path.name, seed, draws=draws)


def _steered_too(settings: Study, kinds: Sequence[str], folder: StudyFolder) -> Study:
    if not kinds:
        raise KeepError("steer is True, but no kind of direction is registered here that a study can be swept along.")
    if settings.sweep is None or any("arrays" in model.reads for model in settings.models):
        raise KeepError(
            f"steer is True, but {folder.path} was not made by a study file with a model and [sweep]; there is nobody"
            " to steer."
        )
    every = tuple(dict.fromkeys((*settings.sweep.kinds, *kinds)))
    return settings.model_copy(update={"sweep": settings.sweep.model_copy(update={"kinds": every})})


def _keep(
    writer: Writer, store: Store, entry: Metric | GeometryColumn | DirectionKind, settings: Study, run_id: str
) -> None:
    kind = _kind(entry)
    source, digest, version = _source(entry)
    said = row(
        "registered",
        kind=kind,
        name=entry.name,
        own_label=entry.words if isinstance(entry, DirectionKind) else entry.label,
        unit="" if isinstance(entry, DirectionKind) else entry.unit,
        own_meaning=entry.help if isinstance(entry, DirectionKind) else entry.meaning,
        signed=entry.signed if isinstance(entry, Metric) else None,
        colour=entry.colour if isinstance(entry, DirectionKind) else None,
        made_by="code",
        source=source,
        sha256=digest,
        version=version,
        run_id=run_id,
    )
    tables: dict[str, Any] = {"registered": [said]}
    if isinstance(entry, Metric):
        tables["importance"] = list(_importances(store, entry, settings))
    elif isinstance(entry, GeometryColumn):
        tables["kept_columns"] = _values(store, entry)
    key = f"{kind}.{entry.name}@{digest[:16]}"
    writer.add(STAGE, key, tables, provenance={"run_id": run_id, "source_sha256": digest, "version": version})
    others = {one for one in writer.ledger.keys(STAGE) if not one.startswith(f"{kind}.{entry.name}@")}
    writer.keep_only(STAGE, {*others, key})


def _importances(store: Store, metric: Metric, settings: Study) -> Iterator[dict[str, Any]]:
    cots = sorted({one["cot_id"] for one in store.answers_by_rollout()})
    chunks = store.chunks_of(cots)
    with Judge() as judge:
        for cot in cots:
            texts = {chunk["chunk_id"]: chunk["text"] for chunk in chunks[cot]}
            seed = seed_for(settings.seed, "importance", cot)
            tables = importance_tables(cot, texts, store.rollouts_of(cot), judge, seed=seed, metrics=[metric.name])
            measured = cast(pa.Table, tables["importance"])
            yield from _plain(measured.to_pandas())


def _values(store: Store, column: GeometryColumn) -> list[dict[str, Any]]:
    found = store.frame(
        f"SELECT '{column.name}' AS x, chunk_id, kind, model_id, layer, position, unit, x::DOUBLE AS value, se, n FROM"
        f" ({column.sql()}) ORDER BY ALL"
    )
    return _plain(found)


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _source(entry: Metric | GeometryColumn | DirectionKind) -> tuple[str | None, str, str | None]:
    """The source of what computes it, where it can be read; its sha256, or that of its compiled form; the version."""
    if isinstance(entry, GeometryColumn):
        sql = entry.sql()
        return sql, hashlib.sha256(sql.encode()).hexdigest(), f"rule {entry.rule}"
    made_by = list(_functions(entry))
    version = next(
        (
            str(module.__version__)
            for one in made_by
            if (module := sys.modules.get(one.__module__)) is not None and hasattr(module, "__version__")
        ),
        f"rule {entry.rule}" if isinstance(entry, Metric) else None,
    )
    try:
        source = "\n".join(inspect.getsource(one) for one in made_by)
    except (OSError, TypeError):
        compiled = repr([list(_compiled(one.__code__)) for one in made_by]) or repr(entry)
        return None, hashlib.sha256(compiled.encode()).hexdigest(), version
    return source, hashlib.sha256(source.encode()).hexdigest(), version


def _functions(entry: Metric | DirectionKind) -> Iterator[Callable[..., Any]]:
    parts: Iterable[object] = (
        (getattr(entry.measure, "estimate", None), getattr(entry.measure, "of", None))
        if isinstance(entry, Metric)
        else (getattr(entry.swept, "make", None), getattr(entry.by_hand, "make", None))
    )
    yield from (one for one in parts if inspect.isfunction(one))


def _compiled(code: Any) -> Iterator[object]:
    yield code.co_code.hex()
    yield code.co_names
    for one in code.co_consts:
        yield from _compiled(one) if inspect.iscode(one) else [repr(one)]
