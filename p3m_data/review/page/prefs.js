// What this browser remembers. Nothing here tells which pictures there are.

const NAME = "p3mdata-review";
const DEFAULTS = { theme: null, startEmpty: false, fitAlways: false, layers: ["mask"], tool: "brush", size: 0.02 };

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export const prefs = read();

export function remember(changes) {
  Object.assign(prefs, changes);
  try {
    localStorage.setItem(NAME, JSON.stringify(prefs));
  } catch {
    // A browser that stores nothing still works until it is closed.
  }
}

export function showTheme() {
  if (prefs.theme) document.documentElement.dataset.theme = prefs.theme;
  else delete document.documentElement.dataset.theme;
}

export function switchTheme() {
  const dark = prefs.theme ? prefs.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  remember({ theme: dark ? "light" : "dark" });
  showTheme();
}
