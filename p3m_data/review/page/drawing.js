// Strokes are vectors: operations as the server knows them, drawn here at the screen's resolution.

export const LIMITS = { ops: 2000, points: 20000, coordinate: 1e5, smallest: 0.5, largest: 2000 };

/** The first operation that matters: what lies before the last "clear" does not. */
const start = (ops) => ops.findLastIndex((op) => op.tool === "clear") + 1;

/** Whether the mask may hold something; erasing everything by hand is not noticed. */
export const maybeFilled = (ops) =>
  ops
    .slice(start(ops))
    .some((op) => op.tool === "suggestion" || (["brush", "polygon", "ellipse"].includes(op.tool) && !op.erase));

/**
 * Draws operations in order. `context` is in canvas pixels of the picture (see `enter`), its mask in `colour`;
 * `cover(context, name)` draws the coverage of the layer "suggestion" or "transition".
 */
export function rasterize(context, ops, colour, cover) {
  for (const op of ops.slice(start(ops))) {
    context.globalCompositeOperation = op.erase || op.tool === "clip" ? "destination-out" : "source-over";
    context.fillStyle = context.strokeStyle = colour;
    if (op.tool === "brush") stroke(context, op.points, op.radius);
    else if (op.tool === "polygon") fillPolygon(context, op.points);
    else if (op.tool === "ellipse") fillEllipse(context, op.box);
    else if (op.tool === "suggestion") cover(context, "suggestion");
    else if (op.tool === "clip") cover(context, "transition");
  }
  context.globalCompositeOperation = "source-over";
}

/** A round brush along a line of points; one point is a disc. */
export function stroke(context, points, radius) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * radius;
  context.beginPath();
  context.moveTo(points[0][0] + 0.5, points[0][1] + 0.5);
  if (points.length === 1) context.lineTo(points[0][0] + 0.5, points[0][1] + 0.5);
  for (let i = 1; i < points.length; i++) context.lineTo(points[i][0] + 0.5, points[i][1] + 0.5);
  context.stroke();
}

function fillPolygon(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x + 0.5, y + 0.5);
  context.closePath();
  context.fill("evenodd");
}

export function ellipsePath(context, [x0, y0, x1, y1]) {
  context.beginPath();
  context.ellipse(
    (x0 + x1) / 2 + 0.5,
    (y0 + y1) / 2 + 0.5,
    Math.abs(x1 - x0) / 2,
    Math.abs(y1 - y0) / 2,
    0,
    0,
    2 * Math.PI,
  );
}

function fillEllipse(context, box) {
  ellipsePath(context, box);
  context.fill();
}

/** Lets a context speak in canvas pixels of the picture. */
export const enter = (context, view) => context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);

const boxes = new WeakMap();

/** The box round all that operations can fill, in canvas pixels; null when they fill nothing. `suggestion`: its box. */
export function filledBox(ops, suggestion) {
  const found = ops
    .slice(start(ops))
    .map((op) => (op.tool === "suggestion" ? suggestion : boxOf(op)))
    .filter(Boolean);
  return found.length ? found.reduce(around) : null;
}

const around = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];

function boxOf(op) {
  if (op.erase || !(op.points || op.box)) return null;
  if (op.box) return [op.box[0], op.box[1], op.box[2] + 1, op.box[3] + 1];
  if (!boxes.has(op)) boxes.set(op, op.points.map(([x, y]) => [x, y, x + 1, y + 1]).reduce(around));
  const [x0, y0, x1, y1] = boxes.get(op);
  const radius = op.radius ?? 0;
  return [x0 - radius, y0 - radius, x1 + radius, y1 + radius];
}

const round = (value) => Math.round(Math.min(LIMITS.coordinate, Math.max(-LIMITS.coordinate, value)) * 100) / 100;

export const tidyPoint = ([x, y]) => [round(x), round(y)];

/** A box with its corners in order. */
export const tidyBox = ([x0, y0, x1, y1]) => [
  round(Math.min(x0, x1)),
  round(Math.min(y0, y1)),
  round(Math.max(x0, x1)),
  round(Math.max(y0, y1)),
];

export const tidyRadius = (radius) =>
  Math.round(Math.min(LIMITS.largest, Math.max(LIMITS.smallest, radius)) * 100) / 100;

/** A stroke too long for one operation becomes several that share their ends. */
export function brushOps(points, radius, erase) {
  const ops = [];
  for (let from = 0; from === 0 || from < points.length - 1; from += LIMITS.points - 1) {
    ops.push({ tool: "brush", erase, radius, points: points.slice(from, from + LIMITS.points) });
  }
  return ops;
}
