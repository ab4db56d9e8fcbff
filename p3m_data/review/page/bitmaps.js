// Bitmaps from the server, decoded by the worker in pixels.js.

import { Away, Refused } from "./api.js";

const worker = new Worker("/static/pixels.js", { type: "module" });
const waiting = new Map();
let last = 0;

/** What a coverage covers, as shares of its size: [x0, y0, x1, y1] or null. */
export const boundsOf = new WeakMap();

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.key);
  waiting.delete(data.key);
  if (data.bitmap) {
    boundsOf.set(data.bitmap, data.bounds);
    resolve(data.bitmap);
  } else if (data.status === 404 || data.status === -1) resolve(null);
  else reject(data.status ? new Refused(data.status, null) : new Away("picture"));
};

/** The bitmap at `url`, null when there is none (404) or `signal` stopped it; `alpha`: grey is read as opacity. */
export function loadBitmap(url, { alpha = false, signal } = {}) {
  const key = ++last;
  return new Promise((resolve, reject) => {
    waiting.set(key, { resolve, reject });
    signal?.addEventListener("abort", () => worker.postMessage({ abort: key }));
    worker.postMessage({ key, url, alpha });
  });
}
