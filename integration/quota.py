"""Takes relays of a TURN server as one place: with a new name for each credential, as whoever wants more than a place's share would.

Usage: quota.py SIGNALING-ADDRESS SIGNALING-PORT TURN-ADDRESS COUNT PER-CREDENTIAL

Asks the chat server for credentials as users of ever new names, and the TURN server for COUNT relays, PER-CREDENTIAL with each.
All that are granted are held until the last was asked for. Prints how many that were, and the users of the credentials without their
time (RFC 8489 for STUN, RFC 8656 for TURN, RFC 6455 for WebSocket).
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import sys

signaling = (sys.argv[1], int(sys.argv[2]))
turn = (sys.argv[3], 3478)
count, per_credential = int(sys.argv[4]), int(sys.argv[5])
COOKIE = 0x2112A442


def read(stream, length):
    got = b""
    while len(got) < length:
        part = stream.recv(length - len(got))
        if not part:
            raise SystemExit("the chat server hung up")
        got += part
    return got


def online(name):
    stream = socket.create_connection(signaling, 20)
    stream.sendall(
        f"GET /ws?username={name} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(stream, 1)
    if b" 101 " not in head.splitlines()[0]:
        raise SystemExit(head.decode())
    return stream


def message(stream):
    while True:
        kind, length = read(stream, 2)
        if length == 126:
            (length,) = struct.unpack("!H", read(stream, 2))
        text = read(stream, length)
        if kind == 0x81:
            return json.loads(text)


def credentials():
    """What a new user is told of, who is in a session with another new one."""
    names = [f"new_{os.urandom(4).hex()}" for _ in range(2)]
    one, other = online(names[0]), online(names[1])
    text = json.dumps({"type": "session:connect", "target": names[1]}).encode()
    one.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
    server = message(one)["payload"]["iceServers"][0]
    one.close()
    other.close()
    return server["username"], server["credential"]


def attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def ask(sock, attributes, key=None):
    """Sends an Allocate request until it is answered, and returns its kind and attributes."""
    transaction = os.urandom(12)
    body = b"".join(attribute(*each) for each in attributes)
    head = struct.pack("!HHI", 0x0003, len(body) + (24 if key else 0), COOKIE) + transaction
    if key:
        body += attribute(0x0008, hmac.new(key, head + body, "sha1").digest())
    for _ in range(20):
        sock.send(head + body)
        try:
            answer = sock.recv(2048)
        except TimeoutError:
            continue
        if answer[8:20] == transaction:
            break
    else:
        raise SystemExit("the TURN server does not answer")
    found, at = {}, 20
    while at < len(answer):
        kind, length = struct.unpack("!HH", answer[at : at + 4])
        found[kind] = answer[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return struct.unpack("!H", answer[:2])[0], found


def allocate(username, credential):
    """A relay, or the error code in its place."""
    wanted, found = [(0x0019, b"\x11\0\0\0")], {}
    # A port that somebody had before, whom the TURN server still knows, is answered otherwise, and another one is taken.
    while 0x0014 not in found:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(1)
        sock.connect(turn)
        ports.append(sock)
        _, found = ask(sock, wanted)
    realm, nonce = found[0x0014], found[0x0015]
    key = hashlib.md5(b":".join([username.encode(), realm, credential.encode()])).digest()
    kind, found = ask(sock, wanted + [(0x0006, username.encode()), (0x0014, realm), (0x0015, nonce)], key)
    return sock if kind == 0x0103 else found[0x0009][2] * 100 + found[0x0009][3]


held, users, ports = [], set(), []
for number in range(count):
    if number % per_credential == 0:
        username, credential = credentials()
        users.add(username.split(":")[1])
    relay = allocate(username, credential)
    if isinstance(relay, int):
        if relay != 486:
            raise SystemExit(f"error {relay}")
    else:
        held.append(relay)
print(len(held), *sorted(users), flush=True)
if not sys.stdin.isatty():
    sys.stdin.read()
