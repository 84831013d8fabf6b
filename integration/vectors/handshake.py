#!/usr/bin/env python3
"""Writes handshake.json, the vectors of the handshake of two peers of ours (protocol 2.1 to 2.3) that src/peer/agreement.rs is tested with:
`pip install pynacl xwing-kem`, then run this. X-Wing is xwing-kem's, boxes and X25519 are libsodium's, SHA-512 and HMAC are
Python's. Only what X-Wing makes of chance differs from run to run.
"""
import hashlib
import json
import pathlib
import sys

import nacl
import xwing_kem
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nacl.public import PrivateKey
from nacl.secret import SecretBox

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "aiortc"))
from cipher import to_base64
from handshake import CALLED, CALLER, Frames, OwnKeys, answer, digest, expand, strict


def counted(first: int) -> bytes:
    return bytes(range(first, first + 32))


# A key pair of X-Wing from its seed (draft-connolly-cfrg-xwing-kem, section 5.2).
seed = counted(0xC0)
expanded = hashlib.shake_256(seed).digest(96)
kem_public = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
kem_public += X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()
kem = xwing_kem.XWingKeyPair(kem_public, expanded)

alice, bob = PrivateKey(counted(0x00)), PrivateKey(counted(0x20))
own = OwnKeys(PrivateKey(counted(0x40)), kem)
greeting = own.greeting()
said, called = answer(greeting, "alice", "bob", PrivateKey(counted(0x60)))
caller = own.agree(said, "alice", "bob")
assert caller.secret == called.secret and caller.transcript == called.transcript

first = caller.hello(alice)
second = called.hello(bob, first)
assert called.read_hello(first, bob) == bytes(alice.public_key)
assert caller.read_hello(second, alice, first) == bytes(bob.public_key)
texts = [Frames(agreement.texts(first, second)) for agreement in (caller, called)]


def sealed(key: bytes, data: bytes, nonce: int) -> str:
    return to_base64(SecretBox(key).encrypt(data, bytes([nonce]) * 24))


def proof(hello: bytes) -> str:
    return json.loads(hello)["hello"]["proof"]


hellos = digest(caller.transcript, first, second)
texts_of = {side: expand(caller.secret, b"texts " + side + hellos) for side in (CALLER, CALLED)}
vectors = {
    "made_by": f"PyNaCl {nacl.__version__}, xwing-kem {xwing_kem.__version__}",
    "identities": [bytes(alice).hex(), bytes(bob).hex()],
    "keys": [bytes(own.pair).hex(), counted(0x60).hex()],
    "kem_seed": seed.hex(),
    "greeting": greeting,
    "answer": said,
    "shared": xwing_kem.decapsulate(strict(said["lowkey"]["ciphertext"]), expanded).hex(),
    "transcript": caller.transcript.hex(),
    "secret": caller.secret.hex(),
    "hello_caller": caller.first_key(None).hex(),
    "hello_known": caller.first_key(bytes(bob.public_key)).hex(),
    "signals": [expand(caller.secret, b"signals " + side).hex() for side in (CALLER, CALLED)],
    "hellos": [first.decode(), second.decode()],
    "proofs": [proof(first), proof(second)],
    "texts": [texts_of[side].hex() for side in (CALLER, CALLED)],
    "sealed_first": sealed(caller.first_key(None), first, 1),
    "sealed_first_known": sealed(caller.first_key(bytes(bob.public_key)), first, 2),
    "sealed_second": sealed(expand(caller.secret, b"signals called"), second, 3),
}
# A text of each, as it goes over the data channel.
for side, frames, nonce in ((CALLER, texts[0], 4), (CALLED, texts[1], 5)):
    frames.boxes._send = SecretBox(texts_of[side])
    frames.boxes.seal = lambda data, side=side, nonce=nonce: sealed(texts_of[side], data, nonce)
    vectors[f"text_of_{side.decode()}"] = frames.text("grüße")
path = pathlib.Path(__file__).with_name("handshake.json")
path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")
