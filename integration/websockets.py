"""Opens many WebSockets through a proxy with TLS at a port of loopback, at once, and says what each was answered.

Usage: websockets.py PORT CERTIFICATE COUNT PER-ADDRESS [HEADER...]

They come from 127.0.0.1, 127.0.0.2 and so on, so many from each. All are held until the last one is open, and then each has to
answer a ping: so none of them was let go for another one. Prints a line `STATUS COUNT` for each status.
"""

import collections
import socket
import ssl
import sys

port, certificate, count, per_address = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
headers = "".join(f"{header}\r\n" for header in sys.argv[5:])
context = ssl.create_default_context(cafile=certificate)


def open_one(number):
    plain = socket.create_connection(("127.0.0.1", port), 20, (f"127.0.0.{1 + number // per_address}", 0))
    stream = context.wrap_socket(plain, server_hostname="localhost")
    stream.sendall(
        (
            f"GET /ws?username=many_{number} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        ).encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        part = stream.recv(4096)
        if not part:
            return "none", stream
        head += part
    return head.split(b" ", 2)[1].decode(), stream


opened = [open_one(number) for number in range(count)]
for status, stream in opened:
    if status == "101":
        # A ping with a mask of zeros, and its pong (RFC 6455, section 5.5.2).
        stream.sendall(b"\x89\x81\0\0\0\0?")
for status, stream in opened:
    # The server's own pings, which are empty, may come before.
    heard = b""
    while status == "101" and heard.replace(b"\x89\0", b"") != b"\x8a\x01?":
        part = stream.recv(64)
        if not part:
            raise SystemExit(f"no pong but {heard}")
        heard += part
for status, number in sorted(collections.Counter(status for status, _ in opened).items()):
    print(status, number)
