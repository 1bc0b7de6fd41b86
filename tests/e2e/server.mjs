// A pixtoll server as an operator runs it: a configuration file, SQLite in a folder, and the built program.
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { check, until } from "./check.mjs";
import { start, stop } from "./processes.mjs";

export class Server {
  /// `images` and `limits` are additional lines of these tables; `more` are additional tables. `url` is the address for
  /// clients, if it differs from the server's own.
  constructor(program, folder, { port, adminPort, payments, images = "", limits = "", more = "", url }) {
    Object.assign(this, { program, folder, port, adminPort });
    this.url = url ?? `http://127.0.0.1:${port}`;
    this.log = "";
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, "pixtoll.toml"),
      `[http]
listen = "127.0.0.1:${port}"
admin_listen = "127.0.0.1:${adminPort}"
base_url = "${this.url}"

[images]
min_free = "1 MiB"
${images}

[payments]
timeout = "10s"
${payments}

[limits]
payments_per_address_per_minute = 0
${limits}

${more}`,
    );
  }

  async start() {
    this.process = start(this.program, ["serve"], { cwd: this.folder });
    await until("pixtoll to be ready", async () => {
      check(this.process.code === undefined, `pixtoll ended with ${this.process.code}:\n${this.process.output}`);
      const ready = await fetch(`http://127.0.0.1:${this.adminPort}/readyz`).catch(() => undefined);
      return ready?.ok;
    });
  }

  /// Kills the server with SIGKILL, as a power failure would end it.
  async kill() {
    await this.end("SIGKILL");
  }

  async stop() {
    const code = await this.end("SIGTERM");
    check(code === 0, `pixtoll ended with ${code} after SIGTERM:\n${this.process.output.slice(-2000)}`);
  }

  async end(signal) {
    await stop(this.process, signal);
    this.log += this.process.output;
    return this.process.code;
  }

  /// Runs a pixtoll command in the server's folder. Returns { code, output }.
  run(args, variables = {}) {
    const options = { cwd: this.folder, timeout: 60_000, env: { ...process.env, ...variables } };
    return new Promise((resolve) => {
      execFile(this.program, args, options, (error, stdout, stderr) => {
        resolve({ code: error ? (error.code ?? error.signal) : 0, output: stdout + stderr });
      });
    });
  }

  /// The fields that `pixtoll ledger show` prints for the only payment of a payer: state, reason, owed…
  async payment(payer) {
    const { output } = await this.run(["ledger", "show", payer]);
    const fields = [...output.matchAll(/^  (\w+(?: \w+)?)\s{2,}(.*)$/gm)].map(([, name, value]) => [name, value]);
    const payment = Object.fromEntries(fields);
    return { ...payment, state: payment.state?.split(" ")[0] };
  }

  /// Waits until a payer's payment is in this state, and returns it.
  until(payer, state) {
    return until(`the payment to be ${state}`, async () => {
      const payment = await this.payment(payer);
      return payment.state === state ? payment : undefined;
    });
  }

  /// Runs `pixtoll ledger check`, which must find no broken rule, and returns its totals.
  async check() {
    const { code, output } = await this.run(["ledger", "check"]);
    check(code === 0, `ledger check ended with ${code}:\n${output}`);
    const settled = output.match(/^(\d+) payments settled for (\d+) atomic units/m);
    const received = [...output.matchAll(/^(\S+): received (\d+) atomic units in blocks \d+ to \d+$/gm)];
    check(settled && received.length > 0, `the output of ledger check can't be parsed:\n${output}`);
    const orphans = [...output.matchAll(/^orphan: (\d+) atomic units from (\S+) in transaction (\S+)/gm)];
    return {
      settled: BigInt(settled[2]),
      payments: Number(settled[1]),
      received: received.reduce((sum, [, , value]) => sum + BigInt(value), 0n),
      chains: received.map(([, network]) => network),
      orphans: orphans.map(([, value, from, transaction]) => ({ value: BigInt(value), from, transaction })),
    };
  }
}
