// All pictures of the filter as thumbnails, and the same decision for many of them.

import { call } from "./api.js";
import { number } from "./panel.js";

const PAGE = 60;
const SEEN_SHARE = 0.5;
const byId = (id) => document.getElementById(id);

const WORDS = {
  accept: (n) => `${pictures(n)} will be published with the machine's suggestion as the mask.`,
  spot: (n) => `For ${pictures(n)} you say: the machine was right, every face is covered.`,
  no_face: (n) =>
    `${pictures(n)} will be published as ${n === 1 ? "it is" : "they are"}, without any blur: you say that nobody can be recognised.`,
};

const pictures = (n) => `${number(n)} ${n === 1 ? "picture" : "pictures"}`;

export class Grid {
  /** `decide(id, verdict)` resolves to the answer or null; `open(id)` shows one picture; `filter()` gives the filter. */
  constructor({ decide, open, filter }) {
    Object.assign(this, { decide, open, filter });
    this.items = [];
    this.cells = new Map();
    this.chosen = new Set();
    this.seen = new Set();
    this.at = 0;
    this.total = 0;
    this.turn = 0;
    this.loaded = new Set();
    this.visible = new Set();
    this.watch = new IntersectionObserver((entries) => entries.forEach((entry) => this.sight(entry)), {
      threshold: SEEN_SHARE,
    });
    byId("cells").addEventListener("scroll", () => this.more());
    for (const button of document.querySelectorAll("[data-bulk]"))
      button.addEventListener("click", () => this.confirm(button.dataset.bulk));
  }

  get shown() {
    return !byId("grid").hidden;
  }

  async show() {
    this.turn++;
    this.watch.disconnect();
    Object.assign(this, { items: [], total: 0, at: 0, cells: new Map(), loading: null });
    for (const set of [this.chosen, this.seen, this.loaded, this.visible]) set.clear();
    byId("cells").replaceChildren();
    byId("grid-confirm").hidden = true;
    byId("grid").hidden = false;
    await this.load();
    this.focus(0);
  }

  hide() {
    this.turn++;
    this.stopped = true;
    byId("grid").hidden = true;
  }

  load() {
    this.loading ??= this.fetchPage().finally(() => (this.loading = null));
    return this.loading;
  }

  async fetchPage() {
    const turn = this.turn;
    const query = new URLSearchParams({ ...this.filter(), offset: this.items.length, limit: PAGE });
    const { total, items } = await call(`/api/list?${query}`);
    if (turn !== this.turn) return;
    this.total = total;
    for (const item of items) if (!this.cells.has(item.id)) this.add(item);
    this.tell();
  }

  more() {
    const box = byId("cells");
    const near = box.scrollTop + 2 * box.clientHeight > box.scrollHeight;
    if (near && this.items.length < this.total) this.load().catch(() => {});
  }

  add(item) {
    const index = this.items.push(item) - 1;
    const cell = document.createElement("div");
    Object.assign(cell, { className: "cell", tabIndex: -1 });
    Object.assign(cell.dataset, { testid: "cell", id: item.id, state: item.state });
    cell.setAttribute("role", "option");
    cell.setAttribute("aria-selected", "false");
    cell.setAttribute("aria-disabled", "true");
    cell.setAttribute(
      "aria-label",
      `${index + 1}: ${item.words ?? item.state}${item.note ? `, ${item.note}` : ""}`,
    );
    const of = item.state === "spot_check" ? "result" : "picture";
    const image = Object.assign(document.createElement("img"), { alt: "", loading: "lazy" });
    image.addEventListener("load", () => this.noteSeen(item.id, this.loaded));
    image.src = `/api/picture/${item.id}/thumbnail?of=${of}`;
    cell.append(image, Object.assign(document.createElement("span"), { className: "tick", textContent: "✓" }));
    cell.addEventListener("click", (event) => {
      this.focus(index);
      if (event.shiftKey) this.choose(item.id, true);
      else this.choose(item.id);
    });
    cell.addEventListener("dblclick", () => this.open(item.id));
    this.cells.set(item.id, cell);
    byId("cells").append(cell);
    this.watch.observe(cell);
  }

  sight({ target, intersectionRatio }) {
    if (intersectionRatio >= SEEN_SHARE) this.noteSeen(target.dataset.id, this.visible);
    else this.visible.delete(target.dataset.id);
  }

  /** A picture can be selected once its thumbnail was there while it was in sight. */
  noteSeen(id, where) {
    where.add(id);
    if (this.seen.has(id) || !this.loaded.has(id) || !this.visible.has(id)) return;
    this.seen.add(id);
    this.cells.get(id)?.setAttribute("aria-disabled", "false");
  }

  choose(id, on = !this.chosen.has(id)) {
    const item = this.items.find((each) => each.id === id);
    if (!this.seen.has(id) || item.done || item.state === "decided" || this.running) return;
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.cells.get(id).setAttribute("aria-selected", on);
    byId("grid-confirm").hidden = true;
    this.tell();
  }

  chooseAll() {
    for (const { id } of this.items) this.choose(id, true);
  }

  tell() {
    const spot = this.spot();
    byId("grid-title").textContent = pictures(this.total);
    byId("grid-chosen").textContent = this.chosen.size
      ? `${number(this.chosen.size)} selected`
      : "Click or Space selects; Enter opens";
    const accept = document.querySelector("[data-bulk=accept]");
    accept.textContent = spot ? "The machine was right" : "Accept the suggestions";
    for (const button of document.querySelectorAll("[data-bulk]")) {
      button.disabled = !this.chosen.size || spot === null || this.running;
      button.title =
        spot === null
          ? "Spot checks and waiting pictures cannot be decided together."
          : this.chosen.size
            ? ""
            : "Select pictures first.";
    }
    document.querySelector("[data-bulk=no_face]").hidden = spot === true;
  }

  /** True when all selected are spot checks, false when none is, null when they are mixed. */
  spot() {
    const chosen = this.items.filter((item) => this.chosen.has(item.id));
    const spots = chosen.filter((item) => item.state === "spot_check").length;
    if (!chosen.length) return this.filter().state === "spot_check";
    return spots === chosen.length ? true : spots ? null : false;
  }

  confirm(verdict) {
    const ids = this.items.filter((item) => this.chosen.has(item.id)).map((item) => item.id);
    const words = WORDS[verdict === "accept" && this.spot() ? "spot" : verdict](ids.length);
    const box = byId("grid-confirm");
    const go = this.button("Do it", "bulk-go", () => this.run(ids, verdict));
    const no = this.button("Cancel", "bulk-cancel", () => (box.hidden = true));
    box.replaceChildren(Object.assign(document.createElement("p"), { textContent: words }), go, no);
    box.hidden = false;
    go.focus();
  }

  button(words, testid, act) {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
    made.dataset.testid = testid;
    made.addEventListener("click", act);
    return made;
  }

  async run(ids, verdict) {
    const box = byId("grid-confirm");
    const words = document.createElement("p");
    this.stopped = false;
    this.running = true;
    box.replaceChildren(
      words,
      this.button("Stop", "bulk-stop", () => (this.stopped = true)),
    );
    let [done, kept] = [0, 0];
    for (const id of ids) {
      if (this.stopped) break;
      words.textContent = `${number(done + kept + 1)} of ${pictures(ids.length)} …`;
      const answer = await this.decide(id, verdict);
      if (answer && answer.outcome !== "sent_back") this.settle(id, ++done);
      else kept++;
    }
    this.running = false;
    const rest = ids.length - done - kept;
    const parts = [
      `${pictures(done)} decided`,
      kept && `${number(kept)} not decided, still selected`,
      rest && `${number(rest)} not reached, still selected`,
    ];
    words.textContent = `${parts.filter(Boolean).join("; ")}.`;
    box.replaceChildren(
      words,
      this.button("Close", "bulk-close", () => (box.hidden = true)),
    );
    this.tell();
  }

  settle(id) {
    this.chosen.delete(id);
    this.items.find((item) => item.id === id).done = true;
    const cell = this.cells.get(id);
    cell.setAttribute("aria-selected", "false");
    cell.dataset.done = "yes";
  }

  focus(index) {
    if (!this.items.length) return;
    this.at = Math.max(0, Math.min(this.items.length - 1, index));
    byId("cells").querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    const cell = this.cells.get(this.items[this.at].id);
    cell.tabIndex = 0;
    cell.focus();
    cell.scrollIntoView({ block: "nearest" });
  }

  /** Arrow keys; with `extend` every picture on the way is selected. */
  move(key, extend) {
    const row = getComputedStyle(byId("cells")).gridTemplateColumns.split(" ").length;
    const to = this.at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[key];
    if (to < 0 || to >= this.items.length) return;
    if (extend)
      for (let i = Math.min(this.at, to); i <= Math.max(this.at, to); i++) this.choose(this.items[i].id, true);
    this.focus(to);
  }

  actions() {
    const here = () => this.items[this.at]?.id;
    return {
      gridMove: (event) => this.move(event.key, false),
      gridExtend: (event) => this.move(event.key, true),
      gridSelect: () => here() && this.choose(here()),
      gridAll: () => this.chooseAll(),
      gridOpen: () => here() && this.open(here()),
    };
  }
}
