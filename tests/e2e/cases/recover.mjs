// A database restored from a backup: payments since then are found on the chain, and their payers claim what they paid for
// by signing in with the npm client of `@x402/extensions`. The case has its own server. One buyer is a contract wallet,
// whose signature only the chain can verify, and one has a client of version 1.
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createSIWxClientExtension } from "@x402/extensions/sign-in-with-x";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError, read } from "../buyers.mjs";
import { check, same, until } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { freePort } from "../processes.mjs";
import { Server } from "../server.mjs";
import { YEAR } from "./plain.mjs";

export default async function recover(world) {
  const payTo = privateKeyToAccount(generatePrivateKey()).address;
  const server = new Server(world.server.program, join(world.folder, "fourth"), {
    port: await freePort(),
    adminPort: await freePort(),
    payments: `facilitator = "url"
facilitator_url = "${world.facilitatorUrl}"
networks = ["base-sepolia"]
rpc_url = "${world.chain.url}"
pay_to = "${payTo}"`,
  });
  await server.start();
  try {
    await world.case("a restored database sells nothing until recovery; nobody pays twice", [], () =>
      loseAndRecover(world, server, payTo),
    );
  } finally {
    await server.stop();
  }
}

async function loseAndRecover(world, server, payTo) {
  const { chain } = world;
  const [data, backup] = [join(server.folder, "data"), join(server.folder, "backup")];
  await server.stop();
  copyDatabase(data, backup);
  await server.start();

  const owner = privateKeyToAccount(generatePrivateKey());
  const payers = [
    [2, { account: owner }],
    [2, { account: owner, wallet: await chain.deployWallet(owner) }],
    [1, {}],
  ];
  const lost = [];
  for (const [version, payer] of payers) {
    const buyer = await world.buyer(version, YEAR, { server, ...payer });
    const answer = await buyer.buy("/api/upload/token/year");
    same(answer.status, 200, `the status (${answer.bytes})`);
    lost.push({ buyer, transaction: buyer.receipt(answer).transaction });
  }
  await server.stop();
  copyDatabase(backup, data);
  await server.start();

  for (const { buyer } of lost) checkError(await buyer.repeat(), 503, "recovery_required", null);
  const stale = await server.run(["ledger", "check"]);
  check(stale.code === 1 && stale.output.includes("STALE"), `ledger check doesn't report the older database:\n${stale.output}`);
  for (const found of [3, 0]) {
    const { code, output } = await server.run(["ledger", "recover"]);
    same([code, output.match(/^added (\d+) payments/m)?.[1]], [0, String(found)], `the payments (${output})`);
  }
  await until("paid routes to be open", async () => (await lost[0].buyer.repeat()).status === 409);
  for (const { buyer } of lost) {
    checkError(await buyer.repeat(), 409, "payment_known", true);
    if (buyer.version === 2) checkError(await buyer.repeatWithoutProof(), 409, "payment_known", true);
  }
  same((await server.check()).orphans, [], "the orphans");

  const stranger = await claim(server, privateKeyToAccount(generatePrivateKey()));
  same([stranger.status, stranger.json.payments], [200, []], `what a stranger claims (${stranger.bytes})`);
  for (const { buyer, transaction } of lost) {
    const sent = [];
    const claimed = await claim(server, buyer.account, sent);
    same(claimed.status, 200, `the status (${claimed.bytes})`);
    const [payment] = claimed.json.payments;
    same([claimed.json.payments.length, payment.transaction], [1, transaction], "the transaction of the claimed payment");
    same((await buyer.upload(payment.token.token, picture())).status, 200, "the status of the upload");
    // The signed message signs in once.
    checkError(await read(await fetch(sent.at(-1))), 401, "sign_in_invalid", false);
    same((await claim(server, buyer.account)).json.payments, [], "what is left to claim");
  }
  const report = await server.check();
  same([report.payments, report.settled, report.received], [3, 3n * YEAR, 3n * YEAR], "the ledger");
  same(await chain.balance(payTo), 3n * YEAR, "the recipient's balance");
}

/// Signs in by the client's own extension, which answers the challenge. `sent` receives the requests.
async function claim(server, account, sent = []) {
  const client = new x402Client().registerExtension(createSIWxClientExtension({ signers: [account] }));
  const record = (input, init) => {
    const request = new Request(input, init);
    sent.push(request.clone());
    return fetch(request);
  };
  return read(await wrapFetchWithPayment(record, client)(`${server.url}/api/claims`, { method: "POST" }));
}

/// Replaces the files of a database by others. No server may have it open.
function copyDatabase(from, to) {
  mkdirSync(to, { recursive: true });
  for (const end of ["", "-wal", "-shm"]) {
    const name = `pixtoll.db${end}`;
    rmSync(join(to, name), { force: true });
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
  }
}
