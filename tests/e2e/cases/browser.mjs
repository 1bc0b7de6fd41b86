// People pay on the front page, in Debian's Chromium, by a wallet that announces itself to the page.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { giveWallet, launch, losePayment, open } from "../browser.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { YEAR } from "./plain.mjs";

export default async function browser(world) {
  const chromium = await launch();
  try {
    await world.case("a browser wallet pays for an upload", [YEAR], async () => {
      const { page, wallet, upload, end } = await visitor(chromium, world, YEAR, { chainId: 1, knows: [1] });
      await upload();
      await bought(page);
      same([wallet.chainId, wallet.signed], [84532, 1], "the network and the signatures");
      await end();
    });
    await world.case("a browser wallet declines, and pays at the second try", [YEAR], async () => {
      const { page, wallet, upload, end } = await visitor(chromium, world, YEAR);
      wallet.declines = true;
      await upload();
      await said(page, "You declined in Test Wallet");
      wallet.declines = false;
      await page.getByRole("button", { name: /^Try again/ }).click();
      await bought(page);
      await end();
    });
    await world.case("a browser wallet without money is refused at no charge", [], async () => {
      const { page, upload, end } = await visitor(chromium, world, 0n);
      await upload();
      await said(page, "Nothing was charged.");
      await end();
    });
    for (const [name, reloads] of [["its page", false], ["the next page", true]]) {
      await world.case(`an answer that a browser lost is recovered by ${name}, without a second signature`, [YEAR], async () => {
        const { page, wallet, upload, end } = await visitor(chromium, world, YEAR);
        const lost = await losePayment(page, { arrives: true });
        await upload();
        if (reloads) {
          await said(page, "The same payment is presented again");
          await page.reload();
        }
        same(await bought(page), lost[0].url, "the recovered link");
        same(wallet.signed, 1, "the signatures");
        await end();
      });
    }
    await world.case("a browser wallet keeps an image longer, and loses the answer once", [YEAR], async () => {
      const { page, wallet, end } = await visitor(chromium, world, YEAR);
      const free = await fetch(`${world.server.url}/api/free`, { method: "POST", body: picture(), headers: { "content-type": "image/png" } });
      const { pageUrl, expiresAt, id } = await free.json();
      await page.goto(`${pageUrl}#longer`);
      await page.getByRole("button", { name: "Connect Test Wallet" }).click();
      await losePayment(page, { arrives: true });
      await page.getByRole("button", { name: /^Pay / }).click();
      await page.getByText("The image is kept until").waitFor();
      const days = (Date.parse((await (await fetch(`${world.server.url}/api/images/${id}`)).json()).expiresAt) - Date.parse(expiresAt)) / 86_400_000;
      same([Math.round(days), wallet.signed], [365, 1], "the days that were added, and the signatures");
      await end();
    });
  } finally {
    await chromium.close();
  }
}

/// Somebody with this much money who opened the front page. `upload` chooses an image and pays for it.
async function visitor(chromium, world, usdc, has = {}) {
  const buyer = await world.buyer(2, usdc);
  const page = await open(chromium, { origins: [world.server.url] });
  page.allowed.add(402);
  const wallet = await giveWallet(page.context(), { key: buyer.key, ...has });
  await page.goto(`${world.server.url}/`);
  await page.locator("html[data-ready]").waitFor();
  const path = join(world.folder, `browser-${buyer.address}.png`);
  writeFileSync(path, picture());
  const upload = async () => {
    await page.locator('.tier:has(input[value="year"])').click();
    await page.getByRole("button", { name: "Connect Test Wallet" }).click();
    await page.locator("#image").setInputFiles([path]);
    await page.getByRole("button", { name: /^Pay / }).click();
  };
  const end = async () => {
    page.check();
    await page.context().close();
  };
  return { page, wallet, upload, end };
}

/// Waits until the page says this about the image.
const said = (page, text) => page.locator(".queue-said", { hasText: text }).waitFor();

/// The link of the image, once the page shows it. The image is served.
async function bought(page) {
  const url = await page.getByLabel(/^Link of /).inputValue();
  check((await fetch(url)).ok, `the image ${url} is not served`);
  return url;
}
