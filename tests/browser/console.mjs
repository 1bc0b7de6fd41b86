// Uses the console as an operator does. Run by scripts/check-console.
//
// With CONSOLE_ASSETS, the files of that folder take the place of those in the binary, under the same
// headers: for work on the console without a build.
//
//     node console.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { audit, fits, launch, open, shoot } from "./browser.mjs";

const [known, folder] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
const { admin, public: site, images, token, markup } = known;
const SCREENS = ["queue", "find", "blocks", "log", "charts", "health"];

// ---- What the server says, beside the console ----

async function api(path) {
  const response = await fetch(`${admin}/admin/api${path}`, { headers: { Authorization: `Bearer ${token}` } });
  assert.equal(response.status, 200, path);
  return response.json();
}

const served = async (image) => (await fetch(image.url)).status;
const acts = async (image) => (await api(`/log?about=${image.id}`)).entries.map((entry) => entry.act);

// ---- The page ----

async function console_(browser, options = {}) {
  const page = await open(browser, { origins: [admin], ...options });
  const assets = process.env.CONSOLE_ASSETS;
  if (assets) {
    await page.route(`${admin}/console/*`, async (route) => {
      const response = await route.fetch();
      const name = new URL(route.request().url()).pathname.split("/").at(-1) || "index.html";
      await route.fulfill({ response, status: 200, body: readFileSync(join(assets, name)) });
    });
  }
  return page;
}

async function signIn(page) {
  await page.goto(`${admin}/`);
  await page.getByLabel("Your name").fill("ada");
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Queue", level: 1 }).waitFor();
}

async function go(page, place) {
  await page.evaluate((hash) => { location.hash = hash; }, place);
  await page.waitForFunction(() => !document.querySelector("main[aria-busy]"));
}

// The reason of the dialog that is open.
const reasonOf = (page) => page.getByLabel("Reason, for the log");

async function confirm(page, reason = null) {
  const field = reasonOf(page);
  await field.waitFor();
  if (reason !== null) await page.keyboard.type(reason);
  await page.keyboard.press("Enter");
  await page.locator("dialog").waitFor({ state: "detached" });
}

// Goes to the case of an image by the keys for the next and the previous one.
async function toCase(page, image) {
  const places = await page.locator(".cases a").evaluateAll((links) => links.map((link) => link.hash.split("/")[2]));
  const to = places.indexOf(image.case);
  for (let steps = 0; steps < places.length; steps++) {
    const at = await page.locator(".cases a").evaluateAll((links) => links.findIndex((link) => link.ariaCurrent === "true"));
    if (at === to) return;
    await page.keyboard.press(at < to ? "j" : "k");
    await page.locator(".detail h2", { hasText: places[at < to ? at + 1 : at - 1] }).waitFor();
  }
  assert.fail(`the keys did not reach the case of ${image.id}`);
}

// ---- The checks ----

async function signingIn(browser) {
  const page = await console_(browser);
  page.allowed.add(401);
  await page.goto(`${admin}/`);
  assert.equal(page.url(), `${admin}/console/`);
  await audit(page, "sign in");
  await shoot(page, folder, "sign-in");
  // The name has the focus. Everything by keyboard.
  await page.keyboard.type("ada");
  await page.keyboard.press("Tab");
  await page.keyboard.type("a wrong token");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "missing or wrong" }).waitFor();
  await page.getByLabel("Token").selectText();
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Queue", level: 1 }).waitFor();
  assert.deepEqual(await page.context().cookies(), []);
  // Another tab does not know the token; this one does after a reload.
  await page.reload();
  await page.getByRole("heading", { name: "Queue", level: 1 }).waitFor();
  const other = await page.context().newPage();
  await other.goto(`${admin}/console/`);
  await other.getByLabel("Token").waitFor();
  await other.close();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
  page.check();
  await page.context().close();
}

async function queue(browser) {
  const page = await console_(browser);
  const viewed = [];
  page.on("request", (request) => request.url().endsWith("/view") && viewed.push(request.url()));
  await signIn(page);
  assert.equal(await page.locator(".cases li").count(), images.length);
  const first = await page.locator(".cases a").first().textContent();
  assert.match(first, /^Child sexual abuse/);
  await page.locator(".detail canvas").waitFor();
  await shoot(page, folder, "queue-blurred");
  assert.deepEqual(viewed, [], "the content is loaded before somebody asks for it");

  // Reveal, cover.
  await page.keyboard.press(" ");
  await page.locator(".frame img").waitFor();
  await page.waitForFunction(() => document.querySelector(".frame img").naturalWidth === 480);
  assert.equal(viewed.length, 1);
  assert.equal(await page.locator(".frame.covered").count(), 0);
  await shoot(page, folder, "queue-revealed");
  await page.keyboard.press(" ");
  await page.locator(".frame.covered").waitFor();
  await shoot(page, folder, "queue-covered");
  assert.equal(viewed.length, 1);
  const seen = (await api(`/log?about=${images[2].id}`)).entries[0];
  assert.deepEqual([seen.act, seen.actor, seen.reason], ["view", "ada", `case ${images[2].case}`]);

  // Markup of strangers is text.
  await toCase(page, images[3]);
  assert.ok((await page.locator(".words").first().textContent()).startsWith(markup));
  assert.equal(await page.locator(".report img, .report script").count(), 0);
  await shoot(page, folder, "queue-markup");

  // Help, and a dialog that is left without an act.
  await page.keyboard.press("?");
  await page.locator("dialog .keys").waitFor();
  await shoot(page, folder, "keys");
  await audit(page, "keys");
  await page.keyboard.press("Escape");
  await page.keyboard.press("r");
  await reasonOf(page).waitFor();
  await audit(page, "decide");
  await shoot(page, folder, "decide");
  await page.keyboard.press("Escape");
  assert.equal(await served(images[3]), 200);

  // Remove, and undo.
  await toCase(page, images[1]);
  await page.keyboard.press("r");
  assert.equal(await reasonOf(page).inputValue(), "phishing");
  await confirm(page);
  await page.getByRole("status").filter({ hasText: `${images[1].id} is removed` }).waitFor();
  assert.equal(await served(images[1]), 404);
  assert.equal((await api(`/cases/${images[1].case}`)).state, "upheld");
  await shoot(page, folder, "queue-decided");
  await page.keyboard.press("u");
  await confirm(page);
  await page.getByRole("status").filter({ hasText: "is served again" }).waitFor();
  assert.equal(await served(images[1]), 200);

  // Remove and block, and undo both.
  await toCase(page, images[3]);
  await page.keyboard.press("b");
  await confirm(page, "harassment, letter of 3 March");
  await page.getByRole("status").filter({ hasText: `${images[3].id} is removed` }).waitFor();
  const blocks = (await api("/blocks")).blocks;
  assert.ok(blocks.some((block) => block.kind === "wallet" && block.reason === "harassment, letter of 3 March"), JSON.stringify(blocks));
  assert.ok(blocks.some((block) => block.kind === "sha256"));
  await page.keyboard.press("u");
  await confirm(page);
  await page.getByRole("status").filter({ hasText: "is served again" }).waitFor();
  assert.deepEqual((await api("/blocks")).blocks, []);
  assert.equal(await served(images[3]), 200);

  // Hold, and dismiss.
  await toCase(page, images[2]);
  await page.keyboard.press("h");
  await confirm(page);
  await page.getByRole("status").filter({ hasText: `${images[2].id} is removed` }).waitFor();
  const held = await api(`/images/${images[2].id}`);
  assert.ok(held.image.removal.heldAt);
  await toCase(page, images[0]);
  await page.keyboard.press("d");
  await confirm(page);
  await page.getByRole("status").filter({ hasText: "is dismissed" }).waitFor();
  assert.equal((await api(`/cases/${images[0].case}`)).state, "dismissed");
  assert.equal(await served(images[0]), 200);
  page.check();
  await page.context().close();
}

async function find(browser) {
  const page = await console_(browser);
  page.allowed.add(400).add(404);
  await signIn(page);
  for (const what of [images[1].id, images[1].url, known.wallet, known.transaction]) {
    await go(page, "#/find");
    await page.keyboard.press("/");
    await page.keyboard.type(what);
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: images[1].id }).waitFor();
  }
  await shoot(page, folder, "find-transaction");
  await go(page, "#/find");
  await page.keyboard.press("/");
  await page.keyboard.type(images[4].case);
  await page.keyboard.press("Enter");
  await page.locator(".detail h2", { hasText: images[4].case }).waitFor();
  for (const [what, told] of [["AAAAAAAAAAAA", "No image fits."], ["<b>odd</b>", "can't be searched for"]]) {
    await go(page, `#/find?q=${encodeURIComponent(what)}`);
    await page.getByText(told).waitFor();
  }
  await go(page, "#/find?state=held");
  await page.getByRole("link", { name: images[2].id }).waitFor();

  // The page of an image, and its acts.
  await go(page, `#/image/${images[5].id}`);
  await page.keyboard.press("r");
  await confirm(page, "malware");
  await page.getByRole("heading", { name: "removed" }).waitFor();
  assert.equal(await served(images[5]), 404);
  await page.keyboard.press("u");
  await confirm(page);
  await page.getByRole("heading", { name: "live" }).waitFor();
  await page.keyboard.press(" ");
  await page.locator(".frame img").waitFor();
  await shoot(page, folder, "image-live");
  await go(page, `#/image/${images[2].id}`);
  await page.getByRole("button", { name: "Record an answer" }).click();
  await page.getByLabel("Reference of the authority").fill("report 4711");
  await reasonOf(page).fill("the answer of the CyberTipline");
  await page.getByRole("button", { name: "Record", exact: true }).click();
  await page.getByText("report 4711").first().waitFor();
  assert.deepEqual((await acts(images[2])).slice(0, 2), ["acknowledge", "uphold"]);
  await audit(page, "a held image");
  await shoot(page, folder, "image-held");
  page.check();
  await page.context().close();
}

async function blocks(browser) {
  const page = await console_(browser);
  page.allowed.add(400);
  await signIn(page);
  await go(page, "#/blocks");
  await page.keyboard.press("n");
  await page.getByLabel("What").fill("0x52908400098527886E0F7030069857D2E4169EE7 odd");
  await reasonOf(page).focus();
  await page.keyboard.type("repeated abuse");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "nothing that can be blocked" }).waitFor();
  await shoot(page, folder, "block-refused");
  await page.getByLabel("What").fill("0x52908400098527886E0F7030069857D2E4169EE7");
  await reasonOf(page).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("cell", { name: "repeated abuse" }).waitFor();
  await page.getByRole("button", { name: "Import a list" }).click();
  const list = `${"0f".repeat(32)}\n${"a1".repeat(32)}\n# ours\n`;
  await page.getByLabel("File").setInputFiles({ name: "list.txt", mimeType: "text/plain", buffer: Buffer.from(list) });
  await page.getByLabel("Name of the list").fill("partner");
  await page.getByLabel("Kind of hashes").selectOption("pdq");
  await reasonOf(page).fill("monthly list");
  await page.getByRole("button", { name: "Import", exact: true }).click();
  await page.getByRole("status").filter({ hasText: "partner has 2 blocks: 2 added" }).waitFor();
  await page.getByRole("button", { name: /^Lift the block of wallet/ }).click();
  await confirm(page, "appeal");
  await page.getByRole("status").filter({ hasText: "The block is lifted." }).waitFor();
  assert.deepEqual((await api("/blocks")).blocks.map((block) => block.kind), ["pdq", "pdq"]);
  page.check();
  await page.context().close();
}

async function others(browser) {
  const page = await console_(browser);
  await signIn(page);
  await go(page, "#/log");
  await page.getByText("The log is intact.").waitFor();
  await page.getByRole("cell", { name: "import_blocks" }).waitFor();
  await go(page, "#/charts");
  const drawn = await page.locator(".chart").count();
  assert.equal(drawn, 7);
  assert.match(await page.getByRole("img").first().getAttribute("aria-label"), /^Uploads: 30 in 30 days/);
  await page.getByText("Uploads as a table").click();
  await page.getByRole("cell", { name: "30", exact: true }).or(page.getByRole("columnheader", { name: "Sum" })).first().waitFor();
  await page.getByLabel("Time").selectOption("7");
  await page.waitForFunction(() => location.hash.endsWith("days=7"));
  await go(page, "#/health");
  await page.getByText("The database and the image store answer.").waitFor();
  await page.getByText("No rule is broken.").waitFor();
  page.check();
  await page.context().close();
}

// Each screen, light and dark, narrow and wide.
async function looks(browser) {
  for (const [scheme, width] of [["light", 1440], ["dark", 1440], ["light", 390], ["dark", 390], ["light", 820]]) {
    const page = await console_(browser, { scheme, width, height: width < 500 ? 844 : 900 });
    await signIn(page);
    const places = [...SCREENS, `queue/${images[4].case}`, `image/${images[1].id}`];
    for (const place of places) {
      await go(page, `#/${place}`);
      if (place === "log") await page.getByText("The log is intact.").waitFor();
      const what = `${place.replace(/\/.*/, "-one")} ${scheme} ${width}`;
      await audit(page, what);
      await fits(page, what);
      await shoot(page, folder, what.replaceAll(" ", "-"));
    }
    page.check();
    await page.context().close();
  }
}

async function strangers(browser) {
  for (const path of ["/console/", "/console/app.js", "/admin/api/cases", "/metrics", "/readyz"]) {
    const response = await fetch(`${site}${path}`, { headers: { Authorization: `Bearer ${token}` } });
    assert.equal(response.status, 404, path);
  }
  // Ten wrong tokens, and the right one has to wait.
  const page = await console_(browser);
  page.allowed.add(401).add(429);
  await page.goto(`${admin}/`);
  for (let tries = 0; tries < 10; tries++) {
    const response = await fetch(`${admin}/admin/api/cases`, { headers: { Authorization: `Bearer wrong ${tries}` } });
    assert.ok([401, 429].includes(response.status));
  }
  await page.getByLabel("Your name").fill("ada");
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: /wait|again|limit/i }).waitFor();
  await shoot(page, folder, "sign-in-limited");
  page.check();
  await page.context().close();
}

const browser = await launch();
try {
  for (const check of [signingIn, queue, find, blocks, others, looks, strangers]) {
    const started = performance.now();
    await check(browser);
    console.log(`${check.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
}
