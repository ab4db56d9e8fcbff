// From keys and buttons to actions; the actions themselves are the page's.

import { actionOf, keyWords, typing } from "./keys.js";

/** `act(name, event)` runs an action and tells whether there is one; `inGrid()` says which keys apply. */
export function listenToControls({ act, editor, inGrid }) {
  addEventListener("keydown", (event) => {
    if (!belongsToPage(event)) return;
    if (event.key === " " && !inGrid()) {
      pan(editor, true);
      event.preventDefault();
      return;
    }
    const name = actionOf(event, inGrid() ? "grid" : "picture");
    if (name && act(name, event)) event.preventDefault();
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") pan(editor, false);
    if (event.key.toLowerCase() === "h") editor.bare(false);
  });
  addEventListener("blur", () => {
    pan(editor, false);
    editor.bare(false);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (!button || button.disabled) return;
    act(button.dataset.action, event);
    // After a click with the mouse the keys belong to the picture again.
    if (event.detail) button.blur();
  });
}

/** Whether a key is meant for the page, and not for a dialog, a field or the button that has the focus. */
function belongsToPage(event) {
  if (event.isComposing || document.querySelector("dialog[open]")) return false;
  if (typing(event)) {
    if (event.key === "Escape") event.target.blur();
    return false;
  }
  const pressing = event.target.closest?.("button, summary, a, [type=checkbox]");
  return !pressing || (event.key !== " " && event.key !== "Enter");
}

function pan(editor, on) {
  editor.tools.space = on;
  document.getElementById("canvases").classList.toggle("panning", on);
}

/** Writes the keys on the buttons and gives every button a name for tests. */
export function labelButtons() {
  for (const button of document.querySelectorAll("[data-action]")) {
    const words = keyWords(button.dataset.action);
    button.dataset.testid ??= button.dataset.action;
    if (!words) continue;
    button.setAttribute("aria-keyshortcuts", words.replace("Ctrl", "Control"));
    if (button.closest(".pair") && !button.closest(".decide")) continue;
    button.append(Object.assign(document.createElement("kbd"), { textContent: words }));
  }
}
