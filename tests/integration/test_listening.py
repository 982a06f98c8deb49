"""The emulator's listening sockets: none is reachable from another machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import descendants

pytestmark = [
    pytest.mark.emulator,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux says in /proc who listens where"),
]

_LISTENS = "0A"


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and TCP ports on which a process or its descendants listen, including IPv6 (proc(5))."""
    sockets = {inode for member in [pid, *descendants(pid)] for inode in _sockets(member)}
    found: set[tuple[str, int]] = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in sockets:
                address, port = fields[1].split(":")
                found.add((socket.inet_ntop(family, _network_order(bytes.fromhex(address))), int(port, 16)))
    return found


def _network_order(raw: bytes) -> bytes:
    """Reorder an address's bytes, because the kernel prints 32-bit words in the machine's byte order."""
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found


def _wait_until_all_is_open(endpoint: str) -> None:
    """MiniStack opens its main port first; health checks there return 503 until its other port is open."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/ready", timeout=5):  # noqa: S310  # our own endpoint
                return
        except urllib.error.HTTPError as busy:
            busy.close()
        time.sleep(0.05)
    pytest.fail("MiniStack is not ready after 20 s")


def test_the_emulator_listens_on_this_machine_only() -> None:
    running = emulator.start(emulator.free_port(4640), region="us-east-1")
    try:
        port = int(running.endpoint.rpartition(":")[2])
        _wait_until_all_is_open(running.endpoint)
        assert listening(running.pid) == {(emulator.HOST, port)}
    finally:
        emulator.stop(running.pid)


@pytest.mark.parametrize(
    ("family", "address"),
    [("AF_INET", "0.0.0.0"), ("AF_INET6", "::"), ("AF_INET6", "::1"), ("AF_INET", "127.0.0.1")],  # noqa: S104  # in a child
)
def test_a_port_that_is_open_elsewhere_would_be_seen(family: str, address: str) -> None:
    program = (
        f"import socket, sys; s = socket.socket(socket.{family}); s.bind(({address!r}, 0)); s.listen(); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            pytest.skip(f"this machine has no {family}")
        assert listening(child.pid) == {(address, int(line))}
        child.communicate()
