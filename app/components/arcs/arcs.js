// The chunks of a chain, one below the other, and beside them an arc for every link from an earlier chunk to a later one.
// Text enters the page as textContent only.
// data: {chunks: [{id, number, text, colour, ink}], links: [{source, target, width, opacity, negative, value, hint}], selected, heard,
// colours: {out, in}, words}; source and target are places in chunks, words what is said where nothing is under the pointer.
// Says to Python: trigger "chunk" with {at, value: the id of a chunk that was clicked, reached by an arrow key, or at the end of an arc}; heard is the at
// of the last that Python has acted on.
const views = new WeakMap();
const QUIET_MS = 130; // a held key moves at once here, and tells Python when it rests
const SPACE = "http://www.w3.org/2000/svg";

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".arcs");
  let view = views.get(root);
  if (!view) {
    view = { root, whole: parentElement.querySelector(".whole"), svg: root.querySelector("svg"), list: root.querySelector(".rows"), said: parentElement.querySelector(".said"),
      less: parentElement.querySelector(".less"), text: null, selected: null, over: null, told: 0, timer: null };
    views.set(root, view);
    new ResizeObserver(() => place(view)).observe(view.list);
    new ResizeObserver(() => place(view)).observe(root);
  }
  view.tell = (id) => {
    view.told = Math.max(view.told + 1, Date.now());
    setTriggerValue("chunk", { at: view.told, value: id });
  };
  view.data = data;
  for (const [name, colour] of Object.entries(data.colours)) view.whole.style.setProperty(`--arc-${name}`, colour);
  rows(view);
  links(view);
  const waiting = view.timer !== null || view.told > data.heard; // what Python shows is older than what is shown here
  if (!waiting || !view.order.includes(view.selected)) lock(view, data.selected);
  else light(view);
  view.less.hidden = !data.links.some((link) => link.negative);

  root.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const now = view.order.indexOf(view.selected);
    go(view, view.order[Math.min(view.order.length - 1, Math.max(0, now + step))]);
  };
  root.onclick = (event) => {
    const hit = event.target.closest(".hit"), row = event.target.closest(".row");
    if (hit) {
      const { source, target } = data.links[Number(hit.dataset.link)];
      go(view, view.selected === view.order[target] ? view.order[source] : view.order[target]);
    } else if (row) go(view, row.dataset.id);
  };
  root.onpointerover = (event) => {
    const hit = event.target.closest(".hit"), row = event.target.closest(".row");
    hover(view, hit ? { link: Number(hit.dataset.link) } : row ? { chunk: row.dataset.id } : null);
  };
  root.onpointerleave = () => hover(view, null);
}

function rows(view) {
  const { chunks } = view.data, text = chunks.map((chunk) => chunk.id + chunk.text + chunk.colour).join("\u0000");
  view.order = chunks.map((chunk) => chunk.id);
  if (view.text === text) return;
  view.text = text;
  view.selected = null;
  view.list.replaceChildren(...chunks.map((chunk) => {
    const row = document.createElement("div"), box = document.createElement("div");
    const badge = document.createElement("span"), value = document.createElement("span");
    row.className = "row";
    row.dataset.id = chunk.id;
    row.setAttribute("role", "option");
    row.style.setProperty("--tag", chunk.colour);
    row.style.setProperty("--ink", chunk.ink);
    badge.className = "badge";
    badge.textContent = String(chunk.number);
    value.className = "value";
    box.append(value, badge, document.createTextNode(chunk.text.trim()));
    row.append(box);
    return row;
  }));
  view.root.scrollTop = 0;
}

function links(view) {
  const made = (name, number) => {
    const path = document.createElementNS(SPACE, "path");
    path.setAttribute("class", name);
    path.dataset.link = String(number);
    return path;
  };
  const { links } = view.data;
  view.paths = links.map((link, number) => {
    const path = made(link.negative ? "link negative" : "link", number);
    path.style.strokeWidth = `${link.width}px`;
    path.style.opacity = link.opacity;
    return path;
  });
  view.hits = links.map((_, number) => made("hit", number));
  view.svg.replaceChildren(...view.paths, ...view.hits);
  view.whole.style.setProperty("--dim", Math.min(0.15, 12 / links.length).toFixed(3)); // hundreds add up to a white sheet
  place(view);
}

// Where everything stands: rows have the height of their text.
function place(view) {
  const { root, svg, list, data } = view, n = data.chunks.length;
  if (!root.clientWidth) return;
  const wide = Math.round(Math.min(170, Math.max(56, root.clientWidth * 0.24)));
  root.style.setProperty("--wide", `${wide}px`);
  svg.setAttribute("width", wide);
  svg.setAttribute("height", list.offsetHeight);
  const middles = [...list.children].map((row) => row.offsetTop + row.offsetHeight / 2);
  data.links.forEach((link, number) => {
    const from = middles[link.source] + 4, to = middles[link.target] - 4;
    const reach = ((wide - 8) * 4 / 3) * Math.sqrt((link.target - link.source) / Math.max(1, n - 1));
    const path = `M ${wide} ${from} C ${wide - reach} ${from}, ${wide - reach} ${to}, ${wide} ${to}`;
    view.paths[number].setAttribute("d", path);
    view.hits[number].setAttribute("d", path);
  });
}

function go(view, id) {
  if (id === view.selected) return;
  lock(view, id);
  clearTimeout(view.timer);
  view.timer = setTimeout(() => { view.timer = null; view.tell(id); }, QUIET_MS);
}

function lock(view, id) {
  const first = view.selected === null, moved = view.selected !== id;
  view.selected = id;
  for (const row of view.list.children) row.setAttribute("aria-selected", String(row.dataset.id === id));
  light(view);
  const row = view.list.children[view.order.indexOf(id)];
  if (!row || !moved) return;
  const top = row.offsetTop - view.root.scrollTop, bottom = top + row.offsetHeight;
  if (first || top < 8 || bottom > view.root.clientHeight - 8) {
    view.root.scrollTo({ top: row.offsetTop - view.root.clientHeight / 3, behavior: first ? "auto" : "smooth" });
  }
}

function hover(view, over) {
  if (JSON.stringify(over) === JSON.stringify(view.over)) return;
  view.over = over;
  light(view);
}

// The links of the chunk under the pointer, else of the selected one; an arc under the pointer alone.
function light(view) {
  const { data, over } = view, one = over?.link;
  const at = view.order.indexOf(over?.chunk ?? view.selected);
  const lit = one !== undefined || data.links.some((link) => link.source === at || link.target === at);
  const state = (link, number) => !lit ? "" :
    one !== undefined ? (number === one ? "out over" : "dim") : link.source === at ? "out" : link.target === at ? "in" : "dim";
  const said = new Map();
  data.links.forEach((link, number) => {
    const now = state(link, number);
    view.paths[number].setAttribute("class", `link ${link.negative ? "negative " : ""}${now}`.trim());
    if (one === undefined && now === "out") said.set(link.target, ["linked-out", link.value]);
    if (one === undefined && now === "in") said.set(link.source, ["linked-in", link.value]);
  });
  [...view.list.children].forEach((row, place) => {
    const [name, value] = said.get(place) ?? ["", ""];
    row.className = `row ${name}`.trim();
    row.querySelector(".value").textContent = value;
  });
  view.said.textContent = one !== undefined ? data.links[one].hint : about(view, at);
}

function about(view, at) {
  if (at < 0) return view.data.words;
  const onward = view.data.links.filter((link) => link.source === at).length;
  const back = view.data.links.filter((link) => link.target === at).length;
  return `Chunk ${view.data.chunks[at].number}: ${onward} of its links to later chunks are drawn, ${back} of those from earlier ones.`;
}
