"""Load from h2load, and what is left of memory and descriptors after it."""

import os
import re
import subprocess
import sys
import time

import pytest
from hyperframe.frame import SettingsFrame

import idle_connections
from h2load import h2load
from raw_connection import PREFACE, RawConnection, connect, message
from scenario_client import SERVICE
from server_process import PATIENCE, REPOSITORY, wait_until

MIB = 1024 * 1024
IDLE_BYTES_MAX = 32 * 1024
# What memory may have grown by after very many calls. The address sanitizer keeps freed blocks for a while.
GROWTH_BYTES_MAX = (32 if os.environ.get("APUS_SANITIZER") else 3) * MIB


ECHO_PAYLOAD = b"\x0a\x05hello"
REQUESTS = 200_000 if PATIENCE == 1 else 20_000


@pytest.mark.parametrize("executable", ["apus-echo", "apus-scenarios"])
def test_every_request_of_h2load_succeeds(request, tmp_path, executable):
    """h2load -c10 -m100 -n 200000: every request succeeds, and as many bytes come back as went out."""
    server = request.getfixturevalue("echo_server" if executable == "apus-echo" else "scenario_server")
    path = "/echo.v1.EchoService/Get"
    succeeded, data_bytes = h2load(server, path, REQUESTS, tmp_path, ECHO_PAYLOAD)
    assert succeeded == REQUESTS
    assert data_bytes == REQUESTS * len(message(ECHO_PAYLOAD))


SHAPES = ["Get", "SynchronousGet", "GlobalGet", "WithoutNonsendingGet", "ActorAdd", "Expand", "Collect", "Update",
          "GlobalUpdate", "ActorUpdate", "EchoMetadata"]


@pytest.mark.parametrize("method", SHAPES)
def test_calls_of_every_shape_succeed_under_load(scenario_server, tmp_path, method):
    count = 5000
    succeeded, data_bytes = h2load(scenario_server, SERVICE + method, count, tmp_path)
    assert succeeded == count
    if method not in ("ActorAdd", "EchoMetadata"):
        assert data_bytes == count * len(message(b"hello"))


@pytest.mark.parametrize("method, count", [
    ("Get", 100_000), ("SynchronousGet", 100_000), ("Update", 100_000),
    *[pytest.param(method, 200_000, marks=pytest.mark.full) for method in SHAPES],
])
def test_a_hundred_thousand_calls_in_a_row_leave_memory_flat(start_scenarios, tmp_path, method, count):
    server = start_scenarios("--log-level", "info")
    h2load(server, SERVICE + method, 20_000, tmp_path)
    before = server.rss_bytes
    succeeded, _ = h2load(server, SERVICE + method, count, tmp_path)
    assert succeeded == count
    grown = server.rss_bytes - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / count:.1f} bytes per call"


def test_calls_that_fail_leave_memory_flat(start_scenarios, tmp_path):
    """Refusals and errors take other paths through the server than answers."""
    server = start_scenarios("--log-level", "critical")
    paths = [SERVICE + "Fail", SERVICE + "Throw", SERVICE + "Nope", SERVICE + "ReturnEarly"]
    for path in paths:
        h2load(server, path, 3000, tmp_path)
    before = server.rss_bytes
    for path in paths:
        h2load(server, path, 15_000, tmp_path)
    assert server.rss_bytes - before < GROWTH_BYTES_MAX


def test_calls_that_are_cut_off_leave_memory_flat(start_scenarios, open_raw):
    """Resets in mid-message, before and after the handler began."""
    server = start_scenarios("--log-level", "critical")

    def round_of_calls(count):
        raw = open_raw(server)
        for number in range(count):
            stream = raw.open(["Get", "Collect", "Update", "Pour"][number % 4], [("x-count", "5"), ("x-bytes", "9999")])
            raw.data(stream, message(b"x" * 2000)[:1 + number % 2005])
            if number % 3 == 0:
                raw.step(0)
            raw.reset(stream)
            if number % 50 == 0:
                raw.assert_serves()
        raw.close()

    round_of_calls(2000)
    before = server.rss_bytes
    round_of_calls(10_000)
    assert server.rss_bytes - before < GROWTH_BYTES_MAX


def connect_and_leave(address, count):
    """Connections that end in every way that a peer has."""
    greeting = PREFACE + SettingsFrame(0).serialize()
    for number in range(count):
        way = number % 5
        if way == 0:
            connect(address).close()
        elif way == 1:
            with connect(address) as connection:
                connection.sendall(greeting)
                connection.recv(100)
        elif way == 2:
            connection = RawConnection(address)
            connection.open("Collect")
            connection.abort()
        elif way == 3:
            connection = RawConnection(address)
            connection.call("Get", b"x")
            connection.close()
        else:
            with connect(address) as connection:
                connection.sendall(b"noise\r\n")


@pytest.mark.parametrize("cycles", [10_000, pytest.param(50_000, marks=pytest.mark.full)])
def test_descriptors_return_after_connecting_and_disconnecting(start_scenarios, cycles):
    server = start_scenarios("--log-level", "critical")
    connect_and_leave(server.address, 500)
    time.sleep(1.5)
    descriptors, memory = server.descriptors, server.rss_bytes
    connect_and_leave(server.address, cycles)
    assert wait_until(lambda: server.descriptors <= descriptors, 5), (descriptors, server.descriptors)
    assert server.rss_bytes - memory < GROWTH_BYTES_MAX


def test_five_thousand_idle_connections_cost_little_and_leave_nothing(start_echo):
    server = start_echo()
    before = server.descriptors
    bytes_each, connections = idle_connections.measure(server, 5000)
    print(f"{bytes_each:.0f} bytes per idle connection")
    if not os.environ.get("APUS_SANITIZER"):  # whose shadow memory would be counted
        assert bytes_each < IDLE_BYTES_MAX
    raw = RawConnection(server.address)
    answer = raw.call("/echo.v1.EchoService/Get", ECHO_PAYLOAD)
    assert answer.messages == [ECHO_PAYLOAD]
    raw.close()
    for connection in connections:
        connection.close()
    assert wait_until(lambda: server.descriptors <= before, 10), server.descriptors


def test_the_program_that_measures_idle_connections_prints_a_figure():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "Tests/Foreign/idle_connections.py"), "--connections", "500"],
        capture_output=True, text=True, timeout=60 * PATIENCE,
    )
    assert re.search(r"500 idle connections: \d+ bytes per connection", done.stdout), done.stdout + done.stderr


def test_an_idle_server_uses_no_cpu(start_echo):
    server = start_echo()
    connections = idle_connections.open_idle(server.address, 200)
    time.sleep(0.5)
    before = server.cpu_seconds
    time.sleep(2)
    assert server.cpu_seconds - before < 0.05 * PATIENCE
    for connection in connections:
        connection.close()


def test_the_number_of_threads_does_not_grow_with_load(start_scenarios, tmp_path):
    server = start_scenarios("--threads", 2, "--log-level", "info")
    for method in ["Get", "GlobalGet", "ActorAdd", "Sleep"]:
        h2load(server, SERVICE + method, 3000, tmp_path)
    assert server.threads <= 24
