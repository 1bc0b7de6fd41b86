"""Images and challenges, beside nginx with the same files and a static 402; and images with metrics and traces, beside images
without."""
import http.server, threading, urllib.request
from harness import FREE_LIMITS, Server, noise_png
from load import Script, load
from peers import Nginx

TIERS = """
[[tiers]]
name = "free"
price = "0"
max_bytes = "2 MiB"
keep = "7d"
[[tiers]]
name = "year"
price = "0.01"
max_bytes = "5 MiB"
keep = "365d"
default = true
"""
CHALLENGE = "/api/upload/token/year"
# kB, connections, goals.
IMAGES = [
    (20, 64, {"rate": 1.0, "cpu": 1.1, "p99": 1.5}),
    (20, 512, {"rate": 0.85}),
    (200, 64, {"rate": 0.85}),
    (900, 1, {"rate": 0.75}),
    (900, 64, {"rate": 0.75}),
]
OBSERVED = "GET 20 kB with metrics and traces, 64 connections"


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes every trace."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def observed(bench):
    """Metrics and traces on, beside both off."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector, bench.running() as running:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        settings = {"on": f'[traces]\notlp_endpoint = "http://127.0.0.1:{collector.server_port}"\n', "off": "[metrics]\nenabled = false\n"}
        servers = {name: running(Server(bench.binary, bench.made(f"observed-{name}"), FREE_LIMITS + more))
                   for name, more in settings.items()}
        image = noise_png(20_000)
        paths = {name: bench.uploaded(server, image, "image/png") for name, server in servers.items()}
        script = Script(bench.folder, "observed")
        of = lambda name: lambda: load(servers[name], paths[name], script, bench.seconds, 64, 19_800)
        row = bench.compare(OBSERVED, "both off", of("on"), of("off"), {"rate": 0.97, "cpu": 1.03})
        collector.shutdown()
        return row


def measure(bench):
    if bench.wants(OBSERVED):
        yield observed(bench)
    loads = [(f"GET {size} kB, {connections} connections", size, connections, goals) for size, connections, goals in IMAGES]
    others = ["304 of 20 kB, 64 connections", "402, 64 connections"]
    if not bench.wants(*(title for title, *_ in loads), *others):
        return
    (place := bench.folder / "serving").mkdir()
    with bench.running() as running:
        pixtoll = running(Server(bench.binary, bench.made("serving-pixtoll"), FREE_LIMITS + TIERS))
        files, paths = {}, {}
        for size in (20, 200, 900):
            paths[size] = bench.uploaded(pixtoll, noise_png(size * 1000), "image/png")
            files[paths[size].rpartition("/")[2]] = pixtoll.ask("GET", paths[size]).body
        nginx = running(Nginx(place / "nginx", files, CHALLENGE, pixtoll.ask("GET", CHALLENGE)))

        def compare(title, path, connections, goals, least_bytes=1, **options):
            """`tag`: with the file's own ETag, which differs between the two."""
            tag = options.pop("tag", False)

            def of(server):
                headers = {"If-None-Match": urllib.request.urlopen(server.base + path).headers["etag"]} if tag else {}
                script = Script(place, "load", headers=headers, **options)
                return load(server, path, script, bench.seconds, connections, least_bytes)

            return bench.compare(title, "nginx", lambda: of(pixtoll), lambda: of(nginx), goals)

        for title, size, connections, goals in loads:
            if bench.wants(title):
                yield compare(title, paths[size], connections, goals, size * 990)
        if bench.wants(others[0]):
            yield compare(others[0], paths[20], 64, {}, expected=304, tag=True)
        if bench.wants(others[1]):
            yield compare(others[1], CHALLENGE, 64, {"rate": 0.85, "cpu": 1.3}, 500, method="POST", expected=402)
