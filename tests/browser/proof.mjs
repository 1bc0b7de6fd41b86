// Verifies the public proof by the button of its page. Run by scripts/check-pages.
//
//     node proof.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { audit, fits, launch, open, shoot } from "./browser.mjs";

const [known, folder] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
const { site } = known;

// Opens the page, changes its HTML, and presses the button by keyboard alone. Returns what is said then.
async function verdict(browser, what, change = (html) => html) {
  const page = await open(browser, { origins: [site], width: 390 });
  await page.route("**/proof", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: change(await response.text()) });
  });
  await page.goto(`${site}/proof`);
  await page.getByRole("button", { name: "Verify this page" }).focus();
  await page.keyboard.press("Enter");
  const said = page.locator("#verdict.good, #verdict.bad");
  await said.waitFor();
  await fits(page, what);
  await audit(page, what);
  await shoot(page, folder, `proof-${what}`);
  const [text, kind] = [await said.textContent(), await said.getAttribute("class")];
  page.check();
  await page.context().close();
  return { text, isGood: kind === "notice good" };
}

// Without scripts, the page has everything but the button.
async function readsWithoutScripts(browser) {
  const page = await open(browser, { origins: [site], javaScriptEnabled: false });
  await page.goto(`${site}/proof`);
  assert.equal(await page.locator("#verify").isVisible(), false);
  await page.getByText("The button needs JavaScript").waitFor();
  page.check();
  await page.context().close();
}

const browser = await launch();
try {
  const good = await verdict(browser, "good");
  assert.ok(good.isGood && /The \d{3} numbers on this page are the signed ones/.test(good.text), good.text);
  const shown = await verdict(browser, "other-number", (html) => html.replace(/(data-of="\/totals\/settled">)/, "$19"));
  assert.ok(!shown.isGood && shown.text.includes("something else at /totals/settled"), shown.text);
  const flip = (letter) => (letter === "A" ? "B" : "A");
  const forged = await verdict(browser, "forged", (html) => html.replace(/(data-jws="[^"]+)([^"])([^"]{20}")/, (_, before, letter, after) => before + flip(letter) + after));
  assert.ok(!forged.isGood && forged.text.includes("does not match"), forged.text);
  await readsWithoutScripts(browser);
  console.log("the button of the proof accepts the page, and refuses another number and another signature");
} finally {
  await browser.close();
}
