// The end-to-end test. `scripts/e2e PIXTOLL` installs its packages and starts it.
import "./crypto.mjs";
import account from "./cases/account.mjs";
import browser from "./cases/browser.mjs";
import ledger from "./cases/ledger.mjs";
import goods from "./cases/goods.mjs";
import missing from "./cases/missing.mjs";
import plain from "./cases/plain.mjs";
import last from "./cases/last.mjs";
import networks from "./cases/networks.mjs";
import lost from "./cases/lost.mjs";
import race from "./cases/race.mjs";
import receipts from "./cases/receipts.mjs";
import recover from "./cases/recover.mjs";
import reorg from "./cases/reorg.mjs";
import refund from "./cases/refund.mjs";
import token from "./cases/token.mjs";
import wallet from "./cases/wallet.mjs";
import { World, Stopped } from "./world.mjs";

const program = process.argv[2];
const started = Date.now();
let world;
let broken = false;
try {
  world = await World.start(program);
  // This case waits in real time, so it starts first and runs beside the others.
  const aside = Promise.allSettled([missing(world)]);
  try {
    for (const cases of [token, plain, goods, receipts, wallet, account, browser, race, lost, reorg, networks, refund, recover, last, ledger]) await cases(world);
  } finally {
    for (const { reason } of await aside) if (reason) throw reason;
  }
} catch (error) {
  broken = true;
  if (!(error instanceof Stopped)) console.error(error);
} finally {
  try {
    await world?.stop();
  } catch (error) {
    broken = true;
    console.error(error);
  }
}
const { passed = 0, failed = 0 } = world ?? {};
if (world) console.log(`${world.moved} units were transferred to the recipient in ${((Date.now() - started) / 1000).toFixed(0)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(broken || failed > 0 || passed === 0 ? 1 : 0);
