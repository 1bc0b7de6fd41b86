// The processes of the test: started here, their output kept, and ended with it.
import { spawn } from "node:child_process";
import { createServer } from "node:net";

const running = new Set();

// The last resort, where nothing can be waited for.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => process.exit(1));
}

/// A process whose output is kept. `ended` is fulfilled when it is gone.
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
  // Whoever waits for it hears of a program that can't be started; nobody has to.
  started.ended.catch((error) => {
    running.delete(child);
    started.code = String(error);
  });
  return started;
}

/// Ends a process, and waits until it is gone.
export async function stop(started, signal = "SIGTERM") {
  if (started.code === undefined) started.child.kill(signal);
  await started.ended;
}

let nextPort = (process.pid * 131) % 20_000;

/// A port that was free a moment ago: below those that systems give to outgoing connections and to who names none, so that
/// it stays free while its server is dead.
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
