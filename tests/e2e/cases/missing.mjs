// A reorganisation removes the transfer of a settled payment: the auditor marks it, and the operator decides. The cases
// have their own server and their own chain, whose block times are set ahead, so that ten minutes of block time pass at
// once. anvil's safe block is one behind its newest: a payment is audited no more once another block follows its own.
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError, checkLink } from "../buyers.mjs";
import { Chain } from "../chain.mjs";
import { same, until } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { freePort, stop } from "../processes.mjs";
import { Proxy } from "../proxy.mjs";
import { Server } from "../server.mjs";
import { startFacilitator } from "../world.mjs";
import { YEAR } from "./plain.mjs";

/// The time between two blocks that are mined here.
const STEP_SECONDS = 301;
/// The auditor waits in real time: 15 s after a settlement, 30 s after a check that did not find the transfer.
const PATIENCE_SECONDS = 240;

export default async function missing(main) {
  const ends = [];
  try {
    const chain = await Chain.start(await freePort());
    ends.push(() => stop(chain.process));
    await forget(main.apart(chain), ends);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

async function forget(world, ends) {
  const { chain } = world;
  const [facilitator, facilitatorUrl] = await startFacilitator(chain);
  ends.push(() => stop(facilitator));
  const node = await Proxy.start(chain.url);
  ends.push(() => node.close());
  const payTo = privateKeyToAccount(generatePrivateKey()).address;
  const server = new Server(world.server.program, join(world.folder, "third"), {
    port: await freePort(),
    adminPort: await freePort(),
    payments: `facilitator = "url"
facilitator_url = "${facilitatorUrl}"
networks = ["base-sepolia"]
rpc_url = "${node.url}"
pay_to = "${payTo}"`,
  });
  await server.start();
  ends.push(() => server.stop());
  const bytes = picture();
  let buyer, token, link, raw, block;

  /// Checks that the ledger balances with this many settled payments.
  const balances = async (payments) => {
    const sum = BigInt(payments) * YEAR;
    const report = await server.check();
    same([report.payments, report.settled, report.received, report.orphans.length], [payments, sum, sum, 0], "the ledger");
    same(await chain.balance(payTo), sum, "the recipient's balance");
  };

  const mine = async () => {
    await chain.control.increaseTime({ seconds: STEP_SECONDS });
    await chain.control.mine({ blocks: 1 });
  };

  /// Mines a block after each read of the chain, until the payment is as `so` says.
  const becomes = async (what, so) => {
    let looks = -1;
    const probe = async () => {
      if (await so()) return true;
      if (node.calls.length !== looks) {
        looks = node.calls.length;
        await mine();
      }
      return false;
    };
    await until(what, probe, PATIENCE_SECONDS);
  };
  const isMarked = async () => (await server.payment(buyer.address)).missing !== undefined;

  /// Buys a token and uploads an image with it. Nothing else is in the newest block.
  const buy = async () => {
    buyer = await world.buyer(2, 0n, { server });
    await chain.mint(buyer.address, YEAR);
    const bought = await buyer.buy("/api/upload/token/year");
    same(bought.status, 200, `the status (${bought.bytes})`);
    token = bought.json.token;
    const uploaded = await buyer.upload(token, bytes);
    same(uploaded.status, 200, `the status of the upload (${uploaded.bytes})`);
    link = uploaded.json.url;
    await checkLink(link, bytes);
    return bought;
  };

  await world.case("a settled payment's block is replaced: it is marked, and its image stays", [], async () => {
    const bought = await buy();
    await balances(1);
    const { transaction } = buyer.receipt(bought);
    raw = await chain.reads.request({ method: "eth_getRawTransactionByHash", params: [transaction] });
    block = (await chain.reads.getTransaction({ hash: transaction })).blockNumber;
    await chain.replaceBlocks(1);
    await becomes("the payment to be marked", isMarked);
    const { code, output } = await server.run(["ledger", "check"]);
    same(code, 1, `the exit code of ledger check (${output})`);
    const again = await buyer.repeat();
    same([again.status, again.json?.url], [200, link], "what the payment returns");
    await checkLink(link, bytes);
  });

  await world.case("the chain shows the transfer again: the mark goes", [], async () => {
    const depth = Number((await chain.height()) - block) + 1;
    await chain.control.request({ method: "anvil_reorg", params: [depth, [[raw, 0]]] });
    await until("the mark to go", async () => !(await isMarked()), PATIENCE_SECONDS);
    await checkLink(link, bytes);
    await balances(1);
  });
  await world.case("the transfer is gone for good: voided, and the image is gone", [], async () => {
    await buy();
    await chain.replaceBlocks(1);
    await becomes("the payment to be marked", isMarked);
    const { output } = await server.run(["ledger", "show", buyer.address]);
    const id = output.match(/^payment ([0-9a-f]{64})$/m)[1];
    const voided = await server.run(["ledger", "void", id, "--note", "gone"]);
    same(voided.code, 0, `the exit code of ledger void (${voided.output})`);
    // The server reads once a second what other processes have withdrawn.
    await until("the image to go", async () => (await fetch(link)).status === 404, 5);
    const charged = async () => (await buyer.repeat()).json?.charged === false;
    await becomes("the chain to decide", charged);
    checkError(await buyer.repeat(), 409, "payment_resolved", false);
    checkError(await buyer.repeatWithoutProof(), 409, "payment_known", false);
    checkError(await buyer.upload(token, bytes), 409, "payment_resolved", false);
    same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
    await balances(1);
  });
}
