// Everything that runs, and the cases: after each, the chain says what moved.
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
    // Below the folder of this run, which is thrown away.
    world.folder = mkdtempSync(join(process.cwd(), "world-"));
    world.passed = 0;
    world.failed = 0;
    /// What the cases were to move to us in all, and what of it buys nothing.
    world.moved = 0n;
    world.orphaned = 0n;
    /// Buyers of whose payments nobody can say before their window closes.
    world.undecided = [];
    // Nobody needs its key: who receives signs nothing.
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

  /// Runs a case. `moves` are the transfers to us that it must leave on the chain: no more, no less, no other.
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
      same((await this.chain.balance(this.payTo)) - before, price, "our balance");
      this.moved += price;
      await this.checkLedger();
      this.passed += 1;
      console.log(`ok    ${name}: ${describe(moves)} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
      this.failed += 1;
      console.log(`FAIL  ${name}: ${error.stack ?? error}`);
      await this.tellMore();
      // What a case left behind would spoil the next ones.
      throw new Stopped(name);
    }
  }

  /// A world beside this one, for cases on a chain and with a server of their own: they run while the others do, and
  /// look after their transfers themselves.
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

  /// The transfers to us after this height are `moves`, each out of a buyer of this case, by an authorization.
  async checkMoves(height, moves) {
    const { transfers, used } = await this.chain.logs(height);
    const ours = transfers.filter((log) => log.args.to === this.payTo);
    same(ours.map((log) => log.args.value), moves, "the transfers to us");
    for (const log of ours) {
      const byAuthorization = used.some(
        ({ args, transactionHash, logIndex }) =>
          args.authorizer === log.args.from && transactionHash === log.transactionHash && logIndex + 1 === log.logIndex,
      );
      check(byAuthorization, `the transfer in ${log.transactionHash} follows no AuthorizationUsed`);
      check(this.buyers.some(({ address }) => address === log.args.from), `${log.args.from} is no buyer of this case`);
    }
    const spent = used.filter((log) => this.buyers.some(({ address }) => address === log.args.authorizer));
    same(spent.length, used.length, "the authorizations used by buyers of this case, and by anybody");
  }

  /// The ledger balances, and has what the chain moved to us since the beginning.
  async checkLedger() {
    const { settled, received, orphans } = await this.server.check();
    const orphaned = orphans.reduce((sum, { value }) => sum + value, 0n);
    same([settled + orphaned, received, orphaned], [this.moved, this.moved, this.orphaned], "settled, received and orphaned");
  }

  /// A buyer with so much USDC and a client of this version; `more` as Buyer takes it.
  async buyer(version, usdc, more) {
    const buyer = new Buyer(this, version, more);
    this.buyers.push(buyer);
    await this.chain.mint(buyer.address, usdc);
    return buyer;
  }

  /// How many files the image store holds.
  countFiles() {
    const entries = readdirSync(join(this.server.folder, "data", "images"), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).length;
  }

  async tellMore() {
    for (const { address } of this.buyers) {
      console.log(`      ${address}:\n${(await this.server.run(["ledger", "show", address])).output}`);
    }
    console.log(`      pixtoll said last:\n${this.server.process.output.slice(-4000)}`);
    console.log(`      the facilitator said last:\n${this.facilitator.output.slice(-2000)}`);
  }

  /// Ends what runs. A server that fails to stop is told of.
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

/// A facilitator on a chain: its process and its URL. `more` is more of its environment.
export async function startFacilitator(chain, more = {}) {
  const key = generatePrivateKey();
  await chain.funded(privateKeyToAccount(key));
  const env = { ...process.env, E2E_RPC_URL: chain.url, E2E_CHAIN_ID: String(chain.id), E2E_FACILITATOR_KEY: key, ...more };
  const program = new URL("facilitator.mjs", import.meta.url).pathname;
  const facilitator = start(process.execPath, [program], { env });
  const url = await until("the facilitator to listen", () => {
    check(facilitator.code === undefined, `the facilitator ended:\n${facilitator.output}`);
    const port = facilitator.output.match(/listening on (\d+)/)?.[1];
    return port && `http://127.0.0.1:${port}`;
  });
  return [facilitator, url];
}

/// A case failed, and has said so.
export class Stopped extends Error {}

function describe(moves) {
  return moves.length === 0 ? "nothing moved" : `${moves.map((value) => `${value} units`).join(" and ")} moved`;
}
