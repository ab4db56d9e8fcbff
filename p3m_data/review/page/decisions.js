// Sends decisions one after the other while the reviewer goes on, and undoes them.

import { call, me, patient } from "./api.js";

export const VERDICT_WORDS = {
  accept: "suggestion accepted",
  mask: "own mask used",
  no_face: "no identifiable face",
  exclude: "left out",
  skip: "skipped",
};

const TRIED = "tried";

/** What was tried on a picture that verify sent back: {verdict, note, waive}, or null. Survives a reload. */
export function lastTry(id) {
  return JSON.parse(sessionStorage.getItem(TRIED) ?? "{}")[id] ?? null;
}

function keepTry(id, tried) {
  const all = JSON.parse(sessionStorage.getItem(TRIED) ?? "{}");
  if (tried) all[id] = tried;
  else delete all[id];
  sessionStorage.setItem(TRIED, JSON.stringify(all));
}

/** Fires "outcome" {id, verdict, answer}, "refused" {id, verdict, error} and "count" when the number on the way changes. */
export class Decisions extends EventTarget {
  constructor(holder) {
    super();
    this.holder = holder;
    this.chain = Promise.resolve();
    this.pending = 0;
    this.made = [];
  }

  /** Queues a decision; returns a promise of the server's answer, null when it was refused. */
  decide(draft, id, verdict, { note = "", waive = [] } = {}) {
    this.count(1);
    const job = this.chain.then(() => this.send(draft, id, verdict, note, waive));
    this.chain = job.catch(() => {});
    return job;
  }

  async send(draft, id, verdict, note, waive) {
    try {
      const body = { holder: this.holder, verdict, note, waive };
      if (draft) {
        await draft.settled();
        if (verdict === "mask") body.version = draft.version;
      }
      const answer = await patient(`/api/picture/${id}/decide`, body);
      if (answer.outcome === "sent_back") keepTry(id, { verdict, note, waive });
      else {
        keepTry(id, null);
        this.made.push(answer.number);
      }
      this.dispatchEvent(new CustomEvent("outcome", { detail: { id, verdict, answer } }));
      return answer;
    } catch (error) {
      this.dispatchEvent(new CustomEvent("refused", { detail: { id, verdict, error } }));
      return null;
    } finally {
      this.count(-1);
    }
  }

  count(change) {
    this.pending += change;
    this.dispatchEvent(new Event("count"));
  }

  /** Undoes decision `number`, or the reviewer's newest one. Returns {id, said}, or null when there is none. */
  async undo(number = null) {
    await this.chain;
    const wanted = number ?? this.made.at(-1) ?? (await this.newest());
    if (wanted === null) return null;
    try {
      return await patient("/api/undo", { number: wanted });
    } finally {
      this.made = this.made.filter((each) => each !== wanted);
    }
  }

  async newest() {
    const { items } = await call("/api/decisions?limit=30");
    return items.find((item) => item.standing && item.by === me.reviewer)?.number ?? null;
  }
}
