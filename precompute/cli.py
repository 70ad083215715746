"""The command line: `python -m precompute …`.

Heavy libraries are imported by the command that needs them, so that --help is quick.
"""

import math
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from backend import faults
from backend.errors import AnchorscopeError
from backend.plain import plain_line
from backend.root import INSTALLED, PRECOMPUTE, RUN
from precompute import importers
from precompute.terminal import console, say_error, table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Build, inspect and export Anchorscope studies.",
)

if TYPE_CHECKING:
    from backend.store.progress import Progress
    from backend.store.unit_files import StudyFolder

_ENDED = {"interrupted": "was interrupted", "failed": "failed"}
StudyFile = Annotated[Path, typer.Argument(help="a study file, such as studies/quick.toml")]
StorePath = Annotated[Path | None, typer.Option("--store", help="the study's folder; stores/NAME unless given")]
Without = Annotated[
    str,
    typer.Option(help="tables to leave out, with commas: lens_rows, the maps of lenses, may be as large as all else"),
]
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
    folder = default_folder(loaded) if store is None else _folder(store)
    console.print(f"Study {loaded.name} in {folder.path}")
    run_study(loaded, folder, stages=STAGES, only=stage, wait=wait, console=console)
    if stage in (None, asked.NAME):
        engine = loaded.engine
        threads = engine.workers * engine.threads
        try:
            asked.run_asked(folder.path, console, wait=wait, threads=threads, rows=engine.rows, device=engine.device)
        except StudyBusy as error:
            console.print(f"  {asked.NAME:<12} {error}")
    console.print(f"Done. Open it with `{RUN}` (study {folder.name}).")


@app.command()
def plan(study: StudyFile, store: StorePath = None) -> None:
    """Units, tokens, time here and on accelerators, gigabytes on disk and in memory, before anything runs."""
    from backend.store.costs import measured
    from precompute.cards import CARDS, IN_WORDS
    from precompute.pipeline import default_folder
    from precompute.plan import (
        does_not_fit,
        plan_study,
        publishing,
        raised_rules,
        taken,
        totals,
        what_it_costs,
        what_was_saved,
    )
    from precompute.stages.cosines import to_download
    from precompute.study import load_study

    loaded = load_study(study)
    folder = default_folder(loaded) if store is None else _folder(store)
    lines, lengths = plan_study(loaded, folder)
    lines.append(publishing(lines, loaded))
    took, whole = measured(folder.path), totals(lines)
    rows = [
        (
            line.stage,
            "unknown" if line.units is None else f"{line.units:,}",
            f"{line.done:,}",
            "unknown" if line.tokens is None else f"{line.tokens:,}",
            _said(line.minutes, ".1f"),
            _said(taken(line, took), ".1f", "–"),
            _said(line.gigabytes, ".3f"),
        )
        for line in [*lines, whole]
    ]
    columns = ("stage", "units", "done", "tokens", "core min", "measured", "GB disk")
    console.print(table(f"Study {loaded.name}", columns, rows))
    names = [card.name for card in CARDS]
    on_cards = [
        (line.stage, _said(line.memory, ".1f"), *(_said(line.on_cards.get(name), ".2f") for name in names))
        for line in [*lines, whole]
    ]
    console.print(table("On an accelerator", ("stage", "GB in memory", *(f"{name} h" for name in names)), on_cards))
    for sentence in (*does_not_fit(lines), IN_WORDS):
        console.print(sentence)
    source = "measured in this study" if lengths.measured else "assumed: the study has no CoTs yet"
    console.print(
        f"Lengths: {lengths.prompt:.0f} tokens a prompt, {lengths.cot:.0f} a CoT, {lengths.chunk:.0f} a chunk"
        f" ({source}). Minutes are those of one core here; they count done units too, as do those"
        " that were measured."
    )
    if loaded.rollouts.until is not None:
        console.print("Tokens of rollouts are the most there may be: they go on until known.")
    if words := what_was_saved(loaded, folder):
        console.print(f"So far: {words}")
    for again in raised_rules(loaded, folder):
        console.print(f"Note: {what_it_costs(again, lines)}.")
    if absent := to_download(loaded):
        console.print(absent, markup=False, highlight=False)


def _said(value: float | None, how: str, unknown: str = "unknown") -> str:
    return unknown if value is None else format(value, how)


@app.command()
def doctor(study: StudyFile) -> None:
    """Try the study's models here beside plain hooks: a report to paste, and exit code 1 where something deviates."""
    from precompute.doctor import examine
    from precompute.study import load_study

    report = examine(load_study(study))
    console.print(str(report))
    if report.faults:
        raise typer.Exit(1)


@app.command()
def compare(
    studies: Annotated[list[str], typer.Argument(help="names or paths of studies")],
    by: Annotated[str, typer.Option(help="size of the model, seed of the study, or step of training")] = "size",
) -> None:
    """A few numbers of each study side by side: NRN, parallelograms, cosine tails, steepness against importance,
    accuracy.
    """
    from contextlib import closing

    from backend.findings.across_studies import AXES, QUANTITIES, points
    from backend.store.known import open_study

    if by not in AXES:
        raise AnchorscopeError(f"Studies cannot be compared by {by!r}; by {', '.join(AXES)} they can.")
    found = []
    for name in studies:
        with closing(open_study(name)) as store:
            found += points(store, store.name)
    place = {one: getattr(one, by) for one in found}
    found.sort(key=lambda one: (place[one] is None, place[one] or 0))
    for quantity, words in QUANTITIES.items():
        rows = [
            (
                one.study,
                one.model,
                _figure(place[one]),
                f"{_figure(one.value)} {_range(one.low, one.high)}",
                "unknown" if one.n is None else f"{one.n:,} {one.of}",
                _figure(one.null_low) if one.null_low == one.null_high else _range(one.null_low, one.null_high),
                one.where,
            )
            for one in found
            if one.quantity == quantity
        ]
        columns = ("study", "model", AXES[by], "value, 95 %", "n", "chance", "of")
        console.print(table(words, columns, [tuple(map(plain_line, row)) for row in rows]), markup=False)


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _range(low: float | None, high: float | None) -> str:
    return f"({_figure(low)} to {_figure(high)})"


@app.command()
def status(study: StudyFile, store: StorePath = None) -> None:
    """What is done, and who is writing."""
    from backend.store.progress import read_progress
    from precompute.pipeline import default_folder
    from precompute.stages import interventions as asked
    from precompute.study import load_study

    folder = default_folder(load_study(study)) if store is None else _folder(store)
    if not folder.path.exists():
        raise AnchorscopeError(f"No study at {folder.path}. Build it with `{PRECOMPUTE} run {study}`.")
    ledger = folder.ledger()
    stages = [stage for stage, _ in ledger.live] + [stage for stage, _ in ledger.retired]
    rows = [
        (stage, str(len(ledger.keys(stage))), str(sum(of == stage for of, _ in ledger.retired)))
        for stage in dict.fromkeys(stages)
    ]
    left, wanted = asked.n_left(folder.path)
    if wanted:
        rows.append((asked.NAME, f"{wanted - left} of {wanted} asked for", "0"))
    console.print(table(f"Study {folder.name}", ("stage", "units done", "kept, not shown"), rows))
    holder, progress = folder.holder(), read_progress(folder.path)
    if holder is not None and progress is not None:
        time_left = (
            "" if progress.seconds_left is None else f", about {progress.seconds_left / 60:.1f} min left in this stage"
        )
        console.print(
            f"Running as process {holder.get('pid')}: {progress.stage} {progress.done}/{progress.total}{time_left}"
        )
    else:
        console.print(f"Nothing is running.{_last_run(progress)}")


@app.command()
def interventions(
    study: Annotated[Path, typer.Argument(help="the study's folder, or a portable .duckdb file")],
    published: Annotated[
        bool, typer.Option("--published", help="first ask for the published scaling by 1.5 and by 0.5")
    ] = False,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="so many of the most frequent features")] = 5,
    nrn_above: Annotated[float, typer.Option(min=0, max=1, help="among those with NRN above this")] = 0.7,
    problems: Annotated[int, typer.Option(min=1, max=1_000_000, help="that each model solves under each arm")] = 24,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="of the matrix products; all cores unless given")
    ] = os.cpu_count() or 1,
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
    source: Annotated[str, typer.Argument(help=" or ".join(importers.names()))],
    folder: Annotated[
        Path | None, typer.Argument(help="the folder to read; with --hub a data set's name, or a folder of its files")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="the study's folder; stores/SOURCE unless given")
    ] = None,
    rollouts: Annotated[
        bool, typer.Option("--rollouts/--no-rollouts", help="their rollouts too; without them it takes a minute")
    ] = True,
    hub: Annotated[bool, typer.Option("--hub", help="stream a few problems of it from the model hub")] = False,
    problems: Annotated[int, typer.Option(min=1, max=10_000, help="so many, with --hub")] = 3,
    only: Annotated[str, typer.Option(help="those whose path holds this, with --hub, such as qwen-14b")] = "",
    gigabytes: Annotated[float, typer.Option(min=0, help="refuse to fetch more, with --hub")] = 4.0,
    wait: Wait = False,
) -> None:
    """Read a published data set into a study, CoT by CoT; the same command goes on after a stop, and reads only what
    changed.
    """
    from precompute.importing import import_folder

    target = _folder(store or Path("stores") / source)
    if hub:
        from precompute.streamed_chains import MATH_ROLLOUTS, require_streamable, streamed

        require_streamable(source)
        name = MATH_ROLLOUTS if folder is None else str(folder)
        folder = streamed(name, problems=problems, only=only, rollouts=rollouts, gigabytes=gigabytes, console=console)
    if folder is None:
        raise AnchorscopeError(f"Say which folder to read: `{PRECOMPUTE} import {source} FOLDER`.")
    import_folder(source, folder, target, wait=wait, console=console, rollouts=rollouts)


@app.command("import-lens")
def import_lens(
    study: Annotated[Path, typer.Argument(help="the study's folder, such as stores/quick")],
    lens: Annotated[Path, typer.Argument(help="a folder or file with a tuned lens or a Jacobian lens")],
    model: Annotated[str, typer.Option(help="the study's model that it is of")],
    known_as: Annotated[
        str | None, typer.Option(help="what that model is called where the lens comes from, if otherwise")
    ] = None,
    wait: Wait = False,
) -> None:
    """Make a published lens part of a study; the next run with [lens] measures how good it is."""
    from precompute.lens_exchange import import_lens as bring

    for sentence in bring(study, lens, model, known_as=known_as, wait=wait):
        console.print(sentence)


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="the study's folder, such as stores/quick")],
    folder: Annotated[Path | None, typer.Argument(help="write Parquet files here, one a table")] = None,
    duckdb: Annotated[Path | None, typer.Option(help="write one portable .duckdb file instead")] = None,
    crosscoder: Annotated[
        Path | None, typer.Option(help="write the study's crosscoder here, in the crosscoder_learning layout")
    ] = None,
    lens: Annotated[
        Path | None, typer.Option(help="write a lens of the study here, in the layout that others read")
    ] = None,
    lens_id: Annotated[str | None, typer.Option(help="which lens, where there are several")] = None,
) -> None:
    """A study as Parquet files, or as one portable .duckdb file; or its crosscoder or a lens alone."""
    from precompute.export import export_crosscoder, export_duckdb, export_parquet

    if [folder, duckdb, crosscoder, lens].count(None) != 3:
        raise AnchorscopeError(
            "Say where to: `export STUDY FOLDER` for Parquet files, `export STUDY --duckdb FILE` for one file, "
            "`export STUDY --crosscoder FOLDER` for its crosscoder, or `export STUDY --lens FOLDER` for a lens."
        )
    if lens is not None:
        from precompute.lens_exchange import export_lens

        console.print(f"Wrote {', '.join(file.name for file in export_lens(study, lens, lens_id))} to {lens}")
    elif crosscoder is not None:
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
    without: Without = "",
) -> None:
    """A study as the smallest files that the dashboard can open by itself, to ship in a repository.

    Vectors become float16.
    """
    from contextlib import closing

    from backend.crosscoder import stored
    from backend.store.packed import pack as pack_study
    from backend.store.store import Store

    with closing(Store(study)) as store:
        stored.check(store)
    total = pack_study(study, folder, without=_names(without))
    files = sorted(folder.glob("*.parquet"), key=lambda file: file.stat().st_size, reverse=True)
    rows = [(file.stem, f"{file.stat().st_size / 1e6:.2f}") for file in files]
    if weights := sum(file.stat().st_size for file in folder.glob("dictionaries/*/*")):
        rows.append(("weights of dictionaries", f"{weights / 1e6:.2f}"))
    console.print(table(f"{study} in {folder}", ("table", "MB"), [*rows, ("in all", f"{total / 1e6:.2f}")]))


@app.command()
def refresh(
    folder: Annotated[Path, typer.Argument(help="a pack, such as assets/demo; it is replaced")],
    stages: Annotated[str, typer.Option(help="which to compute, with commas")] = "importance,resilience,evidence",
    study: Annotated[
        Path | None, typer.Option(help="a study file that asks for more than what the pack's last run stored")
    ] = None,
    without: Without = "",
) -> None:
    """Compute stages of a pack, anew or for the first time, from its own stored rows, and pack it again. Stopped, the
    same command goes on.
    """
    from precompute.refresh import refresh as refresh_pack
    from precompute.study import load_study

    wanted = None if study is None else load_study(study)
    changed = refresh_pack(folder, _names(stages), console, study=wanted, without=_names(without))
    console.print(f"{folder}: the files of {', '.join(changed) or 'no table'} changed.")


@app.command()
def publish(
    study: Annotated[Path, typer.Argument(help="the study's folder, such as stores/quick")], wait: Wait = False
) -> None:
    """Rebuild the study's DuckDB store from its unit files."""
    from backend.store.publish import left_out
    from backend.store.publish import publish as build
    from backend.store.unit_files import StudyFolder

    folder = StudyFolder(study)
    if not folder.manifest.exists():
        raise AnchorscopeError(
            f"No study at {study}: it has no manifest.jsonl. Build one with `{PRECOMPUTE} run STUDY.toml`."
        )
    with folder.writing("publish", wait=wait) as writer:
        for line in writer.found:
            console.print(f"unit {line.key} of {line.stage} was lost, and its files are back: it counts again")
        for line in build(writer):
            console.print(left_out(folder, line))
    console.print(f"Published {study}")


@app.command()
def model() -> None:
    """Fetch the embedded language model and sentence encoder, check and convert them, and merge the reasoners: once."""
    from backend.models.adapters import WEIGHTS
    from backend.models.embedded import REASONERS, encoder_folder, model_folder, reasoner_folder

    for made in (
        model_folder(console.print),
        encoder_folder(console.print),
        *(
            reasoner_folder(console.print, name=name)
            for name, assets in REASONERS.items()
            if (assets / WEIGHTS).is_file()
        ),
    ):
        console.print(f"ready: {made}")


@app.command("train-categories")
def train_categories(
    folder: Annotated[Path, typer.Argument(help="a folder of published Thought Anchors CoTs (chunks_labeled.json)")],
    out: Annotated[Path, typer.Option(help="where to write the classifier")] = Path("assets/categories"),
) -> None:
    """Train the classifier of chunk categories and report its macro-F1 on problems left out."""
    from precompute.train_categories import train

    console.print(str(train(folder, out)), markup=False)


@app.command("train-reasoner")
def train_reasoner(
    name: Annotated[
        str, typer.Option(help="which reasoner: Anchorscope-Reasoner-2-135M, or the first, Anchorscope-Reasoner-135M")
    ] = "Anchorscope-Reasoner-2-135M",
    out: Annotated[Path | None, typer.Option(help="the adapter's folder; that of its assets unless given")] = None,
    work: Annotated[Path, typer.Option(help="where its checkpoint is kept while it learns")] = Path("reasoner"),
    r1: Annotated[
        Path | None, typer.Option(help="a folder with traces.jsonl of real R1 traces, learned from for their manner")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="stop after so many; the same command goes on")] = math.inf,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="of the matrix products; all cores unless given")
    ] = os.cpu_count() or 1,
) -> None:
    """Train the adapter that makes the embedded model think before it answers.

    Stop it at any time, run it again to go on.
    """
    import torch

    from backend.models.embedded import REASONERS
    from backend.models.loading import load_model
    from precompute.train_reasoner import RECIPES, train

    if name not in RECIPES:
        raise AnchorscopeError(f"There is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    torch.set_num_threads(threads)
    out = out or REASONERS[name]
    ended = train(
        load_model("embedded:SmolLM2-135M-Instruct"),
        RECIPES[name],
        work,
        out,
        r1=r1,
        minutes=minutes,
        say=console.print,
    )
    console.print(
        f"Done. The adapter is in {out}; `{PRECOMPUTE} evaluate-reasoner --name {name}` measures it."
        if ended
        else f"Not done yet: the same command goes on from {work}."
    )


@app.command("train-latent")
def train_latent(
    task: Annotated[
        str, typer.Option(help="the kind of problem: permutations, look-ups, halve-or-triple")
    ] = "permutations",
    sibling: Annotated[list[str] | None, typer.Option(help="latent, pause or none; all unless given")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="0, 1 and 2 unless given")] = None,
    out: Annotated[Path, typer.Option(help="the models' folder, one in it for each")] = Path("assets/latent"),
    work: Annotated[Path, typer.Option(help="where checkpoints are kept while they learn")] = Path("latent-training"),
    minutes: Annotated[float, typer.Option(min=0, help="stop after so many; the same command goes on")] = math.inf,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="of the matrix products, which are small")] = 1,
) -> None:
    """Train the embedded latent reasoner and its siblings without recurrence.

    Stop it at any time, run it again to go on; what is finished is not trained again.
    """
    import torch

    from backend.latent.kinds import SIBLINGS
    from precompute.train_latent import RECIPES, SEEDS, train_all

    torch.set_num_threads(threads)
    ended = train_all(
        RECIPES[task], sibling or list(SIBLINGS), seed or list(SEEDS), work, out, minutes=minutes, say=console.print
    )
    console.print(
        f"Done. The models are in {out}; `{PRECOMPUTE} evaluate-latent` measures them."
        if ended
        else f"Not done yet: the same command goes on from {work}."
    )


@app.command("evaluate-latent")
def evaluate_latent(
    out: Annotated[Path, typer.Option(help="the models' folder")] = Path("assets/latent"),
    tried: Annotated[
        Path | None, typer.Option(help="models of another task, whose numbers are added to the card of those in --out")
    ] = None,
) -> None:
    """Measure the embedded latent models on held-out problems and write their model card."""
    from precompute.evaluate_latent import add_tried, evaluate

    console.print(evaluate(out, say=console.print) if tried is None else add_tried(out, tried, say=console.print))


@app.command("evaluate-reasoner")
def evaluate_reasoner(
    store: StorePath = None,
    name: Annotated[
        str, typer.Option(help="which reasoner: Anchorscope-Reasoner-2-135M, or the first, Anchorscope-Reasoner-135M")
    ] = "Anchorscope-Reasoner-135M",
    samples: Annotated[int | None, typer.Option(min=1, help="of a problem, where there is no time for all")] = None,
    again: Annotated[bool, typer.Option("--print", help="print the shipped table without computing anything")] = False,
) -> None:
    """Measure an embedded pair on held-out problems and write the reasoner's model card. A stopped run goes on."""
    from backend.models.embedded import REASONERS
    from precompute.evaluate_reasoner import EVALUATIONS, evaluate, shipped_table

    if name not in EVALUATIONS:
        raise AnchorscopeError(f"There is no reasoner {name!r}; there are {', '.join(EVALUATIONS)}.")
    if again:
        console.print(shipped_table(REASONERS[name]))
        return
    if INSTALLED:
        raise AnchorscopeError("The model card belongs to the repository: run this in a clone of it.")
    evaluation = EVALUATIONS[name]
    folder = _folder(store or Path("stores") / evaluation.study.name)
    console.print(evaluate(folder, evaluation, REASONERS[name], console, samples=samples))


def _last_run(progress: "Progress | None") -> str:
    if progress is None:
        return ""
    at = (
        f" at {progress.done:,} of {progress.total:,} units of {progress.stage}; they are kept, and the same command"
        " goes on"
    )
    if progress.state == "running":  # and is not: nobody holds the study
        who = "" if progress.pid is None else f" (process {progress.pid})"
        return f" The last run{who} ended without a word, killed perhaps,{at}."
    return " The last run finished." if progress.state == "finished" else f" The last run {_ENDED[progress.state]}{at}."


def _names(said: str) -> list[str]:
    return [name.strip() for name in said.split(",") if name.strip()]


def _folder(path: Path) -> "StudyFolder":
    from backend.store.unit_files import StudyFolder

    return StudyFolder(path)


class _Signals:
    """SIGINT, SIGTERM (a batch system, a shutdown) and SIGHUP (the terminal was closed) as one KeyboardInterrupt, and
    which it was.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # a shell's `nohup` or `&` wants it ignored
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = number
        raise KeyboardInterrupt


def main(commands: typer.Typer = app, name: str = PRECOMPUTE) -> int:
    """Run the command; our own errors and the machine's faults are sentences, an interrupt says how to go on.

    The exit code is 0 when the command did what it says, 1 when it could not, 2 for wrong arguments, and 128 + n after
    signal n.
    """
    # Two OpenMP threads stall at every small operation while a worker holds one of the cores; workers set their own
    # number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character must not end a run
            stream.reconfigure(errors="backslashreplace")
    signals = _Signals()
    try:
        code = _run(commands, name)
    except KeyboardInterrupt:  # in the middle of saying what went wrong
        code = 130
    except Exception:  # what a library makes of an interrupt is an interrupt; all else is raised again
        if signals.came is None:
            raise
        code = 130
    if signals.came is not None and code:  # a command that was finished all the same is finished
        say_error("\nStopped. What was finished is kept; the same command continues.")
        return 128 + signals.came
    return code


def _run(commands: typer.Typer, name: str) -> int:
    try:
        return commands(standalone_mode=False) or 0  # typer makes an exit code of an interrupt and of `typer.Exit`
    except AnchorscopeError as error:
        say_error(f"error: {error}")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:  # whoever read what is printed has had enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return 128 + signal.SIGPIPE
    except (
        Exception
    ) as error:  # typer carries its own click and names no base class for wrong arguments; all else is raised again
        if hasattr(error, "format_message"):  # a wrong argument, in typer's words
            say_error(f"error: {error.format_message()}. See `{name} --help`.")
            return 2
        if (words := faults.in_words(error)) is not None:
            say_error(f"error: {words}")
            return 1
        raise
