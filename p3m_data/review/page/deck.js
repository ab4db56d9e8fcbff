// Which picture is shown and which come next: leases, history and pictures loaded ahead.

import { Away, call, holder, patient } from "./api.js";
import { Picture } from "./picture.js";

const AHEAD = 2;

export class Deck {
  constructor() {
    this.current = null;
    this.ahead = [];
    this.past = [];
    this.pictures = new Map();
    /** Pictures on their way, by id. */
    this.coming = new Map();
    this.filter = {};
    /** Pictures that this tab is done with, or whose decision is on its way. */
    this.gone = new Set();
    /** Drawings that the server does not have yet, by picture. */
    this.unsaved = new Map();
  }

  /** Takes `id` if given, else the first of the queue. Returns the picture or null; raises Refused. */
  async open(id = null) {
    const before = this.held();
    const answer = await patient("/api/next", {
      holder,
      count: 1 + AHEAD,
      ...this.filter,
      ...(id ? { want: id, after: id } : {}),
    });
    const items = answer.items.filter((item) => item.id === id || !this.gone.has(item.id));
    if (id) this.gone.delete(id);
    this.ahead = items.slice(1).map((item) => item.id);
    const picture = items.length ? await this.fresh(items[0].id) : null;
    this.become(picture);
    this.release(before.filter((each) => !this.held().includes(each)));
    this.loadAhead();
    return picture;
  }

  /** The next picture if it is in memory, ready to be painted at once; else null. */
  ready() {
    const picture = this.pictures.get(this.ahead[0]);
    return picture?.complete ? picture : null;
  }

  /** Goes on to the next picture; null when there is none. */
  async forward() {
    if (!this.ahead.length) await this.fill();
    if (!this.ahead.length) return null;
    const picture = this.ready() ?? (await this.get(this.ahead[0]));
    this.step(picture);
    return picture;
  }

  /** Makes the picture ahead the current one; at once, since it is painted in the same frame. */
  step(picture) {
    const left = this.current;
    this.ahead = this.ahead.filter((id) => id !== picture.id);
    if (left) this.past.push(left.id);
    this.become(picture);
    if (left && !this.gone.has(left.id)) this.leave(left);
    this.fill().catch(() => {});
  }

  /** Nothing is left to show. */
  finish() {
    if (this.current) this.past.push(this.current.id);
    this.become(null);
  }

  become(picture) {
    this.current = picture;
    if (picture) this.pictures.set(picture.id, picture);
    const keep = new Set([...this.held(), this.past.at(-1)]);
    for (const [id, each] of this.pictures) {
      if (keep.has(id)) continue;
      each.dispose();
      this.pictures.delete(id);
    }
  }

  /** Takes the lease off a picture that was left undecided, once its strokes are safe. */
  async leave(picture) {
    await picture.draft.settled().catch(() => {});
    if (!this.held().includes(picture.id)) this.release([picture.id]);
  }

  held() {
    return [this.current?.id, ...this.ahead].filter(Boolean);
  }

  fill() {
    this.filling ??= this.fetchAhead().finally(() => (this.filling = null));
    return this.filling;
  }

  async fetchAhead() {
    if (this.ahead.length >= AHEAD) return this.loadAhead();
    const after = this.ahead.at(-1) ?? this.current?.id ?? this.past.at(-1);
    let fresh = await this.lease(after);
    // What is left may lie before a row of pictures that were skipped here.
    if (!fresh.length && after && this.gone.size) fresh = await this.lease(null);
    const room = AHEAD - this.ahead.length;
    this.ahead.push(...fresh.slice(0, room));
    this.release(fresh.slice(room));
    this.loadAhead();
  }

  /** Ids that the server lends after the picture `after`, without those that this tab has or is done with. */
  async lease(after) {
    const answer = await patient("/api/next", {
      holder,
      count: 2 + 2 * AHEAD,
      ...this.filter,
      ...(after ? { after } : {}),
    });
    const known = new Set([...this.held(), ...this.gone]);
    return answer.items.map((item) => item.id).filter((id) => !known.has(id));
  }

  /** One after the other, and never before the picture that somebody is waiting to see. */
  async loadAhead() {
    const { current } = this;
    if (current) await Promise.allSettled(current.first.map((name) => current.need(name)));
    for (const id of [...this.ahead]) {
      if (this.ahead.includes(id)) await this.get(id).catch(() => {});
    }
  }

  /** A picture with the layers that it needs first. */
  async get(id) {
    const picture = this.pictures.get(id) ?? (await this.once(id));
    await Promise.all(picture.first.map((name) => picture.need(name)));
    return picture;
  }

  /** Loads a picture that is not in memory; who asks again meanwhile gets the same one. */
  once(id) {
    if (!this.coming.has(id)) {
      const job = this.load(id).then((picture) => {
        const there = this.pictures.get(id);
        if (there) picture.dispose();
        else this.pictures.set(id, picture);
        return there ?? picture;
      });
      this.coming.set(id, job.finally(() => this.coming.delete(id)));
    }
    return this.coming.get(id);
  }

  /** Loads a picture anew, in place of the one in memory. */
  async fresh(id) {
    const picture = await this.load(id);
    this.pictures.get(id)?.dispose();
    this.pictures.set(id, picture);
    return picture;
  }

  async load(id) {
    const kept = this.unsaved.get(id);
    const picture = await Picture.load(id, kept);
    if (picture.draft !== kept) {
      const { draft } = picture;
      draft.addEventListener("change", () => this.unsaved.set(id, draft));
      for (const name of ["saved", "replaced"]) draft.addEventListener(name, () => this.unsaved.delete(id));
    }
    return picture;
  }

  async renew() {
    const ids = this.held();
    if (!ids.length) return;
    try {
      await call("/api/renew", { holder, ids });
    } catch (error) {
      if (!(error instanceof Away)) console.warn(error.message);
    }
  }

  release(ids, keepalive = false) {
    if (ids.length) call("/api/release", { holder, ids }, { keepalive }).catch(() => {});
  }

  setFilter(filter) {
    this.filter = filter;
    this.past = [];
    if (filter.state === "skipped") this.gone.clear();
  }
}
