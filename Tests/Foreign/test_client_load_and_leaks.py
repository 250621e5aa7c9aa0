"""Many calls, long streams, many channels; and what is left of memory, threads and descriptors after them."""

import os
import time

import pytest

from client_process import USES_REFERENCE
from scenario_client import SERVICE, new_key, parameters
from server_process import PATIENCE

pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="the reference makes one call at a time")
MIB = 1024 * 1024
# What memory may have grown by after very many calls. The sanitizers keep freed blocks for a while, and histories.
GROWTH_BYTES_MAX = (64 if os.environ.get("APUS_SANITIZER") else 4) * MIB
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
MILLION = 1_000_000 // (1 if PATIENCE == 1 else 20)


@pytest.mark.parametrize("on", ["task", "loop"])
def test_ten_thousand_calls_in_flight(peer, open_client_process, on):
    """rule 29: ours lets a hundred streams be open, and the others queue; grpcio lets all of them run; none fails."""
    client = open_client_process(peer)
    summary = client.run("load", workers=10_000, calls=1, path=SERVICE + "Sleep", bytes=20, numbering="index", on=on,
                         metadata=[["x-ms", "20"]], seconds=120)
    assert summary["codes"] == {"OK": 10_000} and summary["mismatches"] == 0, summary
    assert peer.kind == "grpcio" or "MAX_CONCURRENT_STREAMS" in client.log


def test_ten_thousand_calls_that_all_run_at_once(start_our_peer, open_client_process):
    """Until the server opens a gate, by a call that comes after them all."""
    server = start_our_peer("--max-streams", 20_000, "--max-handlers", 20_000, "--max-handlers-per-connection", 20_000)
    client = open_client_process(server)
    key = new_key()
    client.tell("load", workers=10_000, calls=1, path=SERVICE + "Hold", bytes=20, numbering="index",
                metadata=[["x-key", key]])
    assert client.wait_for(f"started.{key}", 10_000, 60) == 10_000
    client.release(key)
    summary = client.expect("summary", seconds=60)
    assert summary["codes"] == {"OK": 10_000} and summary["mismatches"] == 0, summary


FULL_WITH_GRPCIO = [pytest.param("grpcio", marks=pytest.mark.full), "apus"]


@BOTH_WAYS
@pytest.mark.parametrize("peer", FULL_WITH_GRPCIO, indirect=True)
def test_a_million_responses(peer, open_client_process, blocking):
    client = open_client_process(peer)
    client.call("Pour", "server", keep=False, metadata=parameters(count=10_000, bytes=20))
    before = client.figures["rss_bytes"]
    result = client.call("Pour", "server", keep=False, expected_bytes=20, blocking=blocking, seconds=600,
                         metadata=parameters(count=MILLION, bytes=20))
    assert (result.code, result.count, result.misplaced) == ("OK", MILLION, 0), result
    assert client.figures["rss_bytes"] - before < 16 * MIB


@BOTH_WAYS
@pytest.mark.parametrize("peer", FULL_WITH_GRPCIO, indirect=True)
def test_a_million_requests(peer, open_client_process, blocking):
    client = open_client_process(peer)
    client.call("Sink", "client", count=10_000, bytes=20)
    before = client.figures["rss_bytes"]
    result = client.call("Sink", "client", count=MILLION, bytes=20, blocking=blocking, seconds=600)
    assert result.messages == [f"{MILLION} messages, {MILLION * 20} bytes".encode()], result
    assert client.figures["rss_bytes"] - before < 16 * MIB


@BOTH_WAYS
@pytest.mark.parametrize("peer", FULL_WITH_GRPCIO, indirect=True)
def test_a_million_messages_there_and_back(peer, open_client_process, blocking):
    client = open_client_process(peer)
    client.call("Update", "bidi", count=10_000, bytes=20, keep=False)
    before = client.figures["rss_bytes"]
    result = client.call("Update", "bidi", count=MILLION, bytes=20, numbering="index", keep=False, blocking=blocking,
                         seconds=900)
    assert (result.code, result.count, result.misplaced, result.written) == ("OK", MILLION, 0, MILLION), result
    assert client.figures["rss_bytes"] - before < 16 * MIB


@pytest.mark.parametrize("kind, method", [("unary", "Get"), ("bidi", "Update"), ("client", "Collect")])
@BOTH_WAYS
def test_a_hundred_thousand_calls_leave_memory_flat(start_our_peer, open_client_process, kind, method, blocking):
    client = open_client_process(start_our_peer(), "--log-level", "info")
    load = {"workers": 20, "kind": kind, "path": SERVICE + method, "bytes": 20, "numbering": "index",
            "blocking": blocking}
    client.run("load", calls=500 // PATIENCE, **load)
    before = client.figures
    calls = 100_000 // load["workers"] // PATIENCE
    summary = client.run("load", calls=calls, seconds=120, **load)
    assert summary["codes"] == {"OK": calls * load["workers"]} and summary["mismatches"] == 0, summary
    after = client.figures
    assert after["rss_bytes"] - before["rss_bytes"] < GROWTH_BYTES_MAX
    assert after["descriptors"] <= before["descriptors"]


def test_calls_that_fail_leave_memory_flat(start_our_peer, open_client_process):
    """Cancelled, too late, refused by the server: thousands of each."""
    client = open_client_process(start_our_peer(), "--log-level", "info")

    def fail(rounds):
        for _ in range(rounds // PATIENCE):
            late = client.run("load", workers=1000, calls=1, path=SERVICE + "Hold", timeout_ms=5,
                              metadata=[["x-key", "never"]])
            assert set(late["codes"]) == {"DEADLINE_EXCEEDED"}, late
            refused = client.run("load", workers=50, calls=20, path=SERVICE + "Fail", bytes=10)
            assert set(refused["codes"]) == {"UNKNOWN"}, refused

    fail(5)
    before = client.figures["rss_bytes"]
    fail(20)
    assert client.figures["rss_bytes"] - before < GROWTH_BYTES_MAX


@pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("drop", [False, True], ids=["closed", "dropped"])
def test_channels_that_were_opened_and_closed_leave_nothing_behind(start_our_peer, open_client_process, tmp_path,
                                                                    count, drop):
    """Over a unix socket: descriptors, threads and memory as before, here and at the server."""
    path = tmp_path / "server.sock"
    server = start_our_peer("--log-level", "info", listen=f"unix:{path}")
    client = open_client_process(f"unix:{path}", "--log-level", "info")
    count //= PATIENCE

    def open_channels(number):
        summary = client.run("channels", count=number, workers=4, path=SERVICE + "SynchronousGet", bytes=20, drop=drop,
                             seconds=600)
        assert summary["failures"] == {}, summary

    open_channels(max(500, count // 20))
    client.call("Get")
    before, server_before = client.figures, server.rss_bytes
    descriptors = server.descriptors
    open_channels(count)
    after = settled(client, before)
    assert after["descriptors"] <= before["descriptors"] + 1
    assert after["threads"] <= before["threads"] + 1
    assert after["rss_bytes"] - before["rss_bytes"] < GROWTH_BYTES_MAX
    assert server.rss_bytes - server_before < 2 * GROWTH_BYTES_MAX
    assert server.descriptors <= descriptors + 1


def settled(client, before):
    """Figures once what is closed on the loops has been closed."""
    for _ in range(50):
        figures = client.figures
        if figures["descriptors"] <= before["descriptors"] and figures["threads"] <= before["threads"]:
            return figures
        time.sleep(0.1)
    return figures
