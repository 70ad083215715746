// One chain of thought as clickable chunks. Text enters the page as textContent only.
// data: {chunks: [{id, number, text, colour, ink, strength, below, unsure, hint, mark}], selected, heard}; strength is 0 to 100, or null where the
// metric is unknown; below says that it is less than chance gives; unsure that its tag is improbable; mark is null, "source" (a vector comes from the chunk), "applied" (it is steered there) or "both".
// A chunk may have parts too: its text in pieces, strings and formulas {tex, math, display}; math is a text or [element, ...children].
// Says to Python: trigger "chunk" with {at, value: the id of the chunk that was clicked or reached with j, k or the arrows}; heard is the at of
// the last that Python has acted on.
const views = new WeakMap();
const WALK = "anchorscope-walk"; // by the keys j and k, of app/components/keyboard
const QUIET_MS = 130; // a held key moves at once here, and tells Python when it rests

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".reader");
  const view = views.get(root) ?? { text: null, spans: new Map(), order: [], selected: null, told: 0, timer: null };
  views.set(root, view);
  view.tell = (id) => {
    view.told = Math.max(view.told + 1, Date.now());
    setTriggerValue("chunk", { at: view.told, value: id });
  };

  draw(root, view, data.chunks);
  const waiting = view.timer !== null || view.told > data.heard; // what Python shows is older than what the reader shows
  if (!waiting || !view.spans.has(view.selected)) mark(root, view, data.selected);

  root.onclick = (event) => {
    const chunk = event.target.closest(".chunk");
    if (chunk) move(root, view, chunk.dataset.id);
  };
  root.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); walk(root, view, step); }
  };
  const onWalk = (event) => {
    if (!root.isConnected) { document.removeEventListener(WALK, onWalk); return; }
    root.focus({ preventScroll: true });
    walk(root, view, event.detail);
  };
  // At every new data this function runs again, but only after a while: what is taken away when the old data goes is missed until then.
  document.removeEventListener(WALK, view.onWalk);
  document.addEventListener(WALK, onWalk);
  view.onWalk = onWalk;
}

function draw(root, view, chunks) {
  const text = chunks.map((chunk) => chunk.id + (chunk.parts ? "+" : "") + chunk.text).join("\u0000");
  if (view.text !== text) {
    root.replaceChildren();
    view.spans.clear();
    for (const chunk of chunks) {
      const span = document.createElement("span");
      span.className = "chunk";
      span.setAttribute("role", "option");
      span.dataset.id = chunk.id;
      const badge = document.createElement("span");
      badge.className = "badge";
      badge.textContent = String(chunk.number);
      span.append(badge, ...(chunk.parts ?? [chunk.text.trim()]).map(piece));
      const before = chunk.text.slice(0, chunk.text.length - chunk.text.trimStart().length);
      const after = chunk.text.slice(chunk.text.trimEnd().length);
      root.append(document.createTextNode(before), span, document.createTextNode(after || "\u200B"));
      view.spans.set(chunk.id, span);
    }
    view.text = text;
    view.order = chunks.map((chunk) => chunk.id);
    view.selected = null;
    root.scrollTop = 0;
  }
  for (const chunk of chunks) {
    const span = view.spans.get(chunk.id);
    span.style.setProperty("--tag", chunk.colour);
    span.style.setProperty("--ink", chunk.ink);
    span.style.setProperty("--strength", chunk.strength ?? 0);
    span.classList.toggle("unknown", chunk.strength === null);
    span.classList.toggle("below", chunk.below);
    span.classList.toggle("unsure", chunk.unsure);
    span.title = chunk.hint;
  }
  paint(root, view, chunks);
}

// Formulas: only these elements, without attributes of a text's; every string enters as text.
const MATHML = "http://www.w3.org/1998/Math/MathML";
const ELEMENTS = new Set(["boxed", "mrow", "mi", "mn", "mo", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "mover", "mtext"]);

function piece(part) {
  if (typeof part === "string") return document.createTextNode(part);
  const math = document.createElementNS(MATHML, "math");
  if (part.display) math.setAttribute("display", "block");
  math.setAttribute("title", part.tex);
  math.append(node(part.math, JSON.stringify(part.math).includes('"mfrac"')));
  return math;
}

// Brackets grow where there is a fraction: a font without mathematics makes them taller than they should be elsewhere.
function node(tree, isTall) {
  if (typeof tree === "string") return document.createTextNode(tree);
  const [name, ...children] = tree;
  if (!ELEMENTS.has(name)) return document.createTextNode("");
  const element = document.createElementNS(MATHML, name === "boxed" ? "mrow" : name);
  if (name === "boxed") element.setAttribute("class", "boxed");
  if (name === "mo" && !isTall) element.setAttribute("stretchy", "false");
  element.append(...children.map((child) => node(child, isTall)));
  return element;
}

// The two painted spans; of neighbours with the same mark the first says what it means.
function paint(root, view, chunks) {
  const words = { source: "vector from", applied: "steered here" };
  const has = (chunk, part) => chunk !== undefined && (chunk.mark === part || chunk.mark === "both");
  chunks.forEach((chunk, place) => {
    const span = view.spans.get(chunk.id);
    for (const chip of span.querySelectorAll(".chip")) chip.remove();
    for (const part of ["applied", "source"]) {
      span.classList.toggle(part, has(chunk, part));
      if (!has(chunk, part) || has(chunks[place - 1], part)) continue;
      const chip = document.createElement("span");
      chip.className = `chip ${part}`;
      chip.textContent = words[part];
      span.querySelector(".badge").after(chip);
    }
    span.classList.toggle("both", chunk.mark === "both");
  });
  root.parentNode.querySelector(".marks").hidden = !chunks.some((chunk) => chunk.mark);
}

function walk(root, view, step) {
  const here = view.order.indexOf(view.selected);
  const next = Math.min(view.order.length - 1, Math.max(0, here + step));
  move(root, view, view.order[next]);
}

function move(root, view, id) {
  if (id === view.selected) return;
  mark(root, view, id);
  clearTimeout(view.timer);
  view.timer = setTimeout(() => { view.timer = null; view.tell(id); }, QUIET_MS);
}

function mark(root, view, id) {
  const first = view.selected === null;
  view.spans.get(view.selected)?.setAttribute("aria-selected", "false");
  view.selected = id;
  const span = view.spans.get(id);
  if (!span) return;
  span.setAttribute("aria-selected", "true");
  const box = span.getBoundingClientRect(), frame = root.getBoundingClientRect();
  const above = box.top - frame.top, below = box.bottom - frame.bottom;
  if (first || above < 24 || below > -24) {
    root.scrollTo({ top: root.scrollTop + above - frame.height / 3, behavior: first ? "auto" : "smooth" });
  }
}
