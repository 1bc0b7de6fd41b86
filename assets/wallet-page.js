// The images of a wallet: it signs in, and then lists, deletes and shares them.

import { NoAnswer, messageOf } from "./api.js";
import { byId, make } from "./dom.js";
import { checksummed } from "./keccak.js";
import { linkOf } from "./links.js";
import { receiptsOf } from "./receipt.js";
import { say } from "./say.js";
import { actButton, alertWith, ask, askToDelete, copyButton, entryOf, onPress, sayDeleted, takeOut, titleOf } from "./shelf.js";
import { sendSigned } from "./signin.js";
import { WalletError, connect, watchWallets } from "./wallet.js";
import { dateInWords } from "./words.js";

/** How long a new link may last, in seconds. The server ends it with the image at the latest. */
const LIVES = /** @type {const} */ ([["1 hour", 3600], ["1 day", 86_400], ["7 days", 604_800], ["30 days", 2_592_000]]);

/** The wallet that is signed in. @type {{wallet: import("./wallet.js").Wallet, address: string} | null} */
let who = null;
/** The cursor of the next page. @type {string | null} */
let next = null;

byId("choose").hidden = false;
watchWallets((wallets) => {
  byId("none").hidden = wallets.length > 0;
  byId("wallets").replaceChildren(...wallets.map((wallet) => onPress(
    make("button", { type: "button", className: "main" }, wallet.icon && make("img", { className: "wallet-icon", src: wallet.icon, alt: "" }), `Sign in with ${wallet.name}`),
    () => attempt(() => signIn(wallet)))));
});

/** Carries out an act, and shows what the wallet or the network says against it. @param {() => Promise<unknown>} act */
async function attempt(act) {
  alertWith(null);
  try {
    await act();
  } catch (error) {
    if (!(error instanceof WalletError || error instanceof NoAnswer)) throw error;
    alertWith(error.message);
  }
}

/**
 * Sends a signed request. `null`: the server refused it, and the page says why.
 * @param {string} method
 * @param {string} path
 * @param {string} [body]
 * @returns {Promise<any>} the body of the answer
 */
async function call(method, path, body) {
  if (!who) return null;
  say(`${who.wallet.name} is asked to sign.`);
  const answer = await sendSigned(who, method, path, body);
  if (answer.status === 200) return answer.body;
  alertWith(messageOf(answer));
  return null;
}

/** @param {import("./wallet.js").Wallet} wallet */
async function signIn(wallet) {
  who = { wallet, address: await connect(wallet) };
  const page = await call("GET", "/api/images");
  if (!page) return;
  byId("address").textContent = checksummed(who.address);
  byId("shelf").replaceChildren();
  byId("choose").hidden = true;
  byId("list").hidden = false;
  add(page);
  byId("title").focus();
  say("You are signed in.");
}

/** @param {{images: any[], next: string | null}} page */
function add(page) {
  next = page.next;
  byId("shelf").append(...page.images.map(shown));
  byId("more").hidden = next === null;
  byId("empty").hidden = byId("shelf").childElementCount > 0;
}

onPress(byId("more"), () => attempt(async () => {
  const first = byId("shelf").childElementCount;
  const page = await call("GET", `/api/images?after=${encodeURIComponent(next ?? "")}`);
  if (!page) return;
  add(page);
  byId("shelf").children[first]?.querySelector("a.name")?.focus();
}));

onPress(byId("leave"), () => {
  [who, next] = [null, null];
  byId("shelf").replaceChildren();
  byId("list").hidden = true;
  byId("choose").hidden = false;
  alertWith(null);
  byId("title").focus();
  say("You are signed out.");
});

/** @param {any} answer @returns {HTMLElement} */
function shown(answer) {
  const image = { ...answer, bytes: answer.sizeBytes };
  const acts = [copyButton(image)];
  if (image.visibility === "private") acts.push(actButton("Links", image, () => attempt(() => links(image))));
  acts.push(actButton("Receipt", image, () => attempt(() => receipts(image))));
  acts.push(actButton("Delete", image, () => attempt(() => destroy(image, entry)), "danger"));
  const entry = entryOf(image, { extra: image.createdAt && `uploaded ${dateInWords(image.createdAt)}`, acts });
  return entry;
}

/** @param {any} image @param {HTMLElement} entry */
async function destroy(image, entry) {
  if (!(await askToDelete(image)) || !(await call("DELETE", `/api/images/${image.id}`))) return;
  takeOut(entry);
  byId("empty").hidden = byId("shelf").childElementCount > 0 || next !== null;
  sayDeleted();
}

/** @param {any} image */
async function receipts(image) {
  const answer = await call("GET", `/api/receipts/${image.id}`);
  if (answer) await ask({ title: `Receipt: ${titleOf(image)}`, body: receiptsOf(answer, image), close: "Close" });
}

/** Makes a link to a private image, or ends all of them. @param {any} image */
async function links(image) {
  const path = `/api/images/${image.id}/links`;
  const life = make("select", { id: "life" }, ...LIVES.map(([words, seconds]) => make("option", { value: String(seconds) }, words)));
  const isEnd = make("input", { type: "radio", name: "links", id: "end-links" });
  const isNew = make("input", { type: "radio", name: "links", id: "new-link", checked: true });
  const chosen = await ask({
    title: "Links to this private image",
    body: [make("fieldset", { className: "stack" },
      make("legend", {}, "What is to be done?"),
      make("label", { className: "row choice" }, isNew, "Make a new link, for whoever should see the image"),
      make("label", { className: "row choice" }, isEnd, "End every link that was made until now")),
    make("p", { className: "field" }, make("label", { htmlFor: "life" }, "A new link lasts"), life)],
    act: "Sign", close: "Cancel",
  });
  if (!chosen) return;
  if (isEnd.checked) {
    const ended = await call("DELETE", path);
    if (ended) await ask({ title: "All links are ended", body: [make("p", {}, "No link that was made until now shows this image. Make a new one for whoever should see it.")], close: "Close" });
    return;
  }
  const made = await call("POST", path, JSON.stringify({ expiresInSeconds: Number(life.value) }));
  if (made) await ask({ title: "A new link", body: linkOf(made), close: "Close" });
}
