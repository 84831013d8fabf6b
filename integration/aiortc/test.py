"""Real programs and another WebRTC: peers on aiortc and PyNaCl talk with `lowkey` and `lowkey-bot` through `lowkey-server`.

Usage: test.py FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]
"""

import asyncio
import base64
import json
import os
import sys
import time
import traceback
from pathlib import Path
from unittest.mock import patch

from nacl.public import PrivateKey

import handshake
from lowkey import Lowkey, NoChat

LONG = "ein langer Text, 長い文章 👩🏽‍🚀; " * 700
TEXTS = ["hello", "", "grüße, 世界", "👩🏽‍🚀 می‌خواهم", LONG]

# The longest text, in bytes, that a message of 64 KiB holds in v1.
LONGEST = 49_112

# Seconds for a case. Only one that fails takes so long.
SOON = 20


class Program:
    """A program of ours, with nothing of this process's settings."""

    def __init__(self, process) -> None:
        self.process = process
        self.stdout, self.stderr = process.stdout, process.stderr

    @classmethod
    async def start(cls, name: str, *args: str, **variables: str) -> "Program":
        pipe = asyncio.subprocess.PIPE
        path = Path(sys.argv[1]).resolve() / name
        process = await asyncio.create_subprocess_exec(
            path, *args, env=variables, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 20
        )
        return cls(process)

    def write(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n".encode())

    async def line(self) -> str:
        """The next message on its standard output."""
        line = await self.stdout.readline()
        assert line, "no further line"
        return line.decode().removesuffix("\n")

    async def find(self, part: str) -> str:
        """The next line of its standard error with this part."""
        while line := (await self.stderr.readline()).decode():
            if part in line:
                return line.removesuffix("\n")
        raise AssertionError(f"no line with {part!r}")

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


class World:
    """A server of a case's own, and what runs with it."""

    async def __aenter__(self) -> "World":
        self.programs: list[Program] = []
        self.users: list[Lowkey] = []
        server = await self._start("lowkey-server", HOST=os.environ.get("TEST_HOST", "127.0.0.1"), PORT="0")
        address = (await server.find("listening on ")).split("listening on ")[1]
        self.url = f"ws://{address}"
        return self

    async def __aexit__(self, *_) -> None:
        for user in self.users:
            await user.close()
        for program in self.programs:
            await program.end()

    async def user(self, name: str, text_format: str = "v1", identity: PrivateKey | None = None) -> Lowkey:
        """An old app, or with an identity a peer of ours."""
        user = await Lowkey.connect(self.url, name, text_format, identity)
        self.users.append(user)
        return user

    async def lowkey(self, name: str, *args: str) -> Program:
        program = await self._start("lowkey", "--server", self.url, "--name", name, *args)
        await program.find("online")
        return program

    async def bot(self) -> None:
        await (await self._start("lowkey-bot", "--server", self.url)).find("online as echo")

    async def _start(self, name: str, *args: str, **variables: str) -> Program:
        program = await Program.start(name, *args, **variables)
        self.programs.append(program)
        return program


def with_messages_of_64_kib(case):
    """The case with an aiortc that takes no more than every WebRTC has to (RFC 8841, section 6.1); by itself it takes more."""
    return patch("aiortc.rtcsctptransport.LOCAL_MAX_MESSAGE_SIZE", 65_536)(case)


def equal(left: object, right: object) -> None:
    assert left == right, f"{left!r:.200} is not {right!r:.200}"


async def talk(chat, name: str, program: Program) -> None:
    """Both ways, up to the leaving of the program."""
    for text in TEXTS:
        chat.send(text)
        equal(await program.line(), f"{name}: {text}")
    for text in TEXTS:
        program.write(text)
        equal(await chat.text(), text)
    program.write("/leave")
    equal(await chat.text(), None)


async def it_calls_the_bot_and_is_answered_in_v1(world: World) -> None:
    await world.bot()
    user = await world.user("snake")
    chat = await user.call("echo")
    for text in TEXTS:
        chat.send(text)
        equal(await chat.text(), text)
    equal(chat.cipher.text_format, "v1")
    await chat.close()


async def it_writes_v2_and_is_answered_in_v2(world: World) -> None:
    await world.bot()
    user = await world.user("snake")
    chat = await user.call("echo")
    chat.send("in v1")
    equal(await chat.text(), "in v1")
    equal(chat.cipher.text_format, "v1")
    messages = []
    decrypt = chat.cipher.open
    chat.cipher.open = lambda message: messages.append(message) or decrypt(message)
    chat.cipher.text_format = "v2"
    for text in TEXTS:
        chat.send(text)
        equal(await chat.text(), text)
    assert all(set(json.loads(message)) == {"rk", "ct"} for message in messages)
    equal(len({json.loads(message)["rk"] for message in messages}), 1)


async def a_change_of_key_in_mid_chat_is_followed(world: World) -> None:
    snake = await world.user("snake", "v2")
    alice = await world.lowkey("alice", "--old-apps", "snake")
    chat = await (await snake.request()).accept()
    for round in range(3):
        chat.send(f"before {round}")
        chat.cipher.change_key()
        chat.send(f"after {round}")
        equal(await alice.line(), f"snake: before {round}")
        equal(await alice.line(), f"snake: after {round}")
        # It crosses with the change, or follows it; both open.
        alice.write(f"answer {round}")
        equal(await chat.text(), f"answer {round}")
    await alice.find("snake has another key from now on")


async def it_calls_a_user_of_lowkey(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake")
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("* snake wants to talk to you")
    alice.write("/accept")
    await alice.find("snake uses an old app")
    await talk(await calling, "snake", alice)


async def a_user_of_lowkey_calls_it(world: World) -> None:
    for text_format in ["v1", "v2"]:
        snake = await world.user(f"snake_{text_format}")
        alice = await world.lowkey(f"alice_{text_format}", "--text-format", text_format, "--old-apps", snake.name)
        chat = await (await snake.request()).accept()
        await alice.find(f"{snake.name} uses an old app")
        await talk(chat, snake.name, alice)
        equal(chat.cipher.text_format, text_format)


async def it_leaves_and_all_that_it_sent_arrives(world: World) -> None:
    snake = await world.user("snake")
    alice = await world.lowkey("alice", "--old-apps", "snake")
    chat = await (await snake.request()).accept()
    for number in range(300):
        chat.send(f"line {number}")
    await chat.close()
    for number in range(300):
        equal(await alice.line(), f"snake: line {number}")
    await alice.find("* snake left")


async def what_a_script_pipes_to_it_arrives_to_the_last_line(world: World) -> None:
    snake = await world.user("snake")
    script = await world.lowkey("script", "--old-apps", "snake")
    for number in range(300):
        script.write(f"line {number}")
    script.process.stdin.close()
    chat = await (await snake.request()).accept()
    for number in range(300):
        equal(await chat.text(), f"line {number}")
    equal(await chat.text(), None)
    equal(await script.process.wait(), 0)


@with_messages_of_64_kib
async def a_line_that_it_could_not_take_whole_comes_in_several_texts(world: World) -> None:
    for text_format in ["v1", "v2"]:
        snake = await world.user(f"snake_{text_format}")
        script = await world.lowkey(f"script_{text_format}", "--text-format", text_format, "--old-apps", snake.name)
        line = "1é2世3👩🏽‍🚀4" * 6_000
        script.write(line)
        chat = await (await snake.request()).accept()
        came = ""
        while len(came) < len(line):
            came += await chat.text()
        equal(came, line)


@with_messages_of_64_kib
async def the_longest_text_goes_both_ways(world: World) -> None:
    await world.bot()
    user = await world.user("snake")
    chat = await user.call("echo")
    for length in [LONGEST, LONGEST - 1]:
        chat.send("x" * length)
        equal(await chat.text(), "x" * length)
    # The bot cannot send this one back, since it is one byte too many, and the chat goes on.
    chat.send("x" * (LONGEST + 1))
    chat.send("goes on")
    equal(await chat.text(), "goes on")


async def it_is_declined_declines_and_finds_nobody(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake")
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("wants to talk")
    alice.write("/decline")
    await refused(calling)
    alice.write("/connect snake")
    request = await snake.request()
    await request.decline()
    await alice.find("* snake declined")
    await refused(snake.call("nobody"))


async def a_strict_user_refuses_it(world: World) -> None:
    alice = await world.lowkey("alice", "--strict")
    snake = await world.user("snake")
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("an old app, which cannot prove who it is, is refused")
    # It hears nothing of that.
    calling.cancel()


async def a_user_of_lowkey_is_asked_before_it_talks_to_it(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake")
    alice.write("/connect snake")
    alice.write("hello")
    answering = asyncio.create_task((await snake.request()).accept())
    await alice.find("* snake answers by an old app")
    # Nothing goes out before she says yes, not even what she has typed already.
    assert not answering.done()
    alice.write("/accept snake")
    chat = await answering
    equal(await chat.text(), "hello")


async def two_of_ours_chat_and_are_proven(world: World) -> None:
    snake = await world.user("snake", identity=PrivateKey.generate())
    python = await world.user("python", identity=PrivateKey.generate())
    calling = asyncio.create_task(snake.call("python"))
    request = await python.request()
    equal(request.identity, bytes(snake.identity.public_key))
    theirs, ours = await request.accept(), await calling
    equal(ours.identity, bytes(python.identity.public_key))
    for text in TEXTS:
        ours.send(text)
        equal(await theirs.text(), text)
        theirs.send(text)
        equal(await ours.text(), text)


async def a_proven_one_calls_a_user_of_lowkey(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake", identity=PrivateKey.generate())
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("* snake wants to talk to you (new to you, and anybody can take a name)")
    alice.write("/accept")
    await alice.find("snake is new to you")
    chat = await calling
    # The next time it has to be the same one.
    snake.known["alice"] = chat.identity
    await talk(chat, "snake", alice)
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("* snake wants to talk to you (the same as before, not verified)")
    alice.write("/accept")
    await talk(await calling, "snake", alice)


async def ones_of_a_later_version_call_and_are_called(world: World) -> None:
    with patch.object(handshake, "VERSION", 3):
        alice = await world.lowkey("alice")
        snake, python = [await world.user(name, identity=PrivateKey.generate()) for name in ("snake", "python")]
        calling = asyncio.create_task(snake.call("alice"))
        await alice.find("* snake wants to talk to you (new to you")
        alice.write("/accept")
        await talk(await calling, "snake", alice)
        alice.write("/connect python")
        await talk(await (await python.request()).accept(), "python", alice)


async def a_user_of_lowkey_calls_a_proven_one_by_its_link(world: World) -> None:
    snake = await world.user("snake", identity=PrivateKey.generate())
    key = base64.urlsafe_b64encode(bytes(snake.identity.public_key)).decode().rstrip("=")
    alice = await world.lowkey("alice", f"lowkey://{world.url.removeprefix('ws://')}/snake?plain#{key}")
    chat = await (await snake.request()).accept()
    await alice.find("snake is verified")
    await talk(chat, "snake", alice)


async def the_bot_answers_a_proven_one(world: World) -> None:
    await world.bot()
    snake = await world.user("snake", identity=PrivateKey.generate())
    chat = await snake.call("echo")
    for text in TEXTS:
        chat.send(text)
        equal(await chat.text(), text)
    await chat.close()
    equal(chat.frames.acknowledged, len(TEXTS))


async def who_has_another_identity_or_a_false_proof_is_not_asked_about(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake", identity=PrivateKey.generate())
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("* snake wants to talk to you")
    alice.write("/accept")
    await (await calling).close()
    await alice.find("* snake left")
    snake.identity = PrivateKey.generate()
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("snake IS NOT WHO THEY WERE")
    alice.write("/decline snake")
    await refused(calling)
    # Whoever calls by that name, and shows the identity of somebody else, is not even told of.
    mallory = await world.user("mallory", identity=PrivateKey.generate())
    true_proof = handshake.Agreement._proof
    with patch.object(handshake.Agreement, "_proof", lambda *args: true_proof(*args)[::-1]):
        calling = asyncio.create_task(mallory.call("alice"))
        await asyncio.wait([calling], timeout=1)
    assert not calling.done()
    calling.cancel()
    other = await world.user("other", identity=PrivateKey.generate())
    asyncio.create_task(other.call("alice"))
    equal(await alice.find("wants to talk to you"), "* other wants to talk to you (new to you, and anybody can take a name): /accept other or /decline other")


async def a_proven_one_declines_and_is_declined(world: World) -> None:
    alice = await world.lowkey("alice")
    snake = await world.user("snake", identity=PrivateKey.generate())
    calling = asyncio.create_task(snake.call("alice"))
    await alice.find("wants to talk")
    alice.write("/decline")
    await refused(calling)
    alice.write("/connect snake")
    await (await snake.request()).decline()
    await alice.find("* snake declined")


async def refused(calling) -> None:
    try:
        await calling
    except NoChat:
        return
    raise AssertionError("the call was not refused")


CASES = [
    it_calls_the_bot_and_is_answered_in_v1,
    it_writes_v2_and_is_answered_in_v2,
    a_change_of_key_in_mid_chat_is_followed,
    it_calls_a_user_of_lowkey,
    a_user_of_lowkey_calls_it,
    it_leaves_and_all_that_it_sent_arrives,
    what_a_script_pipes_to_it_arrives_to_the_last_line,
    a_line_that_it_could_not_take_whole_comes_in_several_texts,
    the_longest_text_goes_both_ways,
    it_is_declined_declines_and_finds_nobody,
    a_strict_user_refuses_it,
    a_user_of_lowkey_is_asked_before_it_talks_to_it,
    two_of_ours_chat_and_are_proven,
    a_proven_one_calls_a_user_of_lowkey,
    ones_of_a_later_version_call_and_are_called,
    a_user_of_lowkey_calls_a_proven_one_by_its_link,
    the_bot_answers_a_proven_one,
    who_has_another_identity_or_a_false_proof_is_not_asked_about,
    a_proven_one_declines_and_is_declined,
]


async def main() -> int:
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    chosen = [case for case in CASES if part in case.__name__]
    failed = 0
    for case in chosen:
        begin = time.monotonic()
        try:
            async with World() as world, asyncio.timeout(SOON):
                await case(world)
            print(f"ok: {case.__name__} ({(time.monotonic() - begin) * 1000:.0f} ms)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED: {case.__name__}: {traceback.format_exc()}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return 0 if chosen and not failed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
