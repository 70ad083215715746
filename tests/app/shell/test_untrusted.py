"""Text from data reaches a page as text: through the door, and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from app.shell.untrusted import for_markdown, one_line
from backend.schema.tables import TABLES

ROOT = Path(__file__).resolve().parents[3]
# Where Streamlit reads Markdown (or HTML): what is shown, and labels of widgets.
MARKDOWN = {
    "markdown",
    "write",
    "caption",
    "title",
    "header",
    "subheader",
    "error",
    "info",
    "warning",
    "success",
    "toast",
    "metric",
    "badge",
    "exception",
    "html",
    "help",
    "button",
    "expander",
    "tabs",
    "radio",
    "pills",
    "toggle",
    "checkbox",
    "progress",
    "popover",
    "spinner",
    "form_submit_button",
    "download_button",
    "link_button",
    "page_link",
    "chat_message",
    "table",
}
# Columns of text in any study, and what errors and uploads are called.
FROM_DATA = {
    name
    for table in TABLES.values()
    for name, (kind, _) in table.columns.items()
    if kind in (pa.string(), pa.list_(pa.string()))
} | {"error", "exception", "file_name"}
# Names that a column shares with words of ours; each was looked at.
OURS = {
    "app/categories/reasoning_words.py": {"scheme"},
    "app/causation/answer.py": {"quantity", "role"},
    "app/shared/chosen_chain.py": {"label"},
    "app/chains_of_thought/headline.py": {"convention", "tags"},
    "app/crosscoder/classes.py": {"name"},
    "app/feature/side_by_side.py": {"role", "model"},
    "app/steepness/local_geometry.py": {"label", "measure"},
    "app/interventions/results.py": {"role", "arm"},
    "app/interventions/form.py": {"kind", "label"},
    "app/overview/contents.py": {"label", "name"},
    "app/entry.py": {"name"},
    "app/shell/progress.py": {"state"},
    "app/steepness/resample_now.py": {"label", "reason"},
    "app/shell/selection.py": {"label"},
    "app/steepness/one_pair.py": {"label", "unit", "text", "facts"},
    "app/shared/steer_by_feature.py": {"label"},
    "app/steering/runs.py": {"name", "results", "base", "drawn"},
    "app/shared/waiting.py": {"place"},
    "app/shared/vector_lens.py": {"kind"},
    "app/lenses/quality.py": {"model", "model_id", "rows"},
    "app/direction_library/vectors.py": {"kept"},
    "app/steering/text_and_curve.py": {"name", "question"},
    "app/latent_map/chunk_map.py": {"facts"},
    "app/categories/ablations.py": {"part"},
    "app/latent_steps/attention.py": {"split"},
    "app/latent_steps/components.py": {"space", "problem_id"},
    "app/latent_steps/decoded.py": {"name", "measure"},
    "app/latent_steps/early.py": {"problem_id"},
    "app/latent_steps/lens_map.py": {"name", "measure"},
    "app/latent_steps/steering_parts.py": {"name"},
    "app/latent_steps/parity.py": {"rows"},
    "app/direction_library/audit.py": {"kept", "d"},
    "app/lenses/heat.py": {"model_id"},
    "app/steering/controls.py": {"name", "unit", "model_id"},
    "app/steepness/all_pairs.py": {"rows"},
    "app/chains_of_thought/rollouts.py": {"rows"},
    "app/geometry/cosines.py": {"kind", "rows", "mark", "points"},
    "app/geometry/cosine_pairs.py": {"kind", "facts"},
    "app/geometry/curves.py": {"name"},
    "app/geometry/paths.py": {"drawn", "measure", "model", "part", "rows"},
    "app/geometry/pullback.py": {"relation"},
    "app/geometry/shape.py": {"measure", "model", "part"},
    "app/geometry/trained.py": {"rows"},
    "app/crosscoder/labelling.py": {"first"},
    "app/lenses/curves.py": {"first"},
    "app/chains_of_thought/influence_links.py": {"unit"},
    "app/influence/agreement.py": {"role"},
    "app/influence/heads.py": {"rows"},
    "app/influence/says.py": {"name"},
    "app/influence/study.py": {"rows", "quantity"},
}
_TURN_INTO_OTHER = {  # what these give is a number, a word of ours, or escaped
    "for_markdown",
    "len",
    "number",
    "category",
    "definition",
    "metric_choice",
    "int",
    "float",
    "interval",
    "signed",
    "figure",
    "metric",
    "column",
    "max",
    "min",
    "sum",
    "status",
}


def texts(node: ast.AST) -> Iterator[str]:
    """Names of data's text in an expression that becomes Markdown."""
    if isinstance(node, ast.Call):
        called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
        inside = (
            [] if called in _TURN_INTO_OTHER else [node.func, *node.args, *(keyword.value for keyword in node.keywords)]
        )
    elif isinstance(node, ast.IfExp):
        inside = [node.body, node.orelse]
    elif isinstance(node, ast.Compare) or (isinstance(node, ast.FormattedValue) and node.format_spec is not None):
        inside = []
    else:
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            name = node.slice.value
        if name in FROM_DATA:
            yield str(name)
        inside = list(ast.iter_child_nodes(node))
    for part in inside:
        yield from texts(part)


def shown_as_markdown(source: str) -> Iterator[tuple[int, str]]:
    """Line and name wherever text of data becomes Markdown."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MARKDOWN:
            for part in [
                *node.args,
                *(one.value for one in node.keywords if one.arg in ("help", "label", "text", "body")),
            ]:
                yield from ((node.lineno, name) for name in texts(part))


def test_no_text_of_data_becomes_markdown():
    found = []
    for file in [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        name = file.relative_to(ROOT).as_posix()
        found += [
            f"{name}:{line} {text}"
            for line, text in shown_as_markdown(file.read_text())
            if text not in OURS.get(name, ())
        ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "st.error(str(error))",
        "st.info(f'It says {error}')",
        "st.markdown(row.question)",
        "st.caption('a' + rows['answer'].iloc[0])",
        "st.toast(chunk.text)",
        "st.metric(model.model_id, 5)",
        "st.button(f'{one_line(row.sentence, 5)}')",
        "st.html(text)",
        "st.selectbox('x', []); where.caption(f'{(text if x else 1)}')",
        "st.metric('a', 1, help=row.question)",
        "st.write(error)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert list(shown_as_markdown(source))


@pytest.mark.parametrize(
    "source",
    [
        "st.error('The disk is full')",
        "st.text(error)",
        "st.caption(f'{len(text)} characters, {for_markdown(text)}')",
        "st.caption(f'{row.beta:g}')",
        "st.caption('a' if row.text == 'b' else 'c')",
    ],
)
def test_and_nothing_else(source):
    assert not list(shown_as_markdown(source))


@pytest.mark.parametrize(
    "text",
    [
        "**x**",
        "$\\frac12$",
        "![p](http://tracker.invalid/p.png)",
        ":red[x]",
        ":material/close:",
        ":smile:",
        "<img src=x>",
        "[a](http://x)",
        "# x",
        "a_b_c",
        "`x`",
        "~~x~~",
        "http://evil.example",
        "www.evil.example",
        "- x",
        "1. x",
        "| a |",
        "\\",
        "&lt;",
        "a\x1b[31m\u202e",
    ],
)
def test_a_label_shows_exactly_the_characters(text):
    """Every sign that Markdown could read bears a backslash; without the backslashes and the unseen marks it is the
    text again.
    """
    escaped = for_markdown(text)
    signs = [place for place, sign in enumerate(escaped) if sign in "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"]
    assert all(escaped[place - 1] == "\\" for place in signs)
    undone = "".join(
        sign for place, sign in enumerate(escaped.replace("\u2060", "").replace("\\\\", "\0")) if sign != "\\"
    )
    assert undone.replace("\0", "\\") == one_line(text, 120)
