// One picture in memory: what the server says about it, its drawing, and bitmaps of its layers.

import { call } from "./api.js";
import { loadBitmap } from "./bitmaps.js";
import { Draft } from "./draft.js";
import { contains } from "./view.js";

const OVERVIEW = 2048;
const MOST_DETAIL = 4096;
const IN_COLOUR = new Set(["original", "result", "preview"]);

/** Fires "layer" when a bitmap came. */
export class Picture extends EventTarget {
  constructor(detail, draft) {
    super();
    this.detail = detail;
    this.id = detail.id;
    this.draft = draft ?? new Draft(detail.id, detail.draft);
    this.overviews = new Map();
    this.parts = new Map();
    this.loading = new Map();
    this.stops = new Map();
    this.disposed = false;
  }

  /** `draft`: a drawing of the same picture that this tab has and the server may not have yet. */
  static async load(id, draft) {
    return new Picture(await call(`/api/picture/${id}`), draft);
  }

  get width() {
    return this.detail.width;
  }

  get height() {
    return this.detail.height;
  }

  /** Layers without which the picture cannot be shown and drawn on. */
  get first() {
    const names = [this.detail.state === "spot_check" ? "result" : "original", "original", "transition"];
    if (this.detail.suggestion_area > 0) names.push("suggestion");
    if (this.detail.state === "disagreement") names.push("opinion-1", "opinion-2");
    return [...new Set(names)];
  }

  /** Whether all of them are here (or known not to exist): nobody decides on a picture that is not shown yet. */
  get complete() {
    return this.first.every((name) => this.overviews.has(name)) && Boolean(this.bitmap("original"));
  }

  bitmap(name) {
    return this.overviews.get(name) ?? null;
  }

  missing(name) {
    return this.overviews.has(name) && this.overviews.get(name) === null;
  }

  /** Loads the overview of a layer once; resolves to its bitmap or null. */
  need(name) {
    if (this.overviews.has(name) || this.disposed) return Promise.resolve(this.bitmap(name));
    if (!this.loading.has(name)) {
      const job = this.fetch(name, this.url(name, OVERVIEW), null)
        .then((bitmap) => this.keep(name, bitmap))
        .finally(() => this.loading.delete(name));
      this.loading.set(name, job);
    }
    return this.loading.get(name);
  }

  /** Loads the part `box` of a layer in at most `pixels` on its long side, unless that sharpness is there. */
  async needPart(name, box, scale) {
    const long = Math.max(box[2] - box[0], box[3] - box[1]);
    const size = Math.min(MOST_DETAIL, Math.ceil(long * Math.min(1, scale)));
    const overview = this.bitmap(name);
    const wanted = size / long;
    if (!overview || overview.width / this.width >= wanted * 0.95) return;
    const had = this.parts.get(name);
    if (had && contains(had.box, box) && had.sharpness >= wanted * 0.95) return;
    const bitmap = await this.fetch(`${name} part`, this.url(name, size, box), box);
    if (!bitmap || this.disposed || this.bitmap(name) !== overview) {
      bitmap?.close();
      return;
    }
    this.parts.get(name)?.bitmap.close();
    this.parts.set(name, { bitmap, box, sharpness: bitmap.width / (box[2] - box[0]) });
    this.dispatchEvent(new CustomEvent("layer", { detail: name }));
  }

  /** Loads the blur that the saved drawing gives; earlier blurs stay until it is there. */
  async renewPreview() {
    const version = this.draft.version;
    const bitmap = await this.fetch("preview", this.url("preview", OVERVIEW), null);
    if (!bitmap) return;
    this.bitmap("preview")?.close();
    this.dropPart("preview");
    this.overviews.delete("preview");
    this.previewed = version;
    this.keep("preview", bitmap);
  }

  url(name, size, box) {
    const part = box ? `&box=${box.join(",")}` : "";
    return name === "preview"
      ? `/api/picture/${this.id}/preview?version=${this.draft.version}&size=${size}${part}`
      : `/api/picture/${this.id}/layer/${name}?size=${size}${part}`;
  }

  /** One request at a time for each purpose: a newer one stops the one before. */
  fetch(purpose, url) {
    this.stops.get(purpose)?.abort();
    const stop = new AbortController();
    this.stops.set(purpose, stop);
    return loadBitmap(url, { alpha: !IN_COLOUR.has(purpose.split(" ")[0]), signal: stop.signal });
  }

  keep(name, bitmap) {
    if (this.disposed) {
      bitmap?.close();
      return null;
    }
    this.overviews.set(name, bitmap);
    this.dispatchEvent(new CustomEvent("layer", { detail: name }));
    return bitmap;
  }

  dropPart(name) {
    this.parts.get(name)?.bitmap.close();
    this.parts.delete(name);
  }

  dispose() {
    this.disposed = true;
    for (const stop of this.stops.values()) stop.abort();
    for (const bitmap of this.overviews.values()) bitmap?.close();
    for (const part of this.parts.values()) part.bitmap.close();
    this.overviews.clear();
    this.parts.clear();
  }
}
