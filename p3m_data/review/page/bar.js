// The bar at the top, and the page that says that nothing is left to do.

import { capital, number } from "./panel.js";

const byId = (id) => document.getElementById(id);

export const STATE_WORDS = {
  waiting: "Waiting",
  skipped: "Skipped",
  second_opinion: "Second look",
  disagreement: "Two answers differ",
  spot_check: "Spot checks",
  decided: "Decided",
};

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** "0 misses in 59 of 60: at most 5.0 % (95 %)" */
export function spotWords(spot) {
  const misses = `${spot.misses} ${spot.misses === 1 ? "miss" : "misses"}`;
  const bound = spot.checked ? `: at most ${percent(spot.upper_bound)} (95 %)` : "";
  return `${misses} in ${number(spot.checked)} of ${number(spot.drawn)}${bound}`;
}

export function showOverview(overview, filter) {
  const { counts, spot } = overview;
  const all = counts.waiting + counts.skipped + counts.second_opinion + counts.disagreement + counts.decided;
  byId("progress").max = Math.max(1, all);
  byId("progress").value = counts.decided;
  byId("progress-words").textContent = `${number(counts.decided)} of ${number(all)} done`;
  byId("spot").hidden = !spot;
  if (spot) {
    byId("spot").textContent = spotWords(spot);
    byId("spot").title =
      `Spot checks of ${number(spot.population)} pictures that the machine published: how many it can have got wrong at most, with 95 % certainty.`;
  }
  fillFilter(overview, filter);
}

function fillFilter({ counts, reasons, mine_waiting: mine }, filter) {
  const select = byId("filter");
  // Rewriting an open list would close it under the reviewer's hand.
  if (document.activeElement === select) return;
  const option = (value, words) => new Option(words, value, false, value === filterValue(filter));
  const group = (label, options) => {
    const made = Object.assign(document.createElement("optgroup"), { label });
    made.append(...options);
    return made;
  };
  const states = Object.entries(STATE_WORDS).filter(([state]) => counts[state] || filter.state === state);
  select.replaceChildren(
    option("", `Everything to do (${number(mine)})`),
    group(
      "By state",
      states.map(([state, words]) => option(`state:${state}`, `${words} (${number(counts[state])})`)),
    ),
    group(
      "Waiting because",
      reasons.map((each) => option(`reason:${each.reason}`, `${capital(each.words)} (${number(each.count)})`)),
    ),
  );
}

export const filterValue = ({ state, reason }) => (state ? `state:${state}` : reason ? `reason:${reason}` : "");

export function readFilter(value) {
  const [kind, name] = value.split(":");
  return kind ? { [kind]: name } : {};
}

/** The page for an empty queue. `go` is called with the filter to show next. */
export function showEmpty(overview, filter, go) {
  const box = byId("empty");
  const { counts, run, mine_waiting: mine } = overview;
  const filtered = Boolean(filter.state || filter.reason);
  const here = filter.state
    ? counts[filter.state]
    : (overview.reasons.find((it) => it.reason === filter.reason)?.count ?? 0);
  const title = !filtered
    ? "That was all. Thank you!"
    : here
      ? "Nothing is free under this filter just now."
      : "Nothing is left under this filter.";
  const heading = Object.assign(document.createElement("h1"), { textContent: title });
  const lines = [
    `${number(overview.done_by_me)} ${overview.done_by_me === 1 ? "picture" : "pictures"} decided by you.`,
  ];
  const open = counts.waiting + counts.skipped + counts.second_opinion + counts.disagreement + counts.spot_check;
  const others = Math.max(0, open - mine);
  const elsewhere = Math.max(0, mine - counts.skipped);
  if (others)
    lines.push(
      `${number(others)} ${others === 1 ? "picture waits" : "pictures wait"} for another reviewer: two people look at some, each without the other's answer.`,
    );
  if (filtered && here)
    lines.push(`${number(here)} ${here === 1 ? "is" : "are"} open in another window, or were passed over here.`);
  if (elsewhere && !filtered)
    lines.push(
      `${number(elsewhere)} ${elsewhere === 1 ? "is" : "are"} open in another window, or were passed over here.`,
    );
  if (run.pending)
    lines.push(
      `The run still has ${number(run.pending)} ${run.pending === 1 ? "picture" : "pictures"} to do; what it cannot do alone appears here by itself.`,
    );
  if (counts.skipped) lines.push(`${number(counts.skipped)} ${counts.skipped === 1 ? "was" : "were"} skipped.`);
  const actions = document.createElement("div");
  actions.className = "pair";
  const add = (words, testid, next) => {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
    made.dataset.testid = testid;
    made.addEventListener("click", () => go(next));
    actions.append(made);
  };
  if (filtered) add("Show everything to do", "empty-all", {});
  else add("Look again", "empty-again", {});
  if (counts.skipped) add("Look at the skipped ones", "empty-skipped", { state: "skipped" });
  box.replaceChildren(
    heading,
    ...lines.map((text) => Object.assign(document.createElement("p"), { textContent: text })),
    actions,
  );
}
