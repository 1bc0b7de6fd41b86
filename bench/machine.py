"""What the program takes from the machine: its size, its memory, and the time until it answers."""
import subprocess, sys, time
from harness import FREE_LIMITS, Server, noise_png
from load import Script, load
from report import Row
from serving import TIERS

TITLES = ["size of the program", "start to first answer", "memory when idle", "memory of 512 connections, GET 900 kB"]


def measure(bench):
    if not bench.wants(*TITLES):
        return
    place = bench.made("machine")
    server = Server(bench.binary, place, FREE_LIMITS + TIERS)
    path = bench.uploaded(server, noise_png(900_000), "image/png")
    server.stop()
    alone = lambda title, kind, found, goal=None: Row.of(title, "", [({kind: value}, {}) for value in found], {kind: goal})
    if bench.wants(TITLES[0]):
        yield alone(TITLES[0], "size", [bench.binary.stat().st_size])
    if bench.wants(TITLES[1]):
        yield alone(TITLES[1], "time", [first_answer(server) for _ in range(bench.rounds)])
    if not bench.wants(*TITLES[2:]):
        return
    idle, busy = [], []
    for _ in range(bench.rounds):
        with bench.running() as running:
            server = running(Server(bench.binary, place, FREE_LIMITS + TIERS))
            idle.append(server.memory("VmRSS"))
            load(server, path, Script(bench.folder, "many"), bench.seconds, 512)
            busy.append(server.memory("VmHWM") - idle[-1])
    for title, found, goal in ((TITLES[2], idle, 40 * 2**20), (TITLES[3], busy, 100 * 2**20)):
        if bench.wants(title):
            yield alone(title, "memory", found, goal)


def first_answer(server):
    """Starts the program on the database and the store of `server`, and returns the seconds until its first answer."""
    began = time.perf_counter()
    process = subprocess.Popen([server.binary, "serve"], cwd=server.folder, env=server.env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                if server.ask("GET", "/api/tiers").status == 200:
                    return time.perf_counter() - began
            except OSError:
                if process.poll() is not None:
                    sys.exit("the server did not start")
                time.sleep(0.001)
    finally:
        process.terminate()
        process.wait()
