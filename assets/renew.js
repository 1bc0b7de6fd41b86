// Keeps the image of a page longer, by a payment of the browser's wallet.

import { NoAnswer } from "./api.js";
import { byId } from "./dom.js";
import { openPayments, present, sign } from "./pay.js";
import { choosePayer, payer, startPayer } from "./payer.js";
import { all, remember } from "./uploads.js";
import { WalletError } from "./wallet.js";
import { dateInWords, timeLeft } from "./words.js";

const form = /** @type {HTMLFormElement} */ (byId("renew"));
const button = /** @type {HTMLButtonElement} */ (byId("pay"));
const { id } = byId("image").dataset;
let isBusy = false;

/** @returns {HTMLInputElement[]} */
const tiers = () => [...form.querySelectorAll('input[name="tier"]')].map((it) => /** @type {HTMLInputElement} */ (it));
const chosen = () => tiers().find((it) => it.checked) ?? tiers()[0];

/** Where the payment of a tier goes. A private image is named by the signed link of this page. @param {string} tier */
function pathOf(tier) {
  const query = new URLSearchParams({ tier });
  const page = new URLSearchParams(location.search);
  for (const name of ["exp", "sig"]) if (page.has(name)) query.set(name, page.get(name) ?? "");
  return `/api/images/${id}/renew?${query}`;
}

/** The open payment that keeps this image longer, whichever tier and link it was signed at. @returns {import("./pay.js").Payment | undefined} */
const openPayment = () => openPayments().find((it) => !it.file && it.url.startsWith(`/api/images/${id}/renew?`));

/** @param {string} text shown near the button; empty: none */
function problem(text) {
  const shown = byId("problem");
  shown.textContent = text;
  shown.hidden = !text;
}

/** @param {string} text */
function step(text) {
  const shown = byId("renewing");
  shown.textContent = text;
  shown.hidden = !text;
}

/** Shows what the button does now. */
function refresh() {
  const tier = chosen();
  button.textContent = openPayment() ? "Ask again" : payer() ? `Pay ${tier.dataset.price} and keep it longer` : "Connect a wallet";
  button.disabled = isBusy;
}

/** Asks what became of the payment whose outcome is open, or pays for the chosen tier. */
async function renew() {
  const known = openPayment();
  const from = known ? null : await choosePayer();
  if (!known && !from) return;
  const tier = known?.tier ?? chosen().value;
  // A private image may be shown by another link than the one that the payment was signed at.
  const url = pathOf(tier);
  const payment = known ? { ...known, url } : await sign({ .../** @type {import("./payer.js").Payer} */ (from), url, tier, file: null, step });
  step("The payment settles");
  const outcome = await present(payment, null, { step });
  step("");
  if (outcome.kind === "bought") return longer(outcome.answer, payment.price);
  if (outcome.kind === "open") return problem(`${outcome.message} You are not asked to sign again.`);
  const isCharged = outcome.kind === "over" && outcome.charged;
  problem(`${isCharged ? `The payment of ${payment.price} went through.` : "Nothing was charged."} ${outcome.message}`);
}

/** Shows how long the image is kept now, and what can still be bought. @param {any} answer @param {string} paid */
async function longer(answer, paid) {
  const [left, end] = [byId("left"), byId("end")];
  left.dateTime = answer.expiresAt ?? "";
  left.textContent = timeLeft(answer.expiresAt);
  left.title = answer.expiresAt ? dateInWords(answer.expiresAt) : "";
  end.textContent = answer.expiresAt ? `kept until ${dateInWords(answer.expiresAt)}` : "";
  if (all().some((it) => it.id === id)) remember(answer);
  step(`Paid ${paid}. The image is kept until ${answer.expiresAt ? dateInWords(answer.expiresAt) : "the service ends"}.`);
  const page = await pageNow();
  const facts = page?.querySelector("#image dl.facts");
  if (facts) byId("image").querySelector("dl.facts").replaceWith(facts);
  const offered = page?.querySelector("#renew .tiers");
  if (page ? !offered : !answer.expiresAt) return finish();
  if (!offered) return;
  const { value } = chosen();
  form.querySelector(".tiers")?.replaceWith(offered);
  for (const tier of tiers()) tier.checked ||= tier.value === value;
}

/** This page as the server has it now. @returns {Promise<Document | null>} null: the server did not send it */
async function pageNow() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "reload" }).catch(() => null);
  const text = answer?.ok ? await answer.text().catch(() => null) : null;
  return text === null ? null : new DOMParser().parseFromString(text, "text/html");
}

/** Hides the form, because nothing is left to buy. What was paid stays visible. */
function finish() {
  const [paid, others] = [byId("renewing"), byId("other-ways")];
  const had = form.contains(document.activeElement) || document.activeElement === document.body;
  form.after(paid);
  form.hidden = true;
  if (others) others.hidden = true;
  paid.tabIndex = -1;
  if (had) paid.focus();
}

/** Carries out what the button says. */
async function press() {
  problem("");
  if (!payer() && !openPayment()) {
    // The button shows the price next, and a second press pays it.
    await choosePayer();
    return;
  }
  isBusy = true;
  refresh();
  try {
    await renew();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    step("");
    problem(error.message);
    if (!(error instanceof WalletError || error instanceof NoAnswer)) console.info(error.message);
  } finally {
    isBusy = false;
    refresh();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  press();
});
form.addEventListener("change", () => {
  problem("");
  refresh();
});
startPayer({ changed: refresh, problem });
// A payment of an earlier visit, whose outcome this page does not know.
if (openPayment()) {
  byId("longer").open = true;
  press();
}
refresh();
form.dataset.ready = "";
