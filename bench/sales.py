"""The sale of an upload token, beside a sale by @x402/express.

pixtoll and @x402/express run at the same time, with the same facilitator, which answers at once, and a node (bench/node).
Each of them in turn receives payments of 0.01 USDC, which the npm client signed before. @x402/express records nothing,
while pixtoll syncs each step of a payment to disk, and looks for each settled payment on the chain 15 seconds later: what
that costs counts for the sales that are measured meanwhile.
"""
import json, subprocess, sys, urllib.request
from harness import FREE_LIMITS, Server
from load import trace
from peers import Node, packages
from serving import CHALLENGE

PAY_TO = "0x" + "22" * 20
CONNECTIONS = 16


def measure(bench):
    title = f"paid token, {CONNECTIONS} connections"
    if not bench.wants(title):
        return
    with bench.running() as running:
        world = running(Node("world.mjs"))
        peer = running(Node("peer.mjs", {"FACILITATOR_URL": world.base, "PAY_TO": PAY_TO}))
        settings = {f"PIXTOLL_PAYMENTS__{name}": value for name, value in {
            "FACILITATOR": "url", "FACILITATOR_URL": world.base, "RPC_URL": world.base, "NETWORKS": "base-sepolia",
            "PAY_TO": PAY_TO}.items()}
        pixtoll = running(Server(bench.binary, bench.made("sales"), FREE_LIMITS, settings=settings))
        sales = 50 if bench.quick else 1000
        if not bench.quick:
            for server in (pixtoll, peer):
                sell(server, 200)
        calls = {}

        def own():
            before = counts(world)
            found = sell(pixtoll, sales)
            for what, total in counts(world).items():
                calls[what] = calls.get(what, 0) + total - before.get(what, 0)
            return found

        row = bench.compare(title, "@x402/express", own, lambda: sell(peer, sales), {"cpu": 0.1, "rate": 8})
        row.notes.append("calls of pixtoll per sale: " + ", ".join(
            f"{total / sales / bench.rounds:.2f} {what}" for what, total in calls.items()))
        if bench.trace:
            row.notes.append(trace(pixtoll, bench.folder, "sale", lambda: sell(pixtoll, 100) and 100))
        code, output = pixtoll.run("ledger", "check", "--offline")
        if code:
            sys.exit(f"the ledger does not balance:\n{output}")
        yield row


def counts(world):
    with urllib.request.urlopen(f"{world.base}/counts") as answer:
        return json.load(answer)


def sell(server, sales):
    """Sells tokens. Returns the CPU seconds of a sale, and the sales per second."""
    load = subprocess.Popen(["node", "load.mjs", server.base + CHALLENGE, str(sales), str(CONNECTIONS)], cwd=packages(),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if load.stdout.readline() != "signed\n":
        sys.exit(f"no payments could be signed for {server.base}")
    before = server.cpu_seconds()
    output, _ = load.communicate("\n")
    used = server.cpu_seconds() - before
    if load.returncode != 0 or server.process.poll() is not None:
        sys.exit(f"the sales at {server.base} failed, or it has ended")
    done = json.loads(output)
    if done["failed"]:
        sys.exit(f"{done['failed']} of {sales} sales at {server.base} failed")
    return {"rate": sales / done["seconds"], "cpu": used / sales}
