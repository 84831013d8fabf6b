"""A file by magic-wormhole and by lowkey, in turns, on this machine alone. The time is that from the start of who sends, for whom
the other side waits already, until the sender has ended, which says that all has arrived. Of each side it prints processor time,
and memory at most. Both meet at servers that run here.

Usage: wormhole.py FOLDER-OF-THE-PROGRAMS FOLDER-FOR-FILES [ROUNDS]
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

MEBIBYTES = 256
PROGRAMS = Path(sys.argv[1]).resolve()
SCRATCH = Path(sys.argv[2]).resolve()
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 5
TOOLS = Path(sys.executable).parent


def start(*command: object, stderr: int = subprocess.DEVNULL, **variables: str) -> subprocess.Popen:
    environment = {"PATH": os.environ["PATH"], "HOME": str(SCRATCH), **variables}
    null = subprocess.DEVNULL
    return subprocess.Popen([str(word) for word in command], env=environment, stdin=null, stdout=null, stderr=stderr)


def ended(
    begin: float, sender: subprocess.Popen, taker: subprocess.Popen, is_served: bool = False
) -> tuple[float, list[tuple[float, float]]]:
    """Waits for both ends, of which the sender's has to be a good one; a taker that would go on is told to end then. How long the
    sender took, and of each processor time in seconds, and memory at most in MB."""
    processes, memory, figures, took = [sender, taker], {}, {}, 0
    while len(figures) < len(processes):
        for process in processes:
            if process.pid in figures:
                continue
            if most := re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text()):
                memory[process.pid] = int(most.group(1)) / 1000
            if sender.pid in figures and is_served:
                os.kill(taker.pid, signal.SIGTERM)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.returncode == 0 or process is taker, f"{process.args} ended with {process.returncode}"
                took = took or (time.monotonic() - begin if process is sender else 0)
                figures[pid] = (usage.ru_utime + usage.ru_stime, memory[pid])
        time.sleep(0.005)
    return took, [figures[process.pid] for process in processes]


def lowkey(server: str, file: Path, into: Path) -> tuple[float, list]:
    common = [PROGRAMS / "lowkey", "--server", server, "--name"]
    listen = ["bob", "listen", "--accept-files", into, "--from", "alice"]
    taker = start(*common, *listen, stderr=subprocess.PIPE, HOME=str(SCRATCH / "bob"))
    # Who is called has to be there.
    while b"online" not in taker.stderr.readline():
        pass
    begin = time.monotonic()
    sender = start(*common, "alice", "send", "bob", "--file", file)
    return ended(begin, sender, taker, is_served=True)


def wormhole(relay: str, file: Path, into: Path) -> tuple[float, list]:
    # Nothing listens at the relay for what cannot go directly.
    common = [TOOLS / "wormhole", "--relay-url", relay, "--transit-helper", "tcp:127.0.0.1:1"]
    code = f"{time.monotonic_ns() % 100_000}-a-b"
    taker = start(*common, "receive", "--accept-file", "--hide-progress", "--output-file", into / file.name, code)
    # It says nothing of having begun to wait.
    time.sleep(2)
    begin = time.monotonic()
    sender = start(*common, "send", "--hide-progress", "--code", code, file)
    return ended(begin, sender, taker)


def wait_until(is_so) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "not within 20 seconds"
        time.sleep(0.005)


def servers() -> tuple[list[subprocess.Popen], str, str]:
    """The server of each, and its URL."""
    log = open(SCRATCH / "server.log", "w+")
    ours = subprocess.Popen(
        [PROGRAMS / "lowkey-server"], env={"HOST": "127.0.0.1", "PORT": "0"}, stdin=subprocess.DEVNULL, stderr=log
    )
    twist = [TOOLS / "twist", "wormhole-mailbox", "--port", "tcp:4321:interface=127.0.0.1", "--channel-db", ":memory:"]
    theirs = start(*twist)
    found = re.compile(r"listening on (\S+)")
    wait_until(lambda: found.search((SCRATCH / "server.log").read_text()))
    address = found.search((SCRATCH / "server.log").read_text()).group(1)
    return [ours, theirs], f"ws://{address}", "ws://127.0.0.1:4321/v1"


def main() -> None:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    file = SCRATCH / "x"
    with file.open("wb") as content:
        for _ in range(MEBIBYTES):
            content.write(os.urandom(1 << 20))
    (SCRATCH / "small").write_bytes(b"x")
    processes, our_server, their_server = servers()
    time.sleep(2)
    figures: dict[str, list] = {}
    try:
        for number in range(ROUNDS):
            for name, send, path in [
                ("magic-wormhole", lambda *of: wormhole(their_server, *of), file),
                ("lowkey", lambda *of: lowkey(our_server, *of), file),
                ("lowkey, one byte", lambda *of: lowkey(our_server, *of), SCRATCH / "small"),
            ]:
                into = SCRATCH / f"into-{name}-{number}".replace(" ", "-")
                into.mkdir()
                figures.setdefault(name, []).append(send(path, into))
                subprocess.run(["cmp", into / path.name, path], check=True)
                subprocess.run(["rm", "-rf", into], check=True)
    finally:
        for process in processes:
            process.kill()
    for name, runs in figures.items():
        middle = statistics.median(took for took, _ in runs)
        rate = f"{file.stat().st_size / 1e6 / middle:.0f} MB/s, " if "byte" not in name else ""
        sides = [
            f"{side}: {statistics.median(of[at][0] for _, of in runs):.2f} s of processor time, "
            f"{statistics.median(of[at][1] for _, of in runs):.1f} MB at most"
            for at, side in enumerate(["sender", "receiver"])
        ]
        print(f"{name}: {rate}{middle:.2f} s; {'; '.join(sides)}")


main()
