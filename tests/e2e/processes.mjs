// Starts the processes of the test, keeps their output, and ends them with the test.
import { spawn } from "node:child_process";
import { createServer } from "node:net";

const running = new Set();

// The last resort at the end of this process, when it is too late to wait.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => process.exit(1));
}

/// Starts a process and keeps its output. The promise `ended` resolves when it has ended.
export function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  const started = { child, output: "", code: undefined };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text) => (started.output += text));
  }
  running.add(child);
  started.ended = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      running.delete(child);
      started.code = code ?? signal;
      resolve(started.code);
    });
  });
  // A program that can't be started is reported to callers that wait for `ended`, and is no unhandled rejection.
  started.ended.catch((error) => {
    running.delete(child);
    started.code = String(error);
  });
  return started;
}

/// Ends a process and waits until it has ended.
export async function stop(started, signal = "SIGTERM") {
  if (started.code === undefined) started.child.kill(signal);
  await started.ended;
}

let nextPort = (process.pid * 131) % 20_000;

/// A free port below the range that the system uses for outgoing connections and for port 0, so that it stays free while
/// its server is dead.
export async function freePort() {
  for (;;) {
    const port = 10_000 + (nextPort++ % 20_000);
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
