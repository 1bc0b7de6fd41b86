// Two networks in one challenge, on two chains: Base Sepolia with Coinbase's API keys, and a network from the
// configuration. A second server sells there, with its own recipient.
import { generateKeyPairSync, verify } from "node:crypto";
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { Chain, DOMAIN, USDC } from "../chain.mjs";
import { checkLink } from "../buyers.mjs";
import { check, same, until } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { freePort, stop } from "../processes.mjs";
import { Proxy } from "../proxy.mjs";
import { Server } from "../server.mjs";
import { startFacilitator } from "../world.mjs";
import { forms, YEAR } from "./plain.mjs";

const OTHER = 919_191;
const KEY_ID = "organizations/an-org/apiKeys/a-key";

export default async function networks(world) {
  const ends = [];
  try {
    await sellOnBoth(world, ends);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

async function sellOnBoth(world, ends) {
  const other = await Chain.start(await freePort(), OTHER);
  ends.push(() => stop(other.process));
  const [facilitator, facilitatorUrl] = await startFacilitator(other);
  ends.push(() => stop(facilitator));
  const coinbase = await Proxy.start(world.facilitatorUrl);
  ends.push(() => coinbase.close());
  const payTo = privateKeyToAccount(generatePrivateKey()).address;
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const jwk = privateKey.export({ format: "jwk" });
  const secret = Buffer.concat([Buffer.from(jwk.d, "base64url"), Buffer.from(jwk.x, "base64url")]).toString("base64");
  const server = new Server(world.server.program, join(world.folder, "second"), {
    port: await freePort(),
    adminPort: await freePort(),
    payments: `facilitator = "coinbase"
facilitator_url = "${coinbase.url}"
cdp_key_id = "${KEY_ID}"
cdp_key_secret = "${secret}"
networks = ["base-sepolia", "eip155:${OTHER}"]
rpc_url = "base-sepolia=${world.chain.url}"
pay_to = "${payTo}"`,
    more: `[[networks]]
id = "eip155:${OTHER}"
asset = "${USDC}"
domain_name = "${DOMAIN.name}"
domain_version = "${DOMAIN.version}"
test = true
facilitator = "url"
facilitator_url = "${facilitatorUrl}"
rpc_url = "${other.url}"
`,
  });
  await server.start();
  ends.push(() => server.stop());

  await world.case("pixtoll config check --online", [], async () => {
    const { code, output } = await server.run(["config", "check", "--online"]);
    same(code, 0, `the exit code (${output})`);
    same(output.match(/^online: .*settles on it$/gm)?.length, 2, `the facilitators that settle (${output})`);
    same(output.match(/^online: .*the node answers/gm)?.length, 2, `the nodes that answer (${output})`);
    check(!output.includes(secret), "the output holds the secret");
    const wrong = await server.run(["config", "check", "--online"], { PIXTOLL_PAYMENTS__RPC_URL: `base-sepolia=${other.url}` });
    same(wrong.code, 1, `the exit code with a node of another chain (${wrong.output})`);
  });

  for (const [name, chain, asked] of [["Base Sepolia", world.chain, coinbase], ["the other one", other, undefined]]) {
    await world.case(`two networks in one challenge: paid on ${name}`, [], async () => {
      const buyer = await world.buyer(2, 0n, { server, network: `eip155:${chain.id}` });
      await chain.mint(buyer.address, YEAR);
      const bytes = picture();
      const answer = await buyer.buy("/api/upload", forms.raw(bytes));
      same(answer.status, 200, `the status (${answer.bytes})`);
      await checkLink(answer.json.url, bytes);
      const receipt = buyer.receipt(answer);
      same([receipt.success, receipt.network], [true, `eip155:${chain.id}`], "the receipt");
      const { transfers } = await chain.logs(0n);
      const ours = transfers.filter((log) => log.args.to === payTo);
      same(ours.map((log) => [log.args.from, log.args.value]), [[buyer.address, YEAR]], "the transfers to the recipient");
      same(ours[0].transactionHash, receipt.transaction, "the transaction");
      if (asked) checkTokens(asked, publicKey);
    });
  }

  await world.case("the ledger of both networks", [], async () => {
    const report = await server.check();
    same(report.chains, ["base-sepolia", `eip155:${OTHER}`], "the chains that were asked");
    same([report.payments, report.settled, report.received], [2, 2n * YEAR, 2n * YEAR], "payments, settled and received");
    const balances = await Promise.all([world.chain, other].map((chain) => chain.balance(payTo)));
    same(balances, [YEAR, YEAR], "the recipient's balances");
  });

  await world.case("the server refuses to start with a node of another chain", [], async () => {
    await server.stop();
    const { code, output } = await server.run(["serve"], { PIXTOLL_PAYMENTS__RPC_URL: `base-sepolia=${other.url}` });
    check(code !== 0 && output.includes(`chain ${OTHER}`), `the server started with a node of another chain (${code}: ${output})`);
    // Earlier payments stay readable without the second network in the configuration.
    await until("the payments to be settled", async () => (await server.check()).payments === 2);
    await server.start();
  });
}

/// Checks that every call carried its own JWT, signed by the key for exactly this call.
function checkTokens(proxy, publicKey) {
  const seen = new Set();
  for (const { method, headers, path } of proxy.calls) {
    const token = headers.authorization?.match(/^Bearer (\S+)$/)?.[1];
    check(token, `${path} came without a token`);
    check(!seen.has(token), `${path} came with the token of another call`);
    seen.add(token);
    const [header, claims, signature] = token.split(".");
    const json = (part) => JSON.parse(Buffer.from(part, "base64url").toString());
    const { alg, kid, typ, nonce } = json(header);
    same([alg, kid, typ, nonce.length], ["EdDSA", KEY_ID, "JWT", 32], "the header");
    const { sub, iss, uris, iat, nbf, exp } = json(claims);
    same([sub, iss, uris], [KEY_ID, "cdp", [`${method} ${proxy.url.replace("http://", "")}${path}`]], "the claims");
    same([nbf - iat, exp - iat], [0, 120], "the times");
    check(Math.abs(Date.now() / 1000 - iat) < 600, "the token was not issued now");
    check(verify(null, Buffer.from(`${header}.${claims}`), publicKey, Buffer.from(signature, "base64url")), "the signature is wrong");
  }
  const names = proxy.calls.map(({ name }) => name);
  for (const name of ["supported", "verify", "settle"]) check(names.includes(name), `${name} was not called`);
}
