// Buys an upload link and prints it. Whoever has the link uploads with it, by curl -T photo.png LINK:
//
//     node link.ts [images] [days] [tier]
//
// PIXTOLL_SERVER is the server. WALLET_KEY is the private key of the paying account; without it a new key pays, which has
// money at a sandbox only. NETWORK is the chain to pay on: 84532 is Base Sepolia, 8453 is Base.
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { isHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const [images = "3", days = "30", tier = "year"] = process.argv.slice(2);
const { PIXTOLL_SERVER = "http://127.0.0.1:4020", NETWORK = "84532", WALLET_KEY } = process.env;
const account = privateKeyToAccount(isHex(WALLET_KEY) ? WALLET_KEY : generatePrivateKey());
const client = new x402Client().register(`eip155:${NETWORK}`, new ExactEvmScheme(account));

// Pays when the server answers 402; @x402/fetch pays at most 1 USDC per request unless it is told otherwise.
const pay = wrapFetchWithPayment(fetch, client);
const query = new URLSearchParams({ images, days, tier });
const answer = await pay(`${PIXTOLL_SERVER}/api/links?${query}`, { method: "POST" });
const body = await answer.json();
if (!answer.ok) {
  throw new Error(`${answer.status} ${body.error}: ${body.message} (charged: ${body.charged})`);
}
console.log(body.url);
