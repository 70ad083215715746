// One slot a layer. Text enters the page as textContent only.
// data: {n, selected: [first, last], stored: [layer], heard, source: layer | null, lens: [[[piece, p], ...] | null, ...]} with one lens a layer.
// Says to Python: trigger "layers" with {at, value: [first, last]}, once when the pointer is released or the keys rest; heard is the at of the last that
// Python has acted on.
const views = new WeakMap();
const QUIET_MS = 180;

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".strip");
  let view = views.get(root);
  if (!view) views.set(root, (view = build(root)));
  view.tell = (range) => {
    view.told = Math.max(view.told + 1, Date.now());
    setTriggerValue("layers", { at: view.told, value: range });
  };
  Object.assign(view, { n: data.n, source: data.source, lens: data.lens });
  if (view.slots.childElementCount !== data.n) slots(view);
  const stored = new Set(data.stored);
  [...view.slots.children].forEach((slot, layer) => {
    slot.classList.toggle("stored", stored.has(layer));
    slot.classList.toggle("source", layer === data.source);
    const marks = [stored.has(layer) ? "activations stored" : "", layer === data.source ? "the vector comes from here" : ""];
    slot.setAttribute("aria-label", [`layer ${layer}`, ...marks].filter(Boolean).join(", "));
  });
  from(view);
  const waiting = view.dragging || view.timer !== null || view.told > data.heard;
  if (!waiting) light(view, data.selected[0], data.selected[1]);
  else readout(view);
}

function build(root) {
  const find = (name) => root.querySelector(`.${name}`);
  const view = { slots: find("slots"), from: find("from"), readout: find("readout"), dragging: false, timer: null, told: 0, over: null,
    anchor: 0, head: 0, range: null };
  const layerAt = (event) => {
    const box = view.slots.getBoundingClientRect();
    return Math.max(0, Math.min(view.n - 1, Math.floor(((event.clientX - box.left) / box.width) * view.n)));
  };
  view.slots.onpointerdown = (event) => {
    if (event.button !== 0) return;
    view.slots.setPointerCapture(event.pointerId);
    view.before = { range: view.range, anchor: view.anchor, head: view.head };
    view.dragging = true;
    const layer = layerAt(event);
    extend(view, event.shiftKey ? view.anchor : layer, layer);
  };
  view.slots.onpointermove = (event) => {
    hover(view, layerAt(event));
    if (view.dragging) extend(view, view.anchor, layerAt(event));
  };
  view.slots.onpointerup = () => { if (view.dragging) { view.dragging = false; say(view, view.before.range); } };
  view.slots.onpointercancel = () => {
    if (!view.dragging) return;
    view.dragging = false;
    light(view, ...view.before.range);
    Object.assign(view, { anchor: view.before.anchor, head: view.before.head });
  };
  view.slots.onpointerleave = () => { if (!view.dragging) hover(view, null); };
  view.slots.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -view.n, End: view.n }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const was = view.range;
    if (view.timer === null) view.before = { range: was };
    const head = Math.max(0, Math.min(view.n - 1, view.head + step));
    hover(view, null);
    extend(view, event.shiftKey ? view.anchor : head, head);
    clearTimeout(view.timer);
    view.timer = setTimeout(() => { view.timer = null; say(view, view.before.range); }, QUIET_MS);
  };
  new ResizeObserver(() => { numbers(view); from(view); }).observe(view.slots);
  return view;
}

function slots(view) {
  view.slots.replaceChildren(...Array.from({ length: view.n }, (_, layer) => {
    const slot = document.createElement("div");
    slot.className = "slot";
    slot.id = `slot-${layer}`;
    slot.setAttribute("role", "option");
    const number = document.createElement("i");
    number.setAttribute("aria-hidden", "true");
    slot.append(number);
    return slot;
  }));
  view.range = null;
}

function say(view, before) {
  if (String(view.range) === String(before)) return;
  view.tell(view.range);
}

function extend(view, anchor, head) {
  Object.assign(view, { anchor, head });
  draw(view, Math.min(anchor, head), Math.max(anchor, head));
}

function light(view, first, last) {
  if (String(view.range) !== String([first, last])) Object.assign(view, { anchor: first, head: last });
  draw(view, first, last);
}

function draw(view, first, last) {
  view.range = [first, last];
  [...view.slots.children].forEach((slot, layer) => slot.setAttribute("aria-selected", String(first <= layer && layer <= last)));
  view.slots.setAttribute("aria-activedescendant", `slot-${view.head}`);
  numbers(view);
  readout(view);
}

function numbers(view) {
  if (!view.range || !view.slots.clientWidth) return;
  const apart = Math.ceil(26 / (view.slots.clientWidth / view.n)); // slots that a number takes
  const every = [1, 2, 4, 5, 8, 10, 16, 20, 32].find((step) => step >= apart) ?? 50;
  const [first, last] = view.range;
  const ends = last - first >= apart ? [first, last] : [first];
  [...view.slots.children].forEach((slot, layer) => {
    const number = slot.firstChild, isEnd = ends.includes(layer);
    const clear = ends.every((end) => Math.abs(end - layer) >= apart);
    number.className = isEnd ? "end" : "";
    const span = layer === first && ends.length === 1 && last > first ? `${first}–${last}` : String(layer);
    number.textContent = isEnd ? span : clear && layer % every === 0 ? String(layer) : "";
  });
}

function from(view) {
  const slot = view.source === null ? null : view.slots.children[view.source];
  view.from.textContent = slot ? `vector from layer ${view.source} ▼` : "";
  if (!slot) return;
  const middle = slot.offsetLeft - view.slots.offsetLeft + slot.offsetWidth / 2, wide = view.from.offsetWidth;
  const left = middle - wide + 7 < 0; // no room to the left: the words go to the right of the mark
  if (left) view.from.textContent = `▼ vector from layer ${view.source}`;
  view.from.style.left = `${left ? Math.max(0, middle - 4) : middle - wide + 5}px`;
}

function hover(view, layer) {
  if (layer === view.over) return;
  view.slots.children[view.over]?.classList.remove("over");
  view.over = layer;
  view.slots.children[layer]?.classList.add("over");
  readout(view);
}

function readout(view) {
  const layer = view.over ?? view.head, lens = view.lens[layer];
  view.readout.querySelector(".where").textContent = lens ? `layer ${layer}, logit lens at the token before the chunk:` : `layer ${layer}`;
  view.readout.querySelector(".tokens").replaceChildren(...(lens ?? []).flatMap(([piece, p]) => {
    const token = document.createElement("code"), share = document.createElement("b");
    token.textContent = piece.replace(/ /g, "␣").replace(/\r?\n/g, "↵").replace(/\t/g, "⇥") || "(part of a character)";
    share.textContent = p.toFixed(2);
    return [token, share];
  }));
}
