// The layers that lie over a picture: colour-blind people tell them apart by hatch and outline as well.

export const MASK_COLOUR = "#1478ff";

/** `hatch`: direction of the lines in degrees, null for none; `fill`: opacity of the plain colour under them. */
export const LAYERS = [
  {
    name: "private",
    action: "layerPrivate",
    words: "Private area",
    colour: "#00b07a",
    hatch: null,
    fill: 0.12,
    outline: 3,
  },
  {
    name: "transition",
    action: "layerTransition",
    words: "Transition area",
    long: "Transition area (hair and fine edges)",
    colour: "#f5e642",
    hatch: 0,
    fill: 0.18,
    outline: 0,
  },
  { name: "mask", action: "layerMask", words: "My mask", colour: MASK_COLOUR, hatch: null, fill: 0.45, outline: 2 },
  {
    name: "suggestion",
    action: "layerSuggestion",
    words: "Suggestion",
    colour: "#ff8c1a",
    hatch: 45,
    fill: 0.2,
    outline: 2,
  },
  { name: "matte", action: "layerMatte", words: "Matte", colour: "#c58bff", hatch: null, fill: 0.55, outline: 0 },
  {
    name: "opinion-1",
    action: "layerFirst",
    words: "First opinion",
    colour: "#ff6a3d",
    hatch: 45,
    fill: 0.12,
    outline: 3,
  },
  {
    name: "opinion-2",
    action: "layerSecond",
    words: "Second opinion",
    colour: "#39b8ff",
    hatch: 135,
    fill: 0.12,
    outline: 3,
  },
];

const hatches = new Map();

/** A repeating tile of lines in device pixels. */
function hatch(context, { colour, hatch: angle }, ratio) {
  const key = `${colour} ${angle} ${ratio}`;
  if (!hatches.has(key)) {
    const size = Math.max(8, Math.round(9 * ratio));
    const tile = new OffscreenCanvas(size, size);
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5 * ratio;
    pen.beginPath();
    for (const shift of [-size, 0, size]) {
      if (angle === 0) line(pen, 0, size / 2 + shift, size, size / 2 + shift);
      else if (angle === 45) line(pen, -1 + shift, size + 1, size + 1 + shift, -1);
      else line(pen, -1 + shift, -1, size + 1 + shift, size + 1);
    }
    pen.stroke();
    hatches.set(key, context.createPattern(tile, "repeat"));
  }
  return hatches.get(key);
}

function line(pen, x0, y0, x1, y1) {
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
}

/** Fills what `scratch` covers with the layer's look, and puts it on `context`; both in device pixels. */
export function paintLayer(context, scratch, edge, layer, ratio) {
  const pen = scratch.getContext("2d");
  if (layer.outline) {
    // A dark rim lets any colour be seen on skin and on sky.
    outline(context, scratch, edge, "rgb(0 0 0 / .55)", (layer.outline + 1.5) * ratio);
    outline(context, scratch, edge, layer.colour, layer.outline * ratio);
  }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = layer.colour;
  pen.globalAlpha = 1;
  pen.fillRect(0, 0, scratch.width, scratch.height);
  context.globalAlpha = layer.fill;
  context.drawImage(scratch, 0, 0);
  if (layer.hatch !== null) {
    pen.fillStyle = hatch(pen, layer, ratio);
    pen.fillRect(0, 0, scratch.width, scratch.height);
    context.globalAlpha = 0.8;
    context.drawImage(scratch, 0, 0);
  }
  context.globalAlpha = 1;
  pen.globalCompositeOperation = "source-over";
}

const AROUND = [
  [-1, -1],
  [1, -1],
  [-1, 1],
  [1, 1],
];

/** Draws a line of `width` device pixels just outside what `source` covers. */
export function outline(context, source, scratch, colour, width) {
  const pen = scratch.getContext("2d");
  pen.globalCompositeOperation = "source-over";
  pen.clearRect(0, 0, scratch.width, scratch.height);
  for (const [dx, dy] of AROUND) pen.drawImage(source, dx * width * 0.7, dy * width * 0.7);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = colour;
  pen.fillRect(0, 0, scratch.width, scratch.height);
  pen.globalCompositeOperation = "destination-out";
  pen.drawImage(source, 0, 0);
  pen.globalCompositeOperation = "source-over";
  context.drawImage(scratch, 0, 0);
}
