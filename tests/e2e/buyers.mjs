// Payers with the npm clients `@x402/fetch` (x402 version 2) and `x402-fetch` (version 1), used as their documentation
// shows.
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { decodePaymentResponseHeader } from "@x402/core/http";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import * as v1 from "x402-fetch";
import { check, same, until } from "./check.mjs";

const HEADERS = { 1: "x-payment", 2: "payment-signature" };
const NETWORKS = { 1: "base-sepolia", 2: "eip155:84532" };

/// A payer with a new key, and its client.
export class Buyer {
  /// `wallet` is a contract that pays, with `account` as its owner. `wrap` changes its signatures. `server` is another server than the world's.
  /// `network` is the network pattern for the client (version 2).
  constructor(world, version, { wallet, account, wrap, server, network = "eip155:*" } = {}) {
    Object.assign(this, { world, version, server: server ?? world.server });
    this.key = generatePrivateKey();
    this.account = account ?? privateKeyToAccount(this.key);
    if (wallet) this.account = { ...this.account, address: wallet };
    if (wrap) {
      const { signTypedData } = this.account;
      this.account.signTypedData = async (data) => wrap(await signTypedData(data));
    }
    this.address = this.account.address;
    /// All requests that were sent, with their bodies.
    this.sent = [];
    const record = (input, init) => this.record(input, init);
    if (version === 2) {
      const client = new x402Client();
      client.register(network, new ExactEvmScheme(this.account));
      // By default the client pays only with tokens that it knows; a custom network has another token.
      if (network !== "eip155:*") client.setSpendControls({ allowedAssets: true });
      this.fetch = wrapFetchWithPayment(record, client);
    } else {
      // The client's default cap is 0.10 USDC, but the most expensive tier costs 1.
      this.fetch = v1.wrapFetchWithPayment(record, this.account, 1_000_000n);
    }
  }

  async record(input, init) {
    const request = new Request(input, init);
    const body = Buffer.from(await request.clone().arrayBuffer());
    const headers = Object.fromEntries(request.headers);
    this.sent.push({ url: request.url, method: request.method, headers, body });
    // The payment is signed and recorded, but not sent.
    if (this.withholds && isPaid({ headers })) return new Response(null, { status: 204 });
    return fetch(request);
  }

  /// Sends a request through the client, which pays when the server asks for it.
  async buy(path, init = {}) {
    return read(await this.fetch(this.server.url + path, { method: "POST", ...init }));
  }

  /// The request that carried the payment.
  get paid() {
    const paid = this.sent.filter(isPaid);
    check(paid.length === 1, `the client sent ${paid.length} requests with a payment instead of one`);
    return paid[0];
  }

  /// The authorization and the signature of the payment.
  get signed() {
    return decode(this.paid.headers[HEADERS[this.version]]).payload;
  }

  /// Sends the same request again.
  async repeat() {
    return this.resend(this.paid);
  }

  /// Sends the same request again while the response says to wait or retry. Returns the final response.
  async insist(answer) {
    return until(`a final response, after ${answer.bytes}`, async () => {
      if (!["wait", "retry"].includes(answer.json?.action?.type)) return answer;
      answer = await this.repeat();
      return undefined;
    });
  }

  /// Sends the payment as anybody can who has read the chain: without the ticket, which only the buyer has.
  async repeatWithoutProof() {
    const header = HEADERS[2];
    const { extensions, ...copied } = decode(this.paid.headers[header]);
    check(extensions.pixtoll.info.ticket, "the client did not echo the ticket");
    const text = Buffer.from(JSON.stringify(copied)).toString("base64");
    return this.resend({ ...this.paid, headers: { ...this.paid.headers, [header]: text } });
  }

  async resend({ url, method, headers, body }) {
    return read(await fetch(url, { method, headers, body: body.length ? body : undefined }));
  }

  /// Uploads with an upload token, without the paying client.
  async upload(token, bytes) {
    const headers = { "x-upload-token": token, "content-type": "image/png" };
    return read(await fetch(`${this.server.url}/api/upload`, { method: "POST", headers, body: bytes }));
  }

  receipt(answer) {
    const name = this.version === 2 ? "payment-response" : "x-payment-response";
    const header = answer.headers.get(name);
    check(header, `the response has no header ${name}`);
    return this.version === 2 ? decodePaymentResponseHeader(header) : v1.decodeXPaymentResponse(header);
  }

  /// Checks that the response says that the payment failed for `reason` and that nothing was charged.
  checkFailure(answer, reason) {
    checkError(answer, 402, "payment_failed", false);
    const { success, errorReason, transaction } = this.receipt(answer);
    same([success, errorReason, transaction || ""], [false, reason, ""], "the receipt of the failure");
  }

  /// Checks that a response has a receipt of this buyer for a transfer that the chain shows.
  async checkReceipt(answer, price) {
    const receipt = this.receipt(answer);
    same(receipt.success, true, "the receipt's success");
    same(receipt.network, NETWORKS[this.version], "the receipt's network");
    same(receipt.payer?.toLowerCase(), this.address.toLowerCase(), "the receipt's payer");
    const { transfers } = await this.world.chain.logs(0n);
    const transfer = transfers.find((log) => log.transactionHash === receipt.transaction && log.args.from === this.address);
    check(transfer, `the receipt's transaction ${receipt.transaction} holds no transfer by the payer`);
    same([transfer.args.to, transfer.args.value], [this.world.payTo, price], "the receipt's transfer");
  }
}

function isPaid({ headers }) {
  return Object.values(HEADERS).some((name) => headers[name]);
}

function decode(header) {
  return JSON.parse(Buffer.from(header, "base64").toString());
}

/// Reads a response to its end.
export async function read(response) {
  const bytes = Buffer.from(await response.arrayBuffer());
  let json;
  if (response.headers.get("content-type")?.startsWith("application/json")) json = JSON.parse(bytes.toString());
  return { status: response.status, headers: response.headers, bytes, json };
}

/// Checks that a link serves `bytes`.
export async function checkLink(url, bytes) {
  const image = await read(await fetch(url));
  same(image.status, 200, `the status of ${url}`);
  check(image.bytes.equals(bytes), `${url} serves ${image.bytes.length} bytes that differ from the upload`);
}

/// Checks the status, the error code and `charged` of a response.
export function checkError(answer, status, code, charged) {
  const { error, charged: said } = answer.json ?? {};
  same([answer.status, error, said], [status, code, charged], "status, code and charged");
}
