// Pays for an upload or a renewal by x402: asks for the price, lets the wallet sign, and presents the signed payment until
// its outcome is known. docs/x402.md has the format.
//
// A signed payment is kept in the local storage until the server has said what became of it. So it is presented again after
// a failure or a reload, and nobody is asked to sign twice for one image.

import { NoAnswer, Unreadable, messageOf, send } from "./api.js";
import { signTypedData, useNetwork } from "./wallet.js";

const KEY = "pixtoll.payments";
/** How often a payment is presented again by itself while its outcome is unknown. */
const TRIES = 6;
/** The longest time that a script waits by itself before it presents a payment again, in seconds. */
const PATIENCE = 15;

/**
 * @typedef {object} Payment
 * @property {string} key the Idempotency-Key, which proves that this browser made the payment
 * @property {string} url the path that it is presented at
 * @property {string} header the value of PAYMENT-SIGNATURE
 * @property {string} price in words
 * @property {string} tier
 * @property {{name: string, size: number, modified: number} | null} file null: it pays for no file, but to keep an image longer
 * @property {number} validBefore in seconds
 */

/**
 * What became of a payment that was presented.
 * `bought`: the image is stored, and `answer` describes it.
 * `over`: the payment moved no money and never will, or it bought something that is gone. `charged` says which.
 * `unsent`: the server does not have the image, and nothing was charged. The same payment buys it.
 * `open`: nobody knows yet. Present the same payment again, and sign no other.
 * @typedef {{kind: "bought", answer: any} | {kind: "over", message: string, charged: boolean}
 *   | {kind: "unsent", message: string} | {kind: "open", message: string, wait: number | null}} Outcome
 */

/** Payments that the storage did not take. @type {Payment[]} */
let unstored = [];

/** @returns {Payment[]} */
function stored() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(list) ? list.filter((it) => typeof it?.key === "string" && typeof it.header === "string") : [];
  } catch {
    return [];
  }
}

/** The payments whose outcome is open, oldest first. @returns {Payment[]} */
export const openPayments = () => [...stored(), ...unstored];

/** Whether an open payment would be lost with the page. */
export const hasUnstored = () => unstored.length > 0;

/** @param {Payment} payment */
function keep(payment) {
  try {
    localStorage.setItem(KEY, JSON.stringify([...stored(), payment]));
  } catch {
    unstored.push(payment);
  }
}

/** Forgets a payment, because its outcome is known. @param {Payment} payment */
export function close(payment) {
  unstored = unstored.filter(({ key }) => key !== payment.key);
  const list = stored();
  const rest = list.filter(({ key }) => key !== payment.key);
  if (rest.length !== list.length) localStorage.setItem(KEY, JSON.stringify(rest));
}

/** Whether a payment is for this file. @param {Payment} payment @param {File} file */
export function isOf({ file: known }, file) {
  return known?.name === file.name && known.size === file.size && known.modified === file.lastModified;
}

/** The open payment for this file at this path. @param {File} file @param {string} url @returns {Payment | undefined} */
export function openFor(file, url) {
  return openPayments().find((it) => it.url === url && isOf(it, file));
}

/** @param {string} text @returns {string} base64 of its UTF-8 bytes */
const encode = (text) => btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));

/** @param {string} text */
const decode = (text) => new TextDecoder().decode(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));

/** @param {number} count @returns {string} that many random bytes as hexadecimal digits */
function random(count) {
  return Array.from(crypto.getRandomValues(new Uint8Array(count)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An amount of USDC in words, with two to six decimals. @param {string | bigint} amount in millionths @returns {string} */
export function usdc(amount) {
  const digits = String(amount).padStart(7, "0");
  return `${digits.slice(0, -6)}.${digits.slice(-6).replace(/0{1,4}$/, "")} USDC`;
}

/**
 * Asks for the price at a path.
 * @param {string} url
 * @returns {Promise<{offer: any, challenge: any, now: number}>} an offer for a network of EIP-155, and the server's time
 */
async function priceOf(url) {
  const answer = await send("POST", url);
  const header = answer.header("PAYMENT-REQUIRED");
  if (answer.status !== 402 || !header) throw new Error(messageOf(answer));
  const challenge = JSON.parse(decode(header));
  const offer = challenge.accepts.find((/** @type {any} */ it) => it.scheme === "exact" && /^eip155:\d+$/.test(it.network));
  if (!offer) throw new Error("The server takes no payment that a browser wallet can sign. Use another way to pay.");
  const date = Date.parse(answer.header("Date") ?? "");
  return { offer, challenge, now: Math.floor((Number.isNaN(date) ? Date.now() : date) / 1000) };
}

/**
 * Lets the wallet sign the payment for one image. Nothing is sent.
 * @param {{wallet: import("./wallet.js").Wallet, address: string, url: string, tier: string, file: File | null,
 *   step: (text: string) => void, asks?: (text: string) => void}} order `step` receives what happens, for people.
 * `asks` receives what to do in the wallet, in place of `step`, and an empty text once the wallet has answered
 * @returns {Promise<Payment>}
 */
export async function sign({ wallet, address, url, tier, file, step, asks }) {
  step("Asking for the price");
  const { offer, challenge, now } = await priceOf(url);
  const chainId = Number(offer.network.split(":")[1]);
  const price = usdc(offer.amount);
  (asks ?? step)(`Open ${wallet.name} and confirm ${price}`);
  const authorization = {
    from: address, to: offer.payTo, value: offer.amount, validAfter: "0",
    validBefore: String(now + offer.maxTimeoutSeconds), nonce: `0x${random(32)}`,
  };
  const field = (/** @type {string} */ name, /** @type {string} */ type) => ({ name, type });
  const data = {
    types: {
      EIP712Domain: [field("name", "string"), field("version", "string"), field("chainId", "uint256"), field("verifyingContract", "address")],
      TransferWithAuthorization: [field("from", "address"), field("to", "address"), field("value", "uint256"),
        field("validAfter", "uint256"), field("validBefore", "uint256"), field("nonce", "bytes32")],
    },
    primaryType: "TransferWithAuthorization",
    domain: { name: offer.extra.name, version: offer.extra.version, chainId, verifyingContract: offer.asset },
    message: authorization,
  };
  let signature;
  try {
    await useNetwork(wallet, chainId);
    signature = await signTypedData(wallet, address, data);
  } finally {
    asks?.("");
  }
  const document = {
    x402Version: 2, accepted: offer, payload: { signature, authorization }, resource: challenge.resource, extensions: challenge.extensions,
  };
  /** @type {Payment} */
  const payment = {
    key: random(20), url, header: encode(JSON.stringify(document)), price, tier, validBefore: Number(authorization.validBefore),
    file: file && { name: file.name, size: file.size, modified: file.lastModified },
  };
  keep(payment);
  return payment;
}

/**
 * Presents a payment, again while its outcome is unknown, and forgets it once the outcome is known.
 * @param {Payment} payment
 * @param {Blob | null} file null: ask what became of it, without the image
 * @param {{progress?: (part: number) => void, step: (text: string) => void}} watch
 * @returns {Promise<Outcome>}
 */
export async function present(payment, file, { progress, step }) {
  for (let tries = 1; ; tries++) {
    const outcome = await once(payment, file, progress);
    if (outcome.kind === "bought" || outcome.kind === "over") close(payment);
    const wait = outcome.kind === "open" ? Math.max(outcome.wait ?? 1, tries / 2) : Infinity;
    if (tries === TRIES || wait > PATIENCE) return outcome;
    step("No answer yet. The same payment is presented again");
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
}

/**
 * @param {Payment} payment
 * @param {Blob | null} file
 * @param {((part: number) => void) | undefined} progress
 * @returns {Promise<Outcome>}
 */
async function once(payment, file, progress) {
  /** @type {Record<string, string>} */
  const headers = { "PAYMENT-SIGNATURE": payment.header, "Idempotency-Key": payment.key };
  if (file) headers["Content-Type"] = file.type || "application/octet-stream";
  let answer;
  try {
    answer = await send("POST", payment.url, { headers, body: file, progress });
  } catch (error) {
    // Without a file the server still says what became of the payment.
    if (error instanceof Unreadable) return once(payment, null, undefined);
    if (error instanceof NoAnswer) return { kind: "open", message: "The server did not answer, so it is not known whether the payment went through.", wait: null };
    throw error;
  }
  const { status, body } = answer;
  if (status === 200 && typeof body?.url === "string") return { kind: "bought", answer: body };
  const [message, action] = [messageOf(answer), body?.action];
  // Other bytes than those that were paid for: the answer to those is still there.
  if (body?.error === "idempotency_conflict" && file) return once(payment, null, undefined);
  const isToRepeat = ["wait", "retry"].includes(action?.type);
  if (typeof body?.charged !== "boolean" || (body.charged === false && isToRepeat)) {
    return { kind: "open", message, wait: action?.retryAfterSeconds ?? null };
  }
  if (body.error === "no_file" && Date.now() / 1000 < payment.validBefore) return { kind: "unsent", message };
  return { kind: "over", message, charged: body.charged };
}
