// The drawing on one picture: operations, undo and redo, and saving every change at once and in order.

import { call, back, holder, passing, signIn } from "./api.js";
import { LIMITS, maybeFilled } from "./drawing.js";

/** Below the server's limit for a body (1 MiB) with room to spare. */
const MOST_CHARACTERS = 500_000;

/** Fires "change" (the drawing differs), "saved", "replaced" (the server's drawing was newer) and "refused". */
export class Draft extends EventTarget {
  constructor(id, { ops, done, version }) {
    super();
    this.id = id;
    this.ops = ops;
    this.done = done;
    this.version = version;
    this.area = null;
    this.protected = null;
    this.failed = null;
    this.stored = { ops, done };
    this.saving = null;
  }

  get current() {
    return this.ops.slice(0, this.done);
  }

  /** True when nothing can be masked: no operation adds anything, or the server counted no pixel. */
  get empty() {
    return !maybeFilled(this.current) || (this.saved && this.area === 0);
  }

  get saved() {
    return this.stored.ops === this.ops && this.stored.done === this.done;
  }

  /** Adds operations; false when there are too many already. */
  push(...added) {
    if (this.done + added.length > LIMITS.ops) return false;
    this.ops = [...this.ops.slice(0, this.done), ...added];
    this.done = this.ops.length;
    this.changed();
    return true;
  }

  undo() {
    return this.moveTo(this.done - 1);
  }

  redo() {
    return this.moveTo(this.done + 1);
  }

  moveTo(done) {
    if (done < 0 || done > this.ops.length) return false;
    this.done = done;
    this.changed();
    return true;
  }

  changed() {
    this.failed = null;
    this.dispatchEvent(new Event("change"));
    this.save();
  }

  /** Starts saving unless it runs; `again` saves although nothing changed, which tells area and protected pixels. */
  save(again = false) {
    this.saving ??= this.saveAll(again).finally(() => {
      this.saving = null;
      if (!this.saved && !this.failed) this.save();
    });
    return this.saving;
  }

  /** Resolves when everything drawn so far is saved; raises Refused when the server will not have it. */
  async settled() {
    while (!this.saved) {
      if (this.failed) throw this.failed;
      await this.save();
    }
  }

  async saveAll(again) {
    while (again || !this.saved) {
      again = false;
      try {
        await this.saveOnce();
      } catch (error) {
        if (passing(error)) await back(error);
        else if (error.status === 403 && (await this.renewed())) continue;
        else if (error.status === 409 && error.body?.draft) this.agree(error.body.draft);
        else {
          this.failed = error;
          this.dispatchEvent(new CustomEvent("refused", { detail: error }));
          return;
        }
      }
    }
    this.dispatchEvent(new Event("saved"));
  }

  async saveOnce() {
    const { ops, done } = this.nextPart();
    const keep = common(this.stored.ops, ops);
    const body = { holder, version: this.version, keep, add: ops.slice(keep), done };
    this.attempt = { ops, done };
    const answer = await call(`/api/picture/${this.id}/draft`, body);
    this.version = answer.version;
    this.triedAgain = false;
    this.area = answer.area;
    this.protected = answer.protected;
    this.stored = { ops, done };
  }

  /** What to save next: everything, or as many operations as fit into one request. */
  nextPart() {
    const keep = common(this.stored.ops, this.ops);
    let [size, end] = [0, keep];
    while (end < this.ops.length && (end === keep || size < MOST_CHARACTERS))
      size += JSON.stringify(this.ops[end++]).length;
    if (end > keep + 1 && size > MOST_CHARACTERS) end--;
    return end >= this.ops.length
      ? { ops: this.ops, done: this.done }
      : { ops: this.ops.slice(0, end), done: Math.min(this.done, end) };
  }

  /** The server has another drawing: ours, when only its answer got lost on the way, else somebody's. */
  agree(draft) {
    const same = draft.done === this.attempt.done && JSON.stringify(draft.ops) === JSON.stringify(this.attempt.ops);
    if (!same) return this.replace(draft);
    this.version = draft.version;
    this.stored = this.attempt;
  }

  /** Takes over a drawing that the same picture got elsewhere. */
  replace({ ops, done, version }) {
    Object.assign(this, { ops, done, version, stored: { ops, done }, area: null, protected: null });
    this.dispatchEvent(new Event("replaced"));
  }

  async renewed() {
    if (this.triedAgain) return false;
    this.triedAgain = true;
    await signIn();
    return true;
  }
}

/** How many operations at the start are the same ones. */
function common(stored, local) {
  let count = 0;
  while (count < stored.length && count < local.length && stored[count] === local[count]) count++;
  return count;
}
