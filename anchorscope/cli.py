"""The command `anchorscope`: the dashboard, with or without a study computed beside it, and all of `precompute`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from anchorscope import __version__
from backend.errors import AnchorscopeError
from precompute import cli as precompute

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look inside a language model's chain of thought.",
)
app.add_typer(precompute.app, name="precompute")
Port = Annotated[int, typer.Option(help="of the dashboard, on this machine alone")]


def _say_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def anchorscope(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say which version this is")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="a study file, such as studies/quick.toml")] = "studies/quick.toml",
    port: Port = 8501,
) -> int:
    """Open the dashboard at once, while a study is computed beside it. The same command goes on where it was."""
    from app.shell.start import beside

    return beside(study, port)


@app.command("open")
def open_(
    studies: Annotated[
        list[Path] | None,
        typer.Argument(help="besides those of stores/ and the demo: folders or .duckdb files"),
    ] = None,
    port: Port = 8501,
) -> None:
    """Open the dashboard."""
    from app.shell.start import dashboard

    for study in studies or []:
        if not study.exists():
            raise AnchorscopeError(f"There is nothing at {study}.")
    if studies:
        os.environ["ANCHORSCOPE_STORES"] = os.pathsep.join(str(study.resolve()) for study in studies)
    command = dashboard(port)
    os.execv(command[0], command)


@app.command()
def study(name: Annotated[str, typer.Argument(help="of a shipped study file, such as quick")]) -> None:
    """Print a shipped study file, to make one of your own of: `anchorscope study quick > mine.toml`."""
    from precompute.study import study_file

    print(study_file(Path("studies", f"{name}.toml")).read_text(encoding="utf-8"), end="")


def main() -> int:
    return precompute.main(app, "anchorscope")
