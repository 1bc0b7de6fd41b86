// Signed offers and receipts, verified with the extension's own package and with a JWS library, which know only the keys
// that pixtoll publishes.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  decodeSignedOffers,
  extractOffersFromPaymentRequired,
  extractReceiptFromResponse,
  findAcceptsObjectFromSignedOffer,
  verifyOfferSignatureEIP712,
  verifyReceiptMatchesOffer,
  verifyReceiptSignatureEIP712,
} from "@x402/extensions/offer-receipt";
import { compactVerify, createLocalJWKSet } from "jose";
import { read } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { forms, YEAR } from "./plain.mjs";

const PATH = "/api/upload/year";

export default async function receipts(world) {
  for (const version of [2, 1]) {
    await world.case(`v${version} client: an offer and its receipt, signed`, [YEAR], async () => {
      const keys = await publishedKeys(world);
      const offer = await signedOffer(world, keys);
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      const bought = await buyer.buy(PATH, forms.raw(bytes));
      same(bought.status, 200, `the status (${bought.bytes})`);
      await checkX402(world, buyer, bought, offer, keys);
      const receipt = await checkOwn(world, buyer, bought, keys);
      same(receipt.sha256, createHash("sha256").update(bytes).digest("hex"), "the receipt's SHA-256");
      same(receipt.transaction, buyer.receipt(bought).transaction, "the receipt's transaction");
    });
  }
}

async function publishedKeys(world) {
  const { status, bytes } = await read(await fetch(`${world.server.url}/.well-known/jwks.json`));
  same(status, 200, "the status of the keys");
  return JSON.parse(bytes);
}

/// The published address that signs offers.
function signerOf(keys) {
  return keys.keys.find(({ crv }) => crv === "secp256k1").address;
}

async function signedOffer(world, keys) {
  const { headers } = await fetch(world.server.url + PATH, { method: "POST" });
  const challenge = JSON.parse(Buffer.from(headers.get("payment-required"), "base64").toString());
  const offers = extractOffersFromPaymentRequired(challenge);
  same(offers.length, challenge.accepts.length, "the signed offers");
  const { signer, payload } = await verifyOfferSignatureEIP712(offers[0]);
  same(signer, signerOf(keys), "who signed the offer");
  const [decoded] = decodeSignedOffers(offers);
  same(findAcceptsObjectFromSignedOffer(decoded, challenge.accepts), challenge.accepts[0], "what the offer is for");
  check(payload.validUntil > Date.now() / 1000, "the offer has expired already");
  return decoded;
}

async function checkX402(world, buyer, bought, offer, keys) {
  const receipt = extractReceiptFromResponse(bought);
  check(receipt, "the settlement holds no receipt");
  const { signer, payload } = await verifyReceiptSignatureEIP712(receipt);
  same(signer, signerOf(keys), "who signed the receipt");
  check(verifyReceiptMatchesOffer(receipt, offer, [buyer.address]), "the receipt is not for this offer and this payer");
  same(payload.transaction, buyer.receipt(bought).transaction, "the transaction of the receipt");
  same(extractReceiptFromResponse(await buyer.repeat()), receipt, "the receipt when the payment is sent again");
  same(await verifyCommand(world, JSON.stringify(receipt), keys), 0, "the exit code of `receipt verify`");
}

async function checkOwn(world, buyer, bought, keys) {
  const { id, deleteToken } = bought.json;
  const headers = { "x-delete-token": deleteToken };
  const answer = await read(await fetch(`${world.server.url}/api/receipts/${id}`, { headers }));
  same(answer.status, 200, `the status of the receipts (${answer.bytes})`);
  const [{ jws, ...shown }] = answer.json.receipts;
  const { payload, protectedHeader } = await compactVerify(jws, createLocalJWKSet(keys));
  same([protectedHeader.alg, protectedHeader.typ], ["EdDSA", "pixtoll-receipt"], "the header of the receipt");
  const signed = JSON.parse(Buffer.from(payload).toString());
  const sorted = (claims) => Object.entries(claims).sort();
  same(sorted(shown), sorted(signed), "the unsigned fields, compared with the signed ones");
  same([signed.payer, signed.payTo, signed.amount], [buyer.address, world.payTo, String(YEAR)], "payer, recipient and amount");
  same(await verifyCommand(world, answer.bytes, keys), 0, "the exit code of `receipt verify`");
  const spoilt = answer.bytes.toString().replace(`"amount":"${YEAR}"`, '"amount":"1"');
  same(await verifyCommand(world, spoilt, keys), 1, "the exit code of `receipt verify` for another amount");
  return signed;
}

async function verifyCommand(world, receipt, keys) {
  const [file, saved] = ["receipt.json", "keys.json"].map((name) => join(world.folder, name));
  writeFileSync(file, receipt);
  writeFileSync(saved, JSON.stringify(keys));
  const { code } = await world.server.run(["receipt", "verify", file, "--keys", saved]);
  return code;
}
