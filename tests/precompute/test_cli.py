"""The command line: quick to ask, clear when refused, and a plan that runs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from precompute import cli

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "precompute", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_help_loads_no_heavy_library():
    code = (
        "import sys, precompute.cli; print(sorted({'torch', 'transformers', 'umap', 'sklearn', 'duckdb', 'pandas'} &"
        " set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nowhere.toml"), "No study file at nowhere.toml"),
        (
            ("run", "studies/quick.toml", "--stage", "cooking"),
            "There is no stage 'cooking'; the stages are problems, cots",
        ),
        (("status", "studies/quick.toml", "--store", "nowhere"), "No study at nowhere"),
        (("publish", "nowhere"), "No study at nowhere"),
        (("interventions", "nowhere"), "No results at nowhere"),
        (("export", "nowhere"), "Say where to"),
        (("fly",), "No such command"),
    ],
)
def test_a_mistake_is_a_sentence_and_an_exit_status(arguments, words, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["precompute", *arguments])
    code, said = cli._run(cli.app, "python -m precompute"), capfd.readouterr().err
    assert code in (1, 2) and words in said and "Traceback" not in said


@pytest.mark.parametrize(("arguments", "code", "words"), [(("publish", "nowhere"), 1, "No study"), (("fly",), 2, "No")])
def test_the_exit_status_is_that_of_the_process(arguments, code, words):
    result = command(*arguments)
    assert result.returncode == code and words in result.stderr and "Traceback" not in result.stderr


def test_a_plan_names_every_stage_with_its_cost_and_writes_nothing(tmp_path):
    from backend.store.unit_files import StudyFolder
    from precompute.plan import plan_study, totals
    from precompute.study import Study
    from tests.conftest import make_tiny_model

    study = Study.model_validate(
        {
            "name": "planned",
            "models": [{"name": str(make_tiny_model("llama", tmp_path / "model"))}],
            "problems": {"per_level": 4, "levels": [1]},
            "sampling": {"samples": 3},
            "sweep": {"layers": [1]},
        }
    )
    lines, lengths = plan_study(study, StudyFolder(tmp_path / "planned"))
    by_stage = {line.stage: line for line in lines}
    assert by_stage["cots"].units == 4 and by_stage["chunks"].units == 12 and not lengths.measured
    assert totals(lines).minutes > 0 and totals(lines).tokens == sum(line.tokens for line in lines)
    assert not (tmp_path / "planned").exists()
    assert "crosscoder" not in by_stage
    whole = Study.model_validate(
        study.model_dump(exclude_unset=True) | {"crosscoder": {"layer": 1, "generated": 10, "n_features": 64}}
    )
    more, _ = plan_study(whole, StudyFolder(tmp_path / "planned"))
    assert [line.stage for line in more[len(lines) :]] == ["crosscoder", "codes", "features", "splices"]
    assert (
        all(line.minutes > 0 for line in more[len(lines) :])
        and more[len(lines)].tokens > by_stage["activations"].tokens / 2
    )
