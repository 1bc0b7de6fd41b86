// The form that uploads: takes images by drop, paste, file dialog and camera, and sends them to the chosen tier or through an
// upload link.

import { NoAnswer, Unreadable, copyOf, isReadable, messageOf, send } from "./api.js";
import { cardOf } from "./card.js";
import { forms } from "./copy.js";
import { byId, make } from "./dom.js";
import { hasUnstored, isOf, openFor, openPayments, present, sign, usdc } from "./pay.js";
import { choosePayer, payer, startPayer, walletAsks } from "./payer.js";
import { say } from "./say.js";
import { isShrinkable, shrink } from "./shrink.js";
import { remember } from "./uploads.js";
import { WalletError } from "./wallet.js";
import { sizeInWords, timeInWords } from "./words.js";

/** How many images that cost nothing are sent at a time. */
const AT_ONCE = 3;
/** The text of the button that asks for the file of an open payment. */
const CHOOSE = "Choose the file";

const form = /** @type {HTMLFormElement} */ (byId("uploader"));
const input = /** @type {HTMLInputElement} */ (byId("image"));
const queue = byId("queue");
const button = /** @type {HTMLButtonElement} */ (byId("send"));
const isLink = "link" in form.dataset;

/**
 * An image of the queue. `payment` is there while the outcome of a signed payment is open.
 * `state`: "ready" waits for the button, "busy" is under way, "failed" was refused or is open. The button sends a refused
 * image again only if `isSendable`: the same bytes may be taken another time, or by another tier.
 * @typedef {object} Item
 * @property {File | null} file null: a payment of an earlier visit, whose file this page does not have
 * @property {string} name
 * @property {import("./pay.js").Payment | null} payment
 * @property {"ready" | "busy" | "failed"} state
 * @property {boolean} isSendable
 * @property {any} row
 * @property {any} size its size in words
 * @property {any} said
 * @property {any} bar
 * @property {any} buttons
 * @property {string | null} picture
 */

/** @type {Item[]} */
let items = [];
/** The item that the next chosen file is for. @type {Item | null} */
let wanted = null;
/** The forms of what this page has uploaded, in that order. @type {ReturnType<typeof forms>[]} */
const uploaded = [];

// ---- The choice of a tier ----

/** @returns {HTMLInputElement[]} */
const tiers = () => [...form.querySelectorAll('input[name="tier"]')].map((it) => /** @type {HTMLInputElement} */ (it));

/** The chosen tier. @returns {HTMLInputElement | null} null: an upload link */
const chosen = () => tiers().find((it) => it.checked) ?? null;

/** @param {HTMLInputElement | null} tier */
const isPaid = (tier) => tier !== null && tier.dataset.url !== "/api/free";

/** The path that takes the image. @param {File} file @param {HTMLInputElement | null} tier */
function pathFor(file, tier) {
  const query = new URLSearchParams();
  if (isPaid(tier)) query.set("bytes", String(file.size));
  const isPrivate = form.querySelector('input[name="visibility"]');
  if (isPrivate instanceof HTMLInputElement && isPrivate.checked) query.set("visibility", "private");
  const path = tier ? tier.dataset.url : form.getAttribute("action");
  return query.size ? `${path}?${query}` : `${path}`;
}

/** The largest image that a tier, or the upload link, takes, in bytes. @param {HTMLInputElement | null} tier */
const limitOf = (tier) => Number((tier ?? form).dataset.max ?? Infinity);

/** What is wrong with the size of a file. @param {File} file @param {HTMLInputElement | null} tier @returns {string | null} */
function tooLarge(file, tier) {
  const most = limitOf(tier);
  if (file.size <= most) return null;
  const others = tiers().filter((it) => file.size <= Number(it.dataset.max)).map((it) => it.value);
  const smaller = isShrinkable(file) ? "make it smaller" : "choose a smaller image";
  const instead = others.length ? `Choose ${others.join(" or ")}, or ${smaller}.` : `${smaller[0].toUpperCase()}${smaller.slice(1)}.`;
  const taker = tier?.value ?? "this link";
  return `This image has ${sizeInWords(file.size)}, and ${taker} takes up to ${sizeInWords(most)}. ${instead}`;
}

// ---- The queue ----

/** @param {Iterable<File>} files */
function add(files) {
  for (const file of files) {
    const picture = URL.createObjectURL(file);
    // The file of an open payment takes the place that waits for it.
    const payment = openPayments().find((it) => isOf(it, file));
    const waiting = wanted ?? items.find((it) => it.state === "failed" && !it.file && it.payment?.key === payment?.key);
    wanted = null;
    if (waiting) {
      Object.assign(waiting, { file, picture });
      run(waiting);
      continue;
    }
    const item = itemOf(file, file.name || "image", picture, null);
    show(item);
    if (file.type && !file.type.startsWith("image/")) fail(item, "This is not an image. Choose a PNG, JPEG, GIF or WebP file.", "");
    else checkReadable(item, file);
  }
  problem("");
  refresh();
  queue.scrollIntoView({ block: "nearest" });
  if (items.some(({ state }) => state === "ready")) button.focus({ preventScroll: true });
}

/** Says so if the browser can't read the file that was chosen. @param {Item} item @param {File} file */
async function checkReadable(item, file) {
  if (await isReadable(file)) return;
  if (item.state === "ready" && item.file === file) fail(item, new Unreadable().message, "");
}

/** @param {File | null} file @param {string} name @param {string | null} picture @param {import("./pay.js").Payment | null} payment @returns {Item} */
function itemOf(file, name, picture, payment) {
  const said = make("span", { className: "small soft queue-said" });
  const bar = make("progress", { max: 1, value: 0, hidden: true, "aria-label": `Progress of ${name}` });
  const buttons = make("span", { className: "row queue-buttons" });
  const image = picture ? make("img", { src: picture, alt: "", className: "queue-picture" }) : make("span", { className: "queue-picture" });
  // A file that is no picture has a plain square.
  if (picture) image.addEventListener("error", () => image.replaceWith(make("span", { className: "queue-picture" })));
  const bytes = file?.size ?? payment?.file?.size;
  const size = make("span", { className: "small soft" }, bytes === undefined ? "" : sizeInWords(bytes));
  const shown = make("strong", {}, make("bdi", {}, name));
  const row = make("li", { className: "queue-item" }, image,
    make("span", { className: "queue-name" }, shown, " ", size, said), bar, buttons);
  return { file, name, payment, state: "ready", isSendable: true, row, size, said, bar, buttons, picture };
}

/** @param {Item} item */
function show(item) {
  items.push(item);
  queue.append(item.row);
  offer(item);
}

/** @param {Item} item */
function drop(item) {
  items = items.filter((it) => it !== item);
  item.row.remove();
  refresh();
}

/** Asks for the file of an open payment. @param {Item} item */
function chooseFor(item) {
  wanted = item;
  input.click();
}

/** What can be done with an item. @param {Item} item @param {string} [repeat] the text of the button that sends it again */
function offer(item, repeat) {
  const press = (/** @type {string} */ text, /** @type {() => void} */ act) => {
    const made = make("button", { type: "button", "aria-label": `${text}: ${item.name}` }, text);
    made.addEventListener("click", act);
    return made;
  };
  const buttons = [];
  if (item.state === "failed" && repeat) buttons.push(press(repeat, () => (repeat === CHOOSE ? chooseFor(item) : run(item))));
  // An open payment stays until its outcome is known.
  if (item.state !== "busy" && !item.payment) {
    buttons.push(press("Remove", () => {
      if (item.picture) URL.revokeObjectURL(item.picture);
      drop(item);
      input.focus();
    }));
  }
  item.buttons.replaceChildren(...buttons);
}

/** @param {Item} item @param {string} text @param {boolean} [isBad] */
function tell(item, text, isBad = false) {
  item.said.textContent = text;
  item.said.classList.toggle("bad", isBad);
  item.said.classList.toggle("soft", !isBad);
}

/** @param {Item} item @param {string} text @param {string} repeat the text of the button that sends it again; empty: none */
function fail(item, text, repeat = "Try again") {
  item.state = "failed";
  item.isSendable = repeat !== "";
  item.bar.hidden = true;
  tell(item, text, true);
  say(`${item.name}: ${text}`);
  const had = item.row.contains(document.activeElement);
  offer(item, repeat);
  if (had) item.buttons.querySelector("button")?.focus();
  refresh();
}

/** @param {string} text shown near the button; empty: none */
function problem(text) {
  const shown = byId("problem");
  shown.textContent = text;
  shown.hidden = !text;
}

// ---- Pictures above the limit of the tier ----

/** The pictures that are too large for the chosen tier, and can be made smaller. @returns {Item[]} */
function large() {
  const tier = chosen();
  return items.filter((item) => item.state === "ready" && item.file && tooLarge(item.file, tier) && isShrinkable(item.file));
}

/** Makes every picture that is too large small enough for the chosen tier. */
async function shrinkAll() {
  const most = limitOf(chosen());
  const had = document.activeElement === byId("shrink");
  for (const item of large()) {
    item.state = "busy";
    tell(item, "Making it smaller");
    offer(item);
    refresh();
    const smaller = await shrink(/** @type {File} */ (item.file), most);
    if (!smaller) {
      fail(item, "This browser can’t make it smaller. Choose a smaller image.", "");
      continue;
    }
    if (item.picture) URL.revokeObjectURL(item.picture);
    Object.assign(item, { file: smaller.file, state: "ready", picture: URL.createObjectURL(smaller.file) });
    const image = item.row.querySelector("img");
    if (image) image.src = item.picture;
    item.size.textContent = `${sizeInWords(smaller.file.size)}, ${smaller.width} × ${smaller.height} pixels, made smaller`;
    say(`${item.name} is smaller now: ${sizeInWords(smaller.file.size)}.`);
    offer(item);
  }
  refresh();
  if (had) button.focus({ preventScroll: true });
}

// ---- The button ----

/** Whether the button sends this item. @param {Item} item */
const isWaiting = (item) => item.state === "ready" || (item.state === "failed" && item.isSendable && !item.payment);

/** Shows what the button does now. */
function refresh() {
  queue.hidden = items.length === 0;
  const tier = chosen();
  const payment = byId("payment");
  if (payment) payment.hidden = !isPaid(tier);
  const ready = items.filter(isWaiting);
  for (const item of ready.filter(({ state }) => state === "ready")) {
    const wrong = item.file && tooLarge(item.file, tier);
    tell(item, wrong ?? "", Boolean(wrong));
  }
  const count = ready.filter(({ file }) => !file || !tooLarge(file, tier)).length;
  const tooMany = large().length;
  byId("large").hidden = tooMany === 0;
  byId("shrink").textContent = tooMany > 1 ? `Make ${tooMany} images smaller` : "Make it smaller";
  const images = count > 1 ? `${count} images` : count === 1 ? "the image" : "";
  if (!isPaid(tier) || !tier) {
    button.textContent = `Upload ${images}`.trim();
  } else if (!payer()) {
    button.textContent = "Connect a wallet";
  } else {
    const total = tier.dataset.amount && count ? `${usdc(BigInt(tier.dataset.amount) * BigInt(count))} ` : "";
    button.textContent = `Pay ${total}and upload ${images}`.trim();
  }
  button.disabled = items.some(({ state }) => state === "busy");
}

/** @param {Event} event */
async function submit(event) {
  event.preventDefault();
  const tier = chosen();
  problem("");
  if (isPaid(tier) && !payer()) {
    // The button shows the sum next, and a second press pays it.
    await choosePayer();
    return;
  }
  if (isPaid(tier) && !(await choosePayer())) return;
  const ready = items.filter((item) => isWaiting(item) && item.file && !tooLarge(item.file, tier));
  if (!ready.length) {
    const taker = isLink ? "this link" : "the chosen tier";
    problem(items.some(isWaiting) ? `No image in the list fits ${taker}.` : "Choose an image first.");
    if (!items.length) input.focus();
    return;
  }
  for (const item of ready) item.state = "busy";
  refresh();
  // A wallet asks one question at a time.
  const lanes = isPaid(tier) ? 1 : AT_ONCE;
  const waiting = [...ready];
  const lane = async () => {
    for (let item = waiting.shift(); item; item = waiting.shift()) {
      // Who declines one payment is not asked for the others.
      if (await run(item, tier)) break;
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  for (const item of waiting) {
    item.state = "ready";
    offer(item);
  }
  refresh();
  const failed = ready.filter(({ state }) => state === "failed");
  if (!failed.length) return;
  problem(failed.length === 1 ? failed[0].said.textContent : `${failed.length} images were not uploaded. The list says why.`);
  failed[0].row.scrollIntoView({ block: "nearest" });
}

/** Sends one image, with whatever it still needs. Returns whether the wallet declined. @param {Item} item @param {HTMLInputElement | null} tier */
async function run(item, tier = chosen()) {
  problem("");
  item.state = "busy";
  offer(item);
  item.bar.hidden = false;
  item.bar.value = 0;
  refresh();
  try {
    if (item.payment || isPaid(tier)) await buy(item, tier);
    else await give(item, tier);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    fail(item, error.message, error instanceof Unreadable ? "" : "Try again");
    const isExpected = [WalletError, NoAnswer, Unreadable].some((kind) => error instanceof kind);
    if (!isExpected) console.info(error.message);
    return error instanceof WalletError && error.kind === "declined";
  }
  return false;
}

/** @param {Item} item */
function progressOf(item) {
  return (/** @type {number} */ part) => {
    item.bar.value = part;
    tell(item, part < 1 ? `Sending, ${Math.round(part * 100)} %` : item.payment ? "Sent. The payment settles" : "Sent. The server checks it");
  };
}

/** Uploads for free or through a link. @param {Item} item @param {HTMLInputElement | null} tier */
async function give(item, tier) {
  const file = /** @type {File} */ (item.file);
  const wrong = tooLarge(file, tier);
  if (wrong) return fail(item, wrong);
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  tell(item, "Sending");
  const body = await copyOf(file);
  const answer = await send("POST", pathFor(file, tier), { headers, body, progress: progressOf(item) });
  if (answer.status !== 200 || typeof answer.body?.url !== "string") {
    const action = answer.body?.action?.type;
    if (action === "pay" && tier) return fail(item, freeIsSpent(Number(answer.header("Retry-After"))));
    return fail(item, messageOf(answer), ["fix_request", "resize", "contact"].includes(action) ? "" : "Try again");
  }
  done(item, answer.body, null);
  if (isLink) await countLink();
  else await countFree(answer.body.tier);
}

/** What to do where a limit of free uploads is reached, and a payment would be taken. @param {number} seconds until then */
function freeIsSpent(seconds) {
  const later = seconds ? `Try again in ${timeInWords(seconds + 60)}` : "Try again later";
  return `No free upload is left for now. ${later}, or choose a tier with a price.`;
}

/** Uploads by a payment: the open one of this item, or a new one. @param {Item} item @param {HTMLInputElement | null} tier */
async function buy(item, tier) {
  const step = (/** @type {string} */ text) => {
    tell(item, text);
    say(`${item.name}: ${text}`);
  };
  const asks = (/** @type {string} */ text) => {
    if (text) tell(item, text);
    walletAsks(text);
  };
  /** @type {Blob | null} */
  let body = null;
  if (!item.payment) {
    const file = /** @type {File} */ (item.file);
    const wrong = tooLarge(file, tier);
    if (wrong) return fail(item, wrong);
    // Nobody signs for a file that can't be sent.
    body = await copyOf(file);
    const url = pathFor(file, tier);
    const known = openFor(file, url);
    const from = known ? null : await choosePayer();
    if (!known && !from) return fail(item, "No wallet is connected, so nothing was paid.");
    const order = { url, tier: tier?.value ?? "", file, step, asks };
    item.payment = known ?? await sign({ .../** @type {import("./payer.js").Payer} */ (from), ...order });
  } else if (item.file) {
    body = await copyOf(item.file).catch(() => null);
    // The file is asked for again if the server does not have the image.
    if (!body) item.file = null;
  }
  const payment = item.payment;
  step(body ? "Sending" : "Asking the server what became of this payment");
  const outcome = await present(payment, body, { progress: body ? progressOf(item) : undefined, step });
  switch (outcome.kind) {
    case "bought":
      item.payment = null;
      return done(item, outcome.answer, payment.price);
    case "over":
      item.payment = null;
      if (outcome.charged) return fail(item, `The payment of ${payment.price} went through. ${outcome.message}`, "");
      return fail(item, `Nothing was charged. ${outcome.message}`, item.file ? "Try again" : "");
    case "unsent":
      return fail(item, "The server does not have this image, and nothing was charged. "
        + "Choose it again to finish: you need not sign again.", CHOOSE);
    case "open":
      return fail(item, `${outcome.message} You are not asked to sign again.`, "Ask again");
  }
}

/** @param {Item} item @param {any} answer @param {string | null} paid */
function done(item, answer, paid) {
  const isKept = remember(answer);
  const hadFocus = document.activeElement === button || document.activeElement === document.body || item.row.contains(document.activeElement);
  const card = cardOf(answer, { name: item.name, picture: item.picture, paid, isKept });
  const results = byId("results");
  results.hidden = false;
  // The newest is at the top.
  byId("copy-all").after(card);
  uploaded.push(forms(answer));
  copyAll();
  drop(item);
  say(`${item.name} is uploaded.`);
  if (hadFocus && !items.some(({ state }) => state === "busy")) card.querySelector("input")?.focus();
}

/** Offers to copy the links of several images at once. */
function copyAll() {
  byId("copy-all").hidden = uploaded.length < 2;
  const [links, markdown] = [byId("all-links"), byId("all-markdown")];
  links.textContent = `Copy all ${uploaded.length} links`;
  // The text that the button shows again after it has said that it copied.
  delete links.dataset.label;
  links.dataset.copy = uploaded.map(({ url }) => url).join("\n");
  markdown.dataset.copy = uploaded.map((it) => it.markdown).join("\n");
}

// ---- What is left ----

/** Shows what is left of the upload link. */
async function countLink() {
  const answer = await fetch(form.action, { headers: { Accept: "text/plain" } }).catch(() => null);
  const text = await answer?.text();
  if (answer?.ok && text) byId("link-left").textContent = text.split("\n")[0];
}

/** Shows how many free uploads are left, as the server counts them. @param {string} tier */
async function countFree(tier) {
  const shown = form.querySelector("[data-left]");
  if (!shown || !tiers().some(({ value }) => value === tier)) return;
  const answer = await fetch("/", { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  shown.textContent = page.querySelector("[data-left]")?.textContent ?? shown.textContent;
}

// ---- Start ----

input.multiple = true;
input.required = false;
for (const tier of tiers()) tier.disabled = false;
for (const source of [input, byId("camera")]) {
  source.addEventListener("cancel", () => { wanted = null; });
  source.addEventListener("change", () => {
    add([...source.files]);
    // The same file can be chosen again.
    source.value = "";
  });
}
byId("shrink").addEventListener("click", shrinkAll);
form.addEventListener("submit", submit);
form.addEventListener("change", () => {
  problem("");
  refresh();
});

const area = byId("drop");
const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  area.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) area.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  area.classList.remove("over");
  add(event.dataTransfer?.files ?? []);
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (!files?.length) return;
  event.preventDefault();
  add(files);
});
window.addEventListener("beforeunload", (event) => {
  if (hasUnstored() || items.some(({ state }) => state === "busy")) event.preventDefault();
});

if (byId("payment")) startPayer({ changed: refresh, problem });
// Payments of an earlier visit, whose outcome this page does not know.
for (const payment of isLink ? [] : openPayments()) {
  // The page of an image shows those that keep it longer.
  if (!payment.file) continue;
  const item = itemOf(null, payment.file.name, null, payment);
  show(item);
  run(item);
}
refresh();
document.documentElement.dataset.ready = "";
