// No faults: both clients pay exactly the price and get what they paid for.
import { checkError, checkLink, read } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";

export const YEAR = 10_000n;
export const PERMANENT = 1_000_000n;

/// The forms in which a client may send an image.
export const forms = {
  raw: (bytes) => ({ headers: { "content-type": "image/png" }, body: bytes }),
  json: (bytes) => ({
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ image: bytes.toString("base64") }),
  }),
  multipart: (bytes) => {
    const body = new FormData();
    body.set("image", new Blob([bytes], { type: "image/png" }), "picture.png");
    return { body };
  },
};

export default async function plain(world) {
  for (const version of [2, 1]) {
    await world.case(`v${version} client: token, then upload`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const token = await buyToken(buyer, "/api/upload/token", YEAR);
      const bytes = picture();
      const uploaded = await buyer.upload(token, bytes);
      same(uploaded.status, 200, "the status of the upload");
      await checkLink(uploaded.json.url, bytes);
      same(uploaded.json.tier, "year", "the tier");
      // Sent again, the payment returns what it bought, without another transfer.
      const again = await buyer.repeat();
      same([again.status, again.json.url], [200, uploaded.json.url], "what the repeated payment returns");
      checkError(await buyer.upload(token, picture()), 409, "token_used", false);
    });
    for (const form of ["raw", "multipart", "json"]) {
      await world.case(`v${version} client: paid upload as ${form}`, [YEAR], async () => {
        await buyUpload(await world.buyer(version, YEAR), "/api/upload", form, YEAR);
      });
    }
    await world.case(`v${version} client: the permanent tier, sold when the chain shows it`, [PERMANENT], async () => {
      await buyUpload(await world.buyer(version, PERMANENT), "/api/upload/permanent", "raw", PERMANENT);
    });
    await world.case(`v${version} client: a wallet with one unit too little`, [], async () => {
      const buyer = await world.buyer(version, YEAR - 1n);
      checkError(await buyer.buy("/api/upload/token"), 402, "payment_invalid", false);
    });
    await world.case(`v${version} client: a file that is no image`, [], async () => {
      const buyer = await world.buyer(version, YEAR);
      const init = { headers: { "content-type": "image/png" }, body: "no image" };
      checkError(await buyer.buy("/api/upload", init), 415, "unsupported_format", false);
    });
  }
  await world.case("a challenge, and a free upload", [], async () => {
    checkError(await read(await fetch(`${world.server.url}/api/upload/token`)), 402, "payment_required", false);
    const bytes = picture();
    const init = { method: "POST", ...forms.multipart(bytes) };
    const free = await read(await fetch(`${world.server.url}/api/free`, init));
    same([free.status, free.json.tier], [200, "free"], "status and tier");
    await checkLink(free.json.url, bytes);
  });
}

/// Buys a token with the client, and checks the receipt.
async function buyToken(buyer, path, price) {
  return checkToken(buyer, await buyer.buy(path), price);
}

/// Checks that the response holds a token and the receipt of its transfer.
export async function checkToken(buyer, answer, price) {
  same(answer.status, 200, `the status (${answer.bytes})`);
  check(/^[0-9a-f]{40}$/.test(answer.json.token), `the response holds no token (${answer.bytes})`);
  await buyer.checkReceipt(answer, price);
  return answer.json.token;
}

/// Checks that the response holds a link that serves these bytes, and the receipt of its transfer.
export async function checkUpload(buyer, answer, bytes, price) {
  same(answer.status, 200, `the status (${answer.bytes})`);
  check(answer.json.url, `the response holds no link (${answer.bytes})`);
  await buyer.checkReceipt(answer, price);
  await checkLink(answer.json.url, bytes);
  return answer.json.url;
}

/// Uploads and pays in one request with the client, and checks receipt and link.
async function buyUpload(buyer, path, form, price) {
  const bytes = picture();
  return checkUpload(buyer, await buyer.buy(path, forms[form](bytes)), bytes, price);
}
