"""Deployments for the scripts that test restores and moves: a chain in a process of its own, servers, images and payments.
"""
import base64, json, os, pathlib, re, shutil, subprocess, sys, time, zlib, struct
import http.client
from harness import Answer, free_ports, sign, sign_in

RAW = {"Content-Type": "image/png"}
WALLET = 0x51


class Facts:
    def __init__(self):
        self.count, self.failures = 0, []

    def expect(self, what, seen, wanted=True):
        self.count += 1
        if seen != wanted:
            self.failures.append(f"{what}: {seen!r} instead of {wanted!r}")


def png(seed):
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + bytes((x + y + seed) % 256 for x in range(24)) for y in range(8))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def postgres_program(name):
    """The path of a PostgreSQL program, of the newest installed version, which scripts/with-postgres runs."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    program = str(found[-1]) if found else shutil.which(name)
    if not program:
        sys.exit(f"the PostgreSQL program {name} is missing; install PostgreSQL")
    return program


class Chain:
    """The sandbox's facilitator and chain, which survive the loss of a server."""

    def __init__(self, binary, folder):
        self.facilitator, self.rpc = free_ports(2)
        self.log = folder / "sandbox.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [binary, "sandbox", "--facilitator", f"127.0.0.1:{self.facilitator}", "--rpc", f"127.0.0.1:{self.rpc}",
                 "--data", "sandbox.db"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while "Stop with" not in self.log.read_text():
            if time.monotonic() > end:
                sys.exit("the sandbox did not start")
            time.sleep(0.05)
        self.recipient = re.search(r"recipient\s+(\S+)", self.log.read_text()).group(1)

    def transfers(self):
        """The number of transfers to the recipient."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc, timeout=20)
        topic = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
        query = {"fromBlock": "0x0", "toBlock": "latest", "topics": [topic, None, "0x" + self.recipient[2:].lower().rjust(64, "0")]}
        connection.request("POST", "/", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [query]}),
                           {"content-type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return len(answer["result"])

    def end(self):
        self.process.terminate()
        self.process.wait()


class Place:
    """A deployment: a folder with settings, and a server if it is started."""

    def __init__(self, binary, folder, chain, database, store):
        self.binary, self.folder, self.process = str(binary), folder, None
        folder.mkdir(exist_ok=True)
        self.port, self.admin = free_ports(2)
        self.base = f"http://127.0.0.1:{self.port}"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        (folder / "pixtoll.toml").write_text(f"""
[http]
listen = "127.0.0.1:{self.port}"
admin_listen = "127.0.0.1:{self.admin}"
base_url = "http://127.0.0.1:4020"
[database]
url = "{database}"
[images]
{store}
min_free = "0"
[payments]
facilitator = "sandbox"
facilitator_url = "http://127.0.0.1:{chain.facilitator}"
rpc_url = "http://127.0.0.1:{chain.rpc}"
pay_to = "{chain.recipient}"
[secrets]
key = "{'17' * 32}"
[limits]
free_per_day = 0
free_per_address_per_hour = 0
payments_per_address_per_minute = 0
""")

    def run(self, *arguments, code=0):
        ran = subprocess.run([self.binary, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True)
        if ran.returncode != code:
            sys.exit(f"pixtoll {' '.join(arguments)}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    def start(self):
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen([self.binary, "serve"], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the server did not start:\n{(self.folder / 'server.log').read_text()}")
            time.sleep(0.1)

    def is_ready(self):
        try:
            return self.ask("GET", "/readyz", port=self.admin).status == 200
        except OSError:
            return False

    def lose(self):
        """Kills the server, as when its machine fails."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ask(self, method, path, body=None, headers={}, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def sign(self, path="/api/upload/year"):
        # After a recovery it takes some seconds until paid routes open.
        end = time.monotonic() + 30
        while (challenge := self.ask("POST", path)).status != 402:
            if time.monotonic() > end:
                sys.exit(f"no challenge: {challenge.status} {challenge.body!r}")
            time.sleep(0.2)
        document = json.loads(base64.b64decode(challenge.headers["payment-required"]))
        return {"PAYMENT-SIGNATURE": sign(document, WALLET)}

    def claim(self):
        """What the wallet paid for and did not receive, by signing in with it."""
        challenge = self.ask("POST", "/api/claims").json()["extensions"]["sign-in-with-x"]
        message = json.dumps(sign_in(challenge, WALLET)).encode()
        return self.ask("POST", "/api/claims", headers={"SIGN-IN-WITH-X": base64.b64encode(message).decode()})


def path_of(image):
    return "/" + image["url"].split("/", 3)[3]
