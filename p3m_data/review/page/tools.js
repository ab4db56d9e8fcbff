// Drawing with pointer, pen, finger and keyboard: turns movements into operations.

import { brushOps, tidyBox, tidyPoint, tidyRadius } from "./drawing.js";
import { toPicture, toScreen } from "./view.js";

export const TOOLS = ["brush", "eraser", "polygon", "ellipse", "landmarks"];
const STEP = 8;
const CLOSE = 10;
const SMALLEST_DRAG = 3;

/**
 * Fires "op" with the operations of a finished stroke and "box" with a box to look for landmarks in.
 * `mayDraw()` is asked before a stroke; `prepare()` gives the operations that come before the first stroke.
 */
export class Tools extends EventTarget {
  constructor(stage, { mayDraw, prepare, say }) {
    super();
    Object.assign(this, { stage, mayDraw, prepare, say });
    this.tool = "brush";
    this.share = 0.02;
    this.polygon = [];
    this.drag = null;
    this.space = false;
    this.touches = new Map();
    this.canvas = stage.canvases.cursor;
    this.ring = stage.root.querySelector("#ring");
    this.listen();
  }

  /** Radius in pixels of the picture; the size is a share of the picture's long side, so it fits the next one. */
  get radius() {
    const { width, height } = this.stage.picture;
    return tidyRadius(this.share * Math.max(width, height));
  }

  choose(tool) {
    this.drop();
    this.tool = tool;
    this.moveRing();
  }

  resize(factor) {
    this.share = Math.min(0.25, Math.max(0.0005, this.share * factor));
    this.moveRing();
    this.dispatchEvent(new Event("size"));
  }

  listen() {
    const on = (name, act) =>
      this.canvas.addEventListener(name, (event) => this.stage.picture && act.call(this, event));
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.cancel);
    on("dblclick", () => this.tool === "polygon" && this.closePolygon());
    on("wheel", this.wheel);
    on("focus", () => this.focusCross());
    on("blur", () => this.blurCross());
    on("keydown", this.crossKey);
    this.canvas.addEventListener("pointerleave", () => (this.ring.hidden = true));
    // Focus is for the keyboard: a click must not turn the arrow keys into a cross.
    this.canvas.addEventListener("mousedown", (event) => {
      event.preventDefault();
      document.activeElement?.blur();
    });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** Device pixels of an event inside the canvas. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this.canvas;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  }

  point(event) {
    return tidyPoint(toPicture(this.stage.view, ...this.place(event)));
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, this.place(event));
      if (this.touches.size === 2) return this.startPinch();
      if (this.touches.size > 2) return;
    }
    if (event.button === 1 || (event.button === 0 && this.space)) {
      this.drag = { kind: "pan", at: this.place(event) };
      return;
    }
    if (event.button !== 0 || !this.mayDraw()) return;
    const point = this.point(event);
    if (this.tool === "polygon") return this.corner(point);
    this.startDrag(point);
  }

  startDrag(point) {
    if (this.tool === "brush" || this.tool === "eraser") {
      const before = this.prepare();
      this.drag = { kind: "stroke", before, points: [point], radius: this.radius, erase: this.tool === "eraser" };
      this.stage.live = this.drag;
      if (before.length) this.stage.redraw("mask", "edge");
      else this.stage.strokePiece([point], this.drag.radius, this.drag.erase);
    } else {
      this.drag = { kind: "box", box: [...point, ...point] };
    }
  }

  move(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    this.moveRing(event);
    if (this.touches.has(event.pointerId)) {
      this.touches.set(event.pointerId, this.place(event));
      if (this.drag?.kind === "pinch") return this.pinch();
    }
    if (!this.drag) {
      if (this.polygon.length) this.sketchPolygon(this.point(event));
      return;
    }
    if (this.drag.kind === "pan") {
      const [x, y] = this.place(event);
      this.stage.pan(x - this.drag.at[0], y - this.drag.at[1]);
      this.drag.at = [x, y];
    } else if (this.drag.kind === "stroke") {
      this.extend((events.length ? events : [event]).map((each) => this.point(each)));
    } else if (this.drag.kind === "box") {
      this.extendBox(this.point(event));
    }
  }

  extend(points) {
    const { drag, stage } = this;
    // Steps that nobody can see only make the stroke heavier.
    const least = Math.min(0.7 / stage.view.scale, drag.radius / 4);
    const from = drag.points.length - 1;
    for (const [x, y] of points) {
      const [lx, ly] = drag.points.at(-1);
      if (Math.hypot(x - lx, y - ly) >= least) drag.points.push([x, y]);
    }
    if (drag.points.length - 1 > from) stage.strokePiece(drag.points.slice(from), drag.radius, drag.erase);
  }

  extendBox([x, y]) {
    this.drag.box = [this.drag.box[0], this.drag.box[1], x, y];
    this.stage.sketch = { box: tidyBox(this.drag.box), round: this.tool === "ellipse" };
    this.stage.redraw("cursor");
  }

  up(event) {
    this.touches.delete(event.pointerId);
    const { drag } = this;
    if (!drag) return;
    if (drag.kind === "pinch") {
      if (!this.touches.size) this.drag = null;
      return;
    }
    if (drag.kind === "box") this.extendBox(this.point(event));
    this.finish();
  }

  finish() {
    const { drag } = this;
    this.drag = null;
    this.stage.live = null;
    this.stage.sketch = null;
    this.stage.redraw("cursor");
    if (drag.kind === "stroke") this.emit([...drag.before, ...brushOps(drag.points, drag.radius, drag.erase)]);
    if (drag.kind !== "box") return;
    const box = tidyBox(drag.box);
    const least = SMALLEST_DRAG / this.stage.view.scale;
    if (box[2] - box[0] < least || box[3] - box[1] < least) return this.say("Drag from one corner to the other.");
    if (this.tool === "landmarks") this.dispatchEvent(new CustomEvent("box", { detail: box }));
    else this.emit([...this.prepare(), { tool: "ellipse", erase: false, box }]);
  }

  emit(ops) {
    this.dispatchEvent(new CustomEvent("op", { detail: ops }));
  }

  cancel(event) {
    this.touches.delete(event.pointerId);
    this.drop();
  }

  /** Drops what is being drawn; true when there was something. */
  drop() {
    const had = Boolean(this.drag || this.polygon.length);
    if (this.drag?.kind === "stroke") this.stage.redraw("mask", "edge");
    this.drag = null;
    this.stage.live = null;
    this.polygon = [];
    this.stage.sketch = null;
    this.stage.redraw("cursor");
    return had;
  }

  corner(point) {
    const first = this.polygon[0];
    if (first && this.polygon.length >= 3) {
      const [[ax, ay], [bx, by]] = [toScreen(this.stage.view, first), toScreen(this.stage.view, point)];
      if (Math.hypot(ax - bx, ay - by) <= CLOSE * this.stage.ratio) return this.closePolygon();
    }
    const [lx, ly] = this.polygon.at(-1) ?? [NaN, NaN];
    if (lx !== point[0] || ly !== point[1]) this.polygon.push(point);
    this.sketchPolygon();
  }

  sketchPolygon(loose) {
    this.stage.sketch = { points: loose ? [...this.polygon, loose] : [...this.polygon] };
    this.stage.redraw("cursor");
  }

  closePolygon() {
    if (this.polygon.length < 3) return this.say("A polygon needs at least three corners.");
    const points = this.polygon;
    this.drop();
    this.emit([...this.prepare(), { tool: "polygon", erase: false, points }]);
  }

  /** Takes the last corner back; false when there is none. */
  backspace() {
    if (!this.polygon.length) return false;
    this.polygon.pop();
    this.sketchPolygon();
    return true;
  }

  wheel(event) {
    event.preventDefault();
    const amount = event.deltaY || event.deltaX;
    if (event.ctrlKey || event.shiftKey || event.metaKey) return this.resize(Math.exp(-Math.sign(amount) * 0.12));
    const pixels = amount * (event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1);
    this.stage.zoom(Math.exp(-Math.max(-300, Math.min(300, pixels)) * 0.0018), ...this.place(event));
    this.moveRing(event);
  }

  startPinch() {
    this.drop();
    this.drag = { kind: "pinch", ...this.fingers() };
  }

  fingers() {
    const [[ax, ay], [bx, by]] = [...this.touches.values()];
    return { x: (ax + bx) / 2, y: (ay + by) / 2, far: Math.hypot(ax - bx, ay - by) };
  }

  pinch() {
    if (this.touches.size < 2) return;
    const now = this.fingers();
    this.stage.pan(now.x - this.drag.x, now.y - this.drag.y);
    if (this.drag.far > 0 && now.far > 0) this.stage.zoom(now.far / this.drag.far, now.x, now.y);
    Object.assign(this.drag, now);
  }

  /** The ring shows how large the brush is; it is an element, since moving it costs nothing. */
  moveRing(event) {
    if (event) this.pointer = [event.clientX, event.clientY];
    const draws = this.tool === "brush" || this.tool === "eraser";
    this.ring.hidden = !draws || !this.pointer || !this.stage.picture || event?.pointerType === "touch";
    if (this.ring.hidden) return;
    const box = this.canvas.getBoundingClientRect();
    const radius = Math.max(2, (this.radius * this.stage.view.scale) / this.stage.ratio);
    this.ring.style.width = this.ring.style.height = `${2 * radius}px`;
    this.ring.style.transform = `translate(${this.pointer[0] - box.left - radius}px, ${this.pointer[1] - box.top - radius}px)`;
  }

  focusCross() {
    const { stage } = this;
    stage.cross ??= toPicture(stage.view, stage.port.width / 2, stage.port.height / 2);
    stage.redraw("cursor");
    this.say("Drawing with the keyboard: arrows move the cross (Ctrl: far), Enter starts and ends, Esc leaves.");
  }

  blurCross() {
    if (this.drag) this.drop();
    this.stage.cross = null;
    this.stage.redraw("cursor");
    this.say("");
  }

  crossKey(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.shiftKey || event.altKey) return;
    if (moves[event.key]) this.moveCross(moves[event.key], event.ctrlKey || event.metaKey ? 5 * STEP : STEP);
    else if (event.key === "Enter") this.pressCross();
    else if (event.key === "Escape") {
      if (!this.drop()) this.canvas.blur();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveCross([dx, dy], pixels) {
    const step = (pixels * this.stage.ratio) / this.stage.view.scale;
    const [x, y] = this.stage.cross;
    const { width, height } = this.stage.picture;
    this.stage.cross = tidyPoint([
      Math.min(width - 1, Math.max(0, x + dx * step)),
      Math.min(height - 1, Math.max(0, y + dy * step)),
    ]);
    if (this.drag?.kind === "stroke") this.extend([this.stage.cross]);
    else if (this.drag?.kind === "box") this.extendBox(this.stage.cross);
    else if (this.polygon.length) this.sketchPolygon(this.stage.cross);
    this.stage.redraw("cursor");
  }

  pressCross() {
    if (!this.mayDraw()) return;
    const point = tidyPoint(this.stage.cross);
    if (this.tool === "polygon") {
      const last = this.polygon.at(-1);
      if (last && last[0] === point[0] && last[1] === point[1]) this.closePolygon();
      else this.corner(point);
    } else if (this.drag) this.finish();
    else {
      this.startDrag(point);
      this.say("Started. Arrows draw, Enter ends it.");
    }
  }
}
