// Shows the receipts of an image, and verifies them here in the browser, as `pixtoll receipt verify` does.

import { make } from "./dom.js";
import { verify } from "./jws.js";
import { onPress } from "./shelf.js";
import { networkName } from "./wallet.js";
import { dateInWords } from "./words.js";

const TYPE = "pixtoll-receipt";

/**
 * @param {any} receipts the answer of GET /api/receipts/{id}
 * @param {{id: string, url: string}} image
 * @returns {HTMLElement[]}
 */
export const receiptsOf = ({ receipts }, image) => receipts.map((/** @type {any} */ receipt) => receiptOf(receipt, image));

/** @param {any} receipt @param {{id: string, url: string}} image */
function receiptOf(receipt, image) {
  const fact = (/** @type {string} */ name, /** @type {string | Node} */ value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  const result = make("div", { "aria-live": "polite" });
  const button = onPress(make("button", { type: "button" }, "Verify"), async () => {
    result.replaceChildren(make("p", { className: "soft" }, "Verifying …"));
    const problems = await check(receipt, image);
    result.replaceChildren(problems.length === 0
      ? make("p", { className: "notice good" }, make("strong", {}, "Valid. "), "A key of this server signed this receipt, it names this image, and the image’s bytes are those that it names.")
      : make("div", { className: "notice bad" }, make("p", {}, make("strong", {}, "Not verified.")), make("ul", {}, ...problems.map((it) => make("li", {}, it)))));
  });
  const file = make("a", {
    className: "button", download: `receipt-${image.id}.json`, href: `data:application/json,${encodeURIComponent(JSON.stringify(receipt))}`,
  }, "Save");
  return make("div", { className: "receipt" },
    make("p", {}, make("strong", {}, `${amount(receipt)} USDC`), ` for ${receipt.kind === "renewal" ? "a renewal" : "the upload"}, ${dateInWords(receipt.settledAt)}`),
    make("dl", { className: "facts" },
      fact("Paid by", make("code", {}, receipt.payer)), fact("Paid to", make("code", {}, receipt.payTo)),
      fact("Network", networkName(Number(receipt.network.split(":")[1]))), fact("Transaction", make("code", {}, receipt.transaction)),
      fact("Kept until", receipt.expiresAt ? dateInWords(receipt.expiresAt) : "the service ends")),
    make("p", { className: "row" }, button, file), result);
}

/** The amount as a decimal number. @param {{amount: string, decimals: number}} receipt @returns {string} */
function amount({ amount: atomic, decimals }) {
  const digits = atomic.padStart(decimals + 1, "0");
  const part = digits.slice(-decimals).replace(/0+$/, "");
  return digits.slice(0, -decimals) + (part && `.${part}`);
}

/**
 * What is wrong with a receipt. Nothing: a key of this server signed it, for this image and these bytes.
 * @param {any} receipt
 * @param {{id: string, url: string}} image
 * @returns {Promise<string[]>}
 */
export async function check({ jws, ...beside }, { id, url }) {
  if (!globalThis.crypto?.subtle) return ["Browsers verify signatures on pages with HTTPS only. Save the receipt and use: pixtoll receipt verify."];
  let verdict;
  try {
    verdict = await verify(jws, TYPE, (claims) => claims.settledAt);
  } catch {
    return ["The keys of this server could not be loaded, so nothing was verified. Check your connection, then try again."];
  }
  const { good, says, claims = {} } = verdict;
  if (good === null) return ["This browser can’t verify Ed25519 signatures. Save the receipt and use: pixtoll receipt verify."];
  const problems = good ? [] : [says];
  for (const [name, value] of Object.entries(beside)) {
    if (claims[name] !== value) problems.push(`${name}: ${value} is shown, but ${claims[name] ?? "nothing"} is signed.`);
  }
  if (claims.imageId !== id) problems.push(`The receipt is of image ${claims.imageId}, and not of ${id}.`);
  const served = await digestOf(url);
  if (served === null) problems.push("The image could not be loaded, so its bytes were not compared.");
  else if (served !== claims.sha256) problems.push("The image’s bytes are others than those that the receipt names.");
  return problems;
}

/** The SHA-256 of what a link serves, or null. @param {string} url @returns {Promise<string | null>} */
async function digestOf(url) {
  try {
    const response = await fetch(url);
    if (!response.ok) return null;
    const digest = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch {
    return null;
  }
}
