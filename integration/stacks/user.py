"""A user on aiortc that does what its standard input says: `call NAME`, with a text that comes back, or `accept`.

Usage: user.py SERVER
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "aiortc"))

from lowkey import Lowkey


async def main() -> None:
    user = await Lowkey.connect(sys.argv[1], "user")
    print("online", flush=True)
    words = (await asyncio.to_thread(sys.stdin.readline)).split()
    if words[0] == "call":
        chat = await user.call(words[1])
        chat.send("hello")
        assert await chat.text() == "hello"
    else:
        await (await user.request()).accept()
    print("done", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


asyncio.run(main())
