// A reorganisation removes the transfer of a settled payment, and what it bought is withheld until the chain decides. The
// cases have their own server and their own chain, whose block times are set ahead, so that ten minutes of block time pass
// at once.
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError, checkLink, read } from "../buyers.mjs";
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

export default async function frozen(main) {
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

  /// Mines a block after each read of the chain, until the payment is in this state.
  const becomes = async (state) => {
    let looks = -1;
    const probe = async () => {
      if ((await server.payment(buyer.address)).state === state) return true;
      if (node.calls.length !== looks) {
        looks = node.calls.length;
        await mine();
      }
      return false;
    };
    await until(`the payment to be ${state}`, probe, PATIENCE_SECONDS);
  };

  await world.case("a settled payment's block is replaced: its image is withheld", [], async () => {
    buyer = await world.buyer(2, 0n, { server });
    await chain.mint(buyer.address, YEAR);
    const bought = await buyer.buy("/api/upload/token/year");
    same(bought.status, 200, `the status (${bought.bytes})`);
    token = bought.json.token;
    const uploaded = await buyer.upload(token, bytes);
    same(uploaded.status, 200, `the status of the upload (${uploaded.bytes})`);
    link = uploaded.json.url;
    await checkLink(link, bytes);
    await balances(1);
    const { transaction } = buyer.receipt(bought);
    raw = await chain.reads.request({ method: "eth_getRawTransactionByHash", params: [transaction] });
    block = (await chain.reads.getTransaction({ hash: transaction })).blockNumber;
    await chain.replaceBlocks(1);
    await becomes("frozen");
    checkError(await buyer.repeat(), 503, "settlement_pending", null);
    checkError(await buyer.repeatWithoutProof(), 409, "payment_known", null);
    checkError(await buyer.upload(token, bytes), 503, "settlement_pending", null);
    same((await read(await fetch(link))).status, 404, "the status of the link");
    await balances(0);
  });

  await world.case("the chain shows the transfer again: settled, with the same image", [], async () => {
    const depth = Number((await chain.height()) - block) + 1;
    await chain.control.request({ method: "anvil_reorg", params: [depth, [[raw, 0]]] });
    await until("the payment to be settled", async () => (await server.payment(buyer.address)).state === "settled", PATIENCE_SECONDS);
    const again = await buyer.repeat();
    same([again.status, again.json?.url], [200, link], "what the payment returns");
    await checkLink(link, bytes);
    await balances(1);
  });

  await world.case("the transfer is gone for good: reversed, and the image is gone", [], async () => {
    const depth = Number((await chain.height()) - block) + 1;
    await chain.replaceBlocks(depth);
    await becomes("reversed");
    buyer.checkFailure(await buyer.repeat(), "authorization_expired");
    checkError(await buyer.upload(token, bytes), 401, "bad_token", false);
    same((await read(await fetch(link))).status, 404, "the status of the link");
    same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
    await balances(0);
  });
}
