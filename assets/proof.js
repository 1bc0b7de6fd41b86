// The button that verifies the public proof: its signature, and that the page shows what was signed.

import { verify } from "./jws.js";

const root = /** @type {HTMLElement} */ (document.getElementById("proof"));
const button = /** @type {HTMLButtonElement} */ (document.getElementById("verify"));
const verdict = /** @type {HTMLElement} */ (document.getElementById("verdict"));

/** The value at a JSON pointer. @param {any} claims @param {string} pointer @returns {any} */
function valueAt(claims, pointer) {
  return pointer.split("/").slice(1).reduce((value, name) => value?.[name], claims);
}

/** Atomic units of a decimal text in USDC. @param {string} text @returns {string} */
function unitsOf(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(6, "0")).toString();
}

/** Compares the page with the claims. @param {any} claims @returns {{same: number, other: string[]}} */
function compare(claims) {
  const other = [];
  const shown = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("[data-of]")]);
  for (const element of shown) {
    const text = (element.textContent ?? "").trim().replaceAll(",", "");
    const pointer = element.dataset.of ?? "";
    if (String(valueAt(claims, pointer)) !== ("usdc" in element.dataset ? unitsOf(text) : text)) other.push(pointer);
  }
  return { same: shown.length - other.length, other };
}

/** @param {boolean | null} good @param {string} text */
function tell(good, text) {
  verdict.className = good === null ? "notice" : good ? "notice good" : "notice bad";
  verdict.textContent = text;
}

async function press() {
  button.disabled = true;
  tell(null, "Verifying …");
  try {
    const { jws = "", typ = "" } = root.dataset;
    const { good, says, claims } = await verify(jws, typ, (signed) => signed.issuedAt);
    if (!good) return tell(good, says);
    const { same, other } = compare(claims);
    if (other.length > 0) return tell(false, `${says} But this page shows something else at ${other.join(", ")}.`);
    if (claims.iss !== location.origin && !`${location.origin}/`.startsWith(`${claims.iss}/`)) {
      return tell(false, `${says} But it was issued by ${claims.iss}, which is not this page's address.`);
    }
    tell(true, `${says} The ${same} numbers on this page are the signed ones.`);
  } catch (error) {
    tell(null, `The keys could not be loaded, so nothing was verified. ${error instanceof Error ? error.message : ""}`);
  } finally {
    button.disabled = false;
  }
}

button.hidden = false;
/** @type {HTMLElement} */ (document.getElementById("scriptless")).hidden = true;
button.addEventListener("click", press);
