"""Loads a server with wrk, and counts what that costs the server."""
import re, shutil, signal, subprocess, sys, time
from harness import wrk


class Script:
    """A script for wrk: one request, repeated, and the status that each response must have."""

    def __init__(self, folder, name, method="GET", headers={}, body=None, expected=200, many_networks=False, paths=None):
        self.path, self.expected = folder / f"{name}.lua", expected
        text = [f'wrk.method = "{method}"', *(f"wrk.headers[{key!r}] = {value!r}" for key, value in headers.items())]
        if body is not None:
            (folder / f"{name}.body").write_bytes(body)
            text += [f'local file = io.open("{folder / name}.body", "rb")', 'wrk.body = file:read("*a")', "file:close()"]
        if many_networks or paths:
            text += ["local number = 0", "function request()", "  number = number + 1"]
            if many_networks:
                # One network may have few checks at a time.
                text.append('  wrk.headers["X-Forwarded-For"] = "10." .. math.floor(number / 250) % 250 .. "." .. number % 250 .. ".1"')
            text += [f"  return wrk.format(nil, {paths})" if paths else "  return wrk.format()", "end"]
        text.append("""
function done(summary, latency)
  print("requests " .. summary.requests .. " statuses " .. summary.errors.status .. " broken "
    .. summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    .. " bytes " .. summary.bytes .. " p99 " .. latency:percentile(99))
end
""")
        self.path.write_text("\n".join(text))

    def command(self, url, seconds, connections):
        return [wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", self.path, url]


def load(server, path, script, seconds, connections, least_bytes=1):
    """Loads the server, and returns its requests per second, its CPU seconds per request, and the 99th percentile of the
    latency in seconds. Ends the program if a response was not the expected one."""
    before, started = server.cpu_seconds(), time.monotonic()
    said = subprocess.run(script.command(server.base + path, seconds, connections), check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    took, used = time.monotonic() - started, server.cpu_seconds() - before
    requests, statuses, broken, size, p99 = counted(said)
    right = broken == 0 and statuses == (requests if script.expected > 399 else 0) and size >= requests * least_bytes
    if not right or requests == 0 or server.process.poll() is not None:
        sys.exit(f"not every response of {server.base}{path} had status {script.expected}:\n{said}")
    return {"rate": requests / took, "cpu": used / requests, "p99": p99 / 1e6, "requests": requests}


def counted(said):
    """What a script has printed: requests, statuses above 399, failed connections, bytes, and the 99th percentile of the
    latency in microseconds."""
    found = re.search(r"requests (\d+) statuses (\d+) broken (\d+) bytes (\d+) p99 ([\d.]+)", said)
    return [*(int(found[place]) for place in (1, 2, 3, 4)), float(found[5])]


def trace(server, folder, what, work):
    """Counts the system calls of a server during `work`, which returns for how many requests it was."""
    if not shutil.which("strace"):
        sys.exit("--trace needs strace: install it (Debian: apt-get install strace)")
    output = folder / "strace"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", output, "-p", str(server.process.pid)],
                              stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()
    try:
        requests = work()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    calls = {}
    for line in output.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit():
            calls[fields[-1]] = int(fields[3])
    return f"system calls of pixtoll per {what}: " + ", ".join(
        f"{calls.get(call, 0) / requests:.2f} {call}"
        for call in ("fsync", "fdatasync", "syncfs", "pread64", "pwrite64", "futex", "write", "mmap", "clock_nanosleep"))
