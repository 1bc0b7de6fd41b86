// Reads documents and errors as people do. Run by scripts/check-pages.
//
//     node texts.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { audit, fits, launch, open, shoot } from "./browser.mjs";

const [known, folder] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
const { site, image } = known;
const ERRORS = {
  gone: ["/i/AAAAAAAAAAAA.png", 404, "There is no image here"],
  pay: ["/api/upload/year", 402, "This address takes a payment"],
  "sign-in": ["/api/images", 402, "This address asks a wallet to sign in"],
  method: ["/api/free", 405, "This address is for programs"],
  nowhere: ["/nothing/here", 404, "There is no page here"],
  link: ["/u/wrong", 404, "There is no upload link here"],
};

// Each error, light and dark, narrow and wide. axe is a script, which the pages don't allow.
async function errors(browser) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [390, 1440]) {
      const page = await open(browser, { origins: [site], scheme, width, bypassCSP: true });
      for (const [name, [path, status, heading]] of Object.entries(ERRORS)) {
        page.allowed.add(status);
        const response = await page.goto(`${site}${path}`);
        assert.equal(response.status(), status, path);
        await page.getByRole("heading", { name: heading, level: 1 }).waitFor();
        const what = `error-${name}-${scheme}-${width}`;
        await fits(page, what);
        await audit(page, what);
        await shoot(page, folder, what);
      }
      page.check();
      await page.context().close();
    }
  }
}

// The policy of an error page lets its styles through, and its links lead on.
async function leadsOn(browser) {
  const page = await open(browser, { origins: [site] });
  page.allowed.add(404);
  await page.goto(`${site}/i/AAAAAAAAAAAA.png`, { waitUntil: "networkidle" });
  page.check();
  // From here on the policy blocks scripts of playwright.
  page.allowed.add("Blocked script execution");
  const family = await page.locator(".error-code").evaluate((line) => getComputedStyle(line).fontFamily);
  assert.match(family, /monospace/);
  await page.getByRole("link", { name: "Read the documents" }).click();
  await page.getByRole("heading", { name: "The API", level: 1 }).waitFor();
  page.check();
  await page.context().close();
}

// The list beside a document leads to other documents, without a script as well.
async function reads(browser) {
  for (const javaScriptEnabled of [true, false]) {
    const page = await open(browser, { origins: [site], javaScriptEnabled, width: 390 });
    await page.goto(`${site}/docs`);
    await page.getByRole("link", { name: "All documents and sections" }).click();
    const list = page.getByRole("navigation", { name: "All documents and sections" });
    await list.getByRole("link", { name: "Images", exact: true }).click();
    await page.getByRole("heading", { name: "Images", level: 1 }).waitFor();
    await list.getByRole("link", { name: "Variants" }).click();
    await page.waitForURL(`${site}/docs/images#variants`);
    page.check();
    await page.context().close();
  }
}

// Examples are copied and run by keyboard, and what the server returns is shown.
async function runs(browser) {
  const page = await open(browser, { origins: [site] });
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(`${site}/docs`);
  const tiers = page.locator(".code", { hasText: `curl -sS ${site}/api/tiers` });
  await tiers.getByRole("button", { name: "Copy" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  assert.equal((await page.evaluate(() => navigator.clipboard.readText())).trim(), `curl -sS ${site}/api/tiers`);
  await tiers.getByRole("button", { name: "Try it" }).focus();
  await page.keyboard.press("Enter");
  await tiers.locator(".returned", { hasText: '"permanent"' }).waitFor();
  assert.match(await tiers.locator(".returned").textContent(), /^HTTP 200\n\{/);
  const check = page.locator(".code", { hasText: `${site}/api/check` });
  const [chooser] = await Promise.all([
    page.waitForEvent("filechooser"),
    check.getByRole("button", { name: "Try it with an image" }).click(),
  ]);
  const bytes = Buffer.from(await (await fetch(image.url)).arrayBuffer());
  await chooser.setFiles({ name: "a.png", mimeType: "image/png", buffer: bytes });
  await check.locator(".returned", { hasText: '"sizeBytes"' }).waitFor();
  await audit(page, "a document with what an example returned");
  await shoot(page, folder, "docs-returned");
  page.check();
  await page.context().close();
}

const browser = await launch();
try {
  for (const check of [errors, leadsOn, reads, runs]) {
    const started = performance.now();
    await check(browser);
    console.log(`${check.name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
} finally {
  await browser.close();
}
