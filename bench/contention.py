"""The latency of images while everything else runs flat out: free uploads, variants and the reaper.

64 connections request an image of 20 kB from memory. Meanwhile 16 connections upload images of 900 kB, which expire after
a second, 8 connections request variants of a photograph that nobody requested before, and `pixtoll reap` runs again and
again. The clients of the background load have a low priority, since they run on other machines in reality.
"""
import subprocess, sys, threading
from harness import FREE_LIMITS, Server, noise_png
from load import Script, counted, load
from variants import photograph, url

TITLE = "GET 20 kB beside uploads, variants and the reaper"
FREE = """
[[tiers]]
name = "free"
price = "0"
max_bytes = "20 MiB"
keep = "{}"
"""
UPLOADERS, VIEWERS = 16, 8


def measure(bench):
    if not bench.wants(TITLE):
        return
    place = bench.made("contention")
    settings = {"PIXTOLL_HTTP__TRUSTED_PROXIES": "127.0.0.1"}
    # The images that are requested stay, those that are uploaded meanwhile expire.
    server = Server(bench.binary, place, FREE_LIMITS + FREE.format("7d"), settings=settings)
    try:
        path = bench.uploaded(server, noise_png(20_000), "image/png")
        photo = bench.uploaded(server, photograph(bench), "image/jpeg")
    finally:
        server.stop()
    with bench.running() as running:
        server = running(Server(bench.binary, place, FREE_LIMITS + FREE.format("1s"), settings=settings))
        sample = server.ask("GET", url(photo, "jpg", 100))
        if sample.status != 200:
            sys.exit(f"a variant failed: {sample.status} {sample.body.decode(errors='replace')}")
        get = Script(place, "get")
        upload = Script(place, "upload", "POST", {"Content-Type": "image/png"}, noise_png(900_000), many_networks=True)
        # A different width each time.
        sizes = url(photo, "jpg", '" .. 16 + number % 2000 .. "')
        view = Script(place, "view", paths=f'"{sizes}&h=" .. 16 + math.floor(number / 2000)')

        def idle():
            # The CPU time would be that of all requests.
            found = load(server, path, get, bench.seconds, 64, 19_000)
            return {kind: found[kind] for kind in ("rate", "p99")}

        done = []

        def busy():
            background = Background(bench, server)
            with background.of(upload, "/api/free", UPLOADERS), background.of(view, photo, VIEWERS), background.reaping():
                found = idle()
            done.append(background.done)
            return found

        row = bench.compare(TITLE, "itself when idle", busy, idle, {"p99": 2})
        for what in done[0]:
            total = sum(round[what] for round in done)
            if total == 0:
                sys.exit(f"there were no {what} during the measurement")
            row.notes.append(f"{total} {what} meanwhile")
        yield row


class Background:
    """Load beside the measurement. `done` counts it."""

    def __init__(self, bench, server):
        self.bench, self.server, self.done = bench, server, {}

    def of(self, script, path, connections):
        what = {"upload": "uploads", "view": "variants"}[script.path.stem]
        return Load(self, what, ["nice", "-n", "10", *script.command(self.server.base + path, self.bench.seconds + 1, connections)])

    def reaping(self):
        return Reaping(self)


class Load:
    def __init__(self, background, what, command):
        self.background, self.what, self.command = background, what, command

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)

    def __exit__(self, *error):
        requests, refused, *_ = counted(self.process.communicate()[0])
        # A full queue refuses requests.
        self.background.done[self.what] = requests - refused


class Reaping:
    def __init__(self, background):
        self.background, self.ended = background, threading.Event()
        self.thread, self.failed = threading.Thread(target=self.run), None

    def run(self):
        server = self.background.server
        self.background.done["runs of the reaper"] = 0
        while not self.ended.is_set():
            code, output = server.run("reap", "--accept-clock")
            if code:
                self.failed = output
                return
            self.background.done["runs of the reaper"] += 1

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        if self.failed:
            sys.exit(f"the reaper failed:\n{self.failed}")
