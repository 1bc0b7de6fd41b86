// The wallet is the account: the client's own extension (sign-in-with-x) signs in to list and delete images, and to read
// receipts.
import { createSIWxClientExtension } from "@x402/extensions/sign-in-with-x";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError, read } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { forms, YEAR } from "./plain.mjs";

export default async function account(world) {
  await world.case("the npm client lists, pages and deletes what its wallet paid for", [YEAR, YEAR, YEAR], async () => {
    const buyer = await world.buyer(2, 3n * YEAR);
    const bought = [];
    for (let count = 0; count < 3; count++) {
      const answer = await buyer.buy("/api/upload", forms.raw(picture()));
      same(answer.status, 200, `the status of an upload (${answer.bytes})`);
      bought.unshift(answer.json);
      // Each sale is a request of its own in the record of the buyer.
      buyer.sent.length = 0;
    }
    const { call, sent } = client(world, buyer.account);
    const list = await call("GET", "/api/images?limit=2");
    same(list.status, 200, `the status of the list (${list.bytes})`);
    same(ids(list), bought.slice(0, 2).map(({ id }) => id), "the first page");
    same(sent.length, 2, "the requests: for the challenge, and signed");
    const rest = await read(await fetch(`${world.server.url}/api/images?after=${list.json.next}`));
    same([ids(rest), rest.json.next], [[bought[2].id], null], "the second page, without a sign-in");
    // The signed message signs in once.
    checkError(await read(await fetch(sent.at(-1))), 401, "sign_in_invalid", false);

    const receipts = await call("GET", `/api/receipts/${bought[2].id}`);
    same([receipts.status, receipts.json.receipts.length], [200, 1], `the receipts (${receipts.bytes})`);
    same(receipts.json.receipts[0].payer, buyer.address, "the payer of the receipt");

    // One image by its id, two by a list.
    const one = await call("DELETE", `/api/images/${bought[2].id}`);
    same([one.status, one.json], [200, { deleted: [bought[2].id] }], `the delete (${one.bytes})`);
    const both = bought.slice(0, 2).map(({ id }) => id);
    const body = JSON.stringify({ ids: both });
    const stranger = client(world, privateKeyToAccount(generatePrivateKey()));
    checkError(await stranger.call("DELETE", "/api/images", body), 403, "not_owner", false);
    checkError(await stranger.call("DELETE", `/api/images/${both[0]}`), 403, "not_owner", false);
    same(ids(await stranger.call("GET", "/api/images")), [], "the images of a stranger");
    for (const { url } of bought.slice(0, 2)) same((await fetch(url)).status, 200, "the status of an image");
    const many = await call("DELETE", "/api/images", body);
    same([many.status, many.json], [200, { deleted: both }], `the deletes (${many.bytes})`);
    for (const { url } of bought) same((await fetch(url)).status, 404, "the status of a deleted image");
    same(ids(await call("GET", "/api/images")), [], "what is left");
  });
  await world.case("a client that can pay and sign in pays for an upload, then signs in", [YEAR], async () => {
    const buyer = await world.buyer(2, YEAR);
    const { call } = client(world, buyer.account, new ExactEvmScheme(buyer.account));
    const answer = await call("POST", "/api/upload", picture());
    same(answer.status, 200, `the status of the upload (${answer.bytes})`);
    same(ids(await call("GET", "/api/images")), [answer.json.id], "the list");
  });
  await world.case("a contract wallet lists and deletes what it paid for", [YEAR], async () => {
    const owner = privateKeyToAccount(generatePrivateKey());
    const wallet = await world.chain.deployWallet(owner);
    const buyer = await world.buyer(2, YEAR, { wallet, account: owner });
    const bought = await buyer.buy("/api/upload", forms.raw(picture()));
    same(bought.status, 200, `the status of the upload (${bought.bytes})`);
    const { call } = client(world, { ...owner, address: wallet });
    same(ids(await call("GET", "/api/images")), [bought.json.id], "the list");
    // The owner's own key is another wallet.
    same(ids(await client(world, owner).call("GET", "/api/images")), [], "the list of the owner's plain wallet");
    const forged = client(world, { ...privateKeyToAccount(generatePrivateKey()), address: wallet });
    checkError(await forged.call("DELETE", `/api/images/${bought.json.id}`), 401, "sign_in_invalid", false);
    const deleted = await call("DELETE", `/api/images/${bought.json.id}`);
    same(deleted.status, 200, `the status of the delete (${deleted.bytes})`);
  });
}

/// A client whose wallet signs in, and pays with `scheme`. `sent` receives its requests.
function client(world, signer, scheme) {
  const sent = [];
  const wallet = new x402Client().registerExtension(createSIWxClientExtension({ signers: [signer] }));
  if (scheme) wallet.register("eip155:*", scheme);
  const record = (input, init) => {
    const request = new Request(input, init);
    sent.push(request.clone());
    return fetch(request);
  };
  const signing = wrapFetchWithPayment(record, wallet);
  const call = async (method, path, body) => {
    check(path.startsWith("/"), `${path} is no path`);
    return read(await signing(world.server.url + path, { method, body }));
  };
  return { call, sent };
}

/// The ids of the images in a list.
function ids({ status, bytes, json }) {
  same(status, 200, `the status of the list (${bytes})`);
  return json.images.map(({ id }) => id);
}
