// One image: its facts, its history and all acts.

import { act, get } from "./api.js";
import { decide } from "./decide.js";
import { acknowledge, hold, imageFacts, logTable, othersOf, paymentTable, release, remove, restore, stateOf } from "./facts.js";
import { keyed, setKeys } from "./keys.js";
import { badge, button, facts, h, say, show, table, time } from "./page.js";
import { Picture } from "./picture.js";

export async function image(main, id) {
  const page = new ImagePage(main, id);
  await page.load();
  return () => page.leave();
}

class ImagePage {
  #main;
  #id;
  #picture = null;

  constructor(main, id) {
    this.#main = main;
    this.#id = id;
  }

  leave() {
    this.#picture?.leave();
  }

  async load() {
    this.leave();
    const known = await get(`/images/${encodeURIComponent(this.#id)}`);
    const others = await othersOf(known.image);
    const { image, payments, purge, log } = known;
    this.#picture = new Picture(image, "the page of the image");
    const acts = this.#acts(image);
    setKeys([[" ", "Reveal or cover the image", () => this.#picture.toggle()], ...acts.filter(([key]) => key).map(([key, label, run]) =>
      [key, label, () => this.#run(run)])]);
    show(this.#main,
      h("h1", {}, `Image ${image.id}`, " ", stateOf(image)),
      h("div", { class: "acts", role: "group", "aria-label": "Acts" }, acts.map(([key, label, run, grave]) =>
        button(key ? keyed(label, key) : label, () => this.#run(run), { class: grave ? "grave" : null }))),
      h("div", { class: "columns" },
        h("div", {}, this.#picture.element),
        h("div", {}, h("h2", {}, "Facts"), imageFacts(image, payments, others.length),
          image.removal && [h("h2", {}, "Removal"), removalFacts(image.removal)],
          purge && [h("h2", {}, "Purge at the CDN"), facts([
            ["State", purge.purgedAt ? badge("good", "confirmed") : badge("bad", "not confirmed yet")], ["Asked", time(purge.askedAt)],
            ["Confirmed", time(purge.purgedAt)], ["Tries", purge.tries], ["Next try", time(purge.nextAt)], ["Problem", purge.problem]])])),
      h("h2", {}, "Payments"), paymentTable(payments),
      h("h2", {}, "What was done"), logTable(log, true),
      others.length > 0 && [h("h2", {}, "Other images of the wallet"), table("Other images of the wallet",
        ["Image", "State", "Tier", "Uploaded"], others.map((other) => [
          h("a", { href: `#/image/${other.id}` }, other.id), stateOf(other), other.tier, time(other.createdAt)]))]);
  }

  // The acts that fit the image: key, name, function, and whether it takes something away.
  #acts(image) {
    const block = ["", "Block the picture", () => this.#block(image, [image.id], "picture"), true];
    const wallet = image.owner ? [["", "Block the wallet", () => this.#block(image, [image.owner], "wallet"), true]] : [];
    switch (image.removal?.heldAt ? "held" : image.state) {
      case "live":
        return [["r", "Remove", () => remove(image, null), true],
          ["b", "Remove and block", () => remove(image, null, ["content", "wallet"]), true],
          ["h", "Hold", () => hold(image), true], block, ...wallet];
      case "removed":
        return [["u", "Restore", () => restore(image.id, false)], ["h", "Hold", () => hold(image), true], block, ...wallet,
          ["a", "Record an answer", () => acknowledge(image)]];
      case "held":
        return [["u", "Restore", () => restore(image.id, true)], ["", "Delete the content", () => release(image), true],
          ["h", "Hold longer", () => hold(image), true], block, ...wallet, ["a", "Record an answer", () => acknowledge(image)]];
      default:
        return wallet;
    }
  }

  async #run(run) {
    if (!(await run())) return;
    say("Done. The log has an entry.");
    await this.load();
  }

  #block(image, targets, what) {
    return decide({
      title: `Block the ${what} of ${image.id}`,
      text: what === "wallet" ? "The wallet uploads and buys nothing more. Its images stay." : "The same file or a similar picture is refused. This image stays as it is.",
      confirm: "Block",
      isGrave: true,
      act: (reason) => act("/block", reason, { targets }),
    });
  }
}

function removalFacts(removal) {
  return facts([
    ["Reason", removal.reason], ["Ground", removal.ground === "legal" ? "a legal demand (451)" : "policy (404)"],
    ["Removed", time(removal.removedAt)], ["Held", time(removal.heldAt)], ["Held until", time(removal.holdUntil)],
    ["Sealed", removal.heldAt && (time(removal.sealedAt) ?? "not yet")], ["Reference", removal.reportReference],
    ["Recorded", time(removal.reportedAt)]]);
}
