"""The handshake of two peers of ours: keys, proofs, hellos and frames (protocol 2.1 to 2.3), by PyNaCl and xwing-kem. No network in here."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field

import xwing_kem
from nacl.bindings import crypto_scalarmult
from nacl.public import PrivateKey
from nacl.secret import SecretBox

from cipher import read_key, to_base64

VERSION = 2
CALLER, CALLED = b"caller", b"called"

# What is sealed in a signal has a multiple of so many bytes.
PADDED_TO = 384

TEXT, TAKEN, LEAVE, STOP = 1, 2, 3, 4


class Manipulated(ValueError):
    """What nobody says whose words were not changed on the way."""


def strict(text: str, length: int | None = None) -> bytes:
    """The bytes of strict base64, of this length."""
    data = base64.b64decode(text, validate=True)
    if to_base64(data) != text or (length is not None and len(data) != length):
        raise Manipulated("no strict base64")
    return data


def digest(*items: bytes) -> bytes:
    """SHA-512 of items, each behind its length."""
    return hashlib.sha512(b"".join(len(item).to_bytes(4, "big") + item for item in items)).digest()


def extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-SHA-512-Extract (RFC 5869)."""
    return hmac.new(salt, material, hashlib.sha512).digest()


def expand(secret: bytes, label: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-512-Expand."""
    block, output = b"", b""
    while len(output) < length:
        block = hmac.new(secret, block + label + bytes([len(output) // 64 + 1]), hashlib.sha512).digest()
        output += block
    return output[:length]


def padded(inside: dict) -> bytes:
    """The JSON of what is sealed in a signal, filled up with spaces."""
    data = json.dumps(inside).encode()
    return data.ljust(-(-len(data) // PADDED_TO) * PADDED_TO)


class Boxes:
    """The boxes of one call for one use, with a key for each direction."""

    def __init__(self, send: bytes, receive: bytes) -> None:
        self._send, self._receive = SecretBox(send), SecretBox(receive)
        self._taken: set[bytes] = set()

    def seal(self, data: bytes) -> str:
        return to_base64(self._send.encrypt(data))

    def open(self, sealed: str) -> bytes:
        """What is in a box; ValueError for what is forged or played back."""
        data = strict(sealed)
        opened = unbox(self._receive, data)
        if opened is None or data[:24] in self._taken:
            raise ValueError("forged or played back")
        self._taken.add(data[:24])
        return opened


def unbox(box: SecretBox, data: bytes) -> bytes | None:
    try:
        return box.decrypt(data)
    except Exception:
        return None


class OwnKeys:
    """A caller's keys for one call."""

    def __init__(self, pair: PrivateKey | None = None, kem: xwing_kem.XWingKeyPair | None = None) -> None:
        self.pair = pair or PrivateKey.generate()
        self.kem = kem or xwing_kem.generate_keypair()

    def greeting(self) -> dict:
        """C1."""
        lowkey = {"version": VERSION, "kem": to_base64(self.kem.public_key)}
        return {"publicKey": to_base64(bytes(self.pair.public_key)), "lowkey": lowkey}

    def agree(self, answer: dict, caller: str, called: str) -> "Agreement":
        """The caller's side once it was answered (S1)."""
        lowkey = answer["lowkey"]
        if lowkey["version"] < 2 or "kem" in lowkey:
            raise Manipulated("no answer")
        if lowkey["answers"] != to_base64(bytes(self.pair.public_key)):
            raise Manipulated("an answer to another call")
        ciphertext = strict(lowkey["ciphertext"], xwing_kem.XWING_CT_LEN)
        shared = xwing_kem.decapsulate(ciphertext, self.kem.secret_key)
        transcript = make_transcript(self.greeting(), answer, caller, called)
        return Agreement(CALLER, self.pair, bytes(read_key(answer["publicKey"])), transcript, shared)


def answer(greeting: dict, caller: str, called: str, pair: PrivateKey | None = None) -> tuple[dict, "Agreement"]:
    """S1, and the called side's part."""
    lowkey = greeting["lowkey"]
    if lowkey["version"] < 2 or "ciphertext" in lowkey:
        raise Manipulated("no greeting")
    pair = pair or PrivateKey.generate()
    shared, ciphertext = xwing_kem.encapsulate(strict(lowkey["kem"], xwing_kem.XWING_PK_LEN))
    own = {"version": VERSION, "ciphertext": to_base64(ciphertext), "answers": greeting["publicKey"]}
    said = {"publicKey": to_base64(bytes(pair.public_key)), "lowkey": own}
    transcript = make_transcript(greeting, said, caller, called)
    return said, Agreement(CALLED, pair, bytes(read_key(greeting["publicKey"])), transcript, shared)


def make_transcript(greeting: dict, said: dict, caller: str, called: str) -> bytes:
    """T."""
    return digest(
        b"lowkey 2",
        str(greeting["lowkey"]["version"]).encode(),
        str(said["lowkey"]["version"]).encode(),
        caller.encode(),
        called.encode(),
        bytes(read_key(greeting["publicKey"])),
        strict(greeting["lowkey"]["kem"]),
        bytes(read_key(said["publicKey"])),
        strict(said["lowkey"]["ciphertext"]),
    )


class Agreement:
    """What both sides have in common once a call was greeted and answered."""

    def __init__(self, side: bytes, own: PrivateKey, other: bytes, transcript: bytes, shared: bytes) -> None:
        self.side, self.own, self.other, self.transcript = side, own, other, transcript
        self.secret = extract(transcript, crypto_scalarmult(bytes(own), other) + shared)
        self.signals = Boxes(*(expand(self.secret, b"signals " + of) for of in self._sides()))

    def _sides(self) -> tuple[bytes, bytes]:
        return (CALLER, CALLED) if self.side == CALLER else (CALLED, CALLER)

    def first_key(self, identity: PrivateKey | bytes | None) -> bytes:
        """The key of C2: for the holder of an identity, as its caller or as itself, or for whoever was called."""
        if identity is None:
            return expand(self.secret, b"hello caller")
        if isinstance(identity, bytes):
            shared = crypto_scalarmult(bytes(self.own), identity)
        else:
            shared = crypto_scalarmult(bytes(identity), self.other)
        return expand(extract(self.secret, shared), b"hello known")

    def seal_first(self, hello: bytes, known: bytes | None) -> str:
        return to_base64(SecretBox(self.first_key(known)).encrypt(hello))

    def open_first(self, sealed: str, identity: PrivateKey) -> bytes | None:
        """What is in C2; None if it is none of this call."""
        for key in [self.first_key(identity), self.first_key(None)]:
            if (opened := unbox(SecretBox(key), strict(sealed))) is not None:
                return opened
        return None

    def hello(self, identity: PrivateKey, first: bytes = b"") -> bytes:
        """Our hello, as the bytes that are sealed. It carries on no chat."""
        shared = crypto_scalarmult(bytes(identity), self.other)
        proof = self._proof(self.side, bytes(identity.public_key), shared, first)
        fields = {"identity": to_base64(bytes(identity.public_key)), "proof": to_base64(proof)}
        return padded({"hello": fields | {"features": [], "resume": None}})

    def read_hello(self, inside: bytes, own_identity: PrivateKey, first: bytes = b"") -> bytes:
        """The identity that the other side has proven; ValueError if it has proven none."""
        hello = json.loads(inside)["hello"]
        identity = bytes(read_key(hello["identity"]))
        if identity == bytes(own_identity.public_key):
            raise Manipulated("our own identity")
        side = CALLED if self.side == CALLER else CALLER
        proof = self._proof(side, identity, crypto_scalarmult(bytes(self.own), identity), first)
        if not hmac.compare_digest(proof, strict(hello["proof"], 64)):
            raise Manipulated("a false proof")
        return identity

    def _proof(self, side: bytes, identity: bytes, shared: bytes, first: bytes) -> bytes:
        items = [b"lowkey hello 2", side, self.transcript, identity] + ([first] if side == CALLED else [])
        return expand(extract(self.transcript, shared), b"proof" + digest(*items), 64)

    def texts(self, first: bytes, second: bytes) -> Boxes:
        """What texts are sealed with."""
        hellos = digest(self.transcript, first, second)
        return Boxes(*(expand(self.secret, b"texts " + of + hellos) for of in self._sides()))


@dataclass
class Frames:
    """Texts with their numbers (protocol 2.7). All that comes counts as taken at once."""

    boxes: Boxes
    sent: int = 0
    acknowledged: int = 0
    received: int = 0
    # The length that a frame has at most.
    largest: int = 49_112
    left: bool = field(default=False)

    def text(self, text: str) -> str:
        self.sent += 1
        data = text.encode()
        frame = bytes([TEXT]) + number(self.received) + number(self.sent) + len(data).to_bytes(4, "big") + data
        length = max(len(frame), min(framed(len(frame)), self.largest))
        return self.boxes.seal(frame.ljust(length, b"\0"))

    def taken(self) -> str:
        return self.boxes.seal(bytes([TAKEN]) + number(self.received))

    def leave(self) -> str:
        return self.boxes.seal(bytes([LEAVE]) + number(self.received))

    def read(self, message: str) -> str | None:
        """The text in a message of the data channel, if there is a new one; ValueError for what does not open or is none."""
        frame = self.boxes.open(message)
        kind, rest = frame[0], frame[9:]
        self.acknowledged = max(self.acknowledged, int.from_bytes(frame[1:9], "big"))
        if kind in (TAKEN, LEAVE, STOP) and not rest and len(frame) == 9:
            self.left |= kind != TAKEN
            return None
        if kind != TEXT or len(rest) < 12:
            raise ValueError("no frame")
        length = int.from_bytes(rest[8:12], "big")
        data, zeros = rest[12 : 12 + length], rest[12 + length :]
        if len(data) != length or zeros.strip(b"\0"):
            raise ValueError("no text")
        if int.from_bytes(rest[:8], "big") != self.received + 1:
            return None
        text = data.decode()
        self.received += 1
        return text


def framed(length: int) -> int:
    """How long a frame of a text of so many bytes is made: a power of two, and beyond 4 KiB in eighths of the last one."""
    step = 1 << (length - 1).bit_length() if length <= 4096 else 1 << (length.bit_length() - 4)
    return max(256, -(-length // step) * step)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")
