// A PostgreSQL server that the test may crash.
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check, until } from "./check.mjs";
import { freePort, start, stop } from "./processes.mjs";

export class Postgres {
  static async start() {
    const postgres = new Postgres();
    const { PIXTOLL_TEST_POSTGRES_PROGRAMS: programs, PIXTOLL_TEST_POSTGRES_OWNER: owner } = process.env;
    check(programs, "PIXTOLL_TEST_POSTGRES_PROGRAMS is not set; scripts/with-postgres sets it");
    postgres.programs = programs;
    // PostgreSQL refuses to run as root.
    postgres.as = process.env.PIXTOLL_TEST_POSTGRES_AS?.split(" ") ?? [];
    // Outside the folder of this run, which other users may not enter.
    postgres.folder = mkdtempSync(join(tmpdir(), "pixtoll-fleet-"));
    if (owner) execFileSync("chown", [owner, postgres.folder]);
    postgres.data = join(postgres.folder, "cluster");
    const options = ["--pgdata", postgres.data, "--username", "pixtoll", "--auth", "trust", "--encoding", "UTF8", "--no-locale"];
    postgres.call("initdb", options);
    postgres.port = await freePort();
    postgres.url = `postgres://pixtoll@127.0.0.1:${postgres.port}/postgres`;
    await postgres.run();
    return postgres;
  }

  command(program, args) {
    const [first, ...rest] = [...this.as, join(this.programs, program), ...args];
    return [first, rest];
  }

  call(program, args) {
    execFileSync(...this.command(program, args), { cwd: this.folder, stdio: "ignore" });
  }

  async run() {
    const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on", "max_connections=200"];
    const args = ["-D", this.data, "-p", String(this.port), ...settings.flatMap((setting) => ["-c", setting])];
    const [program, rest] = this.command("postgres", args);
    this.process = start(program, rest, { cwd: this.folder });
    await until("PostgreSQL to answer", () => {
      check(this.process.code === undefined, `PostgreSQL ended:\n${this.process.output}`);
      try {
        this.call("pg_isready", ["--host", "127.0.0.1", "--port", String(this.port), "--username", "pixtoll"]);
        return true;
      } catch {
        return false;
      }
    });
  }

  /// Ends the server at once without a checkpoint, and starts it again. Everything committed must be there.
  async crash() {
    await stop(this.process, "SIGQUIT");
    await this.run();
  }

  async stop() {
    await stop(this.process, "SIGINT");
    execFileSync("rm", ["-rf", this.folder]);
  }
}
