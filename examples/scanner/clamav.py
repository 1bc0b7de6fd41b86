"""A scanner that asks ClamAV: python3 clamav.py [--port 8090]

Needs a running clamd. CLAMD names its socket: a path, or host:port. A file that matches a signature is refused, and its
bytes are blocked from then on.
"""
import os
import socket
import struct

from scanner import serve

CLAMD = os.environ.get("CLAMD", "/run/clamav/clamd.ctl")
CHUNK = 64 * 1024


def connect():
    if CLAMD.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(4)
        connection.connect(CLAMD)
        return connection
    host, port = CLAMD.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=4)


def judge(body, _content_type):
    with connect() as clamd:
        clamd.sendall(b"zINSTREAM\0")
        for start in range(0, len(body), CHUNK):
            part = body[start:start + CHUNK]
            clamd.sendall(struct.pack(">I", len(part)) + part)
        clamd.sendall(struct.pack(">I", 0))
        answer = b""
        while not answer.endswith(b"\0"):
            part = clamd.recv(4096)
            if not part:
                raise RuntimeError("clamd closed the connection")
            answer += part
    text = answer.rstrip(b"\0").decode(errors="replace")
    if text.endswith(" OK"):
        return True, "", False
    if text.endswith(" FOUND"):
        return False, text.removeprefix("stream: ").removesuffix(" FOUND"), True
    raise RuntimeError(f"clamd answers {text[:100]}")


if __name__ == "__main__":
    serve(judge)
