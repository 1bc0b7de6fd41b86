// Uploads as people do: on the front page and through an upload link, for free and paid by a wallet. Run by
// scripts/check-pages.
//
//     node home.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { audit, fits, giveWallet, launch, losePayment, open, shoot } from "./browser.mjs";

const [known, shots] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
// `site` has the usual tiers. `strict` has few free uploads, and a tier that costs more than a wallet has.
const { site, strict, pictures } = known;
const KEY = `0x${"42".repeat(32)}`;
// The front page in all, in bytes as they travel, and until its first paint on a slow line, in milliseconds.
const FRONT_BYTES = 60_000;
const FIRST_PAINT = 1000;

const folder = mkdtempSync(join(tmpdir(), "check-pages-pictures-"));
// Writes picture `index` under a name. Each is another image.
function file(name, index) {
  const path = join(folder, name);
  writeFileSync(path, Buffer.from(pictures[index], "base64"));
  return path;
}

async function front(browser, options = {}, base = site) {
  const page = await open(browser, { origins: [base], ...options });
  page.paid = [];
  page.on("request", (request) => request.headers()["payment-signature"] && page.paid.push(request));
  await page.goto(`${base}/`);
  if (options.javaScriptEnabled !== false) await page.locator("html[data-ready]").waitFor();
  return page;
}

const choose = (page, ...paths) => page.locator("#image").setInputFiles(paths);
const tier = (page, name) => page.locator(`.tier:has(input[value="${name}"])`).click();
const button = (page) => page.locator("#send");
const cards = (page) => page.locator("article.result");
const said = (page, text) => page.locator(".queue-said", { hasText: text }).waitFor();
const link = (page, index = 0) => page.getByLabel(/^Link of /).nth(index).inputValue();
const uploads = (page) => page.evaluate(() => JSON.parse(localStorage.getItem("pixtoll.uploads") ?? "[]"));
const payments = (page) => page.evaluate(() => JSON.parse(localStorage.getItem("pixtoll.payments") ?? "[]"));

async function served(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, url);
  return Buffer.from(await response.arrayBuffer());
}

async function end(page) {
  page.check();
  await page.context().close();
}

// ---- Free ----

async function free(browser) {
  const page = await front(browser);
  await choose(page, file("a photo.png", 0));
  await shoot(page, shots, "home-chosen");
  await audit(page, "a chosen image");
  await button(page).click();
  await cards(page).waitFor();
  const url = await link(page);
  await served(url);
  await audit(page, "an uploaded image");
  await shoot(page, shots, "home-uploaded");
  const [kept] = await uploads(page);
  assert.deepEqual([kept.url, kept.tier, kept.visibility], [url, "free", "public"]);
  assert.match(kept.deleteToken, /^[0-9a-f]{40}$/);
  assert.match(await cards(page).textContent(), /7 days left/);

  // Copies, with and without the clipboard API.
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const clip = () => page.evaluate(() => navigator.clipboard.readText());
  for (const [name, text] of [["Markdown", `![](${url})`], ["BBCode", `[img]${url}[/img]`], ["HTML", `<img src="${url}" width="64" height="48" alt="">`]]) {
    await page.getByRole("button", { name, exact: true }).click();
    await page.getByRole("status").filter({ hasText: `Copied: ${name}` }).waitFor();
    assert.equal(await clip(), text);
  }
  const older = await page.evaluate(async () => {
    const { copy } = await import(document.querySelector('link[href$="/copy.js"]').href);
    Object.defineProperty(navigator, "clipboard", { value: undefined, configurable: true });
    const copied = await copy("the older way");
    Reflect.deleteProperty(navigator, "clipboard");
    return copied;
  });
  assert.ok(older);
  assert.equal(await clip(), "the older way");

  // Deletion asks once.
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete for good?" }).click();
  await cards(page).waitFor({ state: "detached" });
  assert.equal((await fetch(url)).status, 404);
  assert.deepEqual(await uploads(page), []);
  await end(page);
}

async function several(browser) {
  const page = await front(browser);
  page.allowed.add(415);
  const junk = join(folder, "notes.png");
  writeFileSync(junk, "These are no pixels.");
  await choose(page, file("one.png", 1), file("two.png", 2), junk, file("three.png", 3));
  assert.equal(await button(page).textContent(), "Upload 4 images");
  await button(page).click();
  await cards(page).nth(2).waitFor();
  // One that is refused says why, and the others are there.
  await said(page, /PNG, JPEG, GIF/);
  assert.equal(await cards(page).count(), 3);
  const kept = await uploads(page);
  assert.equal(kept.length, 3);
  // Their links are copied at once, in the order of the uploads.
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const urls = kept.map(({ url }) => url).reverse();
  for (const [name, text] of [["Copy all 3 links", urls.join("\n")], ["All as Markdown", urls.map((url) => `![](${url})`).join("\n")]]) {
    await page.getByRole("button", { name }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
    await page.getByRole("button", { name }).waitFor();
  }
  await shoot(page, shots, "home-several");
  await page.getByRole("button", { name: "Remove: notes.png" }).click();
  assert.ok(await page.locator("#queue").isHidden());
  await end(page);
}

// Photographs above the limit of the tier are made smaller: upright, and no others are touched.
async function large(browser) {
  const page = await front(browser);
  const most = await page.locator('input[value="free"]').evaluate((tier) => Number(tier.dataset.max));
  const sizes = await page.evaluate(async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1600, height: 1200 });
    const paint = canvas.getContext("2d");
    const noise = paint.createImageData(1600, 1200);
    for (let at = 0; at < noise.data.length; at++) noise.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
    paint.putImageData(noise, 0, 0);
    const [png, jpeg] = await Promise.all(["image/png", "image/jpeg"].map((type) => new Promise((resolve) => canvas.toBlob(resolve, type, 0.95))));
    // Exif with the orientation of a phone that was held upright.
    const exif = [0xff, 0xe1, 0, 34, ...Array.from("Exif\0\0MM\0*", (letter) => letter.charCodeAt(0)), 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0];
    const photo = new Blob([jpeg.slice(0, 2), new Uint8Array(exif), jpeg.slice(2)]);
    const data = new DataTransfer();
    data.items.add(new File([png], "screen.png", { type: "image/png" }));
    data.items.add(new File([photo], "photo.jpeg", { type: "image/jpeg" }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    return [png.size, photo.size];
  });
  assert.ok(sizes.every((size) => size > most), `${sizes}`);
  await choose(page, file("small.png", 0));
  await said(page, "or make it smaller.");
  assert.equal(await button(page).textContent(), "Upload the image");
  await audit(page, "images that are too large");
  await shoot(page, shots, "home-large");
  await page.getByRole("button", { name: "Make 2 images smaller" }).click();
  await page.getByRole("button", { name: "Upload 3 images" }).waitFor({ timeout: 30_000 });
  await shoot(page, shots, "home-made-smaller");
  await button(page).click();
  await cards(page).nth(2).waitFor();
  const kept = await uploads(page);
  const of = (type) => kept.find(({ contentType }) => contentType === type);
  assert.ok(kept.every(({ bytes }) => bytes <= most && bytes > 0));
  const [screen, photo, small] = ["image/webp", "image/jpeg", "image/png"].map(of);
  assert.ok(screen.bytes > most / 4 && photo.bytes > most / 4, "they are not smaller than they need to be");
  assert.ok(Math.abs(screen.width / screen.height - 4 / 3) < 0.01 && Math.abs(photo.width / photo.height - 3 / 4) < 0.01);
  assert.deepEqual([small.width, small.height], [64, 48]);
  await end(page);
}

async function pasteAndDrop(browser) {
  const page = await front(browser);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const hand = (type, base64) => page.evaluate(async ([type, base64]) => {
    const blob = new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
    if (type === "paste") return navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    const data = new DataTransfer();
    data.items.add(new File([blob], "dropped.png", { type: "image/png" }));
    for (const name of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
  }, [type, base64]);
  await hand("paste", pictures[0]);
  await page.locator("body").click({ position: { x: 5, y: 5 } });
  await page.keyboard.press("Control+V");
  await page.locator(".queue-item").waitFor();
  await hand("drop", pictures[1]);
  await page.getByText("dropped.png").waitFor();
  await button(page).click();
  await cards(page).nth(1).waitFor();
  assert.equal((await uploads(page)).length, 2);
  await end(page);
}

async function isPrivate(browser) {
  const page = await front(browser);
  await choose(page, file("secret.png", 2));
  await page.getByLabel("Private: only links").check();
  await button(page).click();
  await cards(page).waitFor();
  const url = await link(page);
  await served(url);
  assert.equal((await fetch(url.split("?")[0])).status, 404);
  assert.equal((await uploads(page))[0].visibility, "private");
  await end(page);
}

// A browser without room says so, and what deletes the image is shown.
async function storageIsFull(browser) {
  const page = await front(browser);
  await page.evaluate(() => {
    Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
  });
  await choose(page, file("unkept.png", 3));
  await button(page).click();
  await page.getByText("This browser has no room for what deletes this image.").waitFor();
  assert.deepEqual(await uploads(page), []);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.getByRole("button", { name: "Delete for good?" }).click();
  await cards(page).waitFor({ state: "detached" });
  await end(page);
}

// The whole way by keys: the file dialog opens by Enter, the button has the focus after it, and the link after the upload.
async function byKeyboard(browser) {
  const page = await front(browser);
  await page.locator("#image").focus();
  const dialog = page.waitForEvent("filechooser");
  // Chromium ignores keys until it has painted the page.
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  await page.keyboard.press("Enter");
  await (await dialog).setFiles([file("keys.png", 0)]);
  await page.locator(".queue-item").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), "send");
  await page.keyboard.press("Enter");
  await cards(page).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-label")), "Link of keys.png");
  await page.keyboard.press("Tab");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await link(page));
  await end(page);
}

async function withoutScript(browser) {
  for (const width of [390, 1440]) {
    const page = await front(browser, { javaScriptEnabled: false, width });
    await shoot(page, shots, `home-no-script-${width}`);
    await fits(page, "the form without script");
    await choose(page, file(`plain-${width}.png`, 3));
    await button(page).click();
    await page.getByRole("heading", { name: "Uploaded" }).waitFor();
    await page.waitForLoadState("networkidle");
    await fits(page, "the result without script");
    await shoot(page, shots, `home-no-script-uploaded-${width}`);
    await served(await page.getByRole("textbox", { name: "URL" }).inputValue());
    await end(page);
  }
  const page = await front(browser, { javaScriptEnabled: false });
  page.allowed.add(415);
  const junk = join(folder, "junk.png");
  writeFileSync(junk, "These are no pixels.");
  await choose(page, junk);
  await button(page).click();
  await page.getByRole("heading", { name: "Not uploaded" }).waitFor();
  await shoot(page, shots, "home-no-script-refused");
  await page.getByRole("link", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "Upload an image, get a link" }).waitFor();
  await end(page);
}

// The free uploads of the day end. The image stays in the list, and the button sends it to a tier with a price.
async function freeIsSpent(browser) {
  const page = await front(browser, {}, strict);
  page.allowed.add(429);
  const wallet = await giveWallet(page.context(), { key: KEY });
  await page.reload();
  await page.getByText("1 of 1 are left").waitFor();
  await choose(page, file("first.png", 0));
  await button(page).click();
  await cards(page).waitFor();
  await page.getByText("0 of 1 are left").waitFor();
  await choose(page, file("second.png", 1));
  await button(page).click();
  await said(page, "No free upload is left for now. Try again in");
  await shoot(page, shots, "home-free-spent");
  page.allowed.add(402);
  await tier(page, "year");
  await page.getByRole("button", { name: "Connect Test Wallet" }).click();
  await button(page).click();
  await cards(page).nth(1).waitFor();
  assert.equal(wallet.signed, 1);
  await end(page);
}

// ---- Paid ----

async function payer(browser, options = {}, base = site) {
  const { wallet: has, ...rest } = options;
  const page = await open(browser, { origins: [base], ...rest });
  page.allowed.add(402);
  const wallet = await giveWallet(page.context(), { key: KEY, ...has });
  page.paid = [];
  page.on("request", (request) => request.headers()["payment-signature"] && page.paid.push(request));
  await page.goto(`${base}/`);
  await page.locator("html[data-ready]").waitFor();
  return [page, wallet];
}

async function connect(page, name = "year") {
  await tier(page, name);
  await page.getByRole("button", { name: "Connect Test Wallet" }).click();
  await page.getByText("Paying from 0x").waitFor();
}

async function paid(browser) {
  const [page, wallet] = await payer(browser);
  const other = await giveWallet(page.context(), { key: `0x${"43".repeat(32)}`, name: "Other Wallet" });
  await page.reload();
  await choose(page, file("paid 1.png", 0), file("paid 2.png", 1));
  await tier(page, "year");
  await page.getByRole("button", { name: "Connect Other Wallet" }).waitFor();
  // Two wallets: the button asks for a choice.
  await button(page).click();
  await page.getByRole("alert").filter({ hasText: "Choose a wallet" }).waitFor();
  await page.getByRole("button", { name: "Connect Test Wallet" }).click();
  await page.getByText("Paying from 0x").waitFor();
  await audit(page, "a connected wallet");
  await shoot(page, shots, "home-pay");
  assert.equal(await button(page).textContent(), "Pay 0.02 USDC and upload 2 images");
  await button(page).click();
  await cards(page).nth(1).waitFor();
  await shoot(page, shots, "home-paid");
  assert.equal(wallet.signed, 2);
  assert.deepEqual(other.calls, []);
  for (const index of [0, 1]) await served(await link(page, index));
  assert.deepEqual((await uploads(page)).map((upload) => upload.tier), ["year", "year"]);
  assert.deepEqual(await payments(page), []);
  await end(page);
}

async function declined(browser) {
  const [page, wallet] = await payer(browser);
  await connect(page);
  await choose(page, file("declined.png", 2));
  wallet.declines = true;
  await button(page).click();
  await said(page, "You declined in Test Wallet. Nothing was signed and nothing was charged.");
  await shoot(page, shots, "home-declined");
  assert.deepEqual([page.paid.length, await payments(page)], [0, []]);
  // The image is still there.
  wallet.declines = false;
  await page.getByRole("button", { name: "Try again: declined.png" }).click();
  await cards(page).waitFor();
  await end(page);
}

async function wrongNetwork(browser) {
  // It is on Ethereum, and does not know the network that is asked for: it is added.
  const [page, wallet] = await payer(browser, { wallet: { chainId: 1, knows: [1] } });
  await connect(page);
  await choose(page, file("network.png", 3));
  await button(page).click();
  await cards(page).waitFor();
  assert.equal(wallet.chainId, 84532);
  assert.deepEqual(wallet.calls.filter((call) => call.startsWith("wallet_")), ["wallet_switchEthereumChain", "wallet_addEthereumChain"]);
  await end(page);
}

async function tooLittleMoney(browser) {
  const [page, wallet] = await payer(browser, {}, strict);
  await connect(page, "dear");
  await choose(page, file("dear.png", 2));
  await button(page).click();
  await said(page, /Nothing was charged.*(balance|fund|USDC)/);
  await shoot(page, shots, "home-too-little-money");
  assert.deepEqual(await payments(page), []);
  assert.equal(wallet.signed, 1);
  // Another tier takes the same image.
  await tier(page, "year");
  await button(page).click();
  await cards(page).waitFor();
  assert.equal(wallet.signed, 2);
  await end(page);
}

// A payer whose next payment, or the answer to it, is lost.
async function unlucky(browser, name, index, how) {
  const [page, wallet] = await payer(browser);
  const lost = await losePayment(page, how);
  const path = file(name, index);
  await connect(page);
  await choose(page, path);
  await button(page).click();
  return { page, wallet, lost, path };
}

async function answerLost(browser) {
  const { page, wallet, lost } = await unlucky(browser, "lost.png", 4, { arrives: true });
  await cards(page).waitFor();
  assert.equal(lost.length, 1);
  assert.equal(await link(page), lost[0].url);
  assert.equal(wallet.signed, 1);
  const sent = page.paid.map((request) => ["payment-signature", "idempotency-key"].map((header) => request.headers()[header]).join());
  assert.deepEqual([sent.length, new Set(sent).size], [2, 1]);
  await end(page);
}

// The page is left before the answer. The next one asks by the key alone, without the image.
async function reloaded(browser) {
  const { page, wallet, lost } = await unlucky(browser, "reloaded.png", 5, { arrives: true });
  await said(page, "The same payment is presented again");
  assert.equal((await payments(page)).length, 1);
  await page.reload();
  await cards(page).waitFor();
  assert.equal(await link(page), lost[0].url);
  assert.equal(page.paid.at(-1).headers()["content-type"], undefined);
  assert.equal(wallet.signed, 1);
  assert.deepEqual(await payments(page), []);
  await end(page);
}

// The payment never reached the server, and the file is gone with the page: it is asked for, and nobody signs again.
async function unsent(browser) {
  const { page, wallet, path } = await unlucky(browser, "unsent.png", 6, { arrives: false });
  page.allowed.add(400);
  await said(page, "The same payment is presented again");
  await page.reload();
  await said(page, "Choose it again to finish");
  await shoot(page, shots, "home-unsent");
  await audit(page, "an open payment");
  const dialog = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose the file: unsent.png" }).click();
  await (await dialog).setFiles([path]);
  await cards(page).waitFor();
  await served(await link(page));
  assert.equal(wallet.signed, 1);
  await end(page);
}

// A file that is gone from the disk is refused before the wallet is asked, and before anything is sent.
async function unreadable(browser) {
  const [page, wallet] = await payer(browser);
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.url()));
  await connect(page);
  for (const [index, name] of ["gone.png", "changed.png"].entries()) {
    const path = file(name, index);
    await choose(page, path);
    await page.getByRole("button", { name: `Remove: ${name}` }).waitFor();
    // The first byte of the file was read by now, and the file was fine.
    await page.evaluate(() => new Promise((resolve) => { setTimeout(resolve, 200); }));
    if (index) writeFileSync(path, "Other bytes.");
    else rmSync(path);
    await button(page).click();
    await said(page, "This file can’t be read. Choose it again.");
    assert.equal(await page.getByRole("button", { name: "Try again" }).count(), 0);
    await page.getByRole("button", { name: `Remove: ${name}` }).click();
  }
  // A folder that is dropped can't be read from the start.
  await page.evaluate(() => {
    const folder = new File(["x"], "folder", { type: "" });
    const refuse = () => Promise.reject(new DOMException("no", "NotFoundError"));
    Object.defineProperty(folder, "slice", { value: () => ({ arrayBuffer: refuse }) });
    const input = document.querySelector("#image");
    Object.defineProperty(input, "files", { value: [folder], configurable: true });
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  await said(page, "This file can’t be read. Choose it again.");
  await audit(page, "a file that can't be read");
  await shoot(page, shots, "home-unreadable");
  assert.deepEqual([sent, await payments(page)], [[], []]);
  assert.equal(wallet.calls.filter((call) => call === "eth_signTypedData_v4").length, 0);
  await end(page);
}

// While the wallet is open, the page says so within the window of a phone.
async function walletIsOpen(browser) {
  const [page, wallet] = await payer(browser, { width: 390, height: 844 });
  const now = page.locator("#wallet-now");
  const asks = async (text) => {
    await now.filter({ hasText: text }).waitFor();
    const { y, height } = await now.boundingBox();
    assert.ok(y >= 0 && y + height <= 844, `"${text}" is at ${y}`);
  };
  await choose(page, file("waits.png", 4));
  await tier(page, "year");
  let release = wallet.pause();
  await button(page).click();
  await asks("Open Test Wallet to connect.");
  await fits(page, "a wallet that connects");
  release();
  await page.getByText("Paying from 0x").waitFor();
  release = wallet.pause("eth_signTypedData_v4");
  await button(page).click();
  await asks("Open Test Wallet and confirm 0.01 USDC");
  await audit(page, "a wallet that is asked to sign");
  await shoot(page, shots, "home-wallet-open");
  release();
  await cards(page).waitFor();
  await page.getByText("Paying from 0x").waitFor();
  await end(page);
}

async function withoutWallet(browser) {
  const page = await front(browser);
  await tier(page, "year");
  await page.getByText("No wallet was found in this browser.").first().waitFor();
  await page.getByText("pixtoll upload --tier year").waitFor();
  await audit(page, "no wallet");
  await shoot(page, shots, "home-no-wallet");
  await end(page);
}

// ---- Upload links ----

async function uploadLink(browser) {
  const made = await (await fetch(`${site}/api/links?images=3&days=1&tier=free`, { method: "POST" })).json();
  const page = await open(browser, { origins: [site] });
  await page.goto(made.url);
  await page.locator("html[data-ready]").waitFor();
  await page.getByText("3 of 3 uploads are left").waitFor();
  await choose(page, file("linked 1.png", 0), file("linked 2.png", 1));
  await button(page).click();
  await cards(page).nth(1).waitFor();
  await page.getByText("1 of 3 uploads are left").waitFor();
  await audit(page, "an upload link");
  await shoot(page, shots, "home-link");
  await end(page);
  const plain = await open(browser, { origins: [site], javaScriptEnabled: false });
  await plain.goto(made.url);
  await choose(plain, file("linked 3.png", 2));
  await button(plain).click();
  await plain.getByRole("heading", { name: "Uploaded" }).waitFor();
  await plain.getByRole("link", { name: "Upload another image" }).click();
  await plain.getByText("All 3 uploads of this link are used.").waitFor();
  await shoot(plain, shots, "home-link-used");
  await end(plain);
}

// The page of a link has the limit of its tier, and makes pictures smaller.
async function linkLimit(browser) {
  const made = await (await fetch(`${site}/api/links?images=1&days=1&tier=free`, { method: "POST" })).json();
  const page = await open(browser, { origins: [site] });
  await page.goto(made.url);
  await page.locator("html[data-ready]").waitFor();
  await page.getByText(/up to \d+ [KM]iB/).waitFor();
  const sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push(request.url()));
  await page.evaluate(async () => {
    const most = Number(document.querySelector("#uploader").dataset.max);
    const canvas = Object.assign(document.createElement("canvas"), { width: 800, height: 600 });
    const png = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
    const data = new DataTransfer();
    // Bytes after the end of a PNG change nothing of its picture.
    data.items.add(new File([png, new Uint8Array(most)], "padded.png", { type: "image/png" }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await said(page, "this link takes up to");
  await audit(page, "an image that is too large for a link");
  await shoot(page, shots, "home-link-large");
  await button(page).click();
  await page.getByRole("alert").filter({ hasText: "No image in the list fits this link." }).waitFor();
  assert.deepEqual(sent, []);
  await page.getByRole("button", { name: "Make it smaller" }).click();
  await page.getByText("made smaller").waitFor();
  await button(page).click();
  await cards(page).waitFor();
  await end(page);
}

// ---- Looks and weight ----

async function looks(browser) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [390, 1440]) {
      const [page] = await payer(browser, { scheme, width });
      const what = (name) => `home-${name}-${scheme}-${width}`;
      await choose(page, file("photo.png", 7), file("a rather long name of a screenshot.png", 1));
      await connect(page);
      for (const name of ["pay", "done"]) {
        if (name === "done") {
          await button(page).click();
          await cards(page).nth(1).waitFor();
        }
        await fits(page, what(name));
        await audit(page, what(name));
        await shoot(page, shots, what(name));
      }
      await end(page);
    }
  }
}

async function weight(browser) {
  const page = await open(browser, { origins: [site] });
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  // A slow mobile line, as Lighthouse has it: 150 ms and 1.6 Mbit/s.
  await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: 150, downloadThroughput: 200_000, uploadThroughput: 93_750 });
  let bytes = 0;
  devtools.on("Network.loadingFinished", ({ encodedDataLength }) => { bytes += encodedDataLength; });
  await page.goto(`${site}/`, { waitUntil: "networkidle" });
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  assert.ok(bytes > 10_000 && bytes < FRONT_BYTES, `the front page has ${bytes} bytes`);
  assert.ok(paint < FIRST_PAINT, `the first paint came after ${paint} ms`);
  console.log(`the front page has ${bytes} bytes in all, and paints after ${Math.round(paint)} ms on a slow line`);
  await end(page);
}

const CHECKS = [free, several, large, pasteAndDrop, isPrivate, storageIsFull, byKeyboard, withoutScript, freeIsSpent, paid, declined, wrongNetwork, tooLittleMoney,
  answerLost, reloaded, unsent, unreadable, walletIsOpen, withoutWallet, uploadLink, linkLimit, looks, weight];
const only = process.env.ONLY?.split(",");
const browser = await launch();
let failed = 0;
try {
  for (const check of CHECKS.filter(({ name }) => !only || only.includes(name))) {
    const started = performance.now();
    try {
      await check(browser);
    } catch (error) {
      failed++;
      console.error(`${check.name} failed:`, error);
    }
    console.log(`${check.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
}
process.exitCode = failed ? 1 : 0;
