// A worker: fetches pictures and coverages and decodes them away from the thread that paints strokes.

/**
 * Grey coverage becomes opacity, so that a layer can be filled with any colour or hatch. Returns the bitmap and the
 * box of what is covered, as shares of the size: [x0, y0, x1, y1], or null when nothing is.
 */
async function coverage(blob) {
  const grey = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const { width, height } = grey;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(grey, 0, 0);
  grey.close();
  const pixels = context.getImageData(0, 0, width, height);
  const words = new Uint32Array(pixels.data.buffer);
  const bytes = pixels.data;
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let i = 0, y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const value = words[i] & 255;
      bytes[4 * i + 3] = value;
      if (!value) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  context.putImageData(pixels, 0, 0);
  const bounds = x1 ? [x0 / width, y0 / height, x1 / width, y1 / height] : null;
  return { bitmap: await createImageBitmap(canvas), bounds };
}

const WHOLE = [0, 0, 1, 1];
const running = new Map();

onmessage = async ({ data }) => {
  if (data.abort) {
    running.get(data.abort)?.abort();
    return;
  }
  const { key, url, alpha } = data;
  const abort = new AbortController();
  running.set(key, abort);
  try {
    const answer = await fetch(url, { signal: abort.signal });
    if (!answer.ok) {
      postMessage({ key, status: answer.status });
      return;
    }
    const blob = await answer.blob();
    const { bitmap, bounds } = alpha
      ? await coverage(blob)
      : { bitmap: await createImageBitmap(blob), bounds: WHOLE };
    postMessage({ key, bitmap, bounds }, [bitmap]);
  } catch (error) {
    postMessage({ key, status: error.name === "AbortError" ? -1 : 0 });
  } finally {
    running.delete(key);
  }
};
