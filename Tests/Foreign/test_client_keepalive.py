"""A client asks a silent server whether it is still there, and leaves one that it has no use for (rules 23, 24).

The times are the shortest that a channel takes, so a test that waits for a PING takes ten seconds; those that can share
them do. What depends on time to the second is in ClientKeepaliveTests.swift, on a clock that the tests move.
"""

import concurrent.futures
import threading
import time

import grpc
import pytest

from client_process import not_of_the_reference
from raw_connection import NO_ERROR
from server_process import PATIENCE, wait_until

TIME_MS, TIMEOUT_MS = 10_000, 1_000
KEEPALIVE = ["--keepalive-time-ms", TIME_MS, "--keepalive-timeout-ms", TIMEOUT_MS]
ENHANCE_YOUR_CALM = 11


@not_of_the_reference
def test_who_is_asked_and_what_comes_of_it(start_raw_server, open_client_process):
    """rule 23: a server that says nothing is asked while there is a call; one that does not answer is lost."""
    seen = {}
    answered, missed = threading.Event(), threading.Event()

    def answers(connection):
        request = connection.request()
        assert connection.run_until(lambda: connection.pings, 15), "no PING came"
        answered.set()
        # Longer than the client waits for an answer, and shorter than it takes to ask again.
        end = time.monotonic() + 2 * TIMEOUT_MS / 1000
        while time.monotonic() < end:
            connection.receive(0.1)
        seen["answers"] = len(connection.pings)
        request.reply(b"still here")

    def does_not_answer(connection):
        connection.request()
        assert connection.run_until(lambda: connection.pings, 15), "no PING came"
        seen["lost"] = connection.is_left()
        missed.set()

    def has_no_call(connection):
        answered.wait(20 * PATIENCE)
        connection.drain(2)
        seen["idle"] = len(connection.pings)

    def has_no_call_but_is_asked(connection):
        seen["asked"] = connection.run_until(lambda: len(connection.pings) == 1, 15)

    def is_not_asked(connection):
        request = connection.request()
        answered.wait(20 * PATIENCE)
        connection.drain(1)
        seen["off"] = len(connection.pings)
        request.reply(b"unasked")

    clients = {
        name: open_client_process(start_raw_server(script, auto_ping=name != "lost"), *options)
        for name, script, options in [
            ("answers", answers, KEEPALIVE), ("lost", [does_not_answer, lambda it: it.serve()], KEEPALIVE),
            ("idle", has_no_call, KEEPALIVE), ("asked", has_no_call_but_is_asked,
                                               [*KEEPALIVE, "--keepalive-without-calls"]),
            ("off", is_not_asked, []),
        ]
    }
    calls = {name: clients[name].start(f"/a.B/{name}") for name in ("answers", "lost", "off")}
    for name in ("idle", "asked"):
        clients[name].tell("connect")

    assert calls["answers"].result(30).message == b"still here"
    lost = calls["lost"].result(30)
    assert (lost.code, lost.origin) == ("UNAVAILABLE", "local"), lost
    assert "keepalive" in lost.text and "1.0 seconds" in lost.text, lost
    assert clients["lost"].call().message == b"served", "the next call finds a new connection"
    assert calls["off"].result(30).message == b"unasked"
    assert wait_until(lambda: len(seen) == 5, 20), seen
    assert seen == {"answers": 1, "lost": True, "idle": 0, "asked": True, "off": 0}


@not_of_the_reference
def test_a_channel_without_calls_lets_its_connection_go(start_raw_server, open_client_process):
    """The idle time-out of gRPC's channels: GOAWAY NO_ERROR, the channel is idle, the next call connects anew."""
    goodbyes = []

    def script(connection):
        connection.request().reply(b"%d" % connection.number)
        assert connection.is_left()
        goodbyes.extend(frame.error_code for frame in connection.goaways)

    server = start_raw_server(script)
    client = open_client_process(server, "--idle-timeout-ms", 300)
    assert client.call().message == b"0"
    assert wait_until(lambda: client.state == "idle")
    assert wait_until(lambda: goodbyes == [NO_ERROR]), goodbyes
    assert client.call().message == b"1"


@not_of_the_reference
def test_a_call_that_lasts_keeps_its_connection_beyond_the_idle_time_out(start_raw_server, open_client_process):
    """Idle is a channel without a call, and not one whose calls say nothing."""
    def script(connection):
        request = connection.request(whole=False).head()
        time.sleep(1)
        request.wait_end().message(b"late").trailers()

    client = open_client_process(start_raw_server(script), "--idle-timeout-ms", 200)
    call = client.start("Update", kind="bidi", count=0, hold=True)
    time.sleep(0.8)
    assert client.state == "ready"
    call.finish()
    assert call.result().messages == [b"late"]


@not_of_the_reference
def test_too_many_pings_are_logged_and_the_next_connection_asks_half_as_often(start_raw_server, open_client_process):
    """rule 24: GOAWAY ENHANCE_YOUR_CALM with the text that gRPC gave it."""
    seen = []

    def strict(connection):
        connection.request()
        assert connection.run_until(lambda: connection.pings, 15), "no PING came"
        connection.go_away(2**31 - 1, ENHANCE_YOUR_CALM, b"too_many_pings")
        connection.close()

    def patient(connection):
        request = connection.request()
        # The time that it took until a PING came from the first connection, and half of it again.
        connection.run_until(lambda: connection.pings, TIME_MS / 1000 * 1.5 / PATIENCE)
        seen.append(len(connection.pings))
        request.reply(b"calm")

    client = open_client_process(start_raw_server([strict, patient]), *KEEPALIVE)
    assert client.call(seconds=20).code == "UNAVAILABLE"
    assert client.call(seconds=30).message == b"calm"
    assert seen == [0]
    assert "the server finds the keepalive PINGs too frequent" in client.log
    assert "20.0 seconds" in client.log


@pytest.mark.full
@not_of_the_reference
def test_a_server_of_grpcio_finds_pings_every_ten_seconds_too_many(open_client_process):
    """rule 24: it allows one in five minutes, and at the third strike closes the connection."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        client = open_client_process(f"127.0.0.1:{port}", *KEEPALIVE, "--keepalive-without-calls")
        client.tell("connect")
        assert wait_until(lambda: "too frequent" in client.log, 60), client.log
        assert "20.0 seconds" in client.log
        assert client.call(wait_for_ready=True).code == "UNIMPLEMENTED", "it is there for new connections"
    finally:
        server.stop(0)
