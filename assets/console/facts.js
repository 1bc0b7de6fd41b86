// What is known of an image, and the acts on it. The queue and the page of an image share them.

import { act, get } from "./api.js";
import { decide } from "./decide.js";
import { age, badge, bytes, count, facts, h, short, table, time } from "./page.js";

export const imageLink = (id) => h("a", { href: `#/image/${id}` }, id);
const searchLink = (what) => h("a", { href: `#/find?q=${encodeURIComponent(what)}` }, short(what));

const isHeld = (image) => image.removal?.heldAt !== null && image.removal?.heldAt !== undefined;

// The state of an image as a badge. A held image is removed as well.
export function stateOf(image) {
  return isHeld(image) ? badge("held", image.removal.isWaiting ? "held, waits for a decision" : "held") : badge(image.state);
}

// The facts of an image. `others`: how many other images its wallet has, if it has one.
export function imageFacts(image, payments, others) {
  const paid = payments.filter((payment) => payment.settledAt !== null);
  const amount = paid.reduce((sum, payment) => sum + BigInt(payment.amount), 0n);
  return facts([
    ["State", stateOf(image)],
    ["Image", [imageLink(image.id), image.visibility === "private" ? " (private)" : ""]],
    ["File", `${image.contentType}, ${image.width} × ${image.height}, ${bytes(image.sizeBytes)}`],
    ["Uploaded", [time(image.createdAt), ` (${age(image.createdAt)} ago)`]],
    ["Expires", image.expiresAt ? time(image.expiresAt) : "never"],
    ["Tier", image.tier],
    ["Paid", paid.length > 0 ? `${usdc(amount)} USDC in ${count(paid.length, "payment")}` : "nothing, a free upload"],
    ["Wallet", image.owner ? [searchLink(image.owner), others > 0 ? `, ${count(others, "other image")}` : ", no other image"] : "none"],
    ["SHA-256", short(image.sha256, 20)],
  ]);
}

// An amount in atomic units as USDC, exactly.
export function usdc(atomic) {
  const digits = atomic.toString().padStart(7, "0");
  const fraction = digits.slice(-6).replace(/0+$/, "");
  return digits.slice(0, -6) + (fraction && `.${fraction}`);
}

export function paymentTable(payments) {
  return table("Payments", ["Bought", "State", "#USDC", "Payer", "Transaction", "Settled"], payments.map((payment) => [
    payment.kind, payment.owed ? `${payment.state}, owed` : payment.state, usdc(BigInt(payment.amount)), searchLink(payment.payer),
    payment.transaction && searchLink(payment.transaction), time(payment.settledAt)]), "No payments.");
}

// Entries of the log. Those of one image need no column that names it.
export function logTable(entries, isOfOne = false) {
  const about = (subject) => (/^[0-9A-Za-z]{12}$/.test(subject) ? imageLink(subject) : short(subject, 24));
  return table("Log", ["#No.", "When", "Who", "Act", ...(isOfOne ? [] : ["About"]), "Reason", "Details"], entries.map((entry) => [
    entry.number, time(entry.at), entry.actor, entry.act, ...(isOfOne ? [] : [about(entry.subject)]), entry.reason,
    detailsOf(entry.details)]), "No entries.");
}

// The details of an entry in short: `ground policy, 3 blocked`.
function detailsOf(details) {
  const parts = Object.entries(details).filter(([, value]) => value !== null && value !== false && value?.length !== 0);
  const short = parts.map(([name, value]) => (Array.isArray(value) ? `${value.length} ${name}` : `${name} ${value}`)).join(", ");
  return short && h("span", { class: "quiet", title: JSON.stringify(details) }, short);
}

// The other images of the wallet that uploaded an image.
export async function othersOf(image) {
  if (!image.owner) return [];
  const { images } = await get(`/find?what=${image.owner}`);
  return images.filter((other) => other.id !== image.id);
}

const LEGAL = { name: "legal", label: "It follows a legal demand", help: "The link answers 451 in place of 404." };
const CONTENT = { name: "content", label: "Block the picture", help: "The same file or a similar picture is refused, whoever uploads it." };
const WALLET = { name: "wallet", label: "Block the wallet", help: "It uploads and buys nothing more." };
const HOLD = { name: "hold", label: "Hold the content as evidence", help: "It is sealed and preserved, by default for 365 days." };

// Removes an image, by an open case if there is one. `how` names the boxes that are checked at first.
// Resolves to what can undo it, or to null.
export async function remove(image, caseOf, how = []) {
  const boxes = [LEGAL, HOLD, CONTENT, ...(image.owner ? [WALLET] : [])];
  const path = caseOf ? `/cases/${caseOf.case}/uphold` : `/images/${image.id}/remove`;
  let asked = {};
  const done = await decide({
    title: caseOf ? `Remove ${image.id} and uphold the case` : `Remove ${image.id}`,
    reason: caseOf ? caseOf.reason : "",
    options: boxes.map((box) => ({ ...box, checked: how.includes(box.name) })),
    confirm: "Remove",
    isGrave: true,
    act: (reason, chosen) => {
      asked = chosen;
      const block = ["content", "wallet"].filter((what) => chosen[what]);
      return act(path, reason, { legal: chosen.legal, hold: chosen.hold, block });
    },
  });
  if (!done) return null;
  const { log } = await get(`/images/${image.id}`);
  const blocked = log.find((entry) => entry.act === "remove")?.details.blocked ?? [];
  return { image: image.id, isHeld: asked.hold, blocked };
}

export function restore(id, isHeld, blocked = []) {
  const text = isHeld ? "The hold ends before its time, and the image is served again." : "The image is served again until its expiry.";
  return decide({
    title: `Restore ${id}`,
    text: `${text} An upheld case stays upheld.`,
    reason: "a mistake",
    options: blocked.length > 0 ? [{ name: "unblock", label: `Lift ${count(blocked.length, "block")} of this removal`, checked: true }] : [],
    confirm: "Restore",
    act: async (reason, { unblock }) => {
      if (isHeld) await act(`/images/${id}/release`, reason, { fate: "restore", early: true });
      else await act(`/images/${id}/restore`, reason);
      if (unblock) await act("/unblock", reason, { targets: blocked, source: "operator" });
    },
  });
}

export function hold(image) {
  return decide({
    title: `Hold ${image.id}`,
    text: "The image is removed, and its content is sealed. Neither its owner nor its expiry deletes it.",
    options: [LEGAL, { name: "time", label: "For", input: h("input", { placeholder: "365d" }), help: "A time such as 365d. Empty: trust.preserve." }],
    confirm: "Hold",
    isGrave: true,
    act: (reason, { legal, time }) => act(`/images/${image.id}/hold`, reason, { legal, ...(time && { for: time }) }),
  });
}

export function release(image) {
  return decide({
    title: `End the hold and delete ${image.id}`,
    text: "The content is deleted. Nobody can bring it back.",
    options: image.removal.isWaiting ? [] : [{ name: "early", label: `End it before ${image.removal.holdUntil}` }],
    confirm: "Delete the content",
    isGrave: true,
    act: (reason, { early }) => act(`/images/${image.id}/release`, reason, { fate: "delete", early: early === true }),
  });
}

export function acknowledge(image) {
  return decide({
    title: `Record an answer about ${image.id}`,
    options: [{ name: "reference", label: "Reference of the authority", input: h("input", { required: true, maxlength: "2000" }) }],
    confirm: "Record",
    act: (reason, { reference }) => act(`/images/${image.id}/acknowledge`, reason, { reference }),
  });
}
