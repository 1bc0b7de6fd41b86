// A database restored from a backup: payments since then are found on the chain, and their payers get what they paid for.
// The case has its own server. One buyer is a contract wallet, whose new signature only the chain can verify.
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError } from "../buyers.mjs";
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
  const payers = [{ account: owner }, { account: owner, wallet: await chain.deployWallet(owner) }];
  const lost = [];
  for (const payer of payers) {
    const buyer = await world.buyer(2, YEAR, { server, ...payer });
    const answer = await buyer.buy("/api/upload/token/year");
    same(answer.status, 200, `the status (${answer.bytes})`);
    lost.push({ payer, buyer, transaction: buyer.receipt(answer).transaction });
  }
  await server.stop();
  copyDatabase(backup, data);
  await server.start();

  for (const { buyer } of lost) checkError(await buyer.repeat(), 503, "recovery_required", null);
  const stale = await server.run(["ledger", "check"]);
  check(stale.code === 1 && stale.output.includes("STALE"), `ledger check doesn't report the older database:\n${stale.output}`);
  for (const found of [2, 0]) {
    const { code, output } = await server.run(["ledger", "recover"]);
    same([code, output.match(/^added (\d+) payments/m)?.[1]], [0, String(found)], `the payments (${output})`);
  }
  await until("paid routes to be open", async () => (await lost[0].buyer.repeat()).status === 409);
  for (const { buyer } of lost) {
    checkError(await buyer.repeat(), 409, "payment_known", true);
    checkError(await buyer.repeatWithoutProof(), 409, "payment_known", true);
  }
  same((await server.check()).orphans, [], "the orphans");

  const report = await server.check();
  same([report.payments, report.settled, report.received], [2, 2n * YEAR, 2n * YEAR], "the ledger");
  same(await chain.balance(payTo), 2n * YEAR, "the recipient's balance");
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
