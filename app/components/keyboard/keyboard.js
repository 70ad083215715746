// All keys of the dashboard, and the sheet that shows them. Nothing else listens to the keys of the whole page.
// data: {keys: [{keys: ["j", "k"], words, does}], heard}; does says who acts: "walk" (the reader: the first key goes forth, the second back), "search", "help",
// or "python", which is told of the key.
// Says to Python: trigger "pressed" with {at, value: [[at, key], ...]}, all that were pressed after the last that Python has heard of (its at is
// heard): of two messages on their way at once only the second arrives.
const WALK = "anchorscope-walk", PATIENCE_MS = 8000, MOST = 20;
const states = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const sheet = parentElement.querySelector(".sheet");
  const state = states.get(sheet) ?? { told: [], listener: null };
  states.set(sheet, state);
  state.told = state.told.filter(([at]) => at > data.heard);
  write(sheet, data.keys);
  const listener = (event) => {
    if (!sheet.isConnected) { document.removeEventListener("keydown", listener); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    const found = data.keys.find((one) => one.keys.includes(event.key));
    if (!found || (sheet.open && found.does !== "help")) return;
    event.preventDefault();
    if (found.does === "walk") document.dispatchEvent(new CustomEvent(WALK, { detail: event.key === found.keys[0] ? 1 : -1 }));
    else if (found.does === "search") search();
    else if (found.does === "help") { if (sheet.open) sheet.close(); else sheet.showModal(); }
    else {
      state.last = Math.max((state.last ?? 0) + 1, Date.now());
      state.told = [...state.told.slice(1 - MOST), [state.last, event.key]];
      setTriggerValue("pressed", { at: state.last, value: state.told });
    }
  };
  // At every new data this function runs again, but only after a while: what is taken away when the old data goes is missed until then.
  document.removeEventListener("keydown", state.listener);
  document.addEventListener("keydown", listener);
  state.listener = listener;
  sheet.dataset.listening = "yes";
}

function isTyping(event) {
  const target = event.composedPath()[0];
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable=true], [role=combobox], [role=listbox] [role=option]:not(.chunk)");
}

// The search field of this page; else that of the page Browse; else the button that chooses a chain.
function search() {
  const field = () => document.querySelector('[class*="st-key-search"] input');
  if (focus(field())) return;
  const browse = document.querySelector('[data-testid="stSidebar"] a[href*="/browse"]');
  const chain = document.querySelector('[class*="st-key-search"] button');
  if (!browse) { chain?.focus(); chain?.click(); return; }
  browse.click();
  const until = Date.now() + PATIENCE_MS;
  const look = setInterval(() => { if (focus(field()) || Date.now() > until) clearInterval(look); }, 100);
}

function focus(element) {
  element?.focus();
  return Boolean(element);
}

function write(sheet, keys) {
  const rows = keys.map((one) => {
    const row = document.createElement("tr"), head = document.createElement("th"), words = document.createElement("td");
    head.scope = "row";
    one.shown.forEach((key, at) => {
      if (at) head.append(" ");
      const box = document.createElement("kbd");
      box.textContent = key;
      head.append(box);
    });
    words.textContent = one.words;
    row.append(head, words);
    return row;
  });
  sheet.querySelector("tbody").replaceChildren(...rows);
}
