// After all cases: the ledger breaks no rule and agrees with the chain.
import { check, same } from "../check.mjs";

export default async function ledger(world) {
  await world.case("pixtoll ledger check", [], async () => {
    const report = await world.server.check();
    const { transfers } = await world.chain.logs(0n);
    const ours = transfers.filter((log) => log.args.to === world.payTo);
    const sum = ours.reduce((sum, log) => sum + log.args.value, 0n);
    check(ours.length > 0, "there were no payments");
    same(sum, world.moved, "the sum of the transfers to the recipient");
    same(await world.chain.balance(world.payTo), sum, "the recipient's balance");
    // Orphans are transfers that belong to no payment. There must be exactly those that the cases sent.
    const orphaned = report.orphans.reduce((sum, { value }) => sum + value, 0n);
    same([report.received, report.settled, orphaned], [sum, sum - world.orphaned, world.orphaned], "received, settled, orphaned");
    same(report.payments, ours.length - report.orphans.length, "the number of settled payments");
    console.log(`      ${report.payments} payments settled for ${report.settled} units; ${report.received} received on the chain, ` +
        `${orphaned} of them in ${report.orphans.length} transfers that belong to no payment`);
  });
}
