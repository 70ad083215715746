// Says in words what a page draws. No data: it reads the charts that Plotly has drawn on the page and writes only
// attributes: a name on the chart, and a text in place of its picture. Streamlit's own regions that scroll
// become reachable by Tab.
const EVERY_MS = 250; // what changes meanwhile is looked at once
const LONGEST = 900; // characters of a chart's text
const PICTURE = ".main-svg";

export default function () {
  let waiting = null;
  const soon = () => { waiting ??= setTimeout(() => { waiting = null; look(); }, EVERY_MS); };
  const observer = new MutationObserver(soon);
  observer.observe(document.body, { childList: true, subtree: true });
  look();
  return () => { observer.disconnect(); clearTimeout(waiting); };
}

function look() {
  for (const chart of document.querySelectorAll(".js-plotly-plot")) describe(chart);
  for (const region of document.querySelectorAll(SCROLLING)) reach(region);
}

// Charts

function describe(chart) {
  const layout = chart._fullLayout;
  if (!layout) return;
  const name = titled(layout) || headingBefore(chart) || "Chart";
  set(chart, "role", "figure");
  set(chart, "aria-label", short(name, 200));
  const [picture, ...others] = chart.querySelectorAll(PICTURE);
  if (!picture) return;
  set(picture, "role", "img");
  set(picture, "aria-label", short([`Chart: ${name}`, ...axes(layout), series(chart), notes(layout)].filter(Boolean).join(". "), LONGEST));
  for (const other of others) set(other, "aria-hidden", "true"); // layers of the same picture
}

function axes(layout) {
  const said = [];
  for (const [letter, where] of [["x", "Across"], ["y", "Up"], ["z", "Deep"]]) {
    const all = Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key)).map((key) => layout[key]);
    const scene = layout.scene?.[`${letter}axis`];
    const words = new Set([...all, ...(scene ? [scene] : [])].filter((axis) => axis.visible !== false).map(axisWords).filter(Boolean));
    if (words.size) said.push(`${where}: ${[...words].slice(0, 4).join("; ")}`);
  }
  return said;
}

function axisWords(axis) {
  const title = titled(axis);
  if (!title) return "";
  if (axis.type !== "linear" && axis.type !== "log") return title;
  const ends = axis.range?.map((end) => (axis.type === "log" ? 10 ** end : end));
  return ends?.every(Number.isFinite) ? `${title}, from ${figure(Math.min(...ends))} to ${figure(Math.max(...ends))}` : title;
}

function series(chart) {
  const named = new Map();
  for (const trace of chart._fullData ?? []) {
    if (trace.visible !== true) continue;
    const n = trace.x?.length ?? trace.z?.length ?? trace.y?.length ?? 0;
    const name = trace.showlegend !== false && !/^trace \d+$/.test(trace.name ?? "") ? plain(trace.name) : "";
    if (name) named.set(name, (named.get(name) ?? 0) + n);
  }
  return named.size ? `Shown: ${[...named].map(([name, n]) => `${name} (${n})`).join(", ")}` : "";
}

function notes(layout) {
  const said = (layout.annotations ?? []).map((note) => plain(note.text)).filter(Boolean);
  return said.length ? `It says: ${said.slice(0, 8).join("; ")}` : "";
}

function headingBefore(chart) {
  const before = [...document.querySelectorAll("[data-testid=stMain] :is(h1, h2, h3, h4)")]
    .filter((heading) => heading.compareDocumentPosition(chart) & Node.DOCUMENT_POSITION_FOLLOWING);
  return before.at(-1)?.textContent.trim() ?? "";
}

// The title of a figure or an axis; where there is none Plotly has one for who edits it.
function titled(part) {
  const title = plain(part.title?.text);
  return title.startsWith("Click to enter") ? "" : title;
}

// A text of Plotly's without its marks of layout.
function plain(text) {
  return String(text ?? "").replace(/<br\s*\/?>/gi, ", ").replace(/<[^>]*>/g, "")
    .replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&#36;/g, "$").replace(/&amp;/g, "&").replace(/\s+/g, " ").trim();
}

const figure = (value) => String(Number(value.toPrecision(3)));
const short = (text, limit) => (text.length <= limit ? text : `${text.slice(0, limit - 1)}…`);

// Streamlit's own parts

const SCROLLING = "[data-testid=stCode] pre, [data-testid=stVerticalBlock], [data-testid=stText]";

function reach(region) {
  const scrolls = region.scrollHeight > region.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(region).overflowY)
    || region.scrollWidth > region.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(region).overflowX);
  if (scrolls) set(region, "tabindex", "0");
  else if (region.getAttribute("tabindex") === "0") region.removeAttribute("tabindex");
}

function set(element, attribute, value) {
  if (element.getAttribute(attribute) !== value) element.setAttribute(attribute, value);
}
