"""Free uploads, beside rustypaste.

pixtoll removes metadata, decodes every frame, hashes the file and syncs it with its record to disk; rustypaste does none
of this. So the notes say what a check costs: the CPU time of POST /api/check, less that of a file of the same size which
is refused at its first bytes.
"""
import statistics, string
from harness import FREE_LIMITS, Server, noise_png
from load import Script, load, trace
from peers import Rustypaste

BOUNDARY = "boundary-of-the-benchmark"
FREE = """
[[tiers]]
name = "free"
price = "0"
max_bytes = "1 MiB"
keep = "7d"
"""
CONNECTIONS = 64
# What ids, and so the folders of a store, are made of.
LETTERS = string.ascii_letters + string.digits
# kB and goals.
SIZES = [(20, {"rate": 1.5}), (900, {"rate": 1.0})]


def measure(bench):
    for size, goals in SIZES:
        title = f"upload {size} kB, {CONNECTIONS} connections"
        if bench.wants(title):
            yield compare(bench, title, size, goals)


def compare(bench, title, size, goals):
    image = noise_png(size * 1000)
    multipart = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
                 "Content-Type: image/png\r\n\r\n").encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    place = bench.made(f"uploads-{size}")
    png = {"Content-Type": "image/png"}
    upload = Script(place, "upload", "POST", png, image, many_networks=True)
    junk = Script(place, "junk", "POST", png, bytes(len(image)), 415, many_networks=True)
    paste = Script(place, "paste", "POST", {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, multipart)
    run = lambda server, path, script: load(server, path, script, bench.seconds, CONNECTIONS)
    checks, traced = [], []

    def start_pixtoll():
        # The load comes from many networks, by way of a proxy.
        settings = {"PIXTOLL_HTTP__TRUSTED_PROXIES": "127.0.0.1"}
        place = bench.made(f"pixtoll-{size}")
        # A store that has held 30,000 images has all its folders.
        for folder in (f"{one}/{two}" for one in LETTERS for two in LETTERS):
            (place / "data/images/images" / folder).mkdir(parents=True)
        return Server(bench.binary, place, FREE_LIMITS + FREE, settings=settings)

    def own():
        # Each round begins with an empty folder.
        with bench.running() as running:
            server = running(start_pixtoll())
            found = run(server, "/api/free", upload)
            checks.append(run(server, "/api/check", upload)["cpu"] - run(server, "/api/check", junk)["cpu"])
            if bench.trace and not traced:
                traced.append(trace(server, place, "upload", lambda: run(server, "/api/free", upload)["requests"]))
            return found

    def other():
        with bench.running() as running:
            return run(running(Rustypaste(bench.named(f"rustypaste-{size}"))), "/", paste)

    row = bench.compare(title, "rustypaste", own, other, goals)
    row.notes = [f"cleaning, decoding and hashing take {statistics.median(checks) * 1000:.2f} ms of CPU an upload", *traced]
    return row
