"""Lowkey in Python, on aiortc, PyNaCl and xwing-kem. With an identity it is a peer of ours, which proves who it is before anything
of the network is told; without one it speaks the protocol as the original app does, and the other side is told of an old app. It
carries no chat on, and where both call at once it does not give way.

    lowkey = await Lowkey.connect("ws://localhost:8080", "alice", identity=PrivateKey.generate())
    chat = await lowkey.call("bob")
    chat.send("hello")
    print(await chat.text())
    await chat.close()

    request = await lowkey.request()
    chat = await request.accept()
"""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import quote

import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from nacl.public import PrivateKey

import handshake
from cipher import Cipher, read_key, to_base64
from handshake import Agreement, Boxes, Frames, OwnKeys, padded

CHANNEL = "chat"

# Candidates of a peer that are kept before they can be used.
MAX_EARLY = 64

# Seconds for a call to become a chat, and for the last texts to arrive.
OPEN_TIME = 60
CLOSE_TIME = 5


class NoChat(Exception):
    """Why a call did not become a chat."""


class Lowkey:
    """A user who is online at a server."""

    def __init__(self, socket, name: str, text_format: str, identity: PrivateKey | None) -> None:
        self.name = name
        self.text_format = text_format
        self.identity = identity
        # Who is taken under a name and nobody else, by their identity.
        self.known: dict[str, bytes] = {}
        # Whose greeting is answered, and who has not said who they are.
        self._approaches: dict[str, Agreement] = {}
        self.chats: set[Chat] = set()
        self._socket = socket
        self._inboxes: dict[str, asyncio.Queue] = {}
        self._requests: asyncio.Queue = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls, server: str, name: str, text_format: str = "v1", identity: PrivateKey | None = None
    ) -> "Lowkey":
        """Goes online. `text_format` is how texts are written to old apps before a v2 text has come."""
        socket = await websockets.connect(f"{server}/ws?username={quote(name)}")
        return cls(socket, name, text_format, identity)

    async def call(self, peer: str) -> "Chat":
        """Calls somebody, and waits for the open chat; NoChat where there will be none."""
        inbox = self._inboxes[peer] = asyncio.Queue()
        await self.send("session:connect", peer)
        return await Chat(self, peer, inbox).open()

    async def request(self) -> "Request":
        """The next call of somebody."""
        return await self._requests.get()

    async def close(self) -> None:
        """Ends all chats, and goes offline."""
        for chat in list(self.chats):
            await chat.close()
        self._reader.cancel()
        await self._socket.close()

    async def send(self, kind: str, target: str, payload: object = None) -> None:
        envelope = {"type": kind, "target": target, "payload": payload}
        await self._socket.send(json.dumps({key: value for key, value in envelope.items() if value is not None}))

    def forget(self, peer: str, inbox: asyncio.Queue) -> None:
        if self._inboxes.get(peer) is inbox:
            del self._inboxes[peer]

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            kind, payload = message["type"], message.get("payload")
            if kind == "session:joined":
                peer = payload["peer"]
            elif kind == "error":
                # Our server says whom an error is about.
                peer = payload.get("target")
            else:
                peer = message["sender"]
            if await self._is_of_a_caller(kind, peer, payload):
                continue
            if kind == "key:exchange" and peer not in self._inboxes:
                self._inboxes[peer] = asyncio.Queue()
                self._requests.put_nowait(Request(self, peer, self._inboxes[peer], None))
            if peer in self._inboxes:
                self._inboxes[peer].put_nowait((kind, payload))

    async def _is_of_a_caller(self, kind: str, peer: str, payload: object) -> bool:
        """Whether a message was the greeting or the hello of a peer of ours that calls. Whatever is wrong with them, it hears nothing."""
        if self.identity is None:
            return False
        try:
            if kind == "key:exchange" and "kem" in payload.get("lowkey", {}):
                said, self._approaches[peer] = handshake.answer(payload, peer, self.name)
                await self.send("key:exchange", peer, said)
                return True
            if kind != "signal:ice" or peer not in self._approaches:
                return False
            agreement = self._approaches[peer]
            if (first := agreement.open_first(payload["sealed"], self.identity)) is None:
                return False
            del self._approaches[peer]
            identity = agreement.read_hello(first, self.identity)
            if self.known.get(peer, identity) == identity:
                self._inboxes[peer] = asyncio.Queue()
                caller = Caller(agreement, first, identity)
                self._requests.put_nowait(Request(self, peer, self._inboxes[peer], caller))
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        return True


@dataclass
class Caller:
    """A peer of ours that calls and has proven who it is."""

    agreement: Agreement
    # The bytes of its hello.
    first: bytes
    identity: bytes


class Request:
    """Somebody who calls. Until it is accepted, nothing is sent to them but the program's answer to a greeting."""

    def __init__(self, lowkey: Lowkey, peer: str, inbox: asyncio.Queue, caller: Caller | None) -> None:
        self.peer = peer
        # What a peer of ours has proven; None of an old app.
        self.identity = caller.identity if caller else None
        self._lowkey = lowkey
        self._inbox = inbox
        self._caller = caller

    async def accept(self) -> "Chat":
        """Takes the call, and waits for the open chat; NoChat where there will be none."""
        return await Chat(self._lowkey, self.peer, self._inbox, self).open()

    async def decline(self) -> None:
        """Turns the call down."""
        self._lowkey.forget(self.peer, self._inbox)
        if self._caller:
            sealed = self._caller.agreement.signals.seal(padded({"refused": "declined"}))
            await self._lowkey.send("signal:ice", self.peer, {"sealed": sealed})
        else:
            await self._lowkey.send("session:decline", self.peer)

    @property
    def caller(self) -> Caller | None:
        return self._caller


class Chat:
    """A chat with somebody. `request` is theirs, where they have called."""

    def __init__(self, lowkey: Lowkey, peer: str, inbox: asyncio.Queue, request: Request | None = None) -> None:
        self.peer = peer
        # With an old app.
        self.cipher: Cipher | None = None
        # With a peer of ours: what it has proven, and what texts and signals are sealed with.
        self.identity: bytes | None = None
        self.frames: Frames | None = None
        self._signals: Boxes | None = None
        self._request = request
        self._lowkey = lowkey
        self._inbox = inbox
        self._own = PrivateKey.generate()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._channel = None
        self._early: list[dict] = []
        self._texts: asyncio.Queue = asyncio.Queue()
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._trickle: asyncio.Task | None = None
        self._ending: asyncio.Task | None = None

    async def open(self) -> "Chat":
        """Goes from the call to the open chat."""
        self._lowkey.chats.add(self)
        try:
            async with asyncio.timeout(OPEN_TIME):
                await self._introduce()
                await self._negotiate()
        except BaseException:
            await self._end()
            raise
        return self

    def send(self, text: str) -> None:
        """Sends a text; it goes out by and by."""
        self._channel.send(self.frames.text(text) if self.frames else self.cipher.seal(text))

    async def text(self) -> str | None:
        """The next text, or None at the end of the chat."""
        return await self._texts.get()

    async def close(self) -> None:
        """Ends the chat once all that was sent has arrived."""
        try:
            async with asyncio.timeout(CLOSE_TIME):
                if self._channel is None:
                    return await self._end()
                if self.frames and self._opened.is_set():
                    self._channel.send(self.frames.leave())
                # aiortc closes a channel without what still waits to be sent on it.
                while self._channel.bufferedAmount > 0 or (self.frames and self.frames.acknowledged < self.frames.sent):
                    await asyncio.sleep(0.01)
                self._channel.close()
                await self._closed.wait()
        except TimeoutError:
            pass
        await self._end()

    async def _introduce(self) -> None:
        """Up to the keys, and to who the other side is."""
        lowkey, peer = self._lowkey, self.peer
        if self._request is None:
            await self._expect("session:joined")
        if lowkey.identity is None or (self._request and not self._request.caller):
            own = {"publicKey": to_base64(bytes(self._own.public_key))}
            if self._request is None:
                await lowkey.send("key:exchange", peer, own)
            key = await self._expect("key:exchange")
            self.cipher = Cipher(self._own, read_key(key["publicKey"]), lowkey.text_format)
            if self._request:
                await lowkey.send("key:exchange", peer, own)
            return
        if self._request is None:
            keys = OwnKeys()
            await lowkey.send("key:exchange", peer, keys.greeting())
            said = await self._expect("key:exchange")
            if "lowkey" not in said:
                raise NoChat("an old app, which proves nothing")
            agreement = keys.agree(said, lowkey.name, peer)
            first = agreement.hello(lowkey.identity)
            sealed = agreement.seal_first(first, lowkey.known.get(peer))
            await lowkey.send("signal:ice", peer, {"sealed": sealed})
            self._signals = agreement.signals
            second = await self._expect_hello()
            self.identity = agreement.read_hello(second, lowkey.identity, first)
            if lowkey.known.get(peer, self.identity) != self.identity:
                await self._say("signal:ice", {"refused": "identity"})
                raise NoChat("somebody else")
        else:
            agreement, first = self._request.caller.agreement, self._request.caller.first
            self.identity, self._signals = self._request.identity, agreement.signals
            second = agreement.hello(lowkey.identity, first)
            await lowkey.send("signal:ice", peer, {"sealed": self._signals.seal(second)})
        self.frames = Frames(agreement.texts(first, second))

    async def _expect_hello(self) -> bytes:
        """The bytes of the other side's hello."""
        while True:
            kind, payload = await self._inbox.get()
            if kind == "error":
                raise NoChat(payload["message"])
            if kind == "signal:ice":
                inside = self._signals.open(payload["sealed"])
                if refused := json.loads(inside).get("refused"):
                    raise NoChat(refused)
                return inside

    async def _negotiate(self) -> None:
        connection = self._connection
        if self._request is None:
            self._attach(connection.createDataChannel(CHANNEL))
            await connection.setLocalDescription(await connection.createOffer())
            await self._say("signal:offer", self._description())
            await connection.setRemoteDescription(RTCSessionDescription(**await self._expect("signal:answer")))
        else:
            connection.on("datachannel", self._attach)
            await connection.setRemoteDescription(RTCSessionDescription(**await self._expect("signal:offer")))
            await connection.setLocalDescription(await connection.createAnswer())
            await self._say("signal:answer", self._description())
        self._trickle = asyncio.create_task(self._take_candidates())
        await self._opened.wait()
        if self.frames:
            self._channel.send(self.frames.taken())

    async def _say(self, kind: str, payload: dict) -> None:
        """Says something by way of the server, sealed but for an old app."""
        sealed = {"sealed": self._signals.seal(padded(payload))} if self._signals else payload
        await self._lowkey.send(kind, self.peer, sealed)

    def _read(self, kind: str, payload: object) -> dict | None:
        """What the other side says; None for what does not open, or is not sealed as it should be."""
        if not self._signals or not kind.startswith("signal:"):
            return payload
        try:
            return json.loads(self._signals.open(payload["sealed"]))
        except (ValueError, TypeError, KeyError):
            return None

    def _description(self) -> dict:
        # aiortc gathers before it describes, so that all its candidates stand in here.
        description = self._connection.localDescription
        return {"sdp": description.sdp, "type": description.type}

    async def _expect(self, expected: str) -> dict:
        while True:
            kind, payload = await self._inbox.get()
            payload = self._read(kind, payload)
            if kind == "session:decline" and not self._signals:
                raise NoChat("declined")
            if kind == "error":
                raise NoChat(payload["message"])
            if payload is None and kind != expected:
                continue
            if kind == "signal:ice" and "refused" in payload:
                raise NoChat(payload["refused"])
            if kind == expected:
                return payload
            if kind == "signal:ice" and len(self._early) < MAX_EARLY:
                self._early.append(payload)

    async def _take_candidates(self) -> None:
        for payload in self._early:
            await self._add_candidate(payload)
        while True:
            kind, payload = await self._inbox.get()
            payload = self._read(kind, payload)
            if kind == "signal:ice" and payload and "candidate" in payload:
                await self._add_candidate(payload)

    async def _add_candidate(self, payload: dict) -> None:
        line = payload["candidate"].removeprefix("candidate:")
        if not line:
            return
        candidate = candidate_from_sdp(line)
        candidate.sdpMid, candidate.sdpMLineIndex = payload.get("sdpMid"), payload.get("sdpMLineIndex")
        await self._connection.addIceCandidate(candidate)

    def _attach(self, channel) -> None:
        if channel.label != CHANNEL or self._channel:
            return channel.close()
        self._channel = channel
        channel.on("message", self._receive)
        channel.on("open", self._opened.set)
        channel.on("close", self._close)
        if channel.readyState == "open":
            self._opened.set()

    def _receive(self, message: str | bytes) -> None:
        try:
            text = self.frames.read(message) if self.frames else self.cipher.open(message)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            return  # What cannot be opened changes nothing.
        if text is not None:
            self._texts.put_nowait(text)
            if self.frames:
                self._channel.send(self.frames.taken())
        if self.frames and self.frames.left:
            self._texts.put_nowait(None)

    def _close(self) -> None:
        self._closed.set()
        self._texts.put_nowait(None)
        # The other side waits for this: it says that all of its texts were read.
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        self._lowkey.chats.discard(self)
        self._lowkey.forget(self.peer, self._inbox)
        if self._trickle:
            self._trickle.cancel()
        await self._connection.close()
