#!/usr/bin/env python3
"""Writes files.json, the vectors of what goes over the data channel `files` (protocol 2.13) that src/peer/files/lane.rs is tested with, of the call
in handshake.json: `pip install pynacl`, then run this. Boxes are libsodium's, HMAC and SHA-2 are Python's.
"""
import hashlib
import hmac
import json
import pathlib
import struct

import nacl
import nacl.bindings

here = pathlib.Path(__file__).parent
call = json.loads((here / "handshake.json").read_text())
items = [bytes.fromhex(call["transcript"]), *(hello.encode() for hello in call["hellos"])]
hellos = hashlib.sha512(b"".join(struct.pack(">I", len(item)) + item for item in items)).digest()
secret = bytes.fromhex(call["secret"])
keys = [hmac.new(secret, b"files " + side + hellos + b"\1", hashlib.sha512).digest()[:32] for side in (b"caller", b"called")]
file, THERE, BACK = bytes(range(100, 116)), 0, 1


def box(key: bytes, way: int, count: int, content: bytes) -> str:
    return nacl.bindings.crypto_secretbox_easy(content, bytes([way]) + bytes(15) + struct.pack(">Q", count), key).hex()


digest = hashlib.sha256("grüße".encode()).digest()
vectors = {
    "made_by": f"PyNaCl {nacl.__version__}",
    "keys": [key.hex() for key in keys],
    "file": file.hex(),
    "digest": digest.hex(),
    "begin": box(keys[0], THERE, 0, b"\1" + file + struct.pack(">QQ", 2, 2**32)),
    "data": box(keys[0], THERE, 1, b"\2" + "grüße".encode()),
    "end": box(keys[0], THERE, 2, b"\3" + struct.pack(">Q", 2**32 + 7) + digest),
    "report": box(keys[1], BACK, 0, struct.pack(">QQ", 7, 2**20)),
}
(here / "files.json").write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")
