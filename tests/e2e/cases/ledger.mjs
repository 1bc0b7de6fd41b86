// After everything: the ledger balances, in itself and with the chain.
import { check, same } from "../check.mjs";

export default async function ledger(world) {
  await world.case("pixtoll ledger check", [], async () => {
    const report = await world.server.check();
    const { transfers } = await world.chain.logs(0n);
    const ours = transfers.filter((log) => log.args.to === world.payTo);
    const sum = ours.reduce((sum, log) => sum + log.args.value, 0n);
    check(ours.length > 0, "there were payments");
    same(sum, world.moved, "the sum of the transfers to us, and what the cases moved");
    same(await world.chain.balance(world.payTo), sum, "our balance");
    // Orphans are transfers that buy nothing: those which the cases sent as such, and no other.
    const orphaned = report.orphans.reduce((sum, { value }) => sum + value, 0n);
    same([report.received, report.settled, orphaned], [sum, sum - world.orphaned, world.orphaned], "received, settled, orphaned");
    same(report.payments, ours.length - report.orphans.length, "the payments settled");
    console.log(`      ${report.payments} payments settled for ${report.settled} units; ${report.received} received on the chain, ` +
        `${orphaned} of them in ${report.orphans.length} transfers that buy nothing`);
  });
}
