// Uses the pages as people do. Run by scripts/check-pages.
//
//     node pages.mjs KNOWN.json [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { audit, fits, launch, open, shoot } from "./browser.mjs";

const [known, folder] = [JSON.parse(readFileSync(process.argv[2], "utf8")), process.argv[3]];
const { site, image } = known;
const PAGES = {
  front: "/", docs: "/docs", images: "/docs/images", tools: "/tools", proof: "/proof", security: "/security", terms: "/terms",
  privacy: "/privacy", abuse: `/abuse?image=${image.id}`,
};

async function looks(browser) {
  for (const scheme of ["light", "dark"]) {
    for (const width of [390, 1440]) {
      const page = await open(browser, { origins: [site], scheme, width });
      for (const [name, path] of Object.entries(PAGES)) {
        await page.goto(`${site}${path}`);
        const what = `${name}-${scheme}-${width}`;
        await fits(page, what);
        await audit(page, what);
        await shoot(page, folder, what);
      }
      page.check();
      await page.context().close();
    }
  }
}

// Reports the image by keyboard alone, with scripts off. The first try lacks the reason's partner: a contact that is too
// short is refused by the server, and what was typed is still there.
async function reports(browser) {
  const page = await open(browser, { origins: [site], javaScriptEnabled: false });
  page.allowed.add(400);
  await page.goto(`${site}/abuse?image=${image.id}`);
  await page.getByLabel("Link of the image").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("Tab");
  await page.keyboard.type("It shows my address.");
  await page.keyboard.press("Tab");
  await page.keyboard.type("x");
  await page.keyboard.press("Enter");
  await page.getByText("The report was not sent").waitFor();
  await shoot(page, folder, "abuse-refused");
  assert.equal(await page.getByLabel("What should the operator know?").inputValue(), "It shows my address.");
  await page.getByLabel("How can the operator reach you?").fill("");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Thank you" }).waitFor();
  await shoot(page, folder, "case-new");
  await page.getByRole("link", { name: "Keep the link of this case" }).click();
  await page.getByText("Waits for the operator's decision").waitFor();
  await shoot(page, folder, "case");
  page.check();
  await page.context().close();
}

const browser = await launch();
try {
  await looks(browser);
  await reports(browser);
  console.log("the pages work");
} finally {
  await browser.close();
}
