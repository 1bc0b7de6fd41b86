"""Variants of a photograph of 4000x3000, beside sharp with one thread.

pixtoll makes each variant once, so each measurement requests the same variant of another copy of the photograph. Its CPU
time is that of the whole request. JPEG and WebP are compared at equal size: the quality that is requested is the one whose
file is nearest to the size of sharp's at quality 80. AVIF is compared with the defaults of both.
"""
import json, statistics, subprocess, sys, time
from harness import FREE_LIMITS, Server
from peers import packages

TITLE = "resize 4000x3000 to 800, {}"
GOALS = {
    "jpg": {"cpu": 0.7, "size": 1.03, "ssim": 0.995},
    "webp": {"cpu": 0.85, "size": 1.03, "ssim": 0.995},
    "avif": {"time": 0.1},
}
TIERS = """
[[tiers]]
name = "free"
price = "0"
max_bytes = "20 MiB"
keep = "7d"
"""


def sharp(*words):
    ran = subprocess.run(["node", "sharp.mjs", *map(str, words)], cwd=packages(), stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(f"sharp failed: {words}")
    return json.loads(ran.stdout or "null")


def photograph(bench):
    """The photograph, which is made once in a run."""
    file = bench.folder / "photograph.jpg"
    if not file.exists():
        sharp("photograph", file)
    return file.read_bytes()


def url(photo, format, width, quality=None):
    """The address of a variant of the image at the path `photo`."""
    return f"{photo.rpartition('.')[0]}.{format}?w={width}" + (f"&q={quality}" if quality else "")


def measure(bench):
    formats = [format for format in GOALS if bench.wants(TITLE.format(format))]
    if not formats:
        return
    body = photograph(bench)
    place = bench.made("variants")
    with bench.running() as running:
        server = running(Server(bench.binary, place, FREE_LIMITS + TIERS))
        # What the resized pixels should be: sharp's, without the loss of an encoder.
        sharp("resize", bench.folder / "photograph.jpg", "png", 1, place / "reference")
        likeness = lambda file: sharp("ssim", place / "reference", file)

        def requested(format, quality):
            photo = bench.uploaded(server, body, "image/jpeg")
            before, began = server.cpu_seconds(), time.perf_counter()
            answer = server.ask("GET", url(photo, format, 800, quality))
            took, used = time.perf_counter() - began, server.cpu_seconds() - before
            if answer.status != 200:
                sys.exit(f"a variant failed: {answer.status} {answer.body.decode(errors='replace')}")
            (place / "own").write_bytes(answer.body)
            return used, took, len(answer.body)

        def of_sharp(format, times):
            found = sharp("resize", bench.folder / "photograph.jpg", format, times, place / "other")
            return found | {"size": (place / "other").stat().st_size, "ssim": likeness(place / "other")}

        for format in formats:
            times = 1 if bench.quick or format == "avif" else 10
            quality = None if format == "avif" else nearest(requested, format, of_sharp(format, 1)["size"])

            def own():
                # A tick of the CPU clock is 10 ms, so that one request says little.
                found = [requested(format, quality) for _ in range(times)]
                used, took, _ = (statistics.mean(column) for column in zip(*found))
                return {"cpu": used, "time": took, "size": found[0][2], "ssim": likeness(place / "own")}

            row = bench.compare(TITLE.format(format), "sharp, one thread", own, lambda: of_sharp(format, times), GOALS[format])
            if quality:
                row.notes.append(f"pixtoll at quality {quality}, sharp at 80")
            yield row


def nearest(requested, format, wanted):
    """The quality at which pixtoll's file is nearest to this size."""
    low, high, sizes = 40, 100, {}
    while low < high:
        middle = (low + high) // 2
        sizes[middle] = requested(format, middle)[2]
        if sizes[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return min(sizes, key=lambda quality: abs(sizes[quality] - wanted))
