// The other purchases: several uploads on one payment, and more time for an image.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkError, checkLink, read } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { checkToken, forms, PERMANENT, YEAR } from "./plain.mjs";

const DAY = 86_400_000;

export default async function goods(world) {
  for (const version of [2, 1]) {
    await world.case(`v${version} client: three uploads on one payment`, [3n * YEAR], async () => {
      const buyer = await world.buyer(version, 3n * YEAR);
      const token = await checkToken(buyer, await buyer.buy("/api/upload/token?images=3"), 3n * YEAR);
      const pictures = [picture(), picture(), picture()];
      checkError(await buyer.upload(token, Buffer.from("no image")), 415, "unsupported_format", false);
      const links = new Set();
      for (const answer of await Promise.all([...pictures, ...pictures].map((bytes) => upload(buyer, token, bytes)))) {
        same(answer.status, 200, `the status of an upload (${answer.bytes})`);
        links.add(answer.json.url);
      }
      same(links.size, 3, "the images");
      for (const bytes of pictures) await checkLink((await upload(buyer, token, bytes)).json.url, bytes);
      checkError(await buyer.upload(token, picture()), 409, "token_used", false);
    });
    await world.case(`v${version} client: an image is renewed twice`, [YEAR, YEAR], async () => {
      const image = await free(world);
      const first = await renew(await world.buyer(version, YEAR), `${image.id}/renew?tier=year`, YEAR);
      same(first.previousExpiresAt, image.expiresAt, "the expiry before");
      same(Date.parse(first.expiresAt) - Date.parse(image.expiresAt), 365 * DAY, "the time that was bought");
      // Another payer may renew it too. The image is in a paid tier now.
      const second = await renew(await world.buyer(version, YEAR), `${image.id}/renew`, YEAR);
      same(Date.parse(second.expiresAt) - Date.parse(first.expiresAt), 365 * DAY, "the time that was bought");
      check(!second.deleteToken, "the response to a renewal holds a delete token");
      await checkLink(image.url, image.bytes);
    });
    await world.case(`v${version} client: made permanent, then refused to renew`, [PERMANENT], async () => {
      const image = await free(world);
      const forever = await renew(await world.buyer(version, PERMANENT), `${image.id}/renew?tier=permanent`, PERMANENT);
      same([forever.expiresAt, forever.tier], [null, "permanent"], "expiry and tier");
      const buyer = await world.buyer(version, YEAR);
      checkError(await buyer.buy(`/api/images/${image.id}/renew?tier=year`), 409, "not_renewable", false);
    });
  }
  await world.case("pixtoll upload: three files on one payment, and pixtoll renew", [3n * YEAR, YEAR], async () => {
    const buyer = await world.buyer(2, 4n * YEAR);
    const pictures = [picture(), picture(), picture()];
    const files = pictures.map((bytes, place) => {
      const file = join(world.folder, `${buyer.address}-${place}.png`);
      writeFileSync(file, bytes);
      return file;
    });
    const links = await pixtoll(world, buyer, ["upload", "--tier", "year", ...files]);
    same(links.length, 3, "the links");
    for (const [place, link] of links.entries()) await checkLink(link, pictures[place]);
    same(await pixtoll(world, buyer, ["renew", links[0]]), [links[0]], "what pixtoll renew prints");
  });
}

/// Uploads with a token, and retries while another upload holds the last use.
async function upload(buyer, token, bytes) {
  for (;;) {
    const answer = await buyer.upload(token, bytes);
    if (answer.json?.error !== "token_in_use") return answer;
  }
}

/// Uploads a free image. Returns the image and its bytes.
async function free(world) {
  const bytes = picture();
  const answer = await read(await fetch(`${world.server.url}/api/free`, { method: "POST", ...forms.raw(bytes) }));
  same(answer.status, 200, "the status of the free upload");
  return { ...answer.json, bytes };
}

/// Renews an image with the client, and checks the receipt.
async function renew(buyer, path, price) {
  const answer = await buyer.buy(`/api/images/${path}`);
  same(answer.status, 200, `the status (${answer.bytes})`);
  await buyer.checkReceipt(answer, price);
  const again = await buyer.repeat();
  same([again.status, again.json.expiresAt], [200, answer.json.expiresAt], "what the repeated payment returns");
  return answer.json;
}

/// Runs a paying command of pixtoll. Returns the links that it printed.
export async function pixtoll(world, buyer, [command, ...rest]) {
  const variables = { PIXTOLL_WALLET_KEY: buyer.key, HOME: world.folder, XDG_DATA_HOME: world.folder };
  const { code, output } = await world.server.run([command, "--server", world.server.url, ...rest], variables);
  same(code, 0, `the exit code (${output})`);
  return output.match(/^http\S+$/gm) ?? [];
}
