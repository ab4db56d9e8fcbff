// The list of the last decisions.

import { call } from "./api.js";
import { VERDICT_WORDS } from "./decisions.js";
import { capital } from "./panel.js";

const OUTCOMES = {
  published: "published",
  excluded: "left out",
  skipped: "waits at the end",
  sent_back: "sent back by the check",
  second_opinion: "waits for a second look",
  disagreement: "two answers differ",
  agreed: "both agree",
  confirmed: "the machine was right",
};

/** Only the newest standing decision of a picture can be undone: the ones before depend on it. */
export function undoable(items) {
  const seen = new Set();
  return new Set(
    items.filter((item) => item.standing && !seen.has(item.id) && seen.add(item.id)).map((item) => item.number),
  );
}

/** Opens the list; `undo(number)` and `open(id)` are the page's. */
export async function showRecent({ undo, open }) {
  const dialog = document.getElementById("recent");
  const list = document.getElementById("recent-list");
  const { items } = await call("/api/decisions?limit=30");
  const can = undoable(items);
  const leave = (act) => () => {
    dialog.close();
    act();
  };
  list.replaceChildren(
    ...items.map((item) =>
      row(
        item,
        can.has(item.number),
        leave(() => undo(item.number)),
        leave(() => open(item.id)),
      ),
    ),
  );
  if (!items.length) list.append(Object.assign(document.createElement("li"), { textContent: "No decisions yet." }));
  if (!dialog.open) dialog.showModal();
}

function row(item, can, undo, open) {
  const line = document.createElement("li");
  line.className = item.standing ? "" : "undone";
  const thumb = Object.assign(document.createElement("img"), {
    loading: "lazy",
    alt: "",
    src: `/api/picture/${item.id}/thumbnail?of=picture`,
  });
  const when = new Date(item.at);
  const time = Number.isNaN(when.getTime())
    ? ""
    : when.toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
  const said = [
    item.verdict ? capital(VERDICT_WORDS[item.verdict] ?? item.verdict) : "Told after the second look",
    OUTCOMES[item.outcome],
    item.note && `“${item.note}”`,
  ]
    .filter(Boolean)
    .join(" · ");
  const words = document.createElement("p");
  words.append(Object.assign(document.createElement("strong"), { textContent: said }));
  const state = item.standing ? "" : " · undone";
  words.append(Object.assign(document.createElement("small"), { textContent: `${item.by} · ${time}${state}` }));
  const show = Object.assign(document.createElement("button"), { type: "button", textContent: "Show" });
  show.addEventListener("click", open);
  const back = Object.assign(document.createElement("button"), {
    type: "button",
    textContent: "Undo",
    disabled: !can,
  });
  back.dataset.testid = "undo-one";
  if (!can && item.standing) back.title = "A newer decision on the same picture stands: undo that one first.";
  back.addEventListener("click", undo);
  line.append(thumb, words, show, back);
  return line;
}
