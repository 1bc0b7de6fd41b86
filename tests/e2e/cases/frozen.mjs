// The chain forgets a payment that was settled: its goods are withheld until the chain decides. On a chain of its own,
// whose time runs ahead, and with a server of its own: ten minutes of the chain pass in no time, since blocks say when
// they were mined, and nobody's clock is asked.
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

/// Each block that is mined here is so much later than the one before it.
const STEP_SECONDS = 301;
/// The auditor's pauses are real: 15 s after a settlement, 30 s after a look that missed it.
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

  /// The ledger balances with so many payments settled.
  const balances = async (payments) => {
    const sum = BigInt(payments) * YEAR;
    const report = await server.check();
    same([report.payments, report.settled, report.received, report.orphans.length], [payments, sum, sum, 0], "the ledger");
    same(await chain.balance(payTo), sum, "our balance");
  };

  const mine = async () => {
    await chain.control.increaseTime({ seconds: STEP_SECONDS });
    await chain.control.mine({ blocks: 1 });
  };

  /// Mines a block whenever somebody has looked at the chain, until the payment is in this state.
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

  await world.case("the block of a settled payment is replaced: its goods are withheld after ten minutes of the chain", [], async () => {
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

  await world.case("the chain shows the transfer again: settled again, with the same goods", [], async () => {
    const depth = Number((await chain.height()) - block) + 1;
    await chain.control.request({ method: "anvil_reorg", params: [depth, [[raw, 0]]] });
    await until("the payment to be settled", async () => (await server.payment(buyer.address)).state === "settled", PATIENCE_SECONDS);
    const again = await buyer.repeat();
    same([again.status, again.json?.url], [200, link], "what the payment gives");
    await checkLink(link, bytes);
    await balances(1);
  });

  await world.case("the chain takes it back for good: reversed, the goods are gone, and the payer is told so", [], async () => {
    const depth = Number((await chain.height()) - block) + 1;
    await chain.replaceBlocks(depth);
    await becomes("reversed");
    buyer.checkFailure(await buyer.repeat(), "authorization_expired");
    checkError(await buyer.upload(token, bytes), 401, "bad_token", false);
    same((await read(await fetch(link))).status, 404, "the status of the link");
    same(await chain.balance(buyer.address), YEAR, "what the buyer has again");
    await balances(0);
  });
}
