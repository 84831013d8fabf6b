"""NaCl box for one chat: both text formats of the protocol. No network in here."""

import base64
import json

from nacl.bindings import crypto_scalarmult
from nacl.public import Box, PrivateKey, PublicKey

# Own pairs that are kept, for texts that cross with a change of keys.
KEPT_PAIRS = 4


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read_key(text: str) -> PublicKey:
    """Reads a peer's key; ValueError where it is not 32 bytes of base64, or of low order."""
    data = base64.b64decode(text, validate=True)
    if len(data) != 32:
        raise ValueError("a key has 32 bytes")
    # The top bit means nothing, so that keys are compared without it.
    data = data[:31] + bytes([data[31] & 0x7F])
    try:
        crypto_scalarmult(bytes(PrivateKey.generate()), data)
    except Exception as error:
        raise ValueError("a key of low order") from error
    return PublicKey(data)


class Cipher:
    """The cipher between our session pair and a peer's session key.

    Texts are written in `text_format`, "v1" or "v2", and in v2 as soon as a v2 text has come.
    """

    def __init__(self, own: PrivateKey, peer: PublicKey, text_format: str) -> None:
        if peer == own.public_key:
            raise ValueError("our own key")
        self.text_format = text_format
        self._own = [own]
        self._peer = peer
        self._follows = False
        self._seen: set[bytes] = set()

    def seal(self, text: str) -> str:
        """One message for the data channel."""
        if self._follows:
            self.change_key()
        own = self._own[0]
        sealed = Box(own, self._peer).encrypt(text.encode())
        self._seen.add(sealed.nonce)
        if self.text_format == "v1":
            return to_base64(sealed)
        return json.dumps({"rk": to_base64(bytes(own.public_key)), "ct": to_base64(sealed)})

    def open(self, message: str) -> str:
        """The text in a message; ValueError for what is malformed, forged or played back, and nothing has changed then."""
        v2 = json.loads(message) if message.startswith("{") else None
        peer = read_key(v2["rk"]) if v2 else self._peer
        if any(own.public_key == peer for own in self._own):
            raise ValueError("our own text, played back")
        data = base64.b64decode(v2["ct"] if v2 else message, validate=True)
        nonce = data[: Box.NONCE_SIZE]
        if nonce in self._seen:
            raise ValueError("played back")
        text = self._decrypt(peer, data).decode()
        self._seen.add(nonce)
        if v2:
            self.text_format = "v2"
        if peer != self._peer:
            self._peer = peer
            self._follows = True
        return text

    def change_key(self) -> None:
        """Makes a fresh pair for the texts from now on, as v2 allows; the protocol's advice is to follow, and never to go first."""
        self._follows = False
        self._own = [PrivateKey.generate(), *self._own][:KEPT_PAIRS]

    def _decrypt(self, peer: PublicKey, data: bytes) -> bytes:
        for own in self._own:
            try:
                return Box(own, peer).decrypt(data)
            except Exception:  # It may be for an older key of ours.
                continue
        raise ValueError("forged")
