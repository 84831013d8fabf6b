"""Lowkey in Python, on aiortc and PyNaCl. It speaks the protocol as the original app does: it has no identity to prove, and the
other side is told of an old app.

    lowkey = await Lowkey.connect("ws://localhost:8080", "alice")
    chat = await lowkey.call("bob")
    chat.send("hello")
    print(await chat.text())
    await chat.close()

    request = await lowkey.request()
    chat = await request.accept()
"""

import asyncio
import json
from urllib.parse import quote

import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from nacl.public import PrivateKey

from cipher import Cipher, read_key, to_base64

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

    def __init__(self, socket, name: str, text_format: str) -> None:
        self.name = name
        self.text_format = text_format
        self.chats: set[Chat] = set()
        self._socket = socket
        self._inboxes: dict[str, asyncio.Queue] = {}
        self._requests: asyncio.Queue = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, server: str, name: str, text_format: str = "v1") -> "Lowkey":
        """Goes online. `text_format` is how texts are written before a v2 text has come."""
        socket = await websockets.connect(f"{server}/ws?username={quote(name)}")
        return cls(socket, name, text_format)

    async def call(self, peer: str) -> "Chat":
        """Calls somebody, and waits for the open chat; NoChat where there will be none."""
        inbox = self._inboxes[peer] = asyncio.Queue()
        await self.send("session:connect", peer)
        return await Chat(self, peer, inbox).open(is_initiator=True)

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
            if kind == "key:exchange" and peer not in self._inboxes:
                self._inboxes[peer] = asyncio.Queue()
                self._requests.put_nowait(Request(self, peer, self._inboxes[peer]))
            if peer in self._inboxes:
                self._inboxes[peer].put_nowait((kind, payload))


class Request:
    """Somebody who calls. Until it is accepted, nothing is sent to them."""

    def __init__(self, lowkey: Lowkey, peer: str, inbox: asyncio.Queue) -> None:
        self.peer = peer
        self._lowkey = lowkey
        self._inbox = inbox

    async def accept(self) -> "Chat":
        """Takes the call, and waits for the open chat; NoChat where there will be none."""
        return await Chat(self._lowkey, self.peer, self._inbox).open(is_initiator=False)

    async def decline(self) -> None:
        """Turns the call down."""
        self._lowkey.forget(self.peer, self._inbox)
        await self._lowkey.send("session:decline", self.peer)


class Chat:
    """A chat with somebody."""

    def __init__(self, lowkey: Lowkey, peer: str, inbox: asyncio.Queue) -> None:
        self.peer = peer
        self.cipher: Cipher | None = None
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

    async def open(self, is_initiator: bool) -> "Chat":
        """Goes from the call to the open chat."""
        self._lowkey.chats.add(self)
        try:
            async with asyncio.timeout(OPEN_TIME):
                await self._negotiate(is_initiator)
        except BaseException:
            await self._end()
            raise
        return self

    def send(self, text: str) -> None:
        """Sends a text; it goes out by and by."""
        self._channel.send(self.cipher.seal(text))

    async def text(self) -> str | None:
        """The next text, or None at the end of the chat."""
        return await self._texts.get()

    async def close(self) -> None:
        """Ends the chat once all that was sent has arrived."""
        try:
            async with asyncio.timeout(CLOSE_TIME):
                # aiortc closes a channel without what still waits to be sent on it.
                while self._channel.bufferedAmount > 0:
                    await asyncio.sleep(0.01)
                self._channel.close()
                await self._closed.wait()
        except TimeoutError:
            pass
        await self._end()

    async def _negotiate(self, is_initiator: bool) -> None:
        send, peer, connection = self._lowkey.send, self.peer, self._connection
        own = {"publicKey": to_base64(bytes(self._own.public_key))}
        if is_initiator:
            await self._expect("session:joined")
            await send("key:exchange", peer, own)
        key = await self._expect("key:exchange")
        self.cipher = Cipher(self._own, read_key(key["publicKey"]), self._lowkey.text_format)
        if is_initiator:
            self._attach(connection.createDataChannel(CHANNEL))
            await connection.setLocalDescription(await connection.createOffer())
            await send("signal:offer", peer, self._description())
            await connection.setRemoteDescription(RTCSessionDescription(**await self._expect("signal:answer")))
        else:
            connection.on("datachannel", self._attach)
            await send("key:exchange", peer, own)
            await connection.setRemoteDescription(RTCSessionDescription(**await self._expect("signal:offer")))
            await connection.setLocalDescription(await connection.createAnswer())
            await send("signal:answer", peer, self._description())
        self._trickle = asyncio.create_task(self._take_candidates())
        await self._opened.wait()

    def _description(self) -> dict:
        # aiortc gathers before it describes, so that all its candidates stand in here.
        description = self._connection.localDescription
        return {"sdp": description.sdp, "type": description.type}

    async def _expect(self, expected: str) -> dict:
        while True:
            kind, payload = await self._inbox.get()
            if kind == expected:
                return payload
            if kind == "signal:ice" and len(self._early) < MAX_EARLY:
                self._early.append(payload)
            if kind == "session:decline":
                raise NoChat("declined")
            if kind == "error":
                raise NoChat(payload["message"])

    async def _take_candidates(self) -> None:
        for payload in self._early:
            await self._add_candidate(payload)
        while True:
            kind, payload = await self._inbox.get()
            if kind == "signal:ice":
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
            self._texts.put_nowait(self.cipher.open(message))
        except (ValueError, TypeError, AttributeError, KeyError):
            pass  # What cannot be opened changes nothing.

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
