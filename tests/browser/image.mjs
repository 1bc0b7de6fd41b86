// Uses the pages of images as people do: /view, /delete, /mine and /wallet. Run by scripts/check-pages.
//
//     node image.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { audit, fits, giveWallet, launch, losePayment, open, shoot } from "./browser.mjs";

const require = createRequire(join(process.env.BROWSER_PACKAGES, "package.json"));
const { privateKeyToAccount } = require("viem/accounts");
const { getAddress } = require("viem");

const [known, folder] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
const { site } = known;
const KEY = `0x${"5e".repeat(32)}`;
const payer = privateKeyToAccount(KEY);
const LOOKS = [["light", 1440], ["dark", 1440], ["light", 390], ["dark", 390]];
let browser;

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64");
const decode = (text) => JSON.parse(Buffer.from(text, "base64").toString());
const served = async (url) => (await fetch(url)).status;

async function end(page) {
  page.check();
  await page.context().close();
}

const visit = (options = {}) => open(browser, { origins: [site], ...options });

// Pictures that people could have made: hills under a sky. Each seed is another one.
async function draw(count) {
  const page = await visit();
  await page.goto(`${site}/terms`);
  const pictures = await page.evaluate((count) => Array.from({ length: count }, (_, seed) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: seed % 3 === 2 ? 600 : 1200, height: 800 });
    const [paint, { width, height }] = [canvas.getContext("2d"), canvas];
    const sky = paint.createLinearGradient(0, 0, 0, height);
    sky.addColorStop(0, `hsl(${200 + seed * 37} 60% 35%)`);
    sky.addColorStop(1, `hsl(${30 + seed * 11} 90% 75%)`);
    Object.assign(paint, { fillStyle: sky });
    paint.fillRect(0, 0, width, height);
    paint.fillStyle = "hsl(45 100% 85%)";
    paint.beginPath();
    paint.arc(width * (0.2 + seed % 5 * 0.15), height * 0.4, 70, 0, 7);
    paint.fill();
    for (let hill = 0; hill < 4; hill++) {
      paint.fillStyle = `hsl(${250 - seed * 20} 30% ${38 - hill * 8}%)`;
      paint.beginPath();
      paint.moveTo(0, height);
      for (let x = 0; x <= width; x += 10) paint.lineTo(x, height * (0.55 + hill * 0.1) + Math.sin(x / (90 + hill * 40) + seed + hill * 2) * 45);
      paint.lineTo(width, height);
      paint.fill();
    }
    return canvas.toDataURL("image/png").split(",")[1];
  }), count);
  await end(page);
  return pictures.map((picture) => Buffer.from(picture, "base64"));
}

async function upload(path, body, headers = {}) {
  const response = await fetch(`${site}${path}`, { method: "POST", body, headers: { "Content-Type": "image/png", ...headers } });
  assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`);
  return response.json();
}

// Pays for an upload by x402, as a program does.
async function buy(path, body) {
  const challenge = decode((await fetch(`${site}${path}`, { method: "POST" })).headers.get("payment-required"));
  const accepted = challenge.accepts[0];
  const nonce = `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex")}`;
  const authorization = {
    from: payer.address, to: accepted.payTo, value: accepted.amount, validAfter: "0",
    validBefore: String(Math.floor(Date.now() / 1000) + accepted.maxTimeoutSeconds), nonce,
  };
  const types = { TransferWithAuthorization: ["from:address", "to:address", "value:uint256", "validAfter:uint256", "validBefore:uint256", "nonce:bytes32"]
    .map((field) => ({ name: field.split(":")[0], type: field.split(":")[1] })) };
  const domain = { ...accepted.extra, chainId: Number(accepted.network.split(":")[1]), verifyingContract: accepted.asset };
  const signature = await payer.signTypedData({ domain: { name: domain.name, version: domain.version, chainId: domain.chainId, verifyingContract: domain.verifyingContract }, types, primaryType: "TransferWithAuthorization", message: authorization });
  const payment = { x402Version: 2, accepted, payload: { signature, authorization }, resource: challenge.resource, extensions: challenge.extensions };
  return upload(path, body, { "PAYMENT-SIGNATURE": encode(payment) });
}

// Makes these uploads those of the page's browser.
async function own(page, answers) {
  await page.goto(`${site}/mine`);
  await page.evaluate(async (answers) => {
    const { remember } = await import(document.querySelector('script[src$="/mine.js"]').src.replace("mine.js", "uploads.js"));
    for (const answer of answers) remember(answer);
  }, answers);
}

// Waits until the thumbnails of a list are loaded.
const thumbnails = (page) => page.waitForFunction(() => {
  const pictures = [...document.querySelectorAll(".item:not(.gone) .thumb img")];
  return pictures.length > 0 && pictures.every((picture) => picture.complete && picture.naturalWidth > 0);
}, null, { timeout: 30_000 });

const uploads = (page) => page.evaluate(() => JSON.parse(localStorage.getItem("pixtoll.uploads") ?? "[]"));

async function views([picture, other]) {
  const image = await upload("/api/free", picture);
  for (const [scheme, width] of LOOKS) {
    const page = await visit({ scheme, width });
    await page.goto(image.pageUrl);
    await page.waitForFunction(() => document.querySelector("img.picture").naturalWidth > 0);
    await fits(page, `view ${scheme} ${width}`);
    await audit(page, `view ${scheme} ${width}`);
    await shoot(page, folder, `view-${scheme}-${width}`);
    await page.getByText("Keep it longer").click();
    await fits(page, `view, opened ${scheme} ${width}`);
    await audit(page, `view, opened ${scheme} ${width}`);
    await shoot(page, folder, `view-opened-${scheme}-${width}`);
    await end(page);
  }
  // Copies by keyboard alone. A stranger sees no way to delete.
  const page = await visit();
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(image.pageUrl);
  assert.ok(await page.locator("#own").isHidden());
  await page.getByLabel("Markdown", { exact: true }).focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `![](${image.url})`);
  assert.match(await page.locator("#left").textContent(), /^7 days left$/);
  await end(page);

  // Without a script the page shows the same.
  const plain = await visit({ javaScriptEnabled: false });
  await plain.goto(image.pageUrl);
  assert.equal(await plain.getByLabel("BBCode", { exact: true }).inputValue(), `[img]${image.url}[/img]`);
  assert.equal(await plain.getByRole("button", { name: /^Copy/ }).count(), 0);
  await shoot(plain, folder, "view-without-script");
  await end(plain);

  // A slow picture: its blurred preview stands there until it is loaded.
  const slow = await visit();
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await slow.route(/\/i\//, async (route) => { await held; await route.continue(); });
  await slow.goto((await upload("/api/free", other)).pageUrl, { waitUntil: "commit" });
  await slow.locator("img.waits").waitFor();
  assert.match(await slow.locator("img.picture").evaluate((it) => it.style.backgroundImage), /^url\("data:image\/png/);
  release();
  await slow.locator("img.waits").waitFor({ state: "detached" });
  await end(slow);
}

async function paidView([picture]) {
  const image = await buy("/api/upload/year", picture);
  const page = await visit();
  page.allowed.add(404);
  await own(page, [image]);
  await page.goto(image.pageUrl);
  await page.getByRole("button", { name: "Show receipt" }).click();
  await page.locator(".receipt", { hasText: "0.01 USDC" }).waitFor();
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByText("Valid.").waitFor();
  await audit(page, "a verified receipt");
  await shoot(page, folder, "view-receipt");

  // Nothing false is called valid: changed claims, other bytes, a foreign key, no keys.
  const check = (change, breaks = null) => page.evaluate(async ([id, url, change, breaks]) => {
    const { check } = await import(document.querySelector('script[src$="/view.js"]').src.replace("view.js", "receipt.js"));
    const token = JSON.parse(localStorage.getItem("pixtoll.uploads"))[0].deleteToken;
    const { receipts: [receipt] } = await (await fetch(`/api/receipts/${id}`, { headers: { "X-Delete-Token": token } })).json();
    const [head, body, signature] = receipt.jws.split(".");
    const pack = (value) => btoa(JSON.stringify(value)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const unpack = (text) => JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/")));
    if (breaks === "claims") receipt.jws = [head, pack({ ...unpack(body), ...change }), signature].join(".");
    else if (breaks === "header") receipt.jws = [pack({ ...unpack(head), ...change }), body, signature].join(".");
    else Object.assign(receipt, change);
    return check(receipt, { id: change.asId ?? id, url: change.asUrl ?? url });
  }, [image.id, image.url, change, breaks]);
  assert.deepEqual(await check({}), []);
  const matches = async (pattern, ...how) => assert.match((await check(...how)).join(" "), pattern);
  await matches(/amount: 1 is shown, but 10000 is signed/, { amount: "1" });
  await matches(/signature does not match/, { amount: "1" }, "claims");
  await matches(/not among the keys/, { kid: "another" }, "header");
  await matches(/does not name/, { alg: "none" }, "header");
  await matches(/does not name/, { typ: "another" }, "header");
  await matches(/of image/, { asId: "zzzzzzzzzzzz" });
  const unsaid = await page.evaluate(async ([id, url, other]) => {
    const { check } = await import(document.querySelector('script[src$="/view.js"]').src.replace("view.js", "receipt.js"));
    const token = JSON.parse(localStorage.getItem("pixtoll.uploads"))[0].deleteToken;
    const { receipts: [receipt] } = await (await fetch(`/api/receipts/${id}`, { headers: { "X-Delete-Token": token } })).json();
    return [await check(receipt, { id, url: other }), await check(receipt, { id, url: `${url}x` })];
  }, [image.id, image.url, known.image.url]);
  assert.match(unsaid[0].join(" "), /bytes are others/);
  assert.match(unsaid[1].join(" "), /could not be loaded/);
  await end(page);

  // A free image has no receipt, and the page says so.
  const free = await upload("/api/free", picture);
  const other = await visit();
  other.allowed.add(404);
  await own(other, [free]);
  await other.goto(free.pageUrl);
  await other.getByRole("button", { name: "Show receipt" }).click();
  await other.getByRole("alert").filter({ hasText: "uploaded for free" }).waitFor();
  await end(other);
}

async function privateView([picture]) {
  const image = await upload("/api/free?visibility=private", picture);
  const stranger = await visit();
  stranger.allowed.add(404);
  await stranger.goto(image.pageUrl);
  await stranger.getByText("This image is private").waitFor();
  await shoot(stranger, folder, "view-private");
  await audit(stranger, "a private image");
  await stranger.goto(`${site}/view/${image.id}`);
  await stranger.getByRole("heading", { name: "There is no image here" }).waitFor();
  assert.ok(await stranger.locator("#own").isHidden());
  await audit(stranger, "no image");
  await shoot(stranger, folder, "view-missing");
  await end(stranger);
  // The uploader's browser makes another link, and finds the image without one.
  const page = await visit();
  page.allowed.add(404);
  await own(page, [image]);
  await page.goto(`${site}/view/${image.id}`);
  await page.getByRole("link", { name: "show it by a new link" }).click();
  await page.getByRole("button", { name: "Make another link" }).click();
  const made = await page.getByLabel("New link", { exact: true }).inputValue();
  assert.equal(await served(made), 200);
  await end(page);
}

async function deletes([picture, other]) {
  for (const [scheme, width] of LOOKS) {
    const page = await visit({ scheme, width });
    const image = await upload(scheme === "dark" ? "/api/free?visibility=private" : "/api/free", picture);
    await own(page, [image]);
    await page.goto(image.deleteUrl);
    await page.locator("img.picture").waitFor();
    assert.ok(await page.locator("#token-field").isHidden());
    assert.equal(await served(image.url), 200, "a GET deleted the image");
    await fits(page, `delete ${scheme} ${width}`);
    await audit(page, `delete ${scheme} ${width}`);
    await shoot(page, folder, `delete-${scheme}-${width}`);
    await page.getByRole("button", { name: "Delete for good" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "The image is deleted" }).waitFor();
    await shoot(page, folder, `deleted-${scheme}-${width}`);
    assert.equal(await served(image.url), 404);
    assert.deepEqual(await uploads(page), [], "the browser remembers a deleted image");
    await end(page);
  }
  // Without a script: the token is typed, at first a wrong one.
  const page = await visit({ javaScriptEnabled: false });
  page.allowed.add(401);
  const image = await upload("/api/free", other);
  await page.goto(image.deleteUrl);
  await page.getByLabel("Delete token").fill("0".repeat(40));
  await page.getByRole("button", { name: "Delete for good" }).click();
  await page.getByRole("alert").filter({ hasText: "not the one of this image" }).waitFor();
  await shoot(page, folder, "delete-wrong-token");
  assert.equal(await served(image.url), 200);
  await page.getByLabel("Delete token").fill(image.deleteToken);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "The image is deleted" }).waitFor();
  assert.equal(await served(image.url), 404);
  await end(page);
  // The link of an image that is gone.
  const late = await visit();
  late.allowed.add(404);
  await late.goto(image.deleteUrl);
  await late.getByRole("status").filter({ hasText: "not here any more" }).waitFor();
  await shoot(late, folder, "delete-gone");
  await end(late);
}

async function mine(pictures) {
  const empty = await visit();
  await empty.goto(`${site}/mine`);
  await empty.getByText("This browser has uploaded nothing yet").waitFor();
  await shoot(empty, folder, "mine-empty");
  await end(empty);

  const images = [
    await upload("/api/free", pictures[0]), await upload("/api/free?visibility=private", pictures[1]),
    await buy("/api/upload/year", pictures[2]), await upload("/api/free", pictures[3]),
  ];
  const expired = { ...images[0], id: "expired00000", expiresAt: new Date(Date.now() - 1000).toISOString() };
  for (const [scheme, width] of LOOKS) {
    const page = await visit({ scheme, width });
    await own(page, [expired, ...images]);
    await page.reload();
    await thumbnails(page);
    page.check();
    assert.equal(await page.locator(".item").count(), 5);
    await fits(page, `mine ${scheme} ${width}`);
    await audit(page, `mine ${scheme} ${width}`);
    await shoot(page, folder, `mine-${scheme}-${width}`);
    await end(page);
  }

  const page = await visit();
  page.allowed.add(404);
  await own(page, [expired, ...images]);
  await page.reload();
  await page.getByRole("button", { name: "Forget expired ones" }).click();
  assert.equal(await page.locator(".item").count(), 4);

  // Export, and import in another browser.
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export the list" }).click()]);
  const list = await download.path();
  const other = await visit();
  await other.goto(`${site}/mine`);
  await other.locator("#file").setInputFiles({ name: "odd.json", mimeType: "application/json", buffer: Buffer.from('{"uploads": [{"id": "<b>"}]}') });
  await other.getByRole("alert").filter({ hasText: "odd.json is not a list" }).waitFor();
  await other.locator("#file").setInputFiles(list);
  await other.locator(".item").nth(3).waitFor();
  assert.ok(await other.locator("#alert").isHidden());
  assert.deepEqual((await uploads(other)).map(({ id }) => id).sort(), images.map(({ id }) => id).sort());
  await other.locator("#file").setInputFiles(list);
  await other.getByRole("status").filter({ hasText: "0 of 4 uploads were added" }).waitFor();
  // A link of a script, or another server's list, is no list of this page.
  for (const change of [{ url: "javascript:alert(1)" }, { id: "../../x" }, { deleteToken: "x" }, { dominantColor: "red;x" }]) {
    const forged = JSON.parse(readFileSync(list, "utf8"));
    Object.assign(forged.uploads[0], change);
    await other.locator("#file").setInputFiles({ name: "forged.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(forged)) });
    await other.getByRole("alert").filter({ hasText: "forged.json is not a list" }).waitFor();
  }
  await end(other);

  // Deletes by keyboard alone: first not, then for good. The focus goes on to the next image.
  const newest = page.locator(".item").first();
  const id = await newest.getAttribute("data-id");
  await newest.getByRole("button", { name: /^Delete/ }).focus();
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  await audit(page, "the question");
  await shoot(page, folder, "mine-delete");
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  assert.equal(await page.locator(".item").count(), 4);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await page.locator(`.item[data-id="${id}"]`).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.className), "name");
  assert.equal(await served(images.find((image) => image.id === id).url), 404);
  assert.equal((await uploads(page)).length, 3);

  // What was deleted elsewhere, and a signed link that has ended.
  const [gone, hidden] = [images[0], images[1]];
  const deleted = await fetch(`${site}/api/images/${gone.id}`, { method: "DELETE", headers: { "X-Delete-Token": gone.deleteToken } });
  assert.equal(deleted.status, 200);
  await fetch(`${site}/api/images/${hidden.id}/links`, { method: "DELETE", headers: { "X-Delete-Token": hidden.deleteToken } });
  await ended(await page.context().storageState(), gone, hidden);
  await end(page);
}

// The list where one image was deleted elsewhere, and the signed link of another has ended.
async function ended(storageState, gone, hidden) {
  const page = await visit({ storageState });
  page.allowed.add(404);
  await page.goto(`${site}/mine`);
  await page.locator(`.item.gone[data-id="${gone.id}"]`).getByText("not here any more").waitFor();
  await page.waitForFunction((id) => {
    const picture = document.querySelector(`.item[data-id="${id}"] img`);
    return picture.complete && picture.naturalWidth > 0;
  }, hidden.id);
  await page.locator(`.item[data-id="${gone.id}"]`).getByRole("button", { name: /^Take off/ }).click();
  assert.equal(await page.locator(".item").count(), 2);
  await end(page);
}

async function wallet(pictures) {
  const without = await visit();
  await without.goto(`${site}/wallet`);
  await without.getByText("No wallet was found in this browser").waitFor();
  await audit(without, "no wallet");
  await shoot(without, folder, "wallet-none");
  await end(without);

  const images = [await buy("/api/upload/year", pictures[4]), await buy("/api/upload/year?visibility=private", pictures[5])];
  for (const [scheme, width] of LOOKS) {
    const page = await visit({ scheme, width });
    page.allowed.add(402);
    const wallet = await giveWallet(page.context(), { key: KEY });
    await page.goto(`${site}/wallet`);
    await shoot(page, folder, `wallet-choose-${scheme}-${width}`);
    wallet.declines = true;
    await page.getByRole("button", { name: "Sign in with Test Wallet" }).click();
    await page.getByRole("alert").filter({ hasText: "declined" }).waitFor();
    wallet.declines = false;
    await page.getByRole("button", { name: "Sign in with Test Wallet" }).click();
    await page.locator(".item").nth(1).waitFor();
    assert.ok(await page.locator("#alert").isHidden());
    assert.equal(await page.locator("#address").textContent(), getAddress(payer.address));
    await thumbnails(page);
    await fits(page, `wallet ${scheme} ${width}`);
    await audit(page, `wallet ${scheme} ${width}`);
    await shoot(page, folder, `wallet-${scheme}-${width}`);
    await end(page);
  }

  const page = await visit();
  page.allowed.add(402);
  const signer = await giveWallet(page.context(), { key: KEY });
  await page.goto(`${site}/wallet`);
  await page.getByRole("button", { name: "Sign in with Test Wallet" }).focus();
  await page.keyboard.press("Enter");
  const [bought, hidden] = images.map(({ id }) => page.locator(`.item[data-id="${id}"]`));
  await bought.waitFor();
  assert.deepEqual(signer.calls.filter((call) => call.startsWith("eth_sign") || call === "personal_sign"), ["personal_sign"]);

  // A link to the private image, and the end of all links.
  await hidden.getByRole("button", { name: /^Links/ }).click();
  await page.getByLabel("A new link lasts").selectOption("1 hour");
  await audit(page, "the question about links");
  await page.getByRole("button", { name: "Sign", exact: true }).click();
  const link = await page.getByLabel("New link", { exact: true }).inputValue();
  assert.equal(await served(link), 200);
  await shoot(page, folder, "wallet-link");
  await page.getByRole("button", { name: "Close" }).click();
  await hidden.getByRole("button", { name: /^Links/ }).click();
  await page.getByLabel("End every link").check();
  await page.getByRole("button", { name: "Sign", exact: true }).click();
  await page.getByRole("heading", { name: "All links are ended" }).waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  assert.equal(await served(link), 404);

  // The receipt, verified.
  await bought.getByRole("button", { name: /^Receipt/ }).click();
  await page.getByRole("button", { name: "Verify" }).click();
  await page.getByText("Valid.").waitFor();
  await audit(page, "a receipt of the wallet");
  await shoot(page, folder, "wallet-receipt");
  await page.keyboard.press("Escape");

  // Declined, then deleted.
  signer.declines = true;
  const destroy = async () => {
    await bought.getByRole("button", { name: /^Delete/ }).click();
    await page.getByRole("button", { name: "Delete for good" }).click();
  };
  await destroy();
  await page.getByRole("alert").filter({ hasText: "declined" }).waitFor();
  assert.equal(await served(images[0].url), 200);
  signer.declines = false;
  await destroy();
  await bought.waitFor({ state: "detached" });
  assert.equal(await served(images[0].url), 404);
  await page.getByRole("button", { name: "Sign out" }).click();
  assert.equal(await page.locator(".item").count(), 0);
  await end(page);
}

// Pages of a long list: one signature, and no image twice.
async function walletPages(pictures) {
  const key = `0x${"6f".repeat(32)}`;
  const page = await visit();
  page.allowed.add(402);
  const signer = await giveWallet(page.context(), { key });
  await page.route(/\/api\/images(\?|$)/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "1");
    return route.continue({ url: url.href });
  });
  await page.goto(`${site}/wallet`);
  await page.getByRole("button", { name: "Sign in with Test Wallet" }).click();
  await page.getByText("This wallet has no images here").waitFor();
  await shoot(page, folder, "wallet-empty");
  await end(page);

  const rich = await visit();
  rich.allowed.add(402);
  const wallet = await giveWallet(rich.context(), { key: KEY });
  await rich.route(/\/api\/images(\?|$)/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "1");
    return route.continue({ url: url.href });
  });
  await buy("/api/upload/year", pictures[6]);
  await rich.goto(`${site}/wallet`);
  await rich.getByRole("button", { name: "Sign in with Test Wallet" }).click();
  await rich.locator(".item").first().waitFor();
  while (await rich.locator("#more").isVisible()) {
    const before = await rich.locator(".item").count();
    await rich.locator("#more").click();
    await rich.locator(".item").nth(before).waitFor();
  }
  const ids = await rich.locator(".item").evaluateAll((items) => items.map((item) => item.dataset.id));
  assert.ok(ids.length > 1 && new Set(ids).size === ids.length, ids.join(" "));
  assert.equal(wallet.signed, 1);
  assert.equal(signer.signed, 1);
  await end(rich);
}

const daysLeft = ({ expiresAt }) => Math.round((Date.parse(expiresAt) - Date.now()) / 86_400_000);

// A wallet keeps images longer: from the list of uploads, after it has declined, and where the answer is lost.
async function renews(pictures) {
  const image = await upload("/api/free", pictures[7]);
  const page = await visit();
  page.allowed.add(402);
  const wallet = await giveWallet(page.context(), { key: KEY });
  await own(page, [image]);
  await page.goto(`${site}/mine`);
  await page.getByRole("link", { name: "Keep longer" }).click();
  await page.locator("#renew[data-ready]").waitFor();
  const pay = page.locator("#pay");
  assert.equal(await pay.textContent(), "Connect a wallet");
  await pay.click();
  await page.getByText("Paying from").waitFor();
  assert.equal(wallet.signed, 0);
  wallet.declines = true;
  await pay.click();
  await page.locator("#problem", { hasText: "You declined in Test Wallet" }).waitFor();
  wallet.declines = false;
  await pay.click();
  await page.getByText("Paid 0.01 USDC. The image is kept until").waitFor();
  await audit(page, "a renewed image");
  await shoot(page, folder, "view-renewed");
  assert.equal(await page.locator("#left").textContent(), "372 days left");
  assert.deepEqual([daysLeft((await uploads(page))[0]), wallet.signed], [372, 1]);

  // The answer is lost, on the page and before a reload: no second signature, and no second payment.
  for (const [reloads, days] of [[false, 737], [true, 1102]]) {
    const signed = wallet.signed;
    await losePayment(page, { arrives: true });
    await pay.click();
    if (reloads) {
      await page.getByText("The same payment is presented again").waitFor();
      await page.reload();
    }
    await page.getByText("Paid 0.01 USDC. The image is kept until").waitFor();
    await page.reload();
    await page.locator("#renew[data-ready]").waitFor();
    assert.deepEqual([wallet.signed, await page.evaluate(() => localStorage.getItem("pixtoll.payments"))], [signed + 1, "[]"]);
    assert.match(await page.locator("#left").textContent(), days < 1000 ? /^(2 years|737 days) left$/ : /^3 years left$/);
    if (reloads) break;
    await pay.click();
    await page.getByText("Paying from").waitFor();
  }
  await end(page);

  // A private image is renewed by its signed link, which the page has.
  const secret = await upload("/api/free?visibility=private", pictures[6]);
  const other = await visit();
  other.allowed.add(402);
  const signer = await giveWallet(other.context(), { key: KEY });
  await other.goto(`${secret.pageUrl}#longer`);
  await other.locator("#renew[data-ready]").waitFor();
  await other.locator("#pay").click();
  await other.getByText("Paying from").waitFor();
  await losePayment(other, { arrives: true });
  await other.locator("#pay").click();
  await other.getByText("The same payment is presented again").waitFor();
  // Its page is opened by another link meanwhile: the payment is known there too.
  const made = await fetch(`${site}/api/images/${secret.id}/links`, { method: "POST", headers: { "X-Delete-Token": secret.deleteToken } });
  await other.goto(`${site}/view/${secret.id}?${(await made.json()).url.split("?")[1]}`);
  await other.getByText("Paid 0.01 USDC. The image is kept until").waitFor();
  assert.equal(signer.signed, 1);
  await end(other);
}

// Once an image is kept for ever, its page has the new facts, and nothing is left to pay.
async function renewsForEver(pictures) {
  const image = await upload("/api/free", pictures[5]);
  const page = await visit();
  page.allowed.add(402);
  const wallet = await giveWallet(page.context(), { key: KEY });
  await page.goto(`${image.pageUrl}#longer`);
  await page.locator("#renew[data-ready]").waitFor();
  await page.locator('.tier:has(input[value="permanent"])').click();
  await page.locator("#pay").click();
  await page.getByText("Paying from").waitFor();
  await page.locator("#pay").click();
  await page.getByText("Paid 1.00 USDC. The image is kept until the service ends.").waitFor();
  await page.locator("#pay").waitFor({ state: "hidden" });
  await page.getByText("From a terminal").waitFor({ state: "hidden" });
  assert.ok(await page.getByText("Paid 1.00 USDC.").isVisible());
  assert.equal(await page.locator("#left").textContent(), "kept until the service ends");
  const facts = () => page.locator("#image dl.facts").textContent();
  const shown = await facts();
  await audit(page, "an image that is kept for ever");
  await shoot(page, folder, "view-kept-for-ever");
  await page.reload();
  assert.deepEqual([shown, await page.locator("#renew").count(), wallet.signed], [await facts(), 0, 1]);
  await end(page);
}

browser = await launch();
try {
  const pictures = await draw(8);
  const only = process.env.ONLY?.split(",");
  for (const check of [views, paidView, privateView, deletes, mine, renews, renewsForEver, wallet, walletPages]) {
    if (only && !only.includes(check.name)) continue;
    const started = performance.now();
    await check(pictures);
    console.log(`${check.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
}
