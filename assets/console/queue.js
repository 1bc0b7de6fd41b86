// The queue: open cases, the gravest first, and one case at a time with what people reported.

import { act, get } from "./api.js";
import { decide } from "./decide.js";
import { imageFacts, logTable, othersOf, paymentTable, remove, restore } from "./facts.js";
import { keyed, setKeys } from "./keys.js";
import { age, badge, button, count, facts, h, say, show, time } from "./page.js";
import { Picture } from "./picture.js";

const REASONS = {
  csam: "Child sexual abuse", terrorism: "Terrorism", ncii: "Intimate, without consent", illegal: "Illegal", malware: "Malware",
  phishing: "Phishing", doxxing: "Doxxing", deepfake: "Deepfake", harassment: "Harassment", copyright: "Copyright", other: "Other",
};
const reason = (name) => REASONS[name] ?? name;
// The most cases that the queue shows at a time.
const MOST = 200;

// Shows the queue, with the case of this number open.
export async function queue(main, number) {
  const { cases } = await get(`/cases?limit=${MOST}`);
  return new Queue(main, cases, number).start();
}

class Queue {
  #main;
  #cases;
  #at = 0;
  #sum = h("p", { class: "quiet" });
  #list = h("ol", { class: "cases" });
  #detail = h("div", { class: "detail" });
  #picture = null;
  #shown = null;
  // What was removed last, for undo.
  #undo = [];

  constructor(main, cases, number) {
    this.#main = main;
    this.#cases = cases;
    this.#at = Math.max(0, cases.findIndex((it) => it.case === number));
    this.asked = number;
  }

  async start() {
    const open = this.#cases.length;
    show(this.#main, h("div", { class: this.asked ? "queue opened" : "queue" },
      h("h1", {}, "Queue"),
      h("section", { class: "list", "aria-label": "Open cases" },
        this.#sum, this.#list),
      this.#detail));
    setKeys([
      ["j", "Next case", () => this.move(1)],
      ["k", "Previous case", () => this.move(-1)],
      [" ", "Reveal or cover the image", () => this.#picture?.toggle()],
      ["r", "Remove the image", () => this.uphold([])],
      ["b", "Remove, and block picture and wallet", () => this.uphold(["content", "wallet"])],
      ["h", "Remove, and hold as evidence", () => this.uphold(["hold"])],
      ["d", "Dismiss the case", () => this.dismiss()],
      ["u", "Undo the last removal", () => this.undo()],
    ]);
    this.#drawList();
    if (this.asked && !this.#cases.some((it) => it.case === this.asked)) await this.#open(this.asked);
    else if (open > 0) await this.#open(this.#cases[this.#at].case);
    else show(this.#detail, h("p", { class: "empty" }, "When somebody reports an image, its case is here."));
    return () => this.#picture?.leave();
  }

  #drawList() {
    const open = this.#cases.filter((it) => it.state === "open").length;
    const all = this.#cases.length === MOST ? `The first ${MOST} open cases` : count(open, "open case");
    this.#sum.textContent = open > 0 ? `${all}, the gravest first.` : "Nobody waits for a decision.";
    show(this.#list, this.#cases.map((it, index) => h("li", {},
      h("a", { href: `#/queue/${it.case}`, "aria-current": index === this.#at ? "true" : null, class: it.state },
        h("span", { class: "what" }, reason(it.reason)),
        it.state !== "open" && badge(it.state),
        h("span", { class: "quiet" }, `${count(it.reports, "report")}, ${count(it.networks, "network")}, ${age(it.openedAt)} old`)))));
  }

  // Opens the case that is so many places away.
  async move(by) {
    const to = this.#at + by;
    if (to < 0 || to >= this.#cases.length) return say(by > 0 ? "This is the last case." : "This is the first case.");
    this.#at = to;
    // The address follows, without loading the list again.
    history.replaceState(null, "", `#/queue/${this.#cases[to].case}`);
    this.#drawList();
    this.#list.children[to].scrollIntoView({ block: "nearest" });
    await this.#open(this.#cases[to].case);
    this.#detail.querySelector("h2")?.focus();
  }

  async #open(number) {
    this.#picture?.leave();
    this.#picture = null;
    this.#shown = null;
    let shown;
    try {
      const found = await get(`/cases/${number}`);
      const known = await get(`/images/${found.image}`);
      const others = await othersOf(known.image);
      shown = { case: found, others, ...known };
    } catch (error) {
      return show(this.#detail, h("p", { class: "problem", role: "alert" }, error.message));
    }
    this.#shown = shown;
    this.#picture = new Picture(shown.image, `case ${number}`);
    this.#drawDetail();
  }

  #drawDetail() {
    const { case: it, image, payments, log, others } = this.#shown;
    const isOpen = it.state === "open";
    const acts = isOpen ? [
      button(keyed("Remove", "r"), () => this.uphold([]), { class: "grave" }),
      button(keyed("Remove and block", "b"), () => this.uphold(["content", "wallet"]), { class: "grave" }),
      button(keyed("Hold", "h"), () => this.uphold(["hold"]), { class: "grave" }),
      button(keyed("Dismiss", "d"), () => this.dismiss()),
    ] : [h("p", {}, badge(it.state), ` by ${it.decidedBy}: ${it.decision}`)];
    show(this.#detail,
      h("a", { href: "#/queue", class: "back" }, "‹ All cases"),
      h("h2", { tabindex: "-1" }, reason(it.reason), h("span", { class: "quiet" }, ` case ${it.case}`)),
      h("div", { class: "acts", role: "group", "aria-label": "Decide" }, acts,
        h("span", { class: "steps" },
          button(keyed("Previous", "k"), () => this.move(-1)), button(keyed("Next", "j"), () => this.move(1)))),
      h("div", { class: "columns" },
        h("div", {}, this.#picture.element),
        h("div", {},
          h("h3", {}, "Image"), imageFacts(image, payments, others.length),
          h("h3", {}, "Reports"),
          h("p", { class: "quiet" }, `${count(it.reports, "report")} from ${count(it.networks, "network")}, the first on `, time(it.openedAt), "."),
          it.objectedAt && facts([["Objection", it.objectedAt && [time(it.objectedAt), it.restoreBetween && ` – restore between ${it.restoreBetween.join(" and ")}`]]]),
          it.words.map(report))),
      payments.length > 0 && [h("h3", {}, "Payments"), paymentTable(payments)],
      log.length > 0 && [h("h3", {}, "What was done"), logTable(log, true)]);
  }

  async uphold(how) {
    if (!this.#isOpen()) return;
    const { case: it, image } = this.#shown;
    // What shows abuse of children is evidence.
    const undo = await remove(image, it, it.reason === "csam" ? [...how, "hold"] : how);
    if (!undo) return;
    this.#undo.push(undo);
    await this.#decided("upheld", `${image.id} is removed.`);
  }

  async dismiss() {
    if (!this.#isOpen()) return;
    const { case: it, image } = this.#shown;
    const done = await decide({
      title: `Dismiss the case about ${image.id}`,
      text: "The image stays. A later report opens a new case.",
      reason: `not ${it.reason}`,
      confirm: "Dismiss",
      act: (why) => act(`/cases/${it.case}/dismiss`, why),
    });
    if (done) await this.#decided("dismissed", `The case about ${image.id} is dismissed.`);
  }

  async undo() {
    const last = this.#undo.at(-1);
    if (!last) return say("Nothing was removed here that could be restored.");
    if (!(await restore(last.image, last.isHeld, last.blocked))) return;
    this.#undo.pop();
    say(`${last.image} is served again.`);
    if (this.#shown?.image.id === last.image) await this.#open(this.#shown.case.case);
  }

  #isOpen() {
    if (!this.#shown) return false;
    if (this.#shown.case.state === "open") return true;
    say("This case is decided. The page of the image has further acts.");
    return false;
  }

  // Marks the case, and goes on to the next open one.
  async #decided(state, text) {
    const number = this.#shown.case.case;
    const listed = this.#cases.find((it) => it.case === number);
    if (listed) listed.state = state;
    say(text, state === "upheld" ? [" ", button(keyed("Undo", "u"), () => this.undo())] : "");
    const order = [...this.#cases.keys()];
    const next = [...order.slice(this.#at + 1), ...order.slice(0, this.#at)].find((index) => this.#cases[index].state === "open");
    if (next === undefined) {
      this.#drawList();
      await this.#open(number);
    } else {
      await this.move(next - this.#at);
    }
  }
}

// What somebody wrote.
function report(words) {
  const title = words.kind === "report" ? reason(words.reason) : "Objection of the uploader";
  return h("article", { class: "report" },
    h("h4", {}, title, h("span", { class: "quiet" }, " ", time(words.receivedAt))),
    h("p", { class: "words" }, words.details || "Without words."),
    facts([["Contact", words.contact], ["Sworn", words.statement && JSON.stringify(words.statement, null, 1)]]));
}
