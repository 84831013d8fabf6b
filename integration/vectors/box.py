#!/usr/bin/env python3
"""Writes box.json, the vectors of NaCl box that src/peer/cipher.rs is tested with: `pip install pynacl`, then run this.

PyNaCl is libsodium's binding, so every line below is libsodium's word. Keys, nonces and texts are chosen by SHA-256 of
a counter, so that the file comes out the same on every machine.
"""
import base64
import hashlib
import json
import pathlib

import nacl
from nacl.public import Box, PrivateKey


def chosen(label, length=32):
    return hashlib.sha512(label.encode()).digest()[:length]


texts = ["", "a", "hello, bob", "grüße, 世界 👋🏽", "line\nline\ttab", "x" * 255, "é" * 4096]
vectors = []
for number, text in enumerate(texts):
    sender, receiver = PrivateKey(chosen(f"sender {number}")), PrivateKey(chosen(f"receiver {number}"))
    sealed = Box(sender, receiver.public_key).encrypt(text.encode(), chosen(f"nonce {number}", 24))
    vectors.append({
        "sender_secret": bytes(sender).hex(),
        "sender_public": bytes(sender.public_key).hex(),
        "receiver_secret": bytes(receiver).hex(),
        "receiver_public": bytes(receiver.public_key).hex(),
        "text": text,
        "message": base64.b64encode(bytes(sealed)).decode(),
    })


def write(name, what):
    path = pathlib.Path(__file__).with_name(name)
    made_by = {"made_by": f"PyNaCl {nacl.__version__}"}
    path.write_text(json.dumps(made_by | what, indent=1, ensure_ascii=False) + "\n")


write("box.json", {"vectors": vectors})
