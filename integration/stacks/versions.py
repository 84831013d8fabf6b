"""Real programs and aiortc, of the version that is installed: it calls, and is called, or is so in vain and its caller is told.

Usage: versions.py FOLDER-OF-THE-PROGRAMS
"""

import asyncio
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "aiortc"))

from test import TEXTS, World, equal, talk

# The first of those tried that begins SCTP in either role (RFC 8841, section 9.3).
BOTH_BEGIN = (1, 16)

# Seconds for a case. Only one that fails takes so long.
SOON = 60


async def calls(world: World) -> float:
    await world.bot()
    user = await world.user("snake")
    begin = time.monotonic()
    chat = await user.call("echo")
    taken = time.monotonic() - begin
    for text in TEXTS:
        chat.send(text)
        equal(await chat.text(), text)
    await chat.close()
    return taken


async def is_called(world: World) -> float:
    snake = await world.user("snake")
    alice = await world.lowkey("alice", "--old-apps", "snake")
    request = await snake.request()
    begin = time.monotonic()
    chat = await request.accept()
    taken = time.monotonic() - begin
    await talk(chat, "snake", alice)
    return taken


async def is_called_in_vain(world: World) -> float:
    snake = await world.user("snake")
    alice = await world.lowkey("alice", "--old-apps", "snake")
    begin = time.monotonic()
    accepting = asyncio.create_task((await snake.request()).accept())
    await alice.find("* no chat with snake: ")
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    return time.monotonic() - begin


async def main() -> int:
    of = version("aiortc")
    begins = tuple(int(part) for part in of.split(".")[:2]) >= BOTH_BEGIN
    failed = 0
    for case in [calls, is_called if begins else is_called_in_vain]:
        name = f"aiortc {of} {case.__name__.replace('_', ' ')}"
        try:
            async with World() as world, asyncio.timeout(SOON):
                taken = await case(world)
            print(f"ok: {name} ({taken * 1000:.0f} ms)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED: {name}: {traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
