// The reference facilitator of the npm packages, in a process of its own, with the plain HTTP interface of its
// documentation. A rejected payment is a response with status 200, an exception one with status 500.
import "./crypto.mjs";
import { createServer } from "node:http";
import { createWalletClient, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { registerExactEvmScheme } from "@x402/evm/exact/facilitator";
import { chainOf, FACTORY, inTurn } from "./chain.mjs";

const [url, key] = [process.env.E2E_RPC_URL, process.env.E2E_FACILITATOR_KEY];
const id = Number(process.env.E2E_CHAIN_ID);
const account = privateKeyToAccount(key);
const options = { account, chain: chainOf(url, id), transport: http(url), pollingInterval: 50, cacheTime: 0 };
const client = createWalletClient(options).extend(publicActions);
const turn = inTurn();
const signer = toFacilitatorEvmSigner({
  ...client,
  address: account.address,
  writeContract: (call) => turn(() => client.writeContract(call)),
  sendTransaction: (transaction) => turn(() => client.sendTransaction(transaction)),
});
const facilitator = registerExactEvmScheme(new x402Facilitator(), {
  signer, networks: `eip155:${id}`, eip6492AllowedFactories: [FACTORY],
});

async function answer(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  if (request.url === "/supported") return facilitator.getSupported();
  const { paymentPayload, paymentRequirements } = JSON.parse(Buffer.concat(chunks).toString());
  if (request.url === "/verify") return facilitator.verify(paymentPayload, paymentRequirements);
  if (request.url === "/settle") return facilitator.settle(paymentPayload, paymentRequirements);
  throw new Error(`unknown route ${request.url}`);
}

const server = createServer(async (request, response) => {
  let [status, body] = [200, undefined];
  try {
    body = await answer(request);
  } catch (error) {
    [status, body] = [500, { error: String(error) }];
    console.error(error);
  }
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body, (_, part) => (typeof part === "bigint" ? String(part) : part)));
});
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
