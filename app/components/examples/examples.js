// Windows of text around the tokens on which a feature fires most. Text enters the page as textContent only.
// data: {examples: [{tokens: [[text, strength from 0 to 1, words], ...], peak, words, where}], colour}
// Says to Python: trigger "read" with the number of the example whose chunk is to be read.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".examples");
  root.style.setProperty("--colour", data.colour);
  const drawn = JSON.stringify(data.examples);
  if (root.drawn !== drawn) {
    root.replaceChildren(...data.examples.map(card));
    root.scrollTop = 0;
    root.drawn = drawn;
  }
  root.onclick = (event) => {
    const button = event.target.closest(".read");
    if (button) setTriggerValue("read", Number(button.dataset.number));
  };
}

function card(example, number) {
  const item = made("li", "example", "");
  const head = document.createElement("header");
  const read = made("button", "read", "Read");
  read.title = "Read its chunk";
  read.ariaLabel = "Read its chunk";
  read.type = "button";
  read.dataset.number = number;
  head.append(made("strong", "words", example.words), made("span", "where", example.where), read);
  const text = made("p", "text", "");
  text.append(...example.tokens.map(([piece, strength, words], place) => {
    const span = made("span", place === example.peak ? "token peak" : "token", visible(piece));
    span.style.setProperty("--strength", strength);
    span.title = words;
    return span;
  }));
  item.append(head, text);
  return item;
}

function made(tag, name, words) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = words;
  return element;
}

// A token of nothing but line breaks or spaces must be seen to be hovered.
function visible(piece) {
  const shown = piece.replace(/\r?\n/g, "↵\n");
  return shown.trim() ? shown : shown.replace(/ /g, "␣") || "∅";
}
