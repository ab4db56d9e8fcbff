// Looking at one picture and drawing on it: tools, layers, zoom, preview and the state of saving.

import { call } from "./api.js";
import { tidyPoint } from "./drawing.js";
import { LAYERS } from "./layers.js";
import { keyWords } from "./keys.js";
import { isDecided, number, sentence } from "./panel.js";
import { prefs, remember } from "./prefs.js";
import { Stage } from "./stage.js";
import { TOOLS, Tools } from "./tools.js";
import { toast } from "./toast.js";
import { centred, fitScale, middle } from "./view.js";

const byId = (id) => document.getElementById(id);
const PAN = 120;
const PREVIEW_AFTER_MS = 120;

/** Fires "draft" whenever the drawing, or whether it is saved, changed. */
export class Editor extends EventTarget {
  constructor() {
    super();
    this.stage = new Stage(byId("canvases"));
    this.stage.shown = new Set(prefs.layers);
    this.picture = null;
    this.suggestionShown = null;
    this.tools = new Tools(this.stage, {
      mayDraw: () => this.mayDraw(),
      prepare: () => this.firstOps(),
      say: (words) => (byId("hint").textContent = words),
    });
    this.tools.share = prefs.size;
    this.heard = ({ type, detail }) => this.draftEvent(type, detail);
    this.tools.addEventListener("op", (event) => this.push(event.detail));
    this.tools.addEventListener("box", (event) => this.landmarks(event.detail));
    this.tools.addEventListener("size", () => this.showSize());
    this.stage.addEventListener("view", () => this.viewChanged());
    byId("radius").addEventListener("input", () => {
      this.tools.share = 0.0005 * 500 ** (byId("radius").value / 100);
      this.showSize();
    });
    byId("start-empty").checked = prefs.startEmpty;
    byId("start-empty").addEventListener("change", (event) => {
      remember({ startEmpty: event.target.checked });
      this.dispatchEvent(new Event("draft"));
    });
    this.makeLayerButtons();
    this.choose(prefs.tool);
    this.showSize();
  }

  /** Shows a picture, or nothing for null. */
  show(picture) {
    for (const name of ["change", "saved", "replaced", "refused"]) {
      this.picture?.draft.removeEventListener(name, this.heard);
      picture?.draft.addEventListener(name, this.heard);
    }
    this.tools.drop();
    this.picture = picture;
    this.suggestionShown = null;
    this.stage.findings = picture?.detail.findings ?? [];
    this.stage.base = ["spot_check", "decided"].includes(picture?.detail.state) ? "result" : "original";
    for (const name of ["opinion-1", "opinion-2"]) this.stage.shown.delete(name);
    if (picture?.detail.state === "disagreement")
      for (const name of ["opinion-1", "opinion-2"]) this.stage.shown.add(name);
    this.chooseSuggestion();
    this.stage.show(picture, prefs.fitAlways);
    byId("hint").textContent = "";
    if (!picture) return;
    this.tools.moveRing();
    this.needLayers();
    // Area and protected pixels are the server's to count; a drawing from before has to be sent once to learn them.
    if (picture.draft.done && picture.draft.area === null && !isDecided(picture.detail)) picture.draft.save(true);
    this.dispatchEvent(new Event("draft"));
  }

  mayDraw() {
    if (!this.picture?.complete) return false;
    if (isDecided(this.picture.detail)) {
      toast("This picture is decided: undo that decision before you draw.");
      return false;
    }
    if (this.stage.base === "result" || !this.stage.shown.has("mask")) {
      this.stage.base = this.stage.base === "result" ? "original" : this.stage.base;
      this.setLayer("mask", true);
    }
    return true;
  }

  /** The suggestion goes first under the first stroke, unless the reviewer starts empty. */
  firstOps() {
    const { draft, detail } = this.picture;
    return draft.done === 0 && detail.suggestion_area > 0 && !prefs.startEmpty ? [{ tool: "suggestion" }] : [];
  }

  push(ops) {
    byId("hint").textContent = "";
    if (!this.picture.draft.push(...ops))
      toast("There are too many strokes on this picture: empty the mask (Del) and start again.", { kind: "bad" });
  }

  draftEvent(type, detail) {
    if (type === "replaced")
      toast("This drawing was changed in another window. You now see the newer one.", { kind: "bad" });
    if (type === "refused") toast(`Your strokes are not saved: ${detail.message}`, { kind: "bad" });
    if (type !== "saved") {
      this.chooseSuggestion();
      this.stage.redraw("mask", "edge");
    } else {
      this.refreshPreview();
    }
    this.dispatchEvent(new Event("draft"));
  }

  refreshPreview() {
    if (this.stage.base !== "preview" || !this.picture) return;
    clearTimeout(this.previewTimer);
    const picture = this.picture;
    this.previewTimer = setTimeout(async () => {
      if (this.picture !== picture || picture.previewed === picture.draft.version) return;
      byId("canvases").classList.add("busy");
      await picture.renewPreview().catch((error) => toast(`No blurred picture: ${error.message}`));
      byId("canvases").classList.remove("busy");
    }, PREVIEW_AFTER_MS);
  }

  async landmarks(box) {
    const { picture } = this;
    byId("hint").textContent = "Looking for a face …";
    try {
      const answer = await call(`/api/picture/${picture.id}/landmarks`, { box });
      if (this.picture !== picture) return;
      byId("hint").textContent = answer.outline ? "" : sentence(answer.said);
      if (answer.outline)
        this.push([...this.firstOps(), { tool: "polygon", erase: false, points: answer.outline.map(tidyPoint) }]);
    } catch (error) {
      byId("hint").textContent = "";
      toast(`No face was looked for: ${error.message}`, { kind: "bad" });
    }
  }

  async clip() {
    if (!this.mayDraw()) return;
    const { picture } = this;
    const { draft } = picture;
    if (draft.empty && !this.firstOps().length) return toast("Your mask is empty: there is nothing to take out.");
    const start = this.firstOps();
    if (start.length) draft.push(...start);
    // How much is taken out is the difference of two counts, so what came before is counted first.
    await draft.settled().catch(() => {});
    const before = draft.area;
    draft.push({ tool: "clip" });
    await draft.settled().catch(() => {});
    if (before === null || draft.area === null) return;
    toast(`${number(before - draft.area)} pixels of hair and fine edges were taken out of your mask.`);
  }

  addSuggestion() {
    if (!this.mayDraw()) return;
    if (!this.picture.detail.suggestion_area) return toast("The machine suggests nothing here.");
    this.push([{ tool: "suggestion" }]);
  }

  clear() {
    if (this.mayDraw() && this.picture.draft.done) this.push([{ tool: "clear" }]);
  }

  travel(way) {
    this.tools.drop();
    if (this.mayDraw() && !this.picture.draft[way]())
      toast(way === "undo" ? "There is no stroke to undo." : "There is no stroke to redo.");
  }

  choose(tool) {
    this.tools.choose(TOOLS.includes(tool) ? tool : "brush");
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", button.dataset.action === this.tools.tool);
    }
    byId("canvases").dataset.tool = this.tools.tool;
    remember({ tool: this.tools.tool });
  }

  showSize() {
    byId("radius").value = Math.round((100 * Math.log(this.tools.share / 0.0005)) / Math.log(500));
    remember({ size: this.tools.share });
    if (this.picture) byId("radius").setAttribute("aria-valuetext", `${Math.round(this.tools.radius)} pixels`);
  }

  makeLayerButtons() {
    for (const layer of LAYERS) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", title: `${layer.long ?? layer.words} (${keyWords(layer.action)})` });
      button.dataset.action = layer.action;
      button.dataset.layer = layer.name;
      const swatch = button.appendChild(document.createElement("i"));
      swatch.className = `swatch hatch-${layer.hatch ?? "none"}`;
      swatch.style.color = layer.colour;
      button.append(layer.words);
      byId("layer-buttons").append(button);
    }
  }

  setLayer(name, on) {
    const { shown } = this.stage;
    const now = on ?? !shown.has(name);
    if (now) shown.add(name);
    else shown.delete(name);
    if (name === "suggestion") this.suggestionShown = now;
    else remember({ layers: [...shown].filter((each) => !/^(opinion|suggestion)/.test(each)) });
    this.needLayers();
    this.stage.redraw();
  }

  /** Until somebody switches it, the suggestion shows exactly while the mask is untouched. */
  chooseSuggestion() {
    const show =
      this.suggestionShown ??
      (this.picture?.draft.done === 0 &&
        !["spot_check", "disagreement", "decided"].includes(this.picture.detail.state));
    if (show === this.stage.shown.has("suggestion")) return;
    if (show) this.stage.shown.add("suggestion");
    else this.stage.shown.delete("suggestion");
    this.needLayers();
    this.stage.redraw("layers");
  }

  setBase(name) {
    if (name === "preview" && this.picture.draft.empty)
      toast("Your mask is empty, so nothing is blurred. G puts the suggestion in.");
    this.stage.base = name;
    this.needLayers();
    this.stage.redraw();
  }

  needLayers() {
    const { picture, stage } = this;
    if (!picture) return;
    const wanted = [...picture.first, ...stage.shown].filter((name) => name !== "mask");
    if (stage.base === "preview")
      picture.draft.settled().then(
        () => this.refreshPreview(),
        () => {},
      );
    else wanted.push(stage.base);
    Promise.all(wanted.map((name) => picture.need(name))).then(
      () => this.showLayers(),
      () => {},
    );
    this.showLayers();
    stage.wantDetail();
  }

  showLayers() {
    const { picture, stage } = this;
    byId("canvases").dataset.base = stage.base;
    for (const button of document.querySelectorAll("[data-layer]")) {
      const name = button.dataset.layer;
      const none = picture && (picture.missing(name) || (name === "matte" && !picture.detail.has_matte));
      button.hidden = name.startsWith("opinion") && !picture?.detail.opinions?.length;
      button.disabled = Boolean(none);
      button.setAttribute("aria-pressed", stage.shown.has(name) && !none);
    }
    for (const button of document.querySelectorAll("[data-base]")) {
      if (picture?.missing(button.dataset.base) && stage.base === button.dataset.base) stage.base = "original";
      button.disabled = Boolean(picture?.missing(button.dataset.base));
    }
    for (const button of document.querySelectorAll("[data-base]"))
      button.setAttribute("aria-pressed", stage.base === button.dataset.base);
  }

  viewChanged() {
    const { stage } = this;
    byId("zoom").textContent = `${Math.round(100 * stage.view.scale)} %`;
    byId("zoom").dataset.fit = Math.abs(stage.view.scale / fitScale(stage.picture, stage.port) - 1) < 0.001;
    this.tools.moveRing();
  }

  /** Keeps the view for a reload of this tab. */
  keepView() {
    const { picture, stage } = this;
    if (!picture) return sessionStorage.removeItem("view");
    const place = middle(stage.view, picture, stage.port);
    sessionStorage.setItem("view", JSON.stringify({ id: picture.id, scale: stage.view.scale, place }));
  }

  /** Puts back the view that this tab had before it was loaded again. */
  restoreView() {
    const kept = JSON.parse(sessionStorage.getItem("view") ?? "null");
    if (kept && kept.id === this.picture?.id)
      this.stage.setView(centred(this.picture, this.stage.port, kept.scale, kept.place));
  }

  bare(on) {
    if (this.stage.bare === on) return;
    this.stage.bare = on;
    this.stage.redraw();
  }

  /** What the keys and buttons of this part do. */
  actions() {
    const layers = Object.fromEntries(LAYERS.map(({ action, name }) => [action, () => this.setLayer(name)]));
    const pan = (x, y) => () => this.stage.pan(x * PAN * this.stage.ratio, y * PAN * this.stage.ratio);
    return {
      ...layers,
      ...Object.fromEntries(TOOLS.map((tool) => [tool, () => this.choose(tool)])),
      original: () => this.setBase("original"),
      preview: () => this.setBase(this.stage.base === "preview" ? "original" : "preview"),
      result: () => this.setBase(this.stage.base === "result" ? "original" : "result"),
      smaller: () => this.tools.resize(1 / 1.2),
      larger: () => this.tools.resize(1.2),
      suggestion: () => this.addSuggestion(),
      clip: () => this.clip(),
      clear: () => this.clear(),
      undoStroke: () => this.travel("undo"),
      redoStroke: () => this.travel("redo"),
      enter: () => this.tools.polygon.length > 0 && this.tools.closePolygon(),
      backspace: () => this.tools.backspace(),
      zoomIn: () => this.stage.zoom(1.25),
      zoomOut: () => this.stage.zoom(1 / 1.25),
      fit: () => this.stage.fit(),
      oneToOne: () => this.stage.picture && this.stage.zoom(1 / this.stage.view.scale),
      panLeft: pan(1, 0),
      panRight: pan(-1, 0),
      panUp: pan(0, 1),
      panDown: pan(0, -1),
    };
  }
}
