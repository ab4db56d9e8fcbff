// What the decision keys do: questions that must be answered first, sending, and what comes back.

import { VERDICT_WORDS, lastTry } from "./decisions.js";
import { ask, asking, isDecided, number, obstacles, sentence, showFindings, stopAsking } from "./panel.js";
import { toast } from "./toast.js";

const byId = (id) => document.getElementById(id);
const KINDS = { sent_back: "bad", disagreement: "bad", published: "good", agreed: "good", confirmed: "good" };
const SPARED = "transition_untouched";

export class Decider {
  /** `goOn(pressed)` shows the next picture, `open(id)` a certain one. */
  constructor({ deck, decisions, editor, goOn, open }) {
    Object.assign(this, { deck, decisions, editor, goOn, open });
    this.question = null;
    this.quiet = new Set();
    decisions.addEventListener("outcome", ({ detail }) => this.outcome(detail));
    decisions.addEventListener("refused", ({ detail }) => this.refused(detail));
    byId("note").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || this.question?.action !== "skip" || !asking()) return;
      event.preventDefault();
      this.question.yes(event);
    });
    byId("note").addEventListener("keydown", (event) => event.key === "Escape" && stopAsking());
  }

  actions() {
    return {
      accept: (event) => this.try("accept", event, () => this.accept(event)),
      mask: (event) => this.try("mask", event, () => this.mask(event)),
      noFace: (event) => this.try("noFace", event, () => this.send("no_face", event)),
      exclude: (event) => this.try("exclude", event, () => this.send("exclude", event)),
      skip: (event) => this.try("skip", event, () => this.skip(event)),
    };
  }

  /** Says what stands in the way; the same key again answers an open question with yes. */
  try(action, event, go) {
    const picture = this.deck.current;
    if (!picture.complete || document.body.dataset.state === "loading") return;
    const why = obstacles(picture)[action];
    if (why) return toast(why);
    this.editor.tools.drop();
    if (asking() && this.question?.action === action && this.question.picture === picture)
      return this.question.yes(event);
    stopAsking();
    go();
  }

  ask(action, question, yesWords, yes, others = []) {
    const answer = (event) => {
      stopAsking();
      yes(event);
    };
    this.question = { action, picture: this.deck.current, yes: answer };
    ask(question, [
      ...others,
      [yesWords, "confirm-yes", () => answer({ timeStamp: performance.now() })],
      ["Back", "confirm-no", () => {}],
    ]);
  }

  accept(event) {
    const { draft } = this.deck.current;
    if (draft.empty) return this.send("accept", event);
    const question =
      "You drew a mask of your own. Accepting the machine's mask leaves yours unused. A again accepts.";
    this.ask("accept", question, "Accept the machine's mask", (again) => this.send("accept", again), [
      [
        "Use my mask",
        "confirm-mask",
        () => this.try("mask", { timeStamp: performance.now() }, () => this.mask({ timeStamp: performance.now() })),
      ],
    ]);
  }

  async mask(event) {
    const picture = this.deck.current;
    const { draft } = picture;
    if (!draft.saved || draft.area === null) {
      await (draft.saved ? draft.save(true) : draft.settled()).catch(() => {});
      if (this.deck.current !== picture) return;
      const why = draft.failed?.message ?? obstacles(picture).mask;
      if (why) return toast(why);
    }
    if (!draft.protected) return this.send("mask", event);
    const question = `${number(draft.protected)} pixels of the transition area (hair and fine edges) would be blurred. M again blurs them, too.`;
    this.ask("mask", question, "Blur them, too", (again) => this.send("mask", again, [SPARED]), [
      ["Spare them", "confirm-clip", () => this.editor.clip()],
    ]);
  }

  skip(event) {
    this.ask(
      "skip",
      "Skipped pictures come back at the end. Leave a note if you like, then press Enter.",
      "Skip",
      (again) => this.send("skip", again ?? event),
    );
    byId("note").focus();
  }

  /** Sends a verdict and goes on at once; what it leads to is told in a toast. */
  send(verdict, event, waive = []) {
    const { current } = this.deck;
    this.deck.gone.add(current.id);
    const note = byId("note").value.trim();
    byId("note").blur();
    this.decisions.decide(current.draft, current.id, verdict, { note, waive });
    this.goOn(event.timeStamp);
  }

  /** A decision out of the list of all pictures: no toast unless something went wrong. */
  async quietly(id, verdict) {
    this.quiet.add(id);
    this.deck.gone.add(id);
    this.deck.ahead = this.deck.ahead.filter((each) => each !== id);
    const answer = await this.decisions.decide(this.deck.unsaved.get(id) ?? null, id, verdict);
    this.quiet.delete(id);
    return answer;
  }

  outcome({ id, verdict, answer }) {
    if (["sent_back", "disagreement"].includes(answer.outcome)) this.deck.gone.delete(id);
    const show = { action: () => this.open(id), label: "Show" };
    if (answer.outcome === "sent_back") toast(sentence(answer.said), { kind: "bad", ...show });
    else if (!this.quiet.has(id))
      toast(sentence(answer.said || VERDICT_WORDS[verdict]), { kind: KINDS[answer.outcome] ?? "note" });
  }

  refused({ id, verdict, error }) {
    this.deck.gone.delete(id);
    const words = `Not decided (${VERDICT_WORDS[verdict]}): ${error.message}`;
    toast(words, { kind: "bad", action: () => this.open(id), label: "Show" });
  }

  /** A picture that the check sent back: what it found, and the two ways on. */
  findingsOf({ id, detail, draft }) {
    if (!detail.findings.length || isDecided(detail)) return;
    const tried = lastTry(id);
    const checks = detail.findings.map((finding) => finding.check);
    const all = tried && detail.findings.every((finding) => finding.waivable);
    const pass = () => {
      byId("note").value ||= tried.note;
      this.send(tried.verdict, { timeStamp: performance.now() }, [...new Set([...tried.waive, ...checks])]);
    };
    showFindings(detail.findings, { fix: () => this.fix(tried, draft), pass: all ? pass : null });
  }

  /** Goes on drawing from what was tried. */
  fix(tried, draft) {
    showFindings([], null);
    this.editor.stage.redraw();
    if (tried?.verdict === "accept" && !draft.done) this.editor.addSuggestion();
  }
}
