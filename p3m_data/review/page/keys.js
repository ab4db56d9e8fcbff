// The one table of keys: it feeds the handlers, the words on the buttons and the dialog of all keys.
// `on` says where a key works: "picture", "grid" or "both". `mod` stands for Ctrl or Cmd.

export const KEYS = [
  {
    action: "accept",
    keys: ["a"],
    on: "picture",
    group: "Decide",
    words: "Accept the suggestion (spot check: the machine was right)",
  },
  { action: "mask", keys: ["m"], on: "picture", group: "Decide", words: "Use my mask" },
  { action: "noFace", keys: ["n"], on: "picture", group: "Decide", words: "No identifiable face is visible" },
  { action: "exclude", keys: ["x"], on: "picture", group: "Decide", words: "Leave this picture out" },
  { action: "skip", keys: ["s"], on: "picture", group: "Decide", words: "Skip for now, with a note" },
  { action: "undoDecision", keys: ["u"], on: "both", group: "Decide", words: "Undo the last decision" },
  { action: "recent", keys: ["d"], on: "both", group: "Decide", words: "List of the last decisions" },

  {
    action: "next",
    keys: ["j", "ArrowRight"],
    on: "picture",
    group: "Go",
    words: "Next picture, without deciding",
  },
  { action: "previous", keys: ["k", "ArrowLeft"], on: "picture", group: "Go", words: "Previous picture" },
  { action: "grid", keys: ["t"], on: "both", group: "Go", words: "All pictures, and back" },

  { action: "brush", keys: ["b"], on: "picture", group: "Draw", words: "Brush" },
  { action: "eraser", keys: ["e"], on: "picture", group: "Draw", words: "Eraser" },
  { action: "smaller", keys: ["[", ","], on: "picture", group: "Draw", words: "Smaller brush (or Ctrl + wheel)" },
  { action: "larger", keys: ["]", "."], on: "picture", group: "Draw", words: "Larger brush (or Ctrl + wheel)" },
  {
    action: "polygon",
    keys: ["p"],
    on: "picture",
    group: "Draw",
    words: "Polygon: click the corners; Enter closes, Backspace takes one back",
  },
  { action: "ellipse", keys: ["o"], on: "picture", group: "Draw", words: "Ellipse: drag" },
  { action: "landmarks", keys: ["l"], on: "picture", group: "Draw", words: "Find a face in a box: drag" },
  { action: "suggestion", keys: ["g"], on: "picture", group: "Draw", words: "Add the machine's suggestion" },
  {
    action: "clip",
    keys: ["c"],
    on: "picture",
    group: "Draw",
    words: "Spare the transition area (hair and fine edges)",
  },
  { action: "clear", keys: ["Delete"], on: "picture", group: "Draw", words: "Empty my mask" },
  { action: "undoStroke", keys: ["z"], mod: true, on: "picture", group: "Draw", words: "Undo a stroke" },
  { action: "redoStroke", keys: ["y", "shift+z"], mod: true, on: "picture", group: "Draw", words: "Redo a stroke" },
  { action: "enter", keys: ["Enter"], on: "picture", group: "Draw", words: "Close the polygon" },
  {
    action: "backspace",
    keys: ["Backspace"],
    on: "picture",
    group: "Draw",
    words: "Take the polygon's last corner back",
  },
  { action: "escape", keys: ["Escape"], on: "picture", group: "Draw", words: "Drop what is being drawn" },

  { action: "hide", keys: ["h"], on: "picture", group: "Look", words: "Hold: the bare picture" },
  { action: "original", keys: ["q"], on: "picture", group: "Look", words: "Original" },
  { action: "preview", keys: ["v"], on: "picture", group: "Look", words: "Blurred as my mask says" },
  { action: "result", keys: ["r"], on: "picture", group: "Look", words: "The machine's last result" },
  { action: "layerPrivate", keys: ["2"], on: "picture", group: "Look", words: "Private area (brows to chin)" },
  {
    action: "layerTransition",
    keys: ["3"],
    on: "picture",
    group: "Look",
    words: "Transition area (hair and fine edges)",
  },
  { action: "layerMask", keys: ["4"], on: "picture", group: "Look", words: "My mask" },
  { action: "layerSuggestion", keys: ["5"], on: "picture", group: "Look", words: "The machine's suggestion" },
  { action: "layerMatte", keys: ["6"], on: "picture", group: "Look", words: "Matte (the person, cut out)" },
  { action: "layerFirst", keys: ["7"], on: "picture", group: "Look", words: "First opinion" },
  { action: "layerSecond", keys: ["8"], on: "picture", group: "Look", words: "Second opinion" },
  { action: "zoomIn", keys: ["+", "="], on: "picture", group: "Look", words: "Larger (or the wheel)" },
  { action: "zoomOut", keys: ["-"], on: "picture", group: "Look", words: "Smaller (or the wheel)" },
  { action: "fit", keys: ["0"], on: "picture", group: "Look", words: "Whole picture" },
  { action: "oneToOne", keys: ["1"], on: "picture", group: "Look", words: "One pixel for one pixel" },
  { action: "fitAlways", keys: ["f"], on: "picture", group: "Look", words: "Show every picture whole, on or off" },
  {
    action: "panLeft",
    keys: ["shift+ArrowLeft"],
    on: "picture",
    group: "Look",
    words: "Move the picture (or Space + drag)",
  },
  { action: "panRight", keys: ["shift+ArrowRight"], on: "picture", group: "Look", words: "Move the picture" },
  { action: "panUp", keys: ["shift+ArrowUp"], on: "picture", group: "Look", words: "Move the picture" },
  { action: "panDown", keys: ["shift+ArrowDown"], on: "picture", group: "Look", words: "Move the picture" },

  {
    action: "gridMove",
    keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"],
    on: "grid",
    group: "All pictures",
    words: "Move",
  },
  {
    action: "gridExtend",
    keys: ["shift+ArrowLeft", "shift+ArrowRight", "shift+ArrowUp", "shift+ArrowDown"],
    on: "grid",
    group: "All pictures",
    words: "Select on the way",
  },
  { action: "gridSelect", keys: [" "], on: "grid", group: "All pictures", words: "Select or not" },
  {
    action: "gridAll",
    keys: ["a"],
    mod: true,
    on: "grid",
    group: "All pictures",
    words: "Select all that were shown",
  },
  { action: "gridOpen", keys: ["Enter"], on: "grid", group: "All pictures", words: "Open the picture" },
  { action: "gridClose", keys: ["Escape"], on: "grid", group: "All pictures", words: "Back to the picture" },

  { action: "help", keys: ["?"], on: "both", group: "Go", words: "This list" },
];

const GROUPS = ["Decide", "Go", "Draw", "Look", "All pictures"];
const SIGNS = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  " ": "Space",
  Escape: "Esc",
  Delete: "Del",
};

/** The action of a key event in `place` ("picture" or "grid"), or null. */
export function actionOf(event, place) {
  // AltGr reports itself as Ctrl+Alt on some systems, and types brackets on some keyboards.
  const altGraph = event.getModifierState?.("AltGraph");
  const mod = (event.ctrlKey || event.metaKey) && !altGraph;
  if (event.altKey && !altGraph) return null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // Shift is part of how a sign is typed ("?", "+"), but a choice of its own with letters and arrows.
  const shift = event.shiftKey && (key.length > 1 || /\p{L}/u.test(key));
  const name = shift ? `shift+${key}` : key;
  const fits = (row) => (row.on === "both" || row.on === place) && Boolean(row.mod) === mod;
  const row = KEYS.find((it) => fits(it) && it.keys.includes(name));
  return row ? row.action : null;
}

const sign = (name) => {
  const [key, ...held] = name.split("+").reverse();
  const shown = key === "" ? "+" : (SIGNS[key] ?? (key.length === 1 ? key.toUpperCase() : key));
  return [...held.filter(Boolean).map(() => "Shift"), shown].join("+");
};

/** How the key of an action is written on a button; "" when it has none. */
export function keyWords(action) {
  const row = KEYS.find((it) => it.action === action);
  return row ? (row.mod ? "Ctrl+" : "") + sign(row.keys[0]) : "";
}

/** Fills the dialog of all keys. */
export function describeKeys(into) {
  for (const group of GROUPS) {
    const section = document.createElement("section");
    const title = section.appendChild(document.createElement("h3"));
    title.textContent = group;
    const list = section.appendChild(document.createElement("dl"));
    for (const row of KEYS.filter((it) => it.group === group)) {
      const term = list.appendChild(document.createElement("dt"));
      for (const key of row.keys) {
        term.appendChild(document.createElement("kbd")).textContent = (row.mod ? "Ctrl+" : "") + sign(key);
      }
      list.appendChild(document.createElement("dd")).textContent = row.words;
    }
    into.append(section);
  }
}

/** Whether a key event belongs to a field in which somebody types. */
export function typing(event) {
  const field = event.target.closest?.("input, textarea, select, [contenteditable]");
  return Boolean(field) && !["checkbox", "radio"].includes(field.type);
}
