// A text token by token, each tinted by a feature's activation. Text enters the page as textContent only.
// data: {tokens: [[text, strength from 0 to 1, words of the hover], ...], first, n_prompt, selected, marked: [from, to], colour}; `first`
// is the position of the first token, the other numbers are positions too; selected is null where no token is.
// Says to Python: trigger "token" with the position of the token that was clicked.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".tokens");
  root.style.setProperty("--colour", data.colour);
  const drawn = JSON.stringify([data.first, data.tokens.map((token) => token[0])]);
  if (root.drawn !== drawn) {
    root.replaceChildren(...data.tokens.map(([piece], at) => {
      const span = document.createElement("span");
      span.textContent = visible(piece);
      span.dataset.position = data.first + at;
      return span;
    }));
    root.drawn = drawn;
    root.shown = undefined;
  }
  data.tokens.forEach(([, strength, words], at) => {
    const span = root.children[at], position = data.first + at;
    span.style.setProperty("--strength", strength);
    span.title = words;
    span.className = "token";
    span.classList.toggle("prompt", position < data.n_prompt);
    span.classList.toggle("marked", position >= data.marked[0] && position < data.marked[1]);
    span.classList.toggle("selected", position === data.selected);
  });
  const target = data.selected ?? data.marked[0];
  if (root.shown !== target) {
    const span = root.children[target - data.first];
    if (span) root.scrollTo({ top: span.offsetTop - root.offsetTop - root.clientHeight / 3, behavior: root.shown === undefined ? "auto" : "smooth" });
    root.shown = target;
  }
  root.onclick = (event) => {
    const span = event.target.closest(".token");
    if (span) setTriggerValue("token", Number(span.dataset.position));
  };
}

// A token of nothing but line breaks or spaces must be seen to be clicked.
function visible(piece) {
  const shown = piece.replace(/\r?\n/g, "↵\n");
  return shown.trim() ? shown : shown.replace(/ /g, "␣") || "∅";
}
