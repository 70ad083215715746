// Buttons that copy. Texts enter the page as textContent and the clipboard as plain text only.
// data: {texts: [[name, text], ...]}. Says nothing to Python.
const SHOWN_MS = 1200; // how long a button says that it has copied

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".copy"), said = parentElement.querySelector(".said");
  while (root.children.length > data.texts.length) root.lastChild.remove();
  data.texts.forEach(([name, text], place) => {
    const button = root.children[place] ?? root.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = `Copy ${name}`;
    button.onclick = async () => {
      const done = await copied(text);
      said.textContent = done ? `Copied the ${name}` : "The browser does not allow copying";
      button.textContent = done ? `Copied ${name}` : "Not allowed";
      setTimeout(() => { button.textContent = `Copy ${name}`; said.textContent = ""; }, SHOWN_MS);
    };
  });
}

// Where the page is no secure context there is no clipboard: a text field that is selected has one.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.style.position = "fixed";
    field.style.opacity = "0";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
