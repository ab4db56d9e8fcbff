// Short messages at the bottom of the page.

const STAYS_MS = 4000;
const MOST = 2;

/** Shows a sentence; with an action it stays until somebody closes it or acts. */
export function toast(sentence, { kind = "note", action = null, label = "Show" } = {}) {
  const list = document.getElementById("toasts");
  const item = document.createElement("div");
  item.className = `toast ${kind}`;
  item.dataset.testid = "toast";
  item.append(Object.assign(document.createElement("span"), { textContent: sentence }));
  const close = () => item.remove();
  if (action) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.dataset.testid = "toast-show";
    button.addEventListener("click", () => {
      close();
      action();
    });
    item.append(button);
  }
  const shut = Object.assign(document.createElement("button"), {
    type: "button",
    textContent: "×",
    className: "shut",
  });
  shut.setAttribute("aria-label", "Close this message");
  shut.addEventListener("click", close);
  item.append(shut);
  list.append(item);
  const passing = [...list.children].filter((each) => !each.classList.contains("stays"));
  if (action) item.classList.add("stays");
  else setTimeout(close, STAYS_MS);
  if (passing.length > MOST) passing[0].remove();
  return close;
}
