// Three replicas with one PostgreSQL and one S3 store behind a load balancer, while replicas are killed, the database
// crashes and the store is stopped. `scripts/fleet PIXTOLL` starts it.
import "./crypto.mjs";
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { Balancer } from "./balancer.mjs";
import { Buyer, checkLink, read } from "./buyers.mjs";
import { Chain } from "./chain.mjs";
import { check, same, until } from "./check.mjs";
import { picture } from "./pictures.mjs";
import { Postgres } from "./postgres.mjs";
import { freePort, stop } from "./processes.mjs";
import { Server } from "./server.mjs";
import { startFacilitator } from "./world.mjs";

const YEAR = 10_000n;
const REPLICAS = 3;
const CONCURRENCY = Number(process.env.FLEET_CONCURRENCY || 64);
const OPERATIONS = Number(process.env.FLEET_OPERATIONS || 2000);
/// An operation that takes longer fails the test. A replica that died during an upload holds the token's use for 90 seconds.
const PATIENCE_SECONDS = 240;
const STORE_AWAY_SECONDS = 10;
const KILL_EVERY_SECONDS = 4;

/// The errors that are allowed: status, code and `charged`.
const HONEST = new Set([
  "503 busy false", "503 busy null",
  "503 facilitator_unavailable false", "503 facilitator_unavailable null",
  "503 node_unavailable false", "503 node_unavailable null",
  "503 recovery_required false", "503 recovery_required null",
  "503 sales_paused false", "503 sales_paused null",
  "503 store_unavailable false", "503 store_unavailable null",
  "503 database_unavailable false", "503 database_unavailable null",
  "503 settlement_pending null",
  "500 upload_failed false", "500 upload_failed null",
  "409 payment_in_progress null", "409 token_in_use false",
]);

class Fleet {
  static async start(program) {
    const fleet = new Fleet();
    fleet.folder = mkdtempSync(join(process.cwd(), "fleet-"));
    fleet.answers = new Map();
    fleet.broken = 0;
    fleet.payTo = privateKeyToAccount(generatePrivateKey()).address;
    fleet.postgres = await Postgres.start();
    fleet.chain = await Chain.start(await freePort());
    [fleet.facilitator, fleet.facilitatorUrl] = await startFacilitator(fleet.chain);
    const ports = [];
    for (let number = 0; number < 2 * REPLICAS; number++) ports.push(await freePort());
    fleet.balancer = await Balancer.start(ports.slice(0, REPLICAS));
    fleet.url = fleet.balancer.url;
    const settings = {
      url: fleet.url,
      images: store(),
      limits: "free_per_day = 0\nfree_per_address_per_hour = 0",
      payments: `facilitator = "url"
facilitator_url = "${fleet.facilitatorUrl}"
networks = ["base-sepolia"]
rpc_url = "${fleet.chain.url}"
pay_to = "${fleet.payTo}"`,
      // A well-known test key.
      more: `[database]\nurl = "${fleet.postgres.url}"\n\n[secrets]\nkey = "${"42".repeat(32)}"`,
    };
    fleet.replicas = Array.from({ length: REPLICAS }, (_, index) => {
      const [port, adminPort] = [ports[index], ports[REPLICAS + index]];
      return new Server(program, join(fleet.folder, `replica-${index}`), { ...settings, port, adminPort });
    });
    // All at the same time, on an empty database.
    await Promise.all(fleet.replicas.map((replica) => replica.start()));
    return fleet;
  }

  /// A buyer with a payment that is signed but not sent.
  async buyer(path, init) {
    const buyer = new Buyer(this, 2, { server: this });
    await this.chain.mint(buyer.address, YEAR);
    buyer.withholds = true;
    await this.insist(`a challenge of ${path}`, async () => {
      buyer.sent = [];
      const answer = await read(await buyer.fetch(this.url + path, { method: "POST", ...init }));
      return answer.status === 204 ? { status: 200, json: {} } : answer;
    });
    return buyer;
  }

  /// Sends the buyer's payment until it succeeds.
  pay(buyer) {
    return this.insist(`the payment of ${buyer.address}`, () => buyer.resend(buyer.paid));
  }

  /// Sends a request until it succeeds. Every other response must be one of the allowed errors and ask to wait or retry.
  async insist(what, send) {
    const deadline = Date.now() + PATIENCE_SECONDS * 1000;
    for (;;) {
      let answer;
      try {
        answer = await send();
      } catch (error) {
        // The connection broke, so the outcome is unknown to the client.
        check(error.cause || error.code || error.name === "TypeError", `${what}: ${error.stack}`);
        this.broken += 1;
      }
      if (answer && answer.status < 300) return answer;
      if (answer) this.note(what, answer);
      check(Date.now() < deadline, `${what} did not succeed within ${PATIENCE_SECONDS} s; the last response was ${answer?.status} ${answer?.bytes}`);
      await new Promise((resume) => setTimeout(resume, 200 + Math.random() * 400));
    }
  }

  note(what, answer) {
    const { error, charged, action } = answer.json ?? {};
    const verdict = `${answer.status} ${error} ${charged}`;
    this.answers.set(verdict, (this.answers.get(verdict) ?? 0) + 1);
    check(HONEST.has(verdict), `${what}: the error ${verdict} is not allowed: ${answer.bytes}`);
    check(["wait", "retry"].includes(action?.type), `${what}: ${verdict} has the action ${JSON.stringify(action)}`);
  }

  async stop() {
    const ends = [];
    for (const replica of this.replicas ?? []) if (replica.process) ends.push(replica.stop());
    for (const failed of (await Promise.allSettled(ends)).filter(({ status }) => status === "rejected")) throw failed.reason;
    if (this.facilitator) await stop(this.facilitator);
    if (this.chain) await stop(this.chain.process);
    await this.balancer?.close();
    await this.postgres?.stop();
  }
}

function store() {
  const setting = (name) => {
    const value = process.env[`PIXTOLL_TEST_S3_${name}`];
    check(value, `PIXTOLL_TEST_S3_${name} is not set; scripts/with-garage sets it`);
    return value;
  };
  return `store = "s3://${setting("BUCKET")}/fleet"
s3_endpoint = "${setting("ENDPOINT")}"
s3_region = "${setting("REGION")}"
s3_access_key_id = "${setting("ACCESS_KEY_ID")}"
s3_secret_access_key = "${setting("SECRET_ACCESS_KEY")}"
s3_timeout = "5s"`;
}

function garage(command) {
  execFileSync(process.env.PIXTOLL_TEST_GARAGE, [command], { stdio: "inherit" });
}

const sleep = (seconds) => new Promise((resume) => setTimeout(resume, seconds * 1000));

/// Sends fifty copies of one payment, spread over the replicas.
async function copies(fleet) {
  const buyer = await fleet.buyer("/api/upload/token/year");
  const answers = await Promise.all(Array.from({ length: 50 }, () => fleet.pay(buyer)));
  const tokens = new Set(answers.map(({ json }) => json.token));
  const replicas = new Set(answers.map(({ headers }) => headers.get("x-replica")));
  same([tokens.size, replicas.size], [1, REPLICAS], "the number of tokens, and of replicas that responded");
  const { transfers } = await fleet.chain.logs(0n);
  same(transfers.filter(({ args }) => args.from === buyer.address).length, 1, "the number of transfers of the payment");
  console.log("ok    fifty copies of a payment over three replicas give one transfer and one token");
  return buyer;
}

/// The operations of the clients, and their results.
class Work {
  constructor(fleet) {
    Object.assign(this, { fleet, images: [], deleted: [], buyers: [], done: {} });
  }

  async one(number) {
    const kinds = ["free", "free", "free", "token", "direct", "direct", "read", "read", "renew", "again", "delete", "unpaid"];
    let kind = kinds[number % kinds.length];
    if (this.images.length === 0 && ["read", "renew", "delete"].includes(kind)) kind = "free";
    if (this.buyers.length === 0 && kind === "again") kind = "direct";
    await this[kind]();
    this.done[kind] = (this.done[kind] ?? 0) + 1;
  }

  any(list) {
    return list[Math.floor(Math.random() * list.length)];
  }

  async send(what, path, init) {
    return this.fleet.insist(what, async () => read(await fetch(this.fleet.url + path, init)));
  }

  keep(answer, bytes) {
    const { url, id, deleteToken } = answer.json;
    this.images.push({ url, id, deleteToken, bytes });
  }

  async free() {
    const bytes = picture();
    const init = { method: "POST", headers: { "content-type": "image/png" }, body: bytes };
    this.keep(await this.send("a free upload", "/api/free", init), bytes);
  }

  async token() {
    const buyer = await this.fleet.buyer("/api/upload/token/year");
    const { token } = (await this.fleet.pay(buyer)).json;
    const bytes = picture();
    const uploaded = await this.fleet.insist("an upload by token", () => buyer.upload(token, bytes));
    this.keep(uploaded, bytes);
    // From now on the payment returns the image.
    this.buyers.push({ buyer, url: uploaded.json.url });
  }

  async direct() {
    const bytes = picture();
    const buyer = await this.fleet.buyer("/api/upload/year", { headers: { "content-type": "image/png" }, body: bytes });
    const answer = await this.fleet.pay(buyer);
    this.keep(answer, bytes);
    this.buyers.push({ buyer, url: answer.json.url });
  }

  async read() {
    const { url, bytes } = this.any(this.images);
    const answer = await this.send("an image", new URL(url).pathname);
    check(answer.bytes.equals(bytes), `${url} serves other bytes`);
  }

  async renew() {
    const { id } = this.any(this.images);
    const path = `/api/images/${id}/renew?tier=year`;
    const buyer = new Buyer(this.fleet, 2, { server: this.fleet });
    await this.fleet.chain.mint(buyer.address, YEAR);
    buyer.withholds = true;
    // An image is kept for at most ten years; a renewal beyond that is refused before any payment.
    const challenged = await this.fleet.insist("a challenge of a renewal", async () => {
      buyer.sent = [];
      const answer = await read(await buyer.fetch(this.fleet.url + path, { method: "POST" }));
      const isOver = answer.status === 409 && answer.json.error === "not_renewable";
      return answer.status === 204 || isOver ? { status: 200, isOver } : answer;
    });
    if (challenged.isOver) return;
    const answer = await this.fleet.pay(buyer);
    this.buyers.push({ buyer, url: answer.json.url });
  }

  /// Sends an earlier payment again.
  async again() {
    const { buyer, url } = this.any(this.buyers);
    const answer = await this.fleet.pay(buyer);
    if (url) same(answer.json.url, url, "the link that a repeated payment returns");
  }

  /// Uploads an image and deletes it, so that no other operation needs it.
  async delete() {
    const bytes = picture();
    const init = { method: "POST", headers: { "content-type": "image/png" }, body: bytes };
    const { id, url, deleteToken } = (await this.send("a free upload", "/api/free", init)).json;
    const headers = { "x-delete-token": deleteToken };
    await this.send("a delete", `/api/images/${id}`, { method: "DELETE", headers });
    this.deleted.push(url);
  }

  async unpaid() {
    await this.fleet.insist("a challenge", async () => {
      const answer = await read(await fetch(`${this.fleet.url}/api/upload/token/year`, { method: "POST" }));
      return answer.status === 402 ? { status: 200 } : answer;
    });
  }
}

/// Kills replicas, crashes the database and stops the store, until `isOver`.
async function chaos(fleet, progress, isOver) {
  let kills = 0;
  const killer = (async () => {
    for (let turn = 0; !isOver(); turn++) {
      await sleep(KILL_EVERY_SECONDS);
      if (isOver()) return;
      const replica = fleet.replicas[turn % REPLICAS];
      await replica.kill();
      kills += 1;
      await revive(replica);
    }
  })();
  await until("a third of the work", () => progress() > 0.33 || isOver(), 600);
  await fleet.postgres.crash();
  console.log(`      PostgreSQL crashed and restarted after ${Math.round(progress() * 100)} % of the work`);
  await until("half of the work", () => progress() > 0.5 || isOver(), 600);
  garage("stop");
  await sleep(STORE_AWAY_SECONDS);
  garage("start");
  console.log(`      the store was stopped for ${STORE_AWAY_SECONDS} s, until ${Math.round(progress() * 100)} % of the work`);
  await killer;
  return kills;
}

/// Starts a replica, and retries like a supervisor when the start fails.
async function revive(replica) {
  await until("a replica to start", async () => {
    try {
      await replica.start();
      return true;
    } catch {
      if (replica.process.code === undefined) await stop(replica.process, "SIGKILL");
      return false;
    }
  }, 180);
}

async function attacked(fleet, first) {
  const work = new Work(fleet);
  const began = Date.now();
  let [begun, finished, over] = [0, 0, false];
  const worker = async () => {
    while (begun < OPERATIONS) {
      await work.one(begun++);
      finished += 1;
    }
  };
  const attack = chaos(fleet, () => finished / OPERATIONS, () => over);
  try {
    await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  } finally {
    over = true;
  }
  const kills = await attack;
  const seconds = (Date.now() - began) / 1000;
  console.log(`      ${OPERATIONS} operations in ${seconds.toFixed(0)} s: ${JSON.stringify(work.done)}`);
  console.log(`      ${kills} replicas killed; ${fleet.broken} connections broken; errors that asked to retry:`);
  for (const [verdict, count] of fleet.answers) console.log(`        ${verdict}: ${count}`);
  check(kills > 0 && fleet.broken > 0, "no replica was killed, or no connection broke: use more operations");
  await judge(fleet, work, first);
}

/// Checks that nothing is lost or charged twice, and that ledger, store and chain agree.
async function judge(fleet, work, first) {
  const { transfers } = await fleet.chain.logs(0n);
  const ours = transfers.filter(({ args }) => args.to === fleet.payTo);
  const buyers = [first, ...work.buyers.map(({ buyer }) => buyer)];
  for (const { address } of buyers) {
    same(ours.filter(({ args }) => args.from === address).map(({ args }) => args.value), [YEAR], `transfers of ${address}`);
  }
  same(ours.length, buyers.length, "the number of transfers to the recipient, compared with the payments");
  console.log(`ok    ${ours.length} payments, one transfer each`);
  const kept = work.images;
  for (const [index, replica] of fleet.replicas.entries()) {
    const base = `http://127.0.0.1:${replica.port}`;
    for (const { url, bytes } of kept.filter((_, number) => number % REPLICAS === index)) {
      await checkLink(base + new URL(url).pathname, bytes);
    }
    for (const url of work.deleted) {
      same((await read(await fetch(base + new URL(url).pathname))).status, 404, `the status of ${url}, which was deleted`);
    }
  }
  console.log(`ok    ${kept.length} images are served, ${work.deleted.length} deleted ones are gone`);
  const { settled, received, payments, orphans } = await fleet.replicas[0].check();
  same([settled, received, payments, orphans.length], [YEAR * BigInt(buyers.length), YEAR * BigInt(buyers.length), buyers.length, 0], "the ledger");
  // A replica may die before it writes the record beside an image; the reaper writes it within a minute or two.
  let audit;
  await until("store and rows to agree", async () => {
    audit = await fleet.replicas[1].run(["store", "audit"]);
    return audit.code === 0;
  }, 150).catch((error) => check(false, `${error.message}:\n${audit.output}`));
  console.log(`ok    the ledger balances, and ${audit.output.trim().split("\n").pop()}`);
}

const program = process.argv[2];
let fleet;
let failed = false;
try {
  fleet = await Fleet.start(program);
  const first = await copies(fleet);
  await attacked(fleet, first);
} catch (error) {
  failed = true;
  console.error(error);
  for (const replica of fleet?.replicas ?? []) console.error(`${replica.url}: the end of its output:\n${replica.process?.output.slice(-3000)}`);
} finally {
  try {
    await fleet?.stop();
  } catch (error) {
    failed = true;
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
