// The stacked canvases: picture, layers, mask with its outline, and what is being drawn. All have the size of the
// screen, never of the picture.

import { boundsOf } from "./bitmaps.js";
import { enter, filledBox, rasterize, stroke } from "./drawing.js";
import { paintCursor } from "./cursor.js";
import { LAYERS, MASK_COLOUR, outline, paintLayer } from "./layers.js";
import { centred, carry, clamp, fit, fitScale, middle, onScreen, panBy, visibleBox, zoomAt } from "./view.js";

const DETAIL_AFTER_MS = 180;
const DETAIL_MARGIN = 0.15;
const CRISP_FROM = 2;
const SETTLE_MS = 120;
const PAD = 10;
const OVERLAYS = ["layers", "mask", "edge"];
const ALL = ["picture", "layers", "mask", "edge", "cursor"];

/** Fires "view" when zoom or place changed and "painted" after a repaint with the picture in it. */
export class Stage extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.canvases = Object.fromEntries(ALL.map((name) => [name, root.querySelector(`[data-canvas=${name}]`)]));
    this.pens = Object.fromEntries(ALL.map((name) => [name, this.canvases[name].getContext("2d")]));
    this.scratch = new OffscreenCanvas(1, 1);
    this.edgeScratch = new OffscreenCanvas(1, 1);
    this.picture = null;
    this.view = null;
    this.base = "original";
    this.shown = new Set(["mask"]);
    this.bare = false;
    this.findings = [];
    this.sketch = null;
    this.live = null;
    this.dirty = new Set();
    this.paintedAt = {};
    this.heard = (event) => this.layerCame(event.detail);
    new ResizeObserver(() => this.resize()).observe(root);
    this.resize();
  }

  get port() {
    return this.canvases.picture;
  }

  resize() {
    const ratio = window.devicePixelRatio;
    // The column may be a fraction of a pixel wide; the canvas must have the pixels that it covers.
    const room = this.root.getBoundingClientRect();
    const [width, height] = [room.width, room.height].map((size) => Math.max(1, Math.round(size * ratio)));
    this.ratio = ratio;
    if (width === this.port.width && height === this.port.height) return;
    const before = { width: this.port.width, height: this.port.height };
    for (const canvas of [...Object.values(this.canvases), this.scratch, this.edgeScratch])
      Object.assign(canvas, { width, height });
    if (this.picture && this.view) {
      const whole = Math.abs(this.view.scale / fitScale(this.picture, before) - 1) < 0.01;
      const place = middle(this.view, this.picture, before);
      this.setView(whole ? fit(this.picture, this.port) : centred(this.picture, this.port, this.view.scale, place));
    }
    this.redraw();
  }

  /** Shows a picture; the view stays as far as it can unless `whole`. */
  show(picture, whole) {
    const from = this.picture && { width: this.picture.width, height: this.picture.height };
    this.picture?.removeEventListener("layer", this.heard);
    this.picture = picture;
    this.sketch = this.live = null;
    if (picture) {
      picture.addEventListener("layer", this.heard);
      this.view =
        from && this.view && !whole ? carry(this.view, from, picture, this.port) : fit(picture, this.port);
      this.dispatchEvent(new Event("view"));
      this.wantDetail();
    }
    this.redraw();
  }

  layerCame(name) {
    if (name === this.base || name === "original") this.redraw("picture");
    if (this.shown.has(name)) this.redraw("layers");
    if (["suggestion", "transition"].includes(name)) this.redraw("mask", "edge");
    if (!name.includes("part")) this.wantDetail();
  }

  setView(view) {
    this.view = clamp(view, this.picture, this.port);
    this.dispatchEvent(new Event("view"));
    this.redraw("picture", "cursor");
    this.slide();
    this.wantDetail();
  }

  /** While the view moves, the layers move with it as they are; they are drawn anew when it rests. */
  slide() {
    for (const name of OVERLAYS) {
      const before = this.paintedAt[name];
      if (!before) continue;
      const k = this.view.scale / before.scale;
      const [x, y] = [(this.view.x - before.x * k) / this.ratio, (this.view.y - before.y * k) / this.ratio];
      this.canvases[name].style.transform = before === this.view ? "" : `translate(${x}px, ${y}px) scale(${k})`;
    }
    clearTimeout(this.settleTimer);
    this.settleTimer = setTimeout(() => this.redraw(...OVERLAYS), SETTLE_MS);
  }

  fit() {
    if (this.picture) this.setView(fit(this.picture, this.port));
  }

  zoom(factor, x = this.port.width / 2, y = this.port.height / 2) {
    if (this.picture) this.setView(zoomAt(this.view, this.picture, this.port, factor, x, y));
  }

  pan(dx, dy) {
    if (this.picture) this.setView(panBy(this.view, this.picture, this.port, dx, dy));
  }

  /** Once the view rests: fetches the part in sight where the overview is too coarse. */
  wantDetail() {
    clearTimeout(this.detailTimer);
    this.detailTimer = setTimeout(() => {
      const box = this.picture && visibleBox(this.view, this.picture, this.port, 0);
      if (!box) return;
      const wide = visibleBox(this.view, this.picture, this.port, DETAIL_MARGIN);
      for (const name of this.needed()) this.picture.needPart(name, wide, this.view.scale).catch(() => {});
    }, DETAIL_AFTER_MS);
  }

  needed() {
    const used = this.picture.draft.current.map(
      (op) => ({ suggestion: "suggestion", clip: "transition" })[op.tool],
    );
    return new Set([this.base, ...this.shown, ...used].filter((name) => name && name !== "mask"));
  }

  /** Asks for a repaint of some canvases (all by default) with the next frame. */
  redraw(...names) {
    for (const name of names.length ? names : ALL) this.dirty.add(name);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const dirty = this.dirty;
    this.dirty = new Set();
    for (const name of dirty) {
      const pen = this.pens[name];
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, this.port.width, this.port.height);
      this.canvases[name].style.transform = "";
      this.paintedAt[name] = this.view;
    }
    if (!this.picture) return;
    if (dirty.has("picture")) this.paintPicture();
    if (dirty.has("mask")) this.paintMask();
    if (dirty.has("edge")) this.paintEdge();
    if (dirty.has("layers")) this.paintLayers();
    if (dirty.has("cursor")) paintCursor(this.pens.cursor, this);
    this.hideEmpty();
    if (dirty.has("picture") && this.picture.bitmap("original")) this.dispatchEvent(new Event("painted"));
  }

  /** A canvas with nothing on it still costs time to put on the screen. */
  hideEmpty() {
    const { shown, picture, live } = this;
    const drawn = shown.has("mask") && (picture.draft.done > 0 || Boolean(live));
    const filled = {
      mask: drawn,
      edge: drawn,
      layers: [...shown].some((name) => name !== "mask" && picture.bitmap(name)),
    };
    for (const name of OVERLAYS) this.canvases[name].style.visibility = filled[name] && !this.bare ? "" : "hidden";
  }

  paintPicture() {
    const pen = this.pens.picture;
    const name = !this.bare && this.picture.bitmap(this.base) ? this.base : "original";
    pen.imageSmoothingEnabled = this.view.scale < CRISP_FROM;
    pen.imageSmoothingQuality = "medium";
    enter(pen, this.view);
    this.drawBitmap(pen, name);
  }

  /** Draws a layer's overview and over it the sharper part, without counting anything twice. */
  drawBitmap(pen, name) {
    const { picture } = this;
    const bitmap = picture.bitmap(name);
    if (!bitmap) return;
    const part = picture.parts.get(name);
    const draw = (region, source, box) => {
      pen.save();
      pen.clip(region, "evenodd");
      pen.drawImage(source, box[0], box[1], box[2] - box[0], box[3] - box[1]);
      pen.restore();
    };
    const whole = [0, 0, picture.width, picture.height];
    if (!part || this.view.scale <= (bitmap.width / picture.width) * 1.02) {
      pen.drawImage(bitmap, 0, 0, picture.width, picture.height);
      return;
    }
    const inside = new Path2D();
    inside.rect(part.box[0], part.box[1], part.box[2] - part.box[0], part.box[3] - part.box[1]);
    const outside = new Path2D(inside);
    outside.rect(0, 0, picture.width, picture.height);
    draw(outside, bitmap, whole);
    draw(inside, part.bitmap, part.box);
  }

  paintMask() {
    const pen = this.pens.mask;
    if (this.bare || !this.shown.has("mask")) return;
    pen.save();
    this.enterPicture(pen);
    const scratch = this.scratch.getContext("2d");
    const { live, picture } = this;
    const drawing = live ? [...live.before, { tool: "brush", ...live }] : [];
    rasterize(pen, [...picture.draft.current, ...drawing], MASK_COLOUR, (target, name) => {
      if (target.globalCompositeOperation === "destination-out") return this.drawBitmap(target, name);
      this.within(
        this.covered(name),
        () => {
          this.coverScratch(name);
          scratch.setTransform(1, 0, 0, 1, 0, 0);
          scratch.globalCompositeOperation = "source-in";
          scratch.fillStyle = MASK_COLOUR;
          scratch.fillRect(0, 0, this.port.width, this.port.height);
          scratch.globalCompositeOperation = "source-over";
          target.drawImage(this.scratch, 0, 0);
        },
        target,
      );
    });
    pen.restore();
  }

  /** As `enter`, and nothing beside the picture is painted. */
  enterPicture(pen) {
    enter(pen, this.view);
    pen.beginPath();
    pen.rect(0, 0, this.picture.width, this.picture.height);
    pen.clip();
  }

  paintEdge() {
    if (this.bare || !this.shown.has("mask") || !this.picture.draft.done) return;
    const box = filledBox(this.picture.draft.current, this.covered("suggestion"));
    this.within(
      box,
      (pen) => outline(pen, this.canvases.mask, this.edgeScratch, "#ffffff", 2 * this.ratio),
      this.pens.edge,
    );
  }

  /** The box of what a layer covers, in canvas pixels; null when it covers nothing. */
  covered(name) {
    const bounds = boundsOf.get(this.picture.bitmap(name));
    const { width, height } = this.picture;
    return bounds && [bounds[0] * width, bounds[1] * height, bounds[2] * width, bounds[3] * height];
  }

  /** Keeps painting, on `pen` and the scratch canvases, inside a box of the picture: most layers cover little. */
  within(box, paint, pen) {
    const rect = box && onScreen(this.view, box, this.port, PAD * this.ratio);
    if (!rect) return;
    const pens = [pen, this.scratch.getContext("2d"), this.edgeScratch.getContext("2d")];
    for (const each of pens) {
      each.save();
      each.setTransform(1, 0, 0, 1, 0, 0);
      each.beginPath();
      each.rect(...rect);
      each.clip();
    }
    paint(pen);
    for (const each of pens) each.restore();
  }

  paintLayers() {
    if (this.bare) return;
    for (const layer of LAYERS) {
      if (layer.name === "mask" || !this.shown.has(layer.name) || !this.picture.bitmap(layer.name)) continue;
      this.within(
        this.covered(layer.name),
        (pen) => {
          this.coverScratch(layer.name);
          paintLayer(pen, this.scratch, this.edgeScratch, layer, this.ratio);
        },
        this.pens.layers,
      );
    }
  }

  coverScratch(name) {
    const pen = this.scratch.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, this.port.width, this.port.height);
    enter(pen, this.view);
    this.drawBitmap(pen, name);
  }

  /** Adds the newest piece of a stroke to the mask without drawing the rest again. */
  strokePiece(points, radius, erase) {
    if (this.paintedAt.mask !== this.view) return this.redraw("mask", "edge");
    const pen = this.pens.mask;
    this.canvases.mask.style.visibility = "";
    pen.save();
    this.enterPicture(pen);
    pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
    pen.strokeStyle = MASK_COLOUR;
    stroke(pen, points, radius);
    pen.restore();
  }
}
