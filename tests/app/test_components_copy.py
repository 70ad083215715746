"""What the browser does with texts of a chain: copies them as they are, and sets formulas without making an element of
a text.
"""

import json
import shutil
import subprocess

import pytest

from app.components import copy, reader
from app.shared.formulas import parts

HOSTILE = (
    '<img src=x onerror=alert(1)> $\\frac{1}{2}$ $<script>x</script>$ \\boxed{\\text{"a" <b>}} ![p](http://x.invalid)'
)
_DOCUMENT = """
import { readFileSync } from "node:fs";
class Element {
  constructor(name) { this.name = name; this.children = []; this.dataset = {}; this.attributes = {};
    this.style = { setProperty: () => {} }; this.classList = { toggle: () => {} }; this.parentNode = this; }
  get lastChild() { return this.children.at(-1); }
  get textContent() { return this.text ?? this.children.map((child) => child.textContent).join(""); }
  set textContent(text) { this.text = text; }
  set innerHTML(text) { throw new Error("HTML"); }
  append(...parts) { this.children.push(...parts); }
  appendChild(part) { this.children.push(part); return part; }
  replaceChildren() { this.children = []; }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name]; }
  remove() {} scrollTo() {} after() {} focus() {}
  getBoundingClientRect() { return { top: 0, bottom: 0, height: 1 }; }
  querySelector() { return new Element("any"); }
  querySelectorAll() { return []; }
  all() { return [this, ...this.children.flatMap((child) => child.all())]; }
}
const copied = [];
const clipboard = { writeText: async (text) => copied.push(text) };
Object.defineProperty(globalThis, "navigator", { value: { clipboard } });
globalThis.document = {
  createElement: (name) => new Element(name),
  createElementNS: (space, name) => Object.assign(new Element(name), { space }),
  createTextNode: (text) => Object.assign(new Element("#text"), { text }),
  addEventListener: () => {}, removeEventListener: () => {},
};
const { default: draw } = await import(process.argv[2]);
const data = JSON.parse(readFileSync(process.argv[3], "utf-8"));
const root = new Element("root"), said = new Element("said");
const parentElement = { querySelector: (name) => (name === ".said" ? said : root) };
draw({ data, parentElement, setTriggerValue: () => {} });
draw({ data, parentElement, setTriggerValue: () => {} });
for (const button of root.children.filter((child) => child.onclick)) await button.onclick();
const shown = root.all().filter((one) => one !== root);
console.log(JSON.stringify({ copied, said: said.textContent, names: [...new Set(shown.map((one) => one.name))],
  spaces: [...new Set(shown.map((one) => one.space).filter(Boolean))], text: root.textContent,
  buttons: root.children.map((child) => child.textContent),
  attributes: [...new Set(shown.flatMap((one) => Object.keys(one.attributes)))] }));
process.exit(0);
"""
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the component's script")


def drawn(component, name: str, data: dict, folder) -> dict:
    (page := folder / "page.mjs").write_text(_DOCUMENT)
    (given := folder / "data.json").write_text(json.dumps(data))
    shutil.copy(component._HERE / f"{name}.js", module := folder / f"{name}.mjs")
    done = subprocess.run(["node", page, module.as_uri(), given], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_button_copies_its_text_as_it_is(tmp_path):
    data = {"texts": [["chunk", HOSTILE], ["chain", f"{HOSTILE}\n\n{HOSTILE}"]]}
    found = drawn(copy, "copy", data, tmp_path)
    assert found["copied"] == [HOSTILE, f"{HOSTILE}\n\n{HOSTILE}"] and found["said"] == "Copied the chain"
    assert found["names"] == ["button"] and HOSTILE not in found["text"]


@pytest.mark.parametrize("on", [False, True])
def test_a_chunk_is_text_and_its_formulas_are_elements_of_mathml_alone(tmp_path, on):
    chunk = {"id": "c_0000", "number": 1, "text": HOSTILE, "colour": "#000", "ink": "#fff", "strength": 5, "hint": "h"}
    chunk |= {"below": False, "mark": None} | ({"parts": parts(HOSTILE)} if on else {})
    found = drawn(reader, "reader", {"chunks": [chunk], "selected": "c_0000"}, tmp_path)
    assert not {"img", "script", "b", "a"} & set(found["names"])
    if on:
        assert {"math", "mfrac", "mtext"} <= set(found["names"])
        assert found["spaces"] == ["http://www.w3.org/1998/Math/MathML"]
        assert "<img src=x onerror=alert(1)>" in found["text"] and '"a" <b>' in found["text"]
    else:
        assert set(found["names"]) == {"span", "#text"} and HOSTILE in found["text"]
    assert set(found["attributes"]) <= {"role", "aria-selected", "title", "class", "display", "stretchy"}
