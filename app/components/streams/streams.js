// Two continuations side by side, token by token. Text enters the page as textContent only.
// data: {run: {id, divergence, seconds, rate, arms: {base, changed: {finish, tokens: [[piece, kl, [[piece, p, q], ...]], ...]}}} | null,
//        labels: {base, changed}, running, note}. Probabilities p in base, q in changed; kl in nats or null where it is unknown.
// A run of the same id only grows: new tokens are appended, what is there stays. Says nothing to Python.
const views = new WeakMap();
const BAR_PX = 6, NEAR_END_PX = 30;
const FINISH = { eos: "end of text", cap: "longest length reached", stopped: "stopped" };

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".streams");
  let view = views.get(root);
  if (!view) views.set(root, (view = build(root)));
  view.labels = data.labels;
  view.running = data.running;
  view.divergence = data.run?.divergence ?? null;

  const id = data.run?.id ?? null;
  const arms = Object.values(view.arms);
  const shrank = arms.some((arm) => (data.run?.arms[arm.name]?.tokens.length ?? 0) < arm.spans.length);
  if (id !== view.id || shrank) clear(view, id);

  const scroll = view.scroll;
  const follows = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END_PX;
  for (const arm of arms) grow(view, arm, data.run?.arms[arm.name]);
  if (follows && (data.running || view.wasRunning)) scroll.scrollTop = scroll.scrollHeight;
  view.wasRunning = data.running;
  describe(view, data);
  for (const arm of arms) paint(view, arm);
}

function build(root) {
  const find = (name) => root.querySelector(`.${name}`);
  const view = {
    root, id: null, at: null, max: 0, arms: {}, labels: {}, running: false, wasRunning: false, divergence: null,
    scroll: find("scroll"), pop: find("pop"), said: find("said"),
  };
  for (const section of root.querySelectorAll(".arm")) {
    const inside = (name) => section.querySelector(name);
    const end = document.createElement("span");
    const arm = {
      name: section.dataset.arm, section, head: inside("header"), canvas: inside("canvas"), text: inside(".text"), end,
      after: null, tokens: [], spans: [], step: BAR_PX,
    };
    arm.text.append(end);
    view.arms[arm.name] = arm;
    arm.text.onpointermove = (event) => {
      const span = event.target.closest(".token");
      if (span) point(view, arm, Number(span.dataset.i));
    };
    arm.canvas.onpointermove = (event) => {
      const index = Math.floor((event.clientX - arm.canvas.getBoundingClientRect().left) / arm.step);
      if (index < arm.spans.length) point(view, arm, Math.max(0, index), arm.canvas); else leave(view);
    };
    arm.canvas.onclick = () => { if (view.at) { reveal(view, arm, view.at.index); arm.text.focus({ preventScroll: true }); } };
    arm.text.onpointerleave = arm.canvas.onpointerleave = () => leave(view);
    arm.text.onblur = () => leave(view);
    arm.text.onkeydown = (event) => walk(view, arm, event);
  }
  view.scroll.addEventListener("scroll", () => { if (view.at && !view.keyed) leave(view); view.keyed = false; }, { passive: true });
  new ResizeObserver(() => Object.values(view.arms).forEach((arm) => paint(view, arm))).observe(view.scroll);
  return view;
}

function clear(view, id) {
  leave(view);
  view.id = id;
  view.max = 0;
  view.scroll.scrollTop = 0;
  for (const arm of Object.values(view.arms)) {
    arm.text.replaceChildren(arm.end);
    arm.after = null;
    arm.tokens = [];
    arm.spans = [];
    arm.walked = null;
  }
}

// Tokens

function grow(view, arm, given) {
  const tokens = given?.tokens ?? [];
  arm.tokens = tokens;
  if (!arm.after && view.divergence !== null && arm.spans.length > view.divergence) part(view, arm); // known only after its token
  for (let index = arm.spans.length; index < tokens.length; index++) {
    if (index === view.divergence) part(view, arm);
    const [piece, kl] = tokens[index];
    const span = document.createElement("span");
    span.className = "token";
    span.dataset.i = index;
    span.textContent = piece;
    if (kl !== null && arm.name === "changed") span.style.setProperty("--k", Math.sqrt(Math.max(0, kl)));
    view.max = Math.max(view.max, kl ?? 0);
    if (arm.after) arm.after.append(span); else arm.text.insertBefore(span, arm.end);
    arm.spans.push(span);
  }
  const endedFirst = view.divergence !== null && tokens.length <= view.divergence && given?.finish; // and the other went on
  if (!arm.after && endedFirst) part(view, arm);
  const ended = given?.finish ?? (view.running ? null : given && tokens.length ? "stopped" : null);
  arm.end.className = ended ? "finish" : view.running ? "cursor" : "";
  arm.end.textContent = ended ? FINISH[ended] ?? ended : "";
}

function part(view, arm) {
  const sign = document.createElement("span");
  sign.className = "sign";
  sign.textContent = "≠";
  sign.setAttribute("role", "img");
  sign.setAttribute("aria-label", "first divergence");
  sign.title = `First divergence: token ${view.divergence + 1}`;
  arm.after = document.createElement("span");
  arm.after.className = "after";
  const first = arm.spans[view.divergence] ?? arm.end;
  arm.text.insertBefore(sign, first);
  arm.text.insertBefore(arm.after, first);
  arm.after.append(...arm.spans.slice(view.divergence));
}

function describe(view, { run, note, running }) {
  const find = (name) => view.root.querySelector(name);
  const { base, changed } = view.labels;
  view.root.style.setProperty("--scale", view.max > 0 ? 1 / Math.sqrt(view.max) : 0);
  find(".note").hidden = !note;
  find(".note").textContent = note ?? "";
  for (const arm of Object.values(view.arms)) {
    const n = arm.spans.length, label = view.labels[arm.name];
    arm.head.querySelector("strong").textContent = label;
    arm.head.querySelector(".count").textContent = n ? `${n} token${n === 1 ? "" : "s"}` : running ? "waiting" : "";
    const axis = `KL(${changed} ‖ ${base}), nats, max ${n ? nats(view.max) : "–"}`;
    arm.head.querySelector(".axis").textContent = axis;
    arm.head.querySelector(".axis").title = `${axis} in this run; heights and tints as the square root`;
    arm.canvas.setAttribute("aria-label", `${axis}, one bar for each of ${n} tokens of ${label}`);
    arm.text.setAttribute("aria-label", `${label}: continuation, ${n} tokens; left and right arrows walk the tokens`);
  }
  const parted = view.divergence !== null;
  const written = Object.values(view.arms).some((arm) => arm.spans.length);
  find(".status .sign").hidden = !parted;
  find(".parted").textContent = parted
    ? `first divergence at token ${view.divergence + 1}; after it the ${changed} text is tinted. Blue: KL of the token. `
      + "Hover, or walk with the arrow keys, for what else it could have been."
    : written ? (running ? "the same so far" : "the two never part") : "";
  const pace = [run?.rate == null ? "" : `${run.rate.toFixed(1)} tokens/s`, run?.seconds == null ? "" : `${run.seconds.toFixed(1)} s`];
  find(".pace").textContent = pace.filter(Boolean).join(" · ");
}

// The strip of KL

function paint(view, arm) {
  const { canvas } = arm, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  const dense = window.devicePixelRatio || 1, n = arm.spans.length;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
  }
  const longest = Math.max(1, ...Object.values(view.arms).map((each) => each.spans.length)); // the strips of both arms share their scale
  const room = view.running ? 2 ** Math.ceil(Math.log2(longest)) : longest; // while they grow, it moves only at powers of two
  arm.step = Math.min(BAR_PX, width / room);
  const style = getComputedStyle(view.root), draw = canvas.getContext("2d");
  draw.setTransform(dense, 0, 0, dense, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.fillStyle = style.getPropertyValue("--st-border-color");
  draw.fillRect(0, height - 1, width, 1);
  const at = view.at?.arm === arm ? view.at.index : -1;
  const bar = (index, least) => {
    const kl = arm.tokens[index][1];
    if (!(kl > 0)) return;
    const tall = Math.max(1, Math.sqrt(kl / view.max) * (height - 3));
    draw.fillRect(index * arm.step, height - 1 - tall, Math.max(least, arm.step - (arm.step > 2.5 ? 1 : 0)), tall);
  };
  draw.fillStyle = style.getPropertyValue("--kl");
  for (let index = 0; index < n; index++) bar(index, 1);
  if (view.divergence !== null && view.divergence <= n) {
    draw.strokeStyle = style.getPropertyValue("--st-primary-color");
    draw.setLineDash([3, 2]);
    draw.beginPath();
    draw.moveTo(view.divergence * arm.step + 0.5, 0);
    draw.lineTo(view.divergence * arm.step + 0.5, height);
    draw.stroke();
    draw.setLineDash([]);
  }
  if (at >= 0 && at < n) {
    draw.fillStyle = style.getPropertyValue("--line");
    draw.fillRect(at * arm.step - 1, 0, Math.max(3, arm.step + 1), height);
    draw.fillStyle = style.getPropertyValue("--st-primary-color");
    bar(at, 2);
    draw.fillRect(at * arm.step, height - 1, Math.max(2, arm.step - 1), 1);
  }
}

// One token looked at

function point(view, arm, index, anchor = null) {
  if (view.at && view.at.arm === arm && view.at.index === index) return;
  unmark(view);
  view.at = { arm, index };
  arm.spans[index].classList.add("at");
  paint(view, arm);
  fill(view, arm, index);
  if (!view.pop.matches(":popover-open")) view.pop.showPopover();
  const span = arm.spans[index], box = anchor ? anchor.getBoundingClientRect() : span.getClientRects()[0] ?? span.getBoundingClientRect();
  const left = anchor ? box.left + index * arm.step : box.left;
  const wide = view.pop.offsetWidth, tall = view.pop.offsetHeight;
  const below = box.bottom + 8, above = box.top - 8 - tall;
  view.pop.style.left = `${Math.max(8, Math.min(left, window.innerWidth - wide - 8))}px`;
  view.pop.style.top = `${below + tall < window.innerHeight - 8 || above < 8 ? below : above}px`;
}

function unmark(view) {
  if (!view.at) return;
  const { arm, index } = view.at;
  view.at = null;
  arm.spans[index]?.classList.remove("at");
  paint(view, arm);
}

function leave(view) {
  unmark(view);
  if (view.pop.matches(":popover-open")) view.pop.hidePopover();
}

function fill(view, arm, index) {
  const [piece, kl, top] = arm.tokens[index], find = (name) => view.pop.querySelector(name);
  find(".piece").textContent = visible(piece);
  find(".place").textContent = `token ${index + 1} of ${view.labels[arm.name]}`;
  find(".kl").textContent = `KL(${view.labels.changed} ‖ ${view.labels.base}) ${kl === null ? "unknown" : `${nats(kl)} nats`}`;
  find(".before").textContent = `p ${view.labels.base}`;
  find(".behind").textContent = `p ${view.labels.changed}`;
  find("tbody").replaceChildren(...top.map(([other, p, q]) => {
    const row = document.createElement("tr");
    row.classList.toggle("drawn", other === piece);
    const known = p !== null && q !== null, change = q - p;
    const sign = !known || shown(Math.abs(change)) === "0" ? "" : change > 0 ? "more" : "less";
    const moved = sign ? `${sign === "more" ? "▲ +" : "▼ −"}${shown(Math.abs(change))}` : known ? "0" : "unknown";
    row.append(...[visible(other), shown(p), shown(q), moved].map((word) => {
      const cell = document.createElement("td");
      cell.textContent = word;
      return cell;
    }));
    if (sign) row.lastChild.className = sign;
    return row;
  }));
}

function walk(view, arm, event) {
  if (event.key === "Escape") leave(view);
  const n = arm.spans.length, here = view.at?.arm === arm ? view.at.index : arm.walked ?? -1;
  const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: n - 1 }[event.key];
  if (next === undefined || !n || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  arm.walked = Math.max(0, Math.min(n - 1, next));
  reveal(view, arm, arm.walked);
  point(view, arm, arm.walked);
  const [piece, kl, top] = arm.tokens[arm.walked];
  const others = top.slice(0, 3).map(([other, p, q]) => `${visible(other)} ${shown(p)} to ${shown(q)}`);
  view.said.textContent = `token ${arm.walked + 1}, ${visible(piece)}, KL ${kl === null ? "unknown" : nats(kl)} nats; ${others.join("; ")}`;
}

function reveal(view, arm, index) {
  const box = arm.spans[index].getBoundingClientRect(), frame = view.scroll.getBoundingClientRect();
  const top = frame.top + arm.head.offsetHeight + 4, bottom = frame.bottom - 8;
  const by = box.top < top ? box.top - top : box.bottom > bottom ? box.bottom - bottom : 0;
  view.keyed = by !== 0; // the scroll that follows is ours
  view.scroll.scrollTop += by;
}

// Words

function visible(piece) {
  return piece === "" ? "(part of a character)" : piece.replace(/ /g, "␣").replace(/\r?\n/g, "↵").replace(/\t/g, "⇥");
}

function shown(p) {
  if (p === null) return "unknown";
  return p === 0 ? "0" : p >= 0.0005 ? p.toFixed(3) : p.toExponential(0);
}

function nats(kl) {
  return kl === 0 ? "0" : kl >= 0.005 ? kl.toFixed(2) : kl.toExponential(0);
}
