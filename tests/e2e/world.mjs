// Starts all processes and runs the cases. After each case, its transfers are checked on the chain.
import { mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { Buyer } from "./buyers.mjs";
import { Chain } from "./chain.mjs";
import { check, same, until } from "./check.mjs";
import { freePort, start, stop } from "./processes.mjs";
import { Proxy } from "./proxy.mjs";
import { Server } from "./server.mjs";

export class World {
  static async start(program) {
    const world = new World();
    // In the folder of this run, which is deleted at the end.
    world.folder = mkdtempSync(join(process.cwd(), "world-"));
    world.passed = 0;
    world.failed = 0;
    /// The sum of all transfers to the recipient that the cases made, and the part of it that belongs to no payment.
    world.moved = 0n;
    world.orphaned = 0n;
    /// Buyers whose payments stay undecided until their authorizations expire.
    world.undecided = [];
    // The key is not kept, because the recipient signs nothing.
    world.payTo = privateKeyToAccount(generatePrivateKey()).address;
    world.chain = await Chain.start(await freePort());
    [world.facilitator, world.facilitatorUrl] = await startFacilitator(world.chain);
    world.proxy = await Proxy.start(world.facilitatorUrl);
    world.node = await Proxy.start(world.chain.url);
    world.server = new Server(program, join(world.folder, "server"), {
      port: await freePort(),
      adminPort: await freePort(),
      payments: `facilitator = "url"
facilitator_url = "${world.proxy.url}"
networks = ["base-sepolia"]
rpc_url = "${world.node.url}"
pay_to = "${world.payTo}"`,
    });
    await world.server.start();
    return world;
  }

  /// Runs a case. `moves` are the amounts of exactly those transfers to the recipient that it must cause on the chain.
  async case(name, moves, run) {
    const started = Date.now();
    this.buyers = [];
    const height = await this.chain.height();
    this.filesBefore = this.countFiles();
    const before = await this.chain.balance(this.payTo);
    const price = moves.reduce((sum, value) => sum + value, 0n);
    try {
      await run(this);
      this.proxy.checkIdle();
      this.node.checkIdle();
      await this.checkMoves(height, moves);
      same((await this.chain.balance(this.payTo)) - before, price, "the change of the recipient's balance");
      this.moved += price;
      await this.checkLedger();
      this.passed += 1;
      console.log(`ok    ${name}: ${describe(moves)} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
      this.failed += 1;
      console.log(`FAIL  ${name}: ${error.stack ?? error}`);
      await this.tellMore();
      // The state that a failed case leaves could break the next ones, so the test ends here.
      throw new Stopped(name);
    }
  }

  /// A world for cases with their own chain and server. They run beside the others, and check their transfers
  /// themselves.
  apart(chain) {
    const apart = Object.create(this);
    apart.chain = chain;
    apart.buyers = [];
    apart.case = async (name, _, body) => {
      const started = Date.now();
      try {
        await body();
        this.passed += 1;
        console.log(`ok    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s, beside the others)`);
      } catch (error) {
        this.failed += 1;
        console.log(`FAIL  ${name}: ${error.stack ?? error}`);
        throw new Stopped(name);
      }
    };
    return apart;
  }

  /// Checks that the transfers to the recipient after this height are `moves`, each from a buyer of this case and by an
  /// authorization.
  async checkMoves(height, moves) {
    const { transfers, used } = await this.chain.logs(height);
    const ours = transfers.filter((log) => log.args.to === this.payTo);
    same(ours.map((log) => log.args.value), moves, "the transfers to the recipient");
    for (const log of ours) {
      const byAuthorization = used.some(
        ({ args, transactionHash, logIndex }) =>
          args.authorizer === log.args.from && transactionHash === log.transactionHash && logIndex + 1 === log.logIndex,
      );
      check(byAuthorization, `the transfer in ${log.transactionHash} follows no AuthorizationUsed`);
      check(this.buyers.some(({ address }) => address === log.args.from), `the payer ${log.args.from} is no buyer of this case`);
    }
    const spent = used.filter((log) => this.buyers.some(({ address }) => address === log.args.authorizer));
    same(spent.length, used.length, "authorizations used by buyers of this case, compared with all");
  }

  /// Checks that the ledger balances, and that its sums equal all transfers to the recipient since the beginning.
  async checkLedger() {
    const { settled, received, orphans } = await this.server.check();
    const orphaned = orphans.reduce((sum, { value }) => sum + value, 0n);
    same([settled + orphaned, received, orphaned], [this.moved, this.moved, this.orphaned], "settled, received and orphaned");
  }

  /// A buyer with this much USDC and a client of this x402 version. `more` are options of Buyer.
  async buyer(version, usdc, more) {
    const buyer = new Buyer(this, version, more);
    this.buyers.push(buyer);
    await this.chain.mint(buyer.address, usdc);
    return buyer;
  }

  /// The number of files in the image store.
  countFiles() {
    const entries = readdirSync(join(this.server.folder, "data", "images"), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).length;
  }

  async tellMore() {
    for (const { address } of this.buyers) {
      console.log(`      ${address}:\n${(await this.server.run(["ledger", "show", address])).output}`);
    }
    console.log(`      the end of pixtoll's output:\n${this.server.process.output.slice(-4000)}`);
    console.log(`      the end of the facilitator's output:\n${this.facilitator.output.slice(-2000)}`);
  }

  /// Ends all processes. Fails when the server doesn't stop cleanly.
  async stop() {
    const ends = [];
    if (this.server?.process) ends.push(this.server.stop());
    if (this.facilitator) ends.push(stop(this.facilitator));
    if (this.chain?.process) ends.push(stop(this.chain.process));
    for (const proxy of [this.proxy, this.node]) if (proxy) ends.push(proxy.close());
    const failed = (await Promise.allSettled(ends)).filter(({ status }) => status === "rejected");
    for (const { reason } of failed) throw reason;
  }
}

/// Starts a facilitator on a chain. Returns its process and its URL. `more` are additional environment variables.
export async function startFacilitator(chain) {
  const key = generatePrivateKey();
  await chain.funded(privateKeyToAccount(key));
  const env = { ...process.env, E2E_RPC_URL: chain.url, E2E_CHAIN_ID: String(chain.id), E2E_FACILITATOR_KEY: key };
  const program = new URL("facilitator.mjs", import.meta.url).pathname;
  const facilitator = start(process.execPath, [program], { env });
  const url = await until("the facilitator to listen", () => {
    check(facilitator.code === undefined, `the facilitator ended:\n${facilitator.output}`);
    const port = facilitator.output.match(/listening on (\d+)/)?.[1];
    return port && `http://127.0.0.1:${port}`;
  });
  return [facilitator, url];
}

/// A case has failed and has printed its error.
export class Stopped extends Error {}

function describe(moves) {
  return moves.length === 0 ? "no transfer" : `transferred ${moves.map((value) => `${value} units`).join(" and ")}`;
}
