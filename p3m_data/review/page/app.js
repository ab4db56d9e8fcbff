// The page: brings the queue, the editor, the panel and the keys together.

import { call, holder, me, passing, back, signIn } from "./api.js";
import { watchConnection } from "./banner.js";
import { filterValue, readFilter, showEmpty, showOverview } from "./bar.js";
import { labelButtons, listenToControls } from "./controls.js";
import { Decider } from "./decider.js";
import { Deck } from "./deck.js";
import { Decisions } from "./decisions.js";
import { Editor } from "./editor.js";
import { Grid } from "./grid.js";
import { describeKeys } from "./keys.js";
import { showDraft, sentence, showPicture, stopAsking } from "./panel.js";
import { prefs, remember, showTheme, switchTheme } from "./prefs.js";
import { showRecent } from "./recent.js";
import { toast } from "./toast.js";

const OVERVIEW_MS = 20_000;
const byId = (id) => document.getElementById(id);
const { dataset } = document.body;

const deck = new Deck();
const decisions = new Decisions(holder);
const editor = new Editor();
const decider = new Decider({ deck, decisions, editor, goOn, open });
const grid = new Grid({
  decide: (id, verdict) => decider.quietly(id, verdict),
  open: (id) => open(id),
  filter: () => deck.filter,
});
let overview = null;
let trouble = null;

function setState(state) {
  dataset.state = trouble ? "away" : state;
  setState.now = state;
  byId("work").hidden = state === "empty" || grid.shown;
  byId("empty").hidden = state !== "empty" || grid.shown;
  byId("canvases").dataset.loading = state === "loading";
  refreshDraft();
}

function show(picture, pressed = null) {
  stopAsking();
  byId("wait").textContent = "Loading …";
  dataset.picture = picture?.id ?? "";
  history.replaceState(null, "", picture ? `#${picture.id}` : location.pathname);
  editor.show(picture);
  if (!picture) return empty();
  showPicture(picture, (name) => editor.setLayer(name));
  decider.findingsOf(picture);
  setState(picture.complete ? "ready" : "loading");
  if (pressed !== null) measure(pressed);
  if (picture.complete) return;
  picture.addEventListener("layer", () => {
    if (deck.current === picture && picture.complete && setState.now === "loading") setState("ready");
  });
}

/** From the key press to the frame in which the picture is painted. */
function measure(pressed) {
  editor.stage.addEventListener(
    "painted",
    () => performance.measure("next", { start: pressed, end: performance.now() }),
    { once: true },
  );
}

/** The next picture; painted in this frame when it is in memory. False when there is none. */
async function goOn(pressed, { stay = false } = {}) {
  performance.mark("next");
  const ready = deck.ready();
  if (ready) {
    deck.step(ready);
    show(ready, pressed);
    return true;
  }
  if (goOn.running) return true;
  goOn.running = true;
  if (!stay) setState("loading");
  try {
    let picture = await deck.forward();
    if (!picture && decisions.pending && !stay) {
      // A decision on its way can put a picture back into the queue.
      await decisions.chain;
      picture = await deck.forward();
    }
    if (picture) show(picture, pressed);
    else if (!stay) {
      deck.finish();
      show(null);
    }
    return Boolean(picture);
  } catch (error) {
    fail("The next picture cannot be shown", error);
    return true;
  } finally {
    goOn.running = false;
  }
}

/** Shows picture `id`, or the first of the queue. */
async function open(id = null) {
  if (grid.shown) leaveGrid();
  setState("loading");
  try {
    show(await deck.open(id));
    return true;
  } catch (error) {
    fail("This picture cannot be shown", error);
    if (deck.current) show(deck.current);
    else if (id) await open();
    return false;
  }
}

function fail(words, error) {
  console.warn(error);
  toast(`${words}: ${error.message}`, { kind: "bad" });
}

async function empty() {
  await refresh();
  if (!deck.current) {
    if (overview) showEmpty(overview, deck.filter, choose);
    setState("empty");
  }
}

function choose(filter) {
  deck.setFilter(filter);
  if (overview) showOverview(overview, filter);
  byId("filter").value = filterValue(filter);
  return grid.shown ? grid.show() : open();
}

async function refresh() {
  try {
    overview = await call("/api/overview");
    showOverview(overview, deck.filter);
  } catch (error) {
    if (passing(error)) back(error);
  }
}

/** On the empty page: what a run or another window leaves over comes up by itself. */
async function lookAgain() {
  await refresh();
  if (setState.now !== "empty" || grid.shown || trouble) return;
  try {
    const picture = await deck.open();
    if (picture) show(picture);
    else showEmpty(overview, deck.filter, choose);
  } catch (error) {
    console.warn(error);
  }
}

function soon() {
  clearTimeout(soon.timer);
  soon.timer = setTimeout(refresh, 250);
}

function refreshDraft() {
  const unsaved = deck.unsaved.size > 0;
  dataset.saved = unsaved ? "no" : "yes";
  byId("saved").textContent = unsaved
    ? trouble
      ? "Not saved"
      : "Saving …"
    : decisions.pending
      ? "Sending …"
      : "Saved";
  byId("saved").className = unsaved && trouble ? "bad" : "quiet";
  if (deck.current) showDraft(deck.current, { busy: setState.now !== "ready", startEmpty: prefs.startEmpty });
}

async function previous() {
  const id = deck.past.pop();
  if (!id) return toast("This is the first picture that you looked at.");
  if (!(await open(id))) deck.past.push(id);
}

async function next(event) {
  if (!(await goOn(event.timeStamp, { stay: true }))) toast("There is no other picture just now.");
}

async function toggleGrid() {
  if (grid.shown) {
    leaveGrid();
    if (deck.current && !deck.gone.has(deck.current.id)) setState(setState.now);
    else await open();
    return;
  }
  byId("work").hidden = byId("empty").hidden = true;
  document.querySelector(".bar [data-action=grid]").setAttribute("aria-pressed", "true");
  try {
    await grid.show();
  } catch (error) {
    fail("The pictures cannot be listed", error);
  }
}

function leaveGrid() {
  grid.hide();
  document.querySelector(".bar [data-action=grid]").setAttribute("aria-pressed", "false");
  byId("work").hidden = setState.now === "empty";
  byId("empty").hidden = setState.now !== "empty";
}

async function undo(number = null) {
  try {
    const answer = await decisions.undo(number);
    if (!answer) return toast("There is no decision of yours to undo.");
    toast(sentence(answer.said));
    soon();
    await open(answer.id);
  } catch (error) {
    fail("Not undone", error);
  }
}

function fitAlways() {
  remember({ fitAlways: !prefs.fitAlways });
  showFitAlways();
  if (prefs.fitAlways) editor.stage.fit();
}

const showFitAlways = () =>
  document.querySelector("[data-action=fitAlways]").setAttribute("aria-pressed", prefs.fitAlways);

function escape() {
  if (byId("confirm").hidden) editor.tools.drop();
  else stopAsking();
}

const EVERYWHERE = {
  ...grid.actions(),
  gridClose: toggleGrid,
  grid: toggleGrid,
  recent: () => showRecent({ undo, open }).catch((error) => fail("The decisions cannot be listed", error)),
  undoDecision: () => undo(),
  theme: switchTheme,
  help: () => byId("help").showModal(),
  previous,
};
const ON_PICTURE = {
  ...editor.actions(),
  ...decider.actions(),
  next,
  fitAlways,
  escape,
  hide: () => editor.bare(true),
};
const ONCE = new Set([
  ...Object.keys(decider.actions()),
  "undoDecision",
  "grid",
  "recent",
  "help",
  "theme",
  "clear",
  "suggestion",
  "clip",
]);

/** Runs an action; true when there is one that applies. */
function act(name, event) {
  // A key that is held down must not decide on picture after picture.
  if (event.repeat && ONCE.has(name)) return true;
  const run = EVERYWHERE[name] ?? (deck.current && ON_PICTURE[name]);
  if (!run) return false;
  run(event);
  return true;
}

function listen() {
  listenToControls({ act, editor, inGrid: () => grid.shown });
  byId("filter").addEventListener("change", (event) => {
    event.target.blur();
    choose(readFilter(event.target.value));
  });
  byId("radius").addEventListener("pointerup", (event) => event.target.blur());
  editor.addEventListener("draft", refreshDraft);
  decisions.addEventListener("count", refreshDraft);
  decisions.addEventListener("outcome", soon);
  addEventListener("beforeunload", (event) => {
    if (deck.unsaved.size || decisions.pending) event.preventDefault();
  });
  addEventListener("pagehide", () => {
    editor.keepView();
    deck.release(deck.held(), true);
  });
  addEventListener("pageshow", (event) => event.persisted && deck.renew());
  addEventListener("hashchange", () => {
    const id = location.hash.slice(1);
    if (id && id !== deck.current?.id) open(id);
  });
}

function connectionChanged(words) {
  trouble = words;
  setState(setState.now);
  if (words) return;
  refresh();
  if (deck.current) editor.needLayers();
}

async function start() {
  showTheme();
  describeKeys(byId("help-keys"));
  labelButtons();
  showFitAlways();
  setState("loading");
  watchConnection(connectionChanged);
  listen();
  for (;;) {
    try {
      await signIn();
      break;
    } catch (error) {
      if (!passing(error)) return fail("The review cannot start", error);
      await back(error);
    }
  }
  byId("dataset").textContent = document.title = me.dataset;
  byId("reviewer").textContent = me.reviewer;
  setInterval(() => deck.renew(), (1000 * me.holder_seconds) / 3);
  setInterval(lookAgain, OVERVIEW_MS);
  refresh();
  const wanted = /^#p_[0-9a-f]+$/.test(location.hash) ? location.hash.slice(1) : null;
  await open(wanted);
  editor.restoreView();
}

start();
