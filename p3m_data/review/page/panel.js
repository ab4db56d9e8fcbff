// The panel beside the picture: why it waits, what was found, and which decisions are possible.

import { me } from "./api.js";

const byId = (id) => document.getElementById(id);
export const number = (value) => value.toLocaleString("en");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What a program says, as a sentence of its own. */
export const sentence = (text) => capital(text) + (/[.!?…]$/.test(text) ? "" : ".");

const KINDS = {
  spot_check: "The machine published this one. Is every face covered?",
  second_opinion: "Second look: somebody decided already. Decide for yourself, without their answer.",
  disagreement: "Two people decided differently. You settle it.",
  skipped: "Skipped before.",
  decided: "Decided.",
};

/** Whether a person's decision stands and nothing is left to do. */
export const isDecided = ({ state, decision }) => state === "decided" && Boolean(decision);

/** Why each decision is impossible just now; null where it is possible. */
export function obstacles({ detail, draft }) {
  if (isDecided(detail)) {
    const why = "This picture is decided: undo that decision first.";
    return { accept: why, mask: why, noFace: why, exclude: why, skip: why };
  }
  const spot = detail.state === "spot_check";
  return {
    accept: spot || detail.suggestion_area > 0 ? null : "The machine suggests nothing here.",
    mask: draft.empty ? "Your mask is empty: draw it first." : null,
    noFace: draft.empty ? null : "Your mask is not empty: clear it first.",
    exclude: null,
    skip: ["second_opinion", "disagreement"].includes(detail.state)
      ? "This one cannot be skipped: go on with Next."
      : null,
  };
}

/** Writes everything that depends on the picture. `show(name)` switches a layer on. */
export function showPicture(picture, show) {
  const { detail } = picture;
  const spot = detail.state === "spot_check";
  byId("kind").hidden = !KINDS[detail.state];
  const note = detail.state === "skipped" && detail.note ? ` “${detail.note}”` : decisionWords(detail);
  byId("kind").textContent = (KINDS[detail.state] ?? "") + note;
  byId("kind").dataset.kind = detail.state;
  byId("why").textContent = spot ? "Spot check" : capital(me.reasons[detail.reason] ?? detail.words ?? "");
  byId("said").textContent = spot
    ? "Look for a face that can still be recognised."
    : detail.said
      ? sentence(detail.said)
      : "";
  document.querySelector("[data-action=accept] [data-words]").textContent = spot
    ? "The machine was right"
    : "Accept the suggestion";
  byId("note").value = "";
  showOpinions(detail, show);
  showFindings(detail.findings, null);
}

const VERDICTS = {
  accept: "takes the suggestion",
  mask: "drew a mask",
  no_face: "sees no identifiable face",
  exclude: "leaves it out",
  skip: "skips it",
};

function decisionWords(detail) {
  if (!isDecided(detail)) return "";
  const { by, verdict, note } = detail.decision;
  return ` ${by} ${VERDICTS[verdict] ?? verdict}${note ? `: “${note}”` : ""}. The list of decisions (D) undoes it.`;
}

function showOpinions(detail, show) {
  const box = byId("opinions");
  box.replaceChildren();
  // One opinion alone is the decision, which is told above.
  box.hidden = !detail.opinions || detail.opinions.length < 2;
  detail.opinions?.forEach((opinion, index) => {
    const row = document.createElement("button");
    row.type = "button";
    row.className = `opinion opinion-${index + 1}`;
    row.textContent = `${opinion.by} ${VERDICTS[opinion.verdict] ?? opinion.verdict}${opinion.note ? `: “${opinion.note}”` : ""}`;
    row.title = "Show or hide this opinion on the picture";
    row.addEventListener("click", () => show(`opinion-${index + 1}`));
    box.append(row);
  });
}

/** Lists findings; `choices` {fix, pass} adds the two ways on, `pass` null when nothing may be let through. */
export function showFindings(findings, choices) {
  const box = byId("findings");
  box.replaceChildren();
  box.hidden = !findings.length;
  if (!findings.length) return;
  box.append(
    Object.assign(document.createElement("h2"), { textContent: "Not published: the last try was checked" }),
  );
  const list = box.appendChild(document.createElement("ul"));
  for (const finding of findings)
    list.appendChild(document.createElement("li")).textContent = sentence(finding.said);
  if (!choices) return;
  const row = box.appendChild(document.createElement("div"));
  row.className = "pair";
  row.append(button("Fix it", "fix", choices.fix));
  if (choices.pass) row.append(button("Let it pass: I looked", "let-pass", choices.pass));
}

function button(words, testid, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
  made.dataset.testid = testid;
  made.addEventListener("click", act);
  return made;
}

/** Asks in the panel. Each choice is [words, testid, act]; returns a function that takes the question away. */
export function ask(question, choices) {
  const box = byId("confirm");
  const close = () => {
    box.hidden = true;
    box.replaceChildren();
  };
  box.replaceChildren(Object.assign(document.createElement("p"), { textContent: question }));
  for (const [words, testid, act] of choices) {
    box.append(
      button(words, testid, () => {
        close();
        act();
      }),
    );
  }
  box.hidden = false;
  box.querySelector("button").focus({ preventScroll: true });
  return close;
}

export const asking = () => !byId("confirm").hidden;

export function stopAsking() {
  byId("confirm").hidden = true;
  byId("confirm").replaceChildren();
}

/** What depends on the drawing: buttons, the warning, and the words on where a stroke starts. */
export function showDraft(picture, { busy, startEmpty }) {
  const { draft, detail } = picture;
  const blocked = obstacles(picture);
  for (const [action, why] of Object.entries(blocked)) {
    const target = document.querySelector(`[data-action=${action}]`);
    target.disabled = busy || Boolean(why);
    target.title = why ?? "";
  }
  const own = draft.empty && !blocked.accept ? "accept" : "mask";
  for (const action of ["accept", "mask"])
    document.querySelector(`[data-action=${action}]`).classList.toggle("own", action === own);
  const warning = byId("protected");
  warning.hidden = !draft.protected || draft.empty;
  warning.textContent = `${number(draft.protected ?? 0)} pixels of the transition area (hair and fine edges) are in your mask and would be blurred. C spares them.`;
  const untouched = draft.done === 0;
  byId("start").hidden = !untouched || isDecided(detail);
  byId("start").textContent = startWords(detail, startEmpty);
}

function startWords({ state, suggestion_area: area }, startEmpty) {
  if (state === "spot_check") return "You see the picture as it was published. Q shows the original.";
  if (!area) return "Your mask is empty. The machine suggests nothing here.";
  if (startEmpty) return "Your mask is empty and starts empty. The machine's suggestion is only shown.";
  return "You see the machine's suggestion. Your first stroke changes a copy of it.";
}
