// Where a picture lies on the screen. A view is {scale, x, y}: device pixel = canvas pixel * scale + offset.
// Sizes are {width, height}; the picture's in its own pixels, the port's in device pixels.
// Draft coordinates count from the centre of the top-left pixel: canvas pixel = coordinate + 0.5.

const FEWEST_VISIBLE = 64;
const LARGEST_SCALE = 64;

export const fitScale = (picture, port) => Math.min(port.width / picture.width, port.height / picture.height);

export function fit(picture, port) {
  const scale = fitScale(picture, port);
  return { scale, x: (port.width - picture.width * scale) / 2, y: (port.height - picture.height * scale) / 2 };
}

export const toCanvas = (view, x, y) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

export function toPicture(view, x, y) {
  const [cx, cy] = toCanvas(view, x, y);
  return [cx - 0.5, cy - 0.5];
}

export const toScreen = (view, [x, y]) => [(x + 0.5) * view.scale + view.x, (y + 0.5) * view.scale + view.y];

/** Keeps some of the picture in sight and the scale sensible. */
export function clamp(view, picture, port) {
  const smallest = Math.min(fitScale(picture, port), 1) / 2;
  const scale = Math.min(LARGEST_SCALE, Math.max(smallest, view.scale));
  const inside = (offset, size, room) => {
    const keep = Math.min(FEWEST_VISIBLE, size * scale);
    return Math.min(room - keep, Math.max(keep - size * scale, offset));
  };
  return { scale, x: inside(view.x, picture.width, port.width), y: inside(view.y, picture.height, port.height) };
}

/** Zooms so that the point (x, y) of the screen stays where it is. */
export function zoomAt(view, picture, port, factor, x, y) {
  const { scale } = clamp({ ...view, scale: view.scale * factor }, picture, port);
  const ratio = scale / view.scale;
  return clamp({ scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio }, picture, port);
}

export const panBy = (view, picture, port, dx, dy) =>
  clamp({ ...view, x: view.x + dx, y: view.y + dy }, picture, port);

/** The view for the next picture: the same for the same size, else the same relative place and zoom. */
export function carry(view, from, to, port) {
  if (from.width === to.width && from.height === to.height) return view;
  const zoom = view.scale / fitScale(from, port);
  if (zoom <= 1.001) return fit(to, port);
  return centred(to, port, fitScale(to, port) * zoom, middle(view, from, port));
}

/** The place of the port's middle in a picture, as shares of its size. */
export function middle(view, picture, port) {
  const [x, y] = toCanvas(view, port.width / 2, port.height / 2);
  return [x / picture.width, y / picture.height];
}

export function centred(picture, port, scale, [u, v]) {
  const x = port.width / 2 - u * picture.width * scale;
  const y = port.height / 2 - v * picture.height * scale;
  return clamp({ scale, x, y }, picture, port);
}

/** The part of the picture in sight, widened by `margin` of itself: [x0, y0, x1, y1] in whole pixels, or null. */
export function visibleBox(view, picture, port, margin) {
  const [x0, y0] = toCanvas(view, -port.width * margin, -port.height * margin);
  const [x1, y1] = toCanvas(view, port.width * (1 + margin), port.height * (1 + margin));
  const box = [
    Math.max(0, Math.floor(x0)),
    Math.max(0, Math.floor(y0)),
    Math.min(picture.width, Math.ceil(x1)),
    Math.min(picture.height, Math.ceil(y1)),
  ];
  return box[2] > box[0] && box[3] > box[1] ? box : null;
}

/** A box in canvas pixels as whole device pixels [x, y, width, height], `pad` wider; null when it is out of sight. */
export function onScreen(view, [x0, y0, x1, y1], port, pad) {
  const left = Math.max(0, Math.floor(x0 * view.scale + view.x - pad));
  const top = Math.max(0, Math.floor(y0 * view.scale + view.y - pad));
  const right = Math.min(port.width, Math.ceil(x1 * view.scale + view.x + pad));
  const bottom = Math.min(port.height, Math.ceil(y1 * view.scale + view.y + pad));
  return right > left && bottom > top ? [left, top, right - left, bottom - top] : null;
}

export const contains = (outer, inner) =>
  outer[0] <= inner[0] && outer[1] <= inner[1] && outer[2] >= inner[2] && outer[3] >= inner[3];
