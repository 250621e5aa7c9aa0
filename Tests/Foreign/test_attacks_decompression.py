"""Decompression bombs at full speed, from processes of their own, beside a client that behaves (rule 14)."""

import ast
import pathlib
import subprocess
import sys
import time

import grpc

from message_encodings import text
from scenario_client import SERVICE
from server_process import PATIENCE

MIB = 1024 * 1024
ATTACKERS = 3
SECONDS = 4
OK, RESOURCE_EXHAUSTED = 0, 8
# What the server may hold at most. An attacker's 150 calls could each inflate to 4 MiB, which would be 600 MiB; two
# threads inflate at once, and what they have done is handled before more is.
PEAK_BYTES_MAX = 192 * MIB


def peak_bytes(server):
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_bombs_neither_fill_memory_nor_keep_others_from_being_served(start_scenarios, open_channel):
    """rule 14: inflation stops at the limit and a byte, and happens off the loop."""
    server = start_scenarios("--log-level", "info")
    program = str(pathlib.Path(__file__).with_name("decompression_attacker.py"))
    good = open_channel(server).unary_unary(SERVICE + "CompressedUnary")
    payload = text(20_000)

    def call():
        compression = grpc.Compression.Gzip if served % 2 else grpc.Compression.NoCompression
        began = time.monotonic()
        assert good(payload, timeout=10 * PATIENCE, compression=compression) == payload
        return time.monotonic() - began

    served = 0
    call()
    attackers = [subprocess.Popen([sys.executable, program, server.address, str(SECONDS)], stdout=subprocess.PIPE,
                                  text=True) for _ in range(ATTACKERS)]
    durations = []
    while any(attacker.poll() is None for attacker in attackers):
        durations.append(call())
        served += 1
    statuses = [ast.literal_eval(attacker.communicate()[0]) for attacker in attackers]
    assert all(attacker.returncode == 0 for attacker in attackers)
    print(served, "good calls, the slowest in", max(durations), "s;", statuses, peak_bytes(server) // MIB, "MiB")
    for counted in statuses:
        # What is over the limit is refused, what is not is served.
        assert counted.keys() == {OK, RESOURCE_EXHAUSTED}
    assert served >= 20
    assert peak_bytes(server) < PEAK_BYTES_MAX
    assert call() < 10
