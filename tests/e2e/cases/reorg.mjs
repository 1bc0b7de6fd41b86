// Reorganisations of the newest blocks.
import { checkError } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { PERMANENT, YEAR, checkToken } from "./plain.mjs";

export default async function reorg(world) {
  const { chain, proxy, node } = world;
  for (const [version, path, price] of [[2, "permanent", PERMANENT], [1, "year", YEAR]]) {
    await world.case(`v${version}: the transfer's block is replaced unseen: settled again once`, [price], async () => {
      const buyer = await world.buyer(version, price);
      const held = proxy.hold("settle", buyer);
      const buying = buyer.buy(`/api/upload/token/${path}`);
      const call = await held.arrived();
      node.kill("rpc");
      same(JSON.parse((await call.forward()).text).success, true, "success of the first settle");
      call.cut();
      checkError(await buying, 503, "settlement_pending", null);
      await chain.replaceBlocks(1);
      same(await chain.balance(buyer.address), price, "the buyer's balance");
      node.revive("rpc");
      await checkToken(buyer, await buyer.insist(await buyer.repeat()), price);
    });
  }
  await world.case("v2: the transfer moves to another block: the payment stays settled", [PERMANENT], async () => {
    const buyer = await world.buyer(2, PERMANENT);
    const answer = await buyer.buy("/api/upload/token/permanent");
    const token = await checkToken(buyer, answer, PERMANENT);
    const { transaction } = buyer.receipt(answer);
    const { blockHash } = await chain.reads.getTransaction({ hash: transaction });
    // The transfer was in the newest block. Now it is in the next one.
    await chain.control.mine({ blocks: 1 });
    await chain.replaceBlocks(2, transaction);
    const moved = await chain.reads.getTransaction({ hash: transaction });
    check(moved.blockHash !== blockHash, "the transfer is still in the same block");
    same(await checkToken(buyer, await buyer.repeat(), PERMANENT), token, "the token");
  });
}
