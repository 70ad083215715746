"""The command line: `python -m precompute …`. Heavy libraries are imported by the command that needs them, so that --help is quick."""

import math
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from backend.errors import AnchorscopeError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Build, inspect and export Anchorscope studies."
)
console = Console()

StudyFile = Annotated[Path, typer.Argument(help="a study file, such as studies/quick.toml")]
StorePath = Annotated[Path | None, typer.Option("--store", help="the study's folder; stores/NAME unless given")]
Wait = Annotated[bool, typer.Option("--wait", help="wait for another process that holds the study")]


@app.command()
def run(
    study: StudyFile,
    stage: Annotated[str | None, typer.Option(help="run only this stage")] = None,
    store: StorePath = None,
    wait: Wait = False,
) -> None:
    """Compute what the study lacks. The same command continues a run that was stopped."""
    from backend.store.unit_files import StudyBusy
    from precompute.pipeline import default_folder, run_study
    from precompute.stages import STAGES
    from precompute.stages import interventions as asked
    from precompute.study import load_study

    loaded = load_study(study)
    names = [*(stage.NAME for stage in STAGES), asked.NAME]
    if stage is not None and stage not in names:
        raise AnchorscopeError(f"There is no stage {stage!r}; the stages are {', '.join(names)}.")
    folder = _folder(store) or default_folder(loaded)
    console.print(f"Study {loaded.name} in {folder.path}")
    run_study(loaded, folder, stages=STAGES, only=stage, wait=wait, console=console)
    if stage in (None, asked.NAME):
        engine = {"threads": loaded.engine.workers * loaded.engine.threads, "rows": loaded.engine.rows, "device": loaded.engine.device}
        try:
            asked.run_asked(folder.path, console, wait=wait, **engine)
        except StudyBusy as error:
            console.print(f"  {asked.NAME:<12} {error}")
    console.print(f"Done. Open it with `make run`, or `streamlit run app/main.py` (study {folder.name}).")


@app.command()
def plan(study: StudyFile, store: StorePath = None) -> None:
    """Units, tokens, minutes and gigabytes, before anything runs."""
    from precompute.pipeline import default_folder
    from precompute.plan import plan_study, totals
    from precompute.study import load_study

    loaded = load_study(study)
    lines, lengths = plan_study(loaded, _folder(store) or default_folder(loaded))
    table = Table("stage", "units", "done", "tokens", "minutes here", "gigabytes", title=f"Study {loaded.name}")
    for line in [*lines, totals(lines)]:
        minutes = "unknown" if line.minutes is None else f"{line.minutes:.1f}"
        table.add_row(line.stage, f"about {line.units:,}", f"{line.done:,}", f"{line.tokens:,}", minutes, f"{line.gigabytes:.3f}")
    console.print(table)
    source = "measured in this study" if lengths.measured else "assumed: the study has no CoTs yet"
    console.print(f"Lengths: {lengths.cot:.0f} tokens a CoT, {lengths.chunk:.0f} a chunk ({source}). Minutes count done units too.")


@app.command()
def status(study: StudyFile, store: StorePath = None) -> None:
    """What is done, and who is writing."""
    from backend.store.progress import read_progress
    from precompute.pipeline import default_folder
    from precompute.stages import interventions as asked
    from precompute.study import load_study

    folder = _folder(store) or default_folder(load_study(study))
    if not folder.path.exists():
        raise AnchorscopeError(f"No study at {folder.path}. Build it with `python -m precompute run {study}`.")
    ledger = folder.ledger()
    table = Table("stage", "units done", "kept, not shown", title=f"Study {folder.name}")
    stages = [stage for stage, _ in ledger.live] + [stage for stage, _ in ledger.retired]
    for stage in dict.fromkeys(stages):
        table.add_row(stage, str(len(ledger.keys(stage))), str(sum(of == stage for of, _ in ledger.retired)))
    left, wanted = asked.n_left(folder.path)
    if wanted:
        table.add_row(asked.NAME, f"{wanted - left} of {wanted} asked for", "0")
    console.print(table)
    holder, progress = folder.holder(), read_progress(folder.path)
    if holder is not None and progress is not None:
        left = "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.1f} min left in this stage"
        console.print(f"Running as process {holder.get('pid')}: {progress.stage} {progress.done}/{progress.total}{left}")
    else:
        console.print("Nothing is running." + (f" The last run {progress.state}." if progress and not progress.stale else ""))


@app.command()
def interventions(
    study: Annotated[Path, typer.Argument(help="the study's folder, or a portable .duckdb file")],
    published: Annotated[bool, typer.Option("--published", help="first ask for the published scaling by 1.5 and by 0.5")] = False,
    top: Annotated[int, typer.Option(help="so many of the most frequent features")] = 5,
    nrn_above: Annotated[float, typer.Option(help="among those with NRN above this")] = 0.7,
    problems: Annotated[int, typer.Option(help="that each model solves under each arm")] = 24,
    threads: Annotated[int, typer.Option(help="of the matrix products; all cores unless given")] = os.cpu_count() or 1,
    wait: Wait = False,
) -> None:
    """Do what was asked on the Interventions page and is not done yet. Stop it at any time, run it again to go on."""
    from precompute.stages import interventions as asked

    if published:
        added = asked.ask_published(study, top=top, above=nrn_above, n_problems=problems)
        console.print(f"{added} interventions were added to what is asked of {study}.")
    done = asked.run_asked(study, console, wait=wait, threads=threads)
    left, _ = asked.n_left(study)
    console.print(f"{done} units were done, {left} are left.")


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="thought-anchors or seed-study")],
    folder: Annotated[Path, typer.Argument(help="the folder to read")],
    store: Annotated[Path | None, typer.Option("--store", help="the study's folder; stores/SOURCE unless given")] = None,
    wait: Wait = False,
) -> None:
    """Read a published data set into a study: all of it, or nothing."""
    from precompute.importing import import_folder

    target = _folder(store) or _folder(Path("stores") / source)
    import_folder(source, folder, target, wait=wait, console=console)


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="the study's folder, such as stores/quick")],
    folder: Annotated[Path | None, typer.Argument(help="write Parquet files here, one a table")] = None,
    duckdb: Annotated[Path | None, typer.Option(help="write one portable .duckdb file instead")] = None,
    crosscoder: Annotated[Path | None, typer.Option(help="write the study's crosscoder here, in the crosscoder_learning layout")] = None,
) -> None:
    """A study as Parquet files, or as one portable .duckdb file; or its crosscoder alone."""
    from precompute.export import export_crosscoder, export_duckdb, export_parquet

    if [folder, duckdb, crosscoder].count(None) != 2:
        raise AnchorscopeError(
            "Say where to: `export STUDY FOLDER` for Parquet files, `export STUDY --duckdb FILE` for one file, or "
            "`export STUDY --crosscoder FOLDER` for its crosscoder."
        )
    if crosscoder is not None:
        console.print(f"Wrote {', '.join(file.name for file in export_crosscoder(study, crosscoder))} to {crosscoder}")
    elif duckdb is not None:
        export_duckdb(study, duckdb)
        console.print(f"Wrote {duckdb}")
    elif folder is not None:
        console.print(f"Wrote {len(export_parquet(study, folder))} tables to {folder}")


@app.command()
def pack(
    study: Annotated[Path, typer.Argument(help="the study's folder, or a portable .duckdb file")],
    folder: Annotated[Path, typer.Argument(help="write the pack here; a pack that is there is replaced")],
) -> None:
    """A study as the smallest files that the dashboard can open by itself, to ship in a repository. Vectors become float16."""
    from backend.store.packed import pack as pack_study

    total = pack_study(study, folder)
    table = Table("table", "MB", title=f"{study} in {folder}")
    for file in sorted(folder.glob("*.parquet"), key=lambda file: file.stat().st_size, reverse=True):
        table.add_row(file.stem, f"{file.stat().st_size / 1e6:.2f}")
    if weights := sum(file.stat().st_size for file in folder.glob("dictionaries/*/*")):
        table.add_row("weights of dictionaries", f"{weights / 1e6:.2f}")
    table.add_row("in all", f"{total / 1e6:.2f}", style="bold")
    console.print(table)


@app.command()
def publish(study: Annotated[Path, typer.Argument(help="the study's folder, such as stores/quick")], wait: Wait = False) -> None:
    """Rebuild the study's DuckDB store from its unit files."""
    from backend.store.experiments import STAGE
    from backend.store.publish import publish as build
    from backend.store.unit_files import StudyFolder

    folder = StudyFolder(study)
    if not folder.manifest.exists():
        raise AnchorscopeError(f"No study at {study}: it has no manifest.jsonl. Build one with `python -m precompute run STUDY.toml`.")
    with folder.writing("publish", wait=wait) as writer:
        for line in build(writer):
            again = "steer again to have it" if line.stage == STAGE else "`python -m precompute run` computes it again"
            console.print(f"damaged unit {line.key} of {line.stage} is left out; {again}")
    console.print(f"Published {study}")


@app.command()
def model() -> None:
    """Fetch the embedded language model and sentence encoder, check and convert them, and merge the reasoner: once."""
    from backend.models.embedded import encoder_folder, model_folder, reasoner_folder

    for made in (model_folder(console.print), encoder_folder(console.print), reasoner_folder(console.print)):
        console.print(f"ready: {made}")


@app.command("train-categories")
def train_categories(
    folder: Annotated[Path, typer.Argument(help="a folder of published Thought Anchors CoTs (chunks_labeled.json)")],
    out: Annotated[Path, typer.Option(help="where to write the classifier")] = Path("assets/categories"),
) -> None:
    """Train the classifier of chunk categories and report its macro-F1 by leave-one-CoT-out."""
    from precompute.train_categories import train

    print(train(folder, out))


@app.command("train-reasoner")
def train_reasoner(
    out: Annotated[Path, typer.Option(help="the adapter's folder")] = Path("assets/reasoner"),
    work: Annotated[Path, typer.Option(help="where its checkpoint is kept while it learns")] = Path("reasoner"),
    r1: Annotated[Path | None, typer.Option(help="a folder with traces.jsonl of real R1 traces, learned from for their manner")] = None,
    minutes: Annotated[float, typer.Option(help="stop after so many; the same command goes on")] = math.inf,
    threads: Annotated[int, typer.Option(help="of the matrix products; all cores unless given")] = os.cpu_count() or 1,
) -> None:
    """Train the adapter that makes the embedded model think before it answers. Stop it at any time, run it again to go on."""
    import torch

    from backend.models.loading import load_model
    from precompute.train_reasoner import Recipe, train

    torch.set_num_threads(threads)
    ended = train(load_model("embedded:SmolLM2-135M-Instruct"), Recipe(), work, out, r1=r1, minutes=minutes, say=console.print)
    console.print(f"Done. The adapter is in {out}; `python -m precompute evaluate-reasoner` measures it." if ended else
                  f"Not done yet: the same command goes on from {work}.")


@app.command("evaluate-reasoner")
def evaluate_reasoner(
    store: StorePath = None,
    again: Annotated[bool, typer.Option("--print", help="print the shipped table without computing anything")] = False,
) -> None:
    """Measure the embedded pair on held-out problems and write the reasoner's model card. A stopped run goes on."""
    from backend.models.embedded import REASONER_ASSETS
    from precompute.evaluate_reasoner import STUDY, evaluate, shipped_table

    if again:
        print(shipped_table(REASONER_ASSETS))
        return
    folder = _folder(store) or _folder(Path("stores") / STUDY.name)
    print(evaluate(folder, REASONER_ASSETS, console))


def _folder(path: Path | None):
    from backend.store.unit_files import StudyFolder

    return None if path is None else StudyFolder(path)


def main() -> int:
    """Run the command; our own errors are sentences, an interrupt says how to go on."""
    # Two OpenMP threads stall at every small operation while a worker holds one of the cores; workers set their own number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app(standalone_mode=False)
    except AnchorscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:  # typer carries its own click and names no base class for wrong arguments; all else is raised again
        if hasattr(error, "format_message"):  # a wrong argument, in typer's words
            print(f"error: {error.format_message()}. See `python -m precompute --help`.", file=sys.stderr)
            return 2
        raise
    return 0
