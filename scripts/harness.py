"""Starts a server for the scripts that test it from outside, and sends it requests.

Nothing here shares code with the server. The payer's signature (keccak, secp256k1 and EIP-712) is implemented in forty
lines, which are slow and for play money only.
"""
import base64, http.client, json, os, random, secrets, shutil, socket, sqlite3, struct, subprocess, sys, time, zlib

FREE_LIMITS = """
[limits]
free_per_day = 0
free_per_address_per_hour = 0
payments_per_address_per_minute = 0
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def noise_png(size):
    """A PNG of random pixels, of about this many bytes."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    noise = random.Random(1)
    side = round((size / 3) ** 0.5)
    rows = b"".join(b"\0" + noise.randbytes(side * 3) for _ in range(side))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class Facts:
    """What a check has seen, and what it should have seen."""

    def __init__(self):
        self.count, self.failures = 0, []

    def expect(self, what, seen, wanted):
        self.count += 1
        if seen != wanted:
            self.failures.append(f"{what}: {seen!r} instead of {wanted!r}")


RAW = {"Content-Type": "image/png"}


def png(width=8, height=8, seed=0, noise=False):
    """A PNG of a pattern, or of noise. Above 2^24 pixels it has none."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = lambda y: os.urandom(width * 3) if noise else bytes((x + y + seed) % 256 for x in range(width * 3))
    rows = b"".join(b"\0" + row(y) for y in range(height)) if width * height < 1 << 24 else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def wrk():
    """The load generator, which is installed where it is missing."""
    if not shutil.which("wrk"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk"], check=True,
                       stdout=sys.stderr, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    return "wrk"


def cpu_seconds(pid):
    """The CPU time of a process, user and system, over all cores."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Answer:
    """A response: status, headers by lower-case name, and body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Server:
    """A server with play money in its own folder. `more` is added to its configuration file, `settings` to its
    environment."""

    def __init__(self, binary, folder, more=FREE_LIMITS, min_free="0", settings={}):
        self.binary, self.folder = str(binary), folder
        self.port, self.admin, facilitator, rpc = free_ports(4)
        self.base = f"http://127.0.0.1:{self.port}"
        (folder / "pixtoll.toml").write_text(f"""
[http]
listen = "127.0.0.1:{self.port}"
admin_listen = "127.0.0.1:{self.admin}"
base_url = "{self.base}"
[images]
min_free = "{min_free}"
[payments]
facilitator = "sandbox"
sandbox_listen = "127.0.0.1:{facilitator}"
sandbox_rpc_listen = "127.0.0.1:{rpc}"
{more}""")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PIXTOLL_")} | settings
        self.log = open(folder / "server.log", "w+")
        self.process = subprocess.Popen([self.binary, "serve"], cwd=folder, env=self.env,
                                        stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                if self.ask("GET", "/api/tiers").status == 200:
                    return
            except OSError:
                time.sleep(0.1)
        self.stop()
        self.log.seek(0)
        sys.exit(f"the server did not start:\n{self.log.read()}")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, path, body=None, headers={}, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request(method, path.removeprefix(self.base), body, headers)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def run(self, *arguments):
        """Runs a command beside the server. Returns its exit code and its output."""
        ran = subprocess.run([self.binary, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True)
        return ran.returncode, ran.stdout + ran.stderr

    def payment(self, path, wallet=0x11):
        """The headers that pay at `path`."""
        challenge = self.ask("POST", path)
        assert challenge.status == 402, challenge.body
        document = json.loads(base64.b64decode(challenge.headers["payment-required"]))
        return {"PAYMENT-SIGNATURE": sign(document, wallet)}

    def rows(self, query):
        """The result of a query of the server's database."""
        database = sqlite3.connect(f"file:{self.folder}/data/pixtoll.db?mode=ro", uri=True)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def objects(self):
        """The number of objects in the store. Fails when an object has no record beside it."""
        # The store's mark of the database is outside this folder.
        images = self.folder / "data" / "images" / "images"
        files = [path for path in images.rglob("*") if path.is_file()]
        objects = [path for path in files if path.suffix != ".json"]
        if {path.with_suffix(".json") for path in objects} | set(objects) != set(files):
            raise SystemExit(f"an object without a record, or a record without an object: {files}")
        return len(objects)

    def cpu_seconds(self):
        """The CPU time of the server's process, user and system, over all cores."""
        return cpu_seconds(self.process.pid)

    def memory(self, field):
        """A field of /proc/PID/status, such as `VmRSS` or `VmHWM`, in bytes."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise LookupError(field)

    def forget_peak(self):
        """Resets VmHWM, so that it is the peak from now on."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")


# ---- The payer ----

PRIME = 2**256 - 2**32 - 977
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
BASE_POINT = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
              0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def keccak(data):
    """Keccak-256, as Ethereum uses it."""
    lanes, mask = [0] * 25, 2**64 - 1
    turn = lambda value, by: (value << by % 64 | value >> (64 - by) % 64) & mask if by % 64 else value
    padded = bytearray(data + b"\x01" + bytes((-len(data) - 1) % 136))
    padded[-1] |= 0x80
    for start in range(0, len(padded), 136):
        for lane in range(17):
            lanes[lane] ^= int.from_bytes(padded[start + lane * 8:start + lane * 8 + 8], "little")
        register = 1
        for _ in range(24):
            parity = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
            for x in range(5):
                for y in range(5):
                    lanes[x + 5 * y] ^= parity[(x - 1) % 5] ^ turn(parity[(x + 1) % 5], 1)
            x, y, current = 1, 0, lanes[1]
            for step in range(24):
                x, y = y, (2 * x + 3 * y) % 5
                current, lanes[x + 5 * y] = lanes[x + 5 * y], turn(current, (step + 1) * (step + 2) // 2)
            for y in range(0, 25, 5):
                row = lanes[y:y + 5]
                for x in range(5):
                    lanes[x + y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5])
            for bit in range(7):
                if register & 1:
                    lanes[0] ^= 1 << (2**bit - 1)
                register = register << 1 ^ (0x171 if register & 0x80 else 0)
        lanes = [lane & mask for lane in lanes]
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def add(one, other):
    """The sum of two points of secp256k1; None is the neutral element."""
    if one is None or other is None:
        return one or other
    if one[0] == other[0]:
        if (one[1] + other[1]) % PRIME == 0:
            return None
        slope = 3 * one[0] ** 2 * pow(2 * one[1], -1, PRIME)
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, PRIME)
    x = (slope**2 - one[0] - other[0]) % PRIME
    return x, (slope * (one[0] - x) - one[1]) % PRIME


def times(factor, point):
    total = None
    while factor:
        if factor & 1:
            total = add(total, point)
        point, factor = add(point, point), factor >> 1
    return total


def address(key):
    x, y = times(key, BASE_POINT)
    return "0x" + keccak(x.to_bytes(32, "big") + y.to_bytes(32, "big"))[12:].hex()


def signature(key, digest):
    while True:
        nonce = 1 + secrets.randbelow(ORDER - 1)
        x, y = times(nonce, BASE_POINT)
        r = x % ORDER
        s = pow(nonce, -1, ORDER) * (int.from_bytes(digest, "big") + r * key) % ORDER
        if r and s:
            break
    odd = y & 1
    if s > ORDER // 2:
        s, odd = ORDER - s, odd ^ 1
    return "0x" + (r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd])).hex()


def checksummed(address):
    """The address with its checksum (EIP-55)."""
    digits = address[2:]
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(digit.upper() if int(mark, 16) > 7 else digit for digit, mark in zip(digits, marks))


def sign_in(extension, key):
    """The message that a sign-in challenge asks for (x402's sign-in-with-x), signed by personal_sign."""
    info, chain, wallet = extension["info"], extension["supportedChains"][0], checksummed(address(key))
    text = "\n".join([
        f"{info['domain']} wants you to sign in with your Ethereum account:", wallet, "", info["statement"], "",
        f"URI: {info['uri']}", f"Version: {info['version']}", f"Chain ID: {chain['chainId'].rpartition(':')[2]}",
        f"Nonce: {info['nonce']}", f"Issued At: {info['issuedAt']}", f"Expiration Time: {info['expirationTime']}",
        "Resources:", *(f"- {resource}" for resource in info["resources"])]).encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
    return info | chain | {"address": wallet, "signature": signature(key, digest)}


def sign(document, key):
    """The x402 version 2 header that pays the first offer of a challenge (EIP-3009, signed by EIP-712)."""
    offer = document["accepts"][0]
    word = lambda value: int(str(value), 0).to_bytes(32, "big")
    nonce, end = secrets.token_bytes(32), int(time.time()) + offer["maxTimeoutSeconds"]
    payer = address(key)
    domain = keccak(
        keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        + keccak(offer["extra"]["name"].encode()) + keccak(offer["extra"]["version"].encode())
        + word(offer["network"].rpartition(":")[2]) + word(offer["asset"]))
    message = keccak(
        keccak(b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
               b"uint256 validBefore,bytes32 nonce)")
        + word(payer) + word(offer["payTo"]) + word(offer["amount"]) + word(0) + word(end) + nonce)
    payment = {
        "x402Version": 2, "accepted": offer, "resource": document["resource"], "extensions": document["extensions"],
        "payload": {
            "signature": signature(key, keccak(b"\x19\x01" + domain + message)),
            "authorization": {"from": payer, "to": offer["payTo"], "value": offer["amount"], "validAfter": "0",
                              "validBefore": str(end), "nonce": "0x" + nonce.hex()}}}
    return base64.b64encode(json.dumps(payment).encode()).decode()
