"""What scripts/check-api adds to schemathesis: requests that succeed, the exclusions, and counts of what was seen.

schemathesis makes requests from the OpenAPI document. No document can say which bytes are an image, which payment is signed
and which image exists. So every second request that should be accepted gets such data here; the other one stays random.
"""
import sys
sys.dont_write_bytecode = True
import atexit, base64, collections, http.client, itertools, json, os, re, struct, urllib.parse, zlib
import schemathesis
from schemathesis.core import NOT_SET
from harness import sign, sign_in

# Failures that are none: the check, the codes of the answers, what their messages say, and why. Nothing else is excluded.
EXCLUSIONS = [
    ("positive_data_acceptance", {"payment_required"}, "",
     "402 asks for a payment, which OpenAPI can't require: the request is right"),
    ("positive_data_acceptance", {"bad_payment"}, "",
     "a random string fits the schema of a payment header and is no payment"),
    ("positive_data_acceptance", {"conflicting_credentials"}, "",
     "OpenAPI can't say that two payment headers, or a payment and a token, exclude each other"),
    ("positive_data_acceptance", {"no_file"}, "",
     "the body is optional, since a request without one asks for the price; OpenAPI can't say that a token needs one"),
    ("positive_data_acceptance", {"unsupported_format", "corrupt_image"}, "",
     "random bytes fit the schema of a body and are no image"),
    ("positive_data_acceptance", {"invalid_body"}, "not base64",
     "schemathesis doesn't make base64 of contentEncoding"),
    ("positive_data_acceptance", {"invalid_body"}, "two values of metadata|deleteTokens has",
     "OpenAPI can't say that metadata in query and body has to agree, and that ids and deleteTokens are equally many"),
    ("positive_data_acceptance", {"invalid_body"}, "multipart body is incomplete or malformed",
     "schemathesis makes form fields whose names have control characters, which the heads of their parts can't hold"),
    ("positive_data_acceptance", {"precondition_failed", "range_not_satisfiable"}, "",
     "whether a condition or a range holds depends on the image"),
    ("positive_data_acceptance", {"sign_in_required", "sign_in_invalid"}, "",
     "OpenAPI can't say that a message is signed, nor that one is needed: a request without one asks for the challenge"),
    ("positive_data_acceptance", {"invalid_header"}, "signed message|SIGN-IN-WITH-X",
     "a random string fits the schema of SIGN-IN-WITH-X and is no message"),
    ("positive_data_acceptance", {"invalid_parameter"}, "after is not a cursor",
     "OpenAPI can't say which cursors the server made"),
    ("positive_data_acceptance", {"invalid_parameter"}, "fit says|size (names|is|stands)|size beside",
     "OpenAPI can't say that fit needs a width or a height, and that size excludes both"),
    ("positive_data_acceptance", {"invalid_parameter"}, "days is",
     "how many days a link may be valid is the operator's setting"),
    ("positive_data_acceptance", {"invalid_body"}, "uploadsPerDay|control character",
     "a key may make as many uploads as the operator allows; names are printable; half a surrogate pair is no text"),
    ("positive_data_acceptance", {"invalid_parameter", "invalid_body"}, "viewer names a wallet|two values of v",
     "OpenAPI can't say that a viewer is named for a private image only, and that query and body have to agree"),
    ("positive_data_acceptance", {"invalid_body"}, "expiresInSeconds",
     "JSON Schema counts 100.0 among the integers"),
    ("positive_data_acceptance", {"invalid_parameter", "invalid_body"}, "checksum",
     "OpenAPI can't say that an address in mixed case has a checksum (EIP-55)"),
    ("positive_data_acceptance", {"method_not_allowed"}, "Send one of: PUT, POST",
     "an API key in the place of a link's secret has no page; OpenAPI can't say so"),
    ("positive_data_acceptance", {"url_not_allowed", "fetch_failed"}, "",
     "a random string fits the schema of a URL and leads to no image"),
    ("positive_data_acceptance", {"invalid_body"}, "refresh is",
     "OpenAPI can't say which texts are a time, nor from when on the operator takes one"),
    ("not_a_server_error", {"unknown_format"}, "",
     "oEmbed asks for 501 where the format is unknown"),
    ("positive_data_acceptance", {"unknown_tier"}, "sells no tier",
     "the body of an import names a tier, and their names are the operator's"),
    ("positive_data_acceptance", {"invalid_body"}, "already has its tier|names no URL",
     "OpenAPI can't say that a token has its tier, and that an import without a URL only asks for the price"),
    ("positive_data_acceptance", {"invalid_body", "not_found"}, "image is neither|notice|sworn|control characters|characters or holds|no such image|There is no image",
     "OpenAPI can't say which images exist, that a notice is for copyright and sworn, and that texts are printable"),
    ("positive_data_acceptance", {"rate_limited"}, "reports an hour",
     "an address may send 60 reports an hour"),
    ("positive_data_acceptance", {"/mcp"}, "",
     "OpenAPI can't say which media types, revisions and parameters a call of MCP needs"),
    ("negative_data_rejection", {"no error"}, "parameter `(exp|sig)` in query|`(exp|sig)`|properties/(exp|sig)",
     "a public image is shown whatever signature its link has"),
    ("use_after_free", {"no error"}, "DELETE /u/",
     "an upload link that was revoked shows that it was"),
    ("ignored_auth", {"sign_in_required"}, r"got `402 Payment Required` for `[^`]+`$",
     "a request without a credential is answered with 402 and a challenge to sign, which clients of x402 answer"),
    ("negative_data_rejection", {"sign_in_required"}, "",
     "a request without a message is answered with the challenge, also where its body is an empty object"),
    ("negative_data_rejection", {"payment_required"}, "",
     "a request without a payment is answered with 402 before its body and its idempotency key are looked at"),
]
# Operations that can't succeed here, and why.
NEVER = {
    "POST /api/abuse": "an address may send 60 reports an hour, which wrong ones use up; the one below succeeds",
    "POST /api/abuse/{case}": "an objection needs a case that the operator upheld",
}

BASE, REPORT = urllib.parse.urlsplit(os.environ["CHECK_API_BASE"]), os.environ["CHECK_API_REPORT"]
FORM, JSON = "multipart/form-data", "application/json"
statuses = collections.defaultdict(collections.Counter)
excluded, turns, wallets = collections.Counter(), collections.defaultdict(itertools.count), itertools.count(1000)
# The codes of the document, the cases that were given good data, and those of them that were refused.
codes, good, refused = {}, set(), []


# ---- What the server has ----

def ask(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(BASE.hostname, BASE.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def succeed(method, path, body=None, headers={}):
    status, _, answer = ask(method, path, body, headers)
    assert status == 200, (method, path, status, answer)
    return json.loads(answer)


def png(seed):
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    row = b"\0" + seed.to_bytes(3, "big") * 4
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b""))


pictures = (png(seed) for seed in itertools.count())


def pay(path, version=2):
    """The headers that pay for what a path sells, from a wallet that has paid nothing yet."""
    status, headers, body = ask("POST", path)
    assert status == 402, (path, status, body)
    payment = sign(json.loads(base64.b64decode(headers["payment-required"])), next(wallets))
    if version == 2:
        return {"PAYMENT-SIGNATURE": payment}
    first = {"x402Version": 1, "scheme": "exact", "network": json.loads(body)["accepts"][0]["network"],
             "payload": json.loads(base64.b64decode(payment))["payload"]}
    return {"X-PAYMENT": base64.b64encode(json.dumps(first).encode()).decode()}


def upload(tier=None):
    """An image that was uploaded for free, or to a tier."""
    if not tier:
        return succeed("POST", "/api/free", next(pictures))
    return succeed("POST", f"/api/upload/{tier}", next(pictures), pay(f"/api/upload/{tier}"))


LASTING = upload("year")
CASE = succeed("POST", "/api/abuse", json.dumps({"image": LASTING["id"], "reason": "other"}))


# ---- Requests that succeed ----

@schemathesis.auth(refresh_interval=None).apply_to(path="/api/images/{id}").apply_to(path="/api/receipts/{id}")
class DeleteTokens:
    """An image with its delete token."""

    def get(self, case, context):
        return LASTING if context.operation.path.startswith("/api/receipts") else upload()

    def set(self, case, image, context):
        if case.meta.generation.mode.is_positive:
            case.path_parameters["id"] = image["id"]
        case.headers = {**(case.headers or {}), "X-Delete-Token": image["deleteToken"]}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    turn = next(turns[case.method, case.path])
    # DeleteTokens has seen to the deletion of an image.
    if turn % 2 or case.operation.path == "/api/images/{id}" and case.method == "DELETE":
        return
    if case.operation.label in NEVER:
        return
    succeed_with(case, turn // 2)
    # Or schemathesis would judge the case anew, and take bytes for an invalid body.
    case._record_starting_state()
    good.add(case.id)


def succeed_with(case, turn):
    raw = case.operation.definition.raw
    body = raw.get("requestBody")
    # A viewer is named for a private image only.
    for name in ("viewer", "visibility"):
        (case.query or {}).pop(name, None)
    if case.operation.path == "/api/claims":
        return put_sign_in(case, turn)
    if case.operation.path == "/api/images/{id}/links":
        return put_private(case)
    if case.operation.path == "/mcp":
        return put_call(case)
    if case.operation.path == "/api/abuse/{case}":
        case.path_parameters["case"] = CASE["case"]
        return
    if case.operation.path == "/api/import":
        return put_import(case, turn)
    if case.operation.path in ("/api/images", "/api/links") and case.method in ("GET", "HEAD"):
        return put_list(case, turn)
    if case.operation.path.startswith("/u/"):
        return put_link(case)
    if case.operation.path.startswith("/api/keys") or case.operation.path == "/api/links/{id}":
        return put_own(case)
    if case.operation.path == "/api/links" and (case.query or {}).get("days"):
        case.query["days"] = 1 + turn % 90
    if case.operation.path == "/api/links" and (case.query or {}).get("tier") == "free":
        case.headers = {}
        return
    if case.operation.path.endswith("/renew"):
        case.path_parameters["id"] = upload("year")["id"]
    elif case.operation.path == "/api/images/{id}":
        case.path_parameters["id"] = LASTING["id"]
    elif case.operation.path == "/i/{file}":
        show(case, turn)
    elif case.operation.path == "/oembed":
        case.query = (case.query or {}) | {"url": LASTING["url"]}
    elif case.operation.path == "/api/images":
        images = [upload(), upload()]
        lists = {"ids": [image["id"] for image in images], "deleteTokens": [image["deleteToken"] for image in images]}
        case.body = lists if turn % 2 else {"images": images}
    elif body:
        put_image(case)
    if any(parameter.get("name") == "PAYMENT-SIGNATURE" for parameter in raw["parameters"]):
        put_payment(case, turn)


def show(case, turn):
    case.path_parameters["file"] = LASTING["id"] + (".png" if turn % 2 else "")
    # A size in words excludes the others, and fit needs a box.
    case.query = {name: value for name, value in (case.query or {}).items() if name in ("exp", "sig")}
    case.headers = [{}, {"Range": "bytes=0-9"}, {"If-None-Match": f'"{LASTING["sha256"]}"'}][turn % 3]


def put_image(case):
    """An image in the place of random bytes."""
    if case.media_type in (None, NOT_SET):
        case.media_type = "image/png"
    picture, fields = next(pictures), dict(case.body) if isinstance(case.body, dict) else {}
    for name in ("viewer", "visibility"):
        fields.pop(name, None)
    if case.query:
        fields.pop("metadata", None)
    if case.media_type == JSON:
        case.body = fields | {"image": base64.b64encode(picture).decode()}
    elif case.media_type == FORM:
        case.body = {"image": picture} | {name: value for name, value in fields.items() if name == "metadata"}
    else:
        case.body = picture


def put_payment(case, turn):
    """A payment or a token in the place of random headers."""
    case.headers = {}
    path = case.formatted_path + ("?" + urllib.parse.urlencode(case.query) if case.query else "")
    sells_upload = case.operation.path in ("/api/upload", "/api/upload/{tier}", "/api/upload/{tier}/{file}")
    if sells_upload:
        path = "/".join(case.formatted_path.split("/")[:4])
    if case.operation.path == "/api/upload" and case.method in ("POST", "PUT") and turn % 3 == 0:
        token = succeed("POST", "/api/upload/token", headers=pay("/api/upload/token"))["token"]
        payment = {"X-Upload-Token": token}
    else:
        payment = pay(path, 1 + turn % 2)
    if sells_upload and case.method in ("GET", "HEAD"):
        # Neither has a body: they show what was bought before.
        succeed("POST", path, next(pictures), payment)
    case.headers = payment


def put_sign_in(case, turn):
    """A signed message of a wallet that has a token, in the header or as the body."""
    wallet = next(wallets)
    status, headers, body = ask("POST", "/api/upload/token")
    payment = sign(json.loads(base64.b64decode(headers["payment-required"])), wallet)
    succeed("POST", "/api/upload/token", headers={"PAYMENT-SIGNATURE": payment})
    message, header = signed_for("POST", "/api/claims", wallet)
    if turn % 2:
        case.media_type, case.body = JSON, message
        case.headers = {}
    else:
        case.headers = header


def signed_for(method, path, wallet):
    """The message that a route asks a wallet to sign, and the header that carries it."""
    status, _, body = ask(method, path)
    message = sign_in(json.loads(body)["extensions"]["sign-in-with-x"], wallet)
    return message, {"SIGN-IN-WITH-X": base64.b64encode(json.dumps(message).encode()).decode()}


def pay_by(path, wallet):
    """What a wallet buys at a path."""
    status, headers, _ = ask("POST", path)
    payment = sign(json.loads(base64.b64decode(headers["payment-required"])), wallet)
    return succeed("POST", path, headers={"PAYMENT-SIGNATURE": payment})


def put_link(case):
    """A new upload link, and an image where one is uploaded."""
    link = succeed("POST", "/api/links?tier=free")["url"]
    case.path_parameters["secret"] = link.rpartition("/")[2]
    case.headers = {"Accept": "application/json"}
    if case.operation.definition.raw.get("requestBody"):
        put_image(case)


def put_private(case):
    """A private image with its delete token."""
    image = succeed("POST", "/api/free?visibility=private", next(pictures))
    case.path_parameters["id"] = image["id"]
    case.headers = {"X-Delete-Token": image["deleteToken"]}
    if case.method == "POST":
        case.media_type, case.body = JSON, {"expiresInSeconds": 60}


def put_call(case):
    """A call of MCP, as clients of the revision before send it."""
    case.media_type, case.body = JSON, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    case.headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


def put_own(case):
    """A wallet that signs in for a new key or link of its own, or for its list of keys."""
    wallet = next(wallets)
    if case.operation.path == "/api/links/{id}":
        case.path_parameters["id"] = pay_by("/api/links", wallet)["id"]
    elif case.operation.path != "/api/keys":
        _, header = signed_for("POST", "/api/keys", wallet)
        case.path_parameters["id"] = succeed("POST", "/api/keys", headers=header)["id"]
    elif case.method == "POST":
        case.media_type, case.body = JSON, {"name": "a key", "uploadsPerDay": 5}
    # The response to HEAD has no body with the challenge.
    method = "GET" if case.method == "HEAD" else case.method
    _, case.headers = signed_for(method, case.formatted_path, wallet)


def put_import(case, turn):
    """The URL of an image that the server may fetch: for free, for a token and for a payment."""
    case.media_type, case.body, case.headers = JSON, {"url": os.environ["CHECK_API_IMAGE"]}, {}
    if turn % 3 == 0:
        case.body["tier"] = "free"
    elif turn % 3 == 1:
        token = succeed("POST", "/api/upload/token", headers=pay("/api/upload/token"))["token"]
        case.headers = {"X-Upload-Token": token}
    else:
        case.headers = pay("/api/import", 1 + turn % 2)


def put_list(case, turn):
    """A sign-in to a list, or the cursor of one in which two images are left."""
    wallet, path = next(wallets), case.operation.path
    query = {name: value for name, value in (case.query or {}).items() if name == "limit"}
    if turn % 2:
        status, headers, _ = ask("POST", "/api/upload/token?images=2")
        payment = {"PAYMENT-SIGNATURE": sign(json.loads(base64.b64decode(headers["payment-required"])), wallet)}
        token = succeed("POST", "/api/upload/token?images=2", headers=payment)["token"]
        for _ in range(2):
            succeed("POST", "/api/upload", next(pictures), {"X-Upload-Token": token})
            pay_by("/api/links", wallet)
        _, header = signed_for("GET", path, wallet)
        query["after"] = succeed("GET", f"{path}?limit=1", headers=header)["next"]
        case.headers = {}
    else:
        _, case.headers = signed_for("GET", path, wallet)
    case.query = query


# ---- The document and the answers ----

@schemathesis.hook
def before_load_schema(context, schema):
    """A field that the document does not list is a failure, though clients have to live with new ones."""
    codes.update((code["code"], code["status"]) for code in schema["x-error-codes"])
    of_requests = {"DeleteRequest", "ImageToDelete", "FormUpload", "JsonUpload", "SignedMessageBody", "NewKeyRequest"}
    for name, schema in schema["components"]["schemas"].items():
        if name not in of_requests and "properties" in schema:
            schema.setdefault("additionalProperties", False)


@schemathesis.hook
def after_call(context, case, response):
    if case.method == case.operation.method.upper():
        statuses[case.operation.label][response.status_code] += 1
    if case.id in good and response.status_code >= 400:
        refused.append(f"{case.operation.label}: {response.status_code} {response.content[:300]!r}")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    is_json = "json" in response.headers.get("content-type", [""])[0]
    body = response.json() if response.content and is_json else {}
    for index, (check, allowed, message, _) in enumerate(EXCLUSIONS):
        if check == "ignored_auth":
            # The check sends a request of its own, which only its message describes.
            fits = re.search(message, failure.message)
        elif "no error" in allowed:
            # The response is no error.
            fits = response.status_code < 400 and re.search(message, f"{failure.message} {failure!r}")
        elif "/mcp" in allowed:
            fits = case.operation.path == "/mcp" and 400 <= response.status_code < 500
        elif case.operation.path == "/mcp":
            fits = False
        else:
            # HEAD has no body that could hold a code.
            fits = (body.get("error") in allowed and re.search(message, body.get("message", "")) if body
                    else response.status_code in {codes[code] for code in allowed})
        if check in failure.checks and fits:
            excluded[index] += 1
            return False
    return True


@atexit.register
def report():
    with open(REPORT, "w") as file:
        json.dump({"statuses": statuses, "excluded": excluded, "refused": refused, "never": NEVER,
                   "exclusions": [[check, sorted(allowed), message, why] for check, allowed, message, why in EXCLUSIONS]}, file)
