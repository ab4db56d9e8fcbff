// What lies on top: boxes of findings, the shape being drawn and the cross of the keyboard.

import { ellipsePath } from "./drawing.js";
import { toScreen } from "./view.js";

const CROSS = 14;

/** `look`: {view, ratio, bare, findings, sketch, cross} of the stage; paints in device pixels. */
export function paintCursor(pen, look) {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  const twice = (draw) => {
    // Dark under light can be seen on every picture.
    for (const [style, width] of [
      ["rgb(0 0 0 / .75)", 4],
      ["#fff", 1.8],
    ]) {
      pen.strokeStyle = style;
      pen.lineWidth = width * look.ratio;
      draw();
    }
  };
  if (!look.bare)
    for (const { boxes } of look.findings) for (const box of boxes) paintFinding(pen, look, box, twice);
  if (look.sketch?.box) paintBox(pen, look, twice);
  if (look.sketch?.points?.length) paintCorners(pen, look, twice);
  if (look.cross) paintCross(pen, look, twice);
}

function corners({ view }, [x0, y0, x1, y1]) {
  return [...toScreen(view, [x0, y0]), ...toScreen(view, [x1, y1])];
}

function paintFinding(pen, look, box, twice) {
  const [x0, y0, x1, y1] = corners(look, box);
  pen.setLineDash([10 * look.ratio, 6 * look.ratio]);
  twice(() => pen.strokeRect(x0, y0, x1 - x0, y1 - y0));
  pen.setLineDash([]);
}

function paintBox(pen, look, twice) {
  const [x0, y0, x1, y1] = corners(look, look.sketch.box);
  twice(() => {
    if (look.sketch.round) ellipsePath(pen, [x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5]);
    else {
      pen.beginPath();
      pen.rect(x0, y0, x1 - x0, y1 - y0);
    }
    pen.stroke();
  });
}

function paintCorners(pen, { view, ratio, sketch }, twice) {
  const places = sketch.points.map((point) => toScreen(view, point));
  twice(() => {
    pen.beginPath();
    for (const [x, y] of places) pen.lineTo(x, y);
    pen.stroke();
  });
  pen.fillStyle = "#fff";
  for (const [x, y] of places) pen.fillRect(x - 3 * ratio, y - 3 * ratio, 6 * ratio, 6 * ratio);
}

function paintCross(pen, { view, ratio, cross }, twice) {
  const [x, y] = toScreen(view, cross);
  const arm = CROSS * ratio;
  twice(() => {
    pen.beginPath();
    pen.moveTo(x - arm, y);
    pen.lineTo(x + arm, y);
    pen.moveTo(x, y - arm);
    pen.lineTo(x, y + arm);
    pen.stroke();
  });
}
