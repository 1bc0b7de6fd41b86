// Cases that must run last: transfers that belong to no payment, and a chain whose time runs ahead.
import { checkError } from "../buyers.mjs";
import { same } from "../check.mjs";
import { YEAR } from "./plain.mjs";

export default async function last(world) {
  const { chain, proxy, server } = world;
  for (const version of [2, 1]) {
    await world.case(`v${version}: a payment submitted before the server saw it buys nothing`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      buyer.withholds = true;
      await buyer.buy("/api/upload/token");
      const hash = await chain.submit(buyer.signed.authorization, buyer.signed.signature);
      world.orphaned += YEAR;
      checkError(await buyer.repeat(), 409, "payment_known", true);
      same([proxy.count("verify", buyer), proxy.count("settle", buyer)], [0, 0], "calls of the facilitator");
      // It looks like a sale, so ledger check fails until the operator accepts it.
      const { code, output } = await server.run(["ledger", "check"]);
      same([code, output.includes(`UNEXPLAINED: ${YEAR} atomic units in transaction ${hash}`)], [1, true], `ledger check\n${output}`);
      const accepted = await server.run(["ledger", "accept", hash, "--note", "submitted by hand"]);
      same(accepted.code, 0, `the exit code of ledger accept (${accepted.output})`);
    });
  }
  await world.case("an authorization expires by block time, not by the server's clock", [], async () => {
    const [asking, silent] = [await world.buyer(2, YEAR), await world.buyer(1, YEAR)];
    proxy.kill("settle");
    for (const buyer of [asking, silent]) {
      checkError(await buyer.buy("/api/upload/token"), 503, "settlement_pending", null);
    }
    await chain.control.increaseTime({ seconds: 600 });
    // One block after validBefore, and one more that makes it safe.
    await chain.control.mine({ blocks: 2 });
    // The reconciler decides the first payment by itself; the other buyers repeat their requests.
    await server.until(silent.address, "failed");
    proxy.revive("settle");
    for (const buyer of [silent, asking, ...world.undecided]) {
      buyer.checkFailure(await buyer.insist(await buyer.repeat()), "authorization_expired");
    }
  });
}
