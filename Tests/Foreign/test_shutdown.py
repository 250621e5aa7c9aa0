"""SIGTERM: calls that run may end, new ones go elsewhere, and the process ends with 0 (rule 25)."""

import time

import grpc
import pytest

from raw_connection import NO_ERROR, REFUSED_STREAM, connect, message
from scenario_client import ScenarioClient, new_key, parameters
from server_process import PATIENCE, wait_until

TIMEOUT = 20 * PATIENCE


def is_refused(server):
    try:
        connect(server.address).close()
    except OSError:
        return True
    return False


def test_a_running_call_finishes_and_the_process_ends_with_zero(start_scenarios, open_client):
    server = start_scenarios()
    client = open_client(server)
    key = new_key()
    call = client.unary("Sleep").future(b"done", timeout=TIMEOUT, metadata=parameters(key=key, ms=1500))
    assert client.wait_for(f"started.{key}") == 1
    began = time.monotonic()
    server.terminate()
    assert wait_until(lambda: is_refused(server), 2), "new connections are still taken"
    assert call.result() == b"done"
    assert server.exit_code(2) == 0
    assert 0.7 < time.monotonic() - began < 3 * PATIENCE


def test_a_running_stream_goes_on_to_its_end(start_scenarios, open_client):
    server = start_scenarios()
    client = open_client(server)
    requests = (time.sleep(0.02) or b"%d" % number for number in range(50))
    call = client.both_streams("Update")(requests, timeout=TIMEOUT)
    received = [next(call)]
    server.terminate()
    received += list(call)
    assert received == [b"%d" % number for number in range(50)]
    assert server.exit_code(2) == 0


def test_new_calls_go_elsewhere_without_a_failure(start_scenarios):
    """A client with two addresses moves to the other server; none of its calls fails."""
    first, second = start_scenarios(), start_scenarios()
    target = f"ipv4:{first.address},{second.address}"
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        client = ScenarioClient(channel)
        held = client.unary("Sleep").future(b"held", timeout=TIMEOUT, metadata=parameters(ms=1000))
        assert client.call("Get", b"1") == b"1"
        first.terminate()
        end = time.monotonic() + 1.5 * PATIENCE
        while time.monotonic() < end:
            assert client.call("Get", b"2") == b"2"
        assert held.result() == b"held"
        assert first.exit_code(2) == 0
        client.call("Get", b"3")


def test_goaway_comes_in_two_steps(start_scenarios, open_raw):
    """rule 25: GOAWAY(2^31-1) and a PING; a stream begun meanwhile is served; after the ack GOAWAY(last id)."""
    server = start_scenarios()
    raw = open_raw(server, auto_ping=False)
    key = new_key()
    running = raw.open("Hold", parameters(key=key))
    raw.data(running, message(b"running"), end_stream=True)
    assert raw.wait_for(f"started.{key}") == 1
    server.terminate()
    raw.run_until(lambda: raw.goaways and raw.pings, 3)
    assert [(goaway.last_stream_id, goaway.error_code) for goaway in raw.goaways] == [(2**31 - 1, NO_ERROR)]
    assert len(raw.pings) == 1
    late = raw.open("Get")
    raw.data(late, message(b"in between"), end_stream=True)
    assert raw.result(late).messages == [b"in between"]
    raw.acknowledge_ping(raw.pings[0])
    raw.run_until(lambda: len(raw.goaways) == 2, 3)
    assert (raw.goaways[1].last_stream_id, raw.goaways[1].error_code) == (late, NO_ERROR)
    too_late = raw.open("Get")
    raw.data(too_late, message(b"too late"), end_stream=True)
    raw.drain(0.3)
    assert raw.answer(too_late).reset in (None, REFUSED_STREAM)
    assert not raw.answer(too_late).blocks
    assert not raw.is_closed and server.is_running


def test_the_connection_closes_when_its_last_call_has_ended(start_scenarios, open_raw):
    """rule 25: then drain."""
    server = start_scenarios()
    raw = open_raw(server)
    stream = raw.open("Update")
    raw.data(stream, message(b"one"))
    raw.run_until(lambda: raw.answer(stream).data_bytes)
    server.terminate()
    raw.run_until(lambda: len(raw.goaways) == 2, 3)
    raw.data(stream, message(b"two"), end_stream=True)
    answer = raw.result(stream)
    assert (answer.status, answer.messages) == (0, [b"one", b"two"])
    raw.run_until(lambda: raw.is_closed, 3)
    assert raw.is_closed
    raw.close()
    assert server.exit_code(2) == 0


def test_a_peer_that_does_not_answer_the_ping_gets_the_second_goaway_all_the_same(start_scenarios, open_raw):
    """rule 25: after the ack, 5 s at most."""
    server = start_scenarios()
    raw = open_raw(server, auto_ping=False)
    raw.assert_serves()
    server.terminate()
    began = time.monotonic()
    raw.run_until(lambda: len(raw.goaways) == 2, 8)
    assert len(raw.goaways) == 2
    assert time.monotonic() - began < 6 * PATIENCE
    assert server.exit_code(3) == 0


def test_the_grace_period_cuts_off_what_still_runs(start_scenarios, open_client, open_raw):
    """rule 25: drain within the grace period."""
    server = start_scenarios("--grace-milliseconds", 600)
    client = open_client(server)
    raw = open_raw(server)
    key = new_key()
    call = client.unary("Hold").future(b"", timeout=TIMEOUT, metadata=parameters(key=key))
    stream = raw.open("Hold", parameters(key=key))
    raw.data(stream, message(b""), end_stream=True)
    assert client.wait_for(f"started.{key}", 2) == 2
    began = time.monotonic()
    server.terminate()
    assert call.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    raw.run_until(lambda: raw.answer(stream).is_over or raw.is_closed, 3)
    assert raw.answer(stream).reset is not None, "the call was cut off without a word"
    assert server.exit_code(3) == 0
    assert 0.5 < time.monotonic() - began < 3 * PATIENCE


def test_the_grace_period_ends_even_for_a_handler_that_is_deaf_to_cancellation(start_scenarios, open_client):
    server = start_scenarios("--grace-milliseconds", 300)
    client = open_client(server)
    key = new_key()
    call = client.unary("Ignore").future(b"", timeout=TIMEOUT, metadata=parameters(key=key, ms=2000))
    assert client.wait_for(f"started.{key}") == 1
    began = time.monotonic()
    server.terminate()
    assert call.exception() is not None
    assert server.exit_code(4) == 0
    assert time.monotonic() - began < 4 * PATIENCE


@pytest.mark.parametrize("connections", [0, 1, 50])
def test_a_server_whose_connections_are_idle_ends_at_once(start_scenarios, open_client, connections):
    server = start_scenarios()
    for _ in range(connections):
        assert open_client(server).call("Get", b"x") == b"x"
    began = time.monotonic()
    server.terminate()
    assert server.exit_code(5) == 0
    assert time.monotonic() - began < 1 * PATIENCE


def test_connections_that_have_not_said_hello_do_not_hold_the_server_up(start_scenarios):
    server = start_scenarios()
    silent = [connect(server.address) for _ in range(5)]
    time.sleep(0.2)
    began = time.monotonic()
    server.terminate()
    assert server.exit_code(5) == 0
    assert time.monotonic() - began < 1 * PATIENCE
    for peer in silent:
        peer.close()


@pytest.mark.parametrize("stop", ["SIGTERM", "SIGINT"])
def test_both_signals_end_the_echo_server_in_order(start_echo, echo, open_channel, stop):
    import signal
    server = start_echo()
    stub = echo.Stub(open_channel(server))
    assert stub.Get(echo.Request(text="x"), timeout=TIMEOUT).text == "x"
    server.process.send_signal(getattr(signal, stop))
    assert server.exit_code(5) == 0
    assert "shutting down" in server.log and "stopped" in server.log


def test_a_second_signal_during_the_grace_period_harms_nothing(start_scenarios, open_client):
    server = start_scenarios("--grace-milliseconds", 1500)
    client = open_client(server)
    key = new_key()
    call = client.unary("Sleep").future(b"ok", timeout=TIMEOUT, metadata=parameters(key=key, ms=600))
    assert client.wait_for(f"started.{key}") == 1
    server.terminate()
    time.sleep(0.1)
    server.terminate()
    assert call.exception() is None and call.result() == b"ok"
    assert server.exit_code(4) == 0


def test_shutting_down_under_load_loses_no_call_that_was_begun_before(start_scenarios, open_raw):
    """rule 25: whatever the second GOAWAY counts in is answered."""
    server = start_scenarios("--threads", 2)
    connections = [open_raw(server) for _ in range(4)]
    open_streams = []
    for number in range(40):
        for raw in connections:
            if raw.goaways:
                continue
            stream = raw.open("Sleep", parameters(ms=20))
            raw.data(stream, message(b"load"), end_stream=True)
            open_streams.append((raw, stream))
            raw.step(0)
        if number == 20:
            server.terminate()
        time.sleep(0.003)
    for raw in connections:
        raw.run_until(lambda: raw.is_closed, 5)
        last = raw.goaways[-1].last_stream_id
        for stream in [stream for owner, stream in open_streams if owner is raw and stream <= last]:
            assert raw.answer(stream).messages == [b"load"], (stream, last)
    for raw in connections:
        raw.close()
    assert server.exit_code(3) == 0
