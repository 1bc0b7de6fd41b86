// Signs a wallet in to a route of this server: the x402 extension sign-in-with-x, which docs/x402.md describes. Each signed
// message is for one route, and signs in once.

import { send } from "./api.js";
import { checksummed } from "./keccak.js";
import { personalSign } from "./wallet.js";

const EXTENSION = "sign-in-with-x";
/** Who is asked for their chain: only a contract wallet cares. @param {import("./wallet.js").Wallet} wallet @param {any[]} chains */
async function chainOf(wallet, chains) {
  const current = await wallet.provider.request({ method: "eth_chainId" }).catch(() => null);
  return chains.find(({ chainId }) => chainId === `eip155:${Number(current)}`) ?? chains[0];
}

/**
 * The text that the wallet signs (ERC-4361).
 * @param {any} info of the challenge
 * @param {string} chainId as a CAIP-2 id
 * @param {string} address
 * @returns {string}
 */
export function textOf(info, chainId, address) {
  return [
    `${info.domain} wants you to sign in with your Ethereum account:`, address, "",
    ...(info.statement === undefined ? [] : [info.statement]), "",
    `URI: ${info.uri}`, `Version: ${info.version}`, `Chain ID: ${chainId.split(":")[1]}`, `Nonce: ${info.nonce}`, `Issued At: ${info.issuedAt}`,
    ...(info.expirationTime === undefined ? [] : [`Expiration Time: ${info.expirationTime}`]),
    ...(info.notBefore === undefined ? [] : [`Not Before: ${info.notBefore}`]),
    ...(info.requestId === undefined ? [] : [`Request ID: ${info.requestId}`]),
    ...(info.resources === undefined ? [] : ["Resources:", ...info.resources.map((/** @type {string} */ it) => `- ${it}`)]),
  ].join("\n");
}

/**
 * Sends a request, and again with what the wallet signed where the server asks for it.
 * @param {{wallet: import("./wallet.js").Wallet, address: string}} who
 * @param {string} method
 * @param {string} path
 * @param {string} [body] JSON
 * @returns {Promise<import("./api.js").Answer>}
 * @throws {import("./wallet.js").WalletError | import("./api.js").NoAnswer}
 */
export async function sendSigned({ wallet, address }, method, path, body) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const first = await send(method, path, { headers: json, body });
  const challenge = first.body?.extensions?.[EXTENSION];
  if (first.status !== 402 || !challenge) return first;
  const chain = await chainOf(wallet, challenge.supportedChains ?? []);
  const signer = checksummed(address);
  const signature = await personalSign(wallet, address, textOf(challenge.info, chain.chainId, signer));
  const message = JSON.stringify({ ...challenge.info, chainId: chain.chainId, type: chain.type, address: signer, signature });
  const bytes = Array.from(new TextEncoder().encode(message), (byte) => String.fromCharCode(byte)).join("");
  return send(method, path, { headers: { ...json, "SIGN-IN-WITH-X": btoa(bytes) }, body });
}
