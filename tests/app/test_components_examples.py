"""The windows of a feature's strongest tokens: what the browser is given, and what it draws of it."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.components import examples
from app.components.examples import shown

SCRIPT = Path(examples.__file__).with_name("examples.js")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def rows():
    return pd.DataFrame(
        {
            "rank": [0, 1],
            "chunk_id": ["c1_0004", None],
            "chunk_index": [4, np.nan],
            "position": [7, 3],
            "activation": [4.0, 2.0],
            "contribution_base": [8.0, 4.0],
            "contribution_distilled": [1.0, 0.5],
            "window_start": [5, 3],
            "window_tokens": [[HOSTILE, "\n\n", " Wait"], [" But"]],
            "window_values": [np.array([0, 1, 4], np.float32), np.array([2], np.float32)],
            "written_by": ["embedded:Tiny", HOSTILE],
        }
    )


def test_what_the_browser_is_given_is_json_and_negative_codes_are_tinted_by_their_size(rows):
    """A NumPy number among it, and the browser draws nothing at all."""
    given = json.loads(json.dumps(shown(rows, ["base", "distilled"])))
    signed = rows.assign(activation=-rows["activation"], window_values=[-values for values in rows["window_values"]])
    found = json.loads(json.dumps(shown(signed, ["base", "distilled"])))
    assert [[one[1] for one in card["tokens"]] for card in found] == [
        [one[1] for one in card["tokens"]] for card in given
    ]
    assert found[0]["words"] == "f -4, adds 8 to base, 1 to distilled"


def test_every_token_has_its_strength_and_what_it_adds_to_each_model(rows):
    first, second = shown(rows, ["base", "distilled"])
    assert first["tokens"] == [
        [HOSTILE, 0.0, "f 0"],
        ["\n\n", 0.25, "f 1, adds 2 to base, 0.25 to distilled"],
        [" Wait", 1.0, "f 4, adds 8 to base, 1 to distilled"],
    ]
    assert (first["peak"], first["words"], first["where"]) == (
        2,
        first["tokens"][2][2],
        "chunk 5, token 7, written by embedded:Tiny",
    )
    assert second["tokens"][0][1] == 0.5 and second["where"].startswith("no chunk, token 3")
    json.dumps([first, second], allow_nan=False)


def test_a_dictionary_of_one_model_adds_to_one_and_an_unknown_size_is_left_out(rows):
    rows["contribution_distilled"] = np.nan
    assert shown(rows, ["model"])[0]["words"] == "f 4, adds 8 to model" == shown(rows, ["model", "other"])[0]["words"]
    assert shown(rows.head(0), ["model"]) == []


_BROWSER = """
class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.dataset = {}; this.style = { setProperty: (k, v) => { this[k] = v; } }; }
  append(...parts) { this.children.push(...parts); }
  replaceChildren(...parts) { this.children = parts; }
  closest(selector) { return selector === "." + this.className ? this : null; }
  all(name) { return [this, ...this.children.flatMap((child) => child.all("*"))].filter((e) => name === "*" || e.className === name); }
}
globalThis.document = { createElement: (tag) => new Element(tag) };
const { default: draw } = await import(process.argv[2]);
const data = JSON.parse(process.argv[3]), root = new Element("ol"), said = [];
const given = { data, parentElement: { querySelector: () => root }, setTriggerValue: (name, value) => said.push([name, value]) };
draw(given);
const before = root.children;
draw(given);
root.onclick({ target: root.all("read")[1] });
root.onclick({ target: root.all("token")[0] });
const text = (e) => [e.textContent, e.title ?? null, e["--strength"] ?? null];
console.log(JSON.stringify({ said, same: before === root.children, tokens: root.all("token").map(text),
  peaks: root.all("token peak").map(text), where: root.all("where").map((e) => e.textContent) }));
"""  # noqa: E501


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the component's script")
def test_the_browser_draws_text_and_says_which_example_is_to_be_read(rows, tmp_path):
    (page := tmp_path / "page.mjs").write_text(_BROWSER)
    shutil.copy(SCRIPT, module := tmp_path / "examples.mjs")
    data = json.dumps({"examples": shown(rows, ["base", "distilled"]), "colour": "#D55E00"})
    done = subprocess.run(["node", page, module.as_uri(), data], capture_output=True, text=True, check=True)
    drawn = json.loads(done.stdout)
    assert drawn["said"] == [["read", 1]] and drawn["same"]
    assert drawn["tokens"] == [[HOSTILE, "f 0", 0], ["↵\n↵\n", "f 1, adds 2 to base, 0.25 to distilled", 0.25]]
    assert [words for words, *_ in drawn["peaks"]] == [" Wait", " But"] and drawn["where"][1].endswith(HOSTILE)
