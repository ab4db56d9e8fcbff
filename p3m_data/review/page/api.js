// Talking to the server: one call, and one that waits until the server is there again.

/** The server answered, and the answer is no. `said` is a sentence for the reviewer. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? `The server answered with error ${status}.`);
    this.status = status;
    this.body = body;
  }
}

/** No answer: the server is away. */
export class Away extends Error {}

/** Tells the page: "away" (no answer), "locked" (no session), "back" (works again). */
export const connection = new EventTarget();

const POLL_MS = 1500;
let csrf = "";
let trouble = null;
let poll = null;

export let me = null;

/** GET, or POST when a body is given. Returns the JSON answer, null for none. Raises Refused or Away. */
export async function call(path, body, { keepalive = false, signal } = {}) {
  const options = { keepalive, signal };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "X-P3MDATA-CSRF": csrf };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away(path);
  }
  if ([502, 503, 504].includes(answer.status)) throw new Away(path);
  let said = null;
  if (answer.status !== 204) {
    try {
      said = await answer.json();
    } catch {
      if (answer.ok) throw new Away(path);
    }
  }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

/** Reads who the reviewer is; needed before the first write. */
export async function signIn() {
  const answer = await call("/api/me");
  if (me && answer.reviewer !== me.reviewer) {
    // Strokes of one person must not be saved under another's name.
    location.reload();
    throw new Away("another reviewer");
  }
  me = answer;
  csrf = answer.csrf;
  return answer;
}

/** Whether an error goes away by waiting for the server or for a new session. */
export const passing = (error) => error instanceof Away || (error instanceof Refused && error.status === 401);

/** As `call`, but waits while the server is away or the session is gone. */
export async function patient(path, body) {
  let renewed = false;
  for (;;) {
    try {
      return await call(path, body);
    } catch (error) {
      if (error.status === 403 && !renewed) {
        // A new session in another tab has another CSRF value.
        renewed = true;
        await signIn();
      } else if (passing(error)) {
        await back(error);
      } else {
        throw error;
      }
    }
  }
}

/** Resolves when the server answers and knows this browser again. */
export function back(error) {
  const kind = error instanceof Refused ? "locked" : "away";
  if (trouble !== kind) {
    trouble = kind;
    connection.dispatchEvent(new Event(kind));
  }
  poll ??= (async () => {
    for (;;) {
      await new Promise((done) => setTimeout(done, POLL_MS));
      try {
        await signIn();
        break;
      } catch (again) {
        if (!passing(again)) continue;
        const now = again instanceof Refused ? "locked" : "away";
        if (now !== trouble) {
          trouble = now;
          connection.dispatchEvent(new Event(now));
        }
      }
    }
    trouble = null;
    poll = null;
    connection.dispatchEvent(new Event("back"));
  })();
  return poll;
}

/** A random name of this tab for leases; it survives a reload. */
export const holder = (() => {
  const kept = sessionStorage.getItem("holder");
  if (kept) return kept;
  const made = [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem("holder", made);
  return made;
})();
