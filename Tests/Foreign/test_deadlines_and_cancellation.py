"""Deadlines and cancellation reach the handler, whichever end they come from."""

import collections
import time

import grpc
import pytest

from raw_connection import CANCEL, message
from scenario_client import SERVICE, new_key, parameters
from server_process import PATIENCE

SLEEPERS = ["Sleep", "GlobalSleep", "Hold"]


def start(client, method, **values):
    """A call under way whose handler runs; returns the call and its key."""
    key = new_key()
    values = {"key": key, "ms": 60_000} | values
    call = client.unary(method).future(b"", timeout=60 * PATIENCE, metadata=parameters(**values))
    assert client.wait_for(f"started.{key}") == 1
    return call, key


@pytest.mark.parametrize("method", SLEEPERS)
def test_a_deadline_ends_the_call_and_cancels_the_handlers_task(client, method):
    """rule 22: the client gets DEADLINE_EXCEEDED, and the handler's task is cancelled."""
    key = new_key()
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        client.unary(method)(b"", timeout=0.3, metadata=parameters(key=key, ms=60_000))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 2 * PATIENCE
    assert client.wait_for(f"cancelled.{key}") == 1


def test_a_deadline_is_deadline_exceeded_whichever_clock_is_first(client):
    """rule 22: what the server does at the deadline does not look like a cancellation when it comes first."""
    codes = collections.Counter()
    for number in range(100):
        with pytest.raises(grpc.RpcError) as error:
            client.unary("Hold")(b"", timeout=0.02 + number / 10_000, metadata=parameters(key="never"))
        codes[error.value.code().name] += 1
    assert codes == {"DEADLINE_EXCEEDED": 100}


def test_the_server_keeps_the_deadline_by_its_own_clock(raw):
    """rule 22: a server runs its own timer, cancels the handler's task and resets the stream."""
    key = new_key()
    began = time.monotonic()
    stream = raw.open("Sleep", parameters(key=key, ms=60_000) + [("grpc-timeout", "300m")])
    raw.data(stream, message(b""), end_stream=True)
    answer = raw.result(stream, 3)
    assert 0.25 < time.monotonic() - began < 2 * PATIENCE
    assert answer.reset == CANCEL or answer.status == 4
    assert raw.wait_for(f"cancelled.{key}") == 1


def test_the_deadline_holds_while_the_request_is_still_coming(raw):
    """rule 22: a client that never finishes its request does not keep the stream."""
    stream = raw.open("Get", [("grpc-timeout", "200m")])
    raw.data(stream, message(b"only a part")[:7])
    answer = raw.result(stream, 3)
    assert answer.reset == CANCEL or answer.status == 4
    raw.assert_serves()


def test_the_deadline_ends_a_handler_that_reads(raw):
    key = new_key()
    stream = raw.open("Listen", parameters(key=key) + [("grpc-timeout", "300m")])
    answer = raw.result(stream, 3)
    assert answer.reset == CANCEL or answer.status == 4
    assert raw.wait_for(f"cancelled.{key}") == 1
    assert "DEADLINE_EXCEEDED" in raw.stats.note(f"error.{key}")


def test_a_handler_sees_how_much_time_is_left(client):
    lines = dict(line.split("=", 1) for line in client.call("Describe", timeout=5).decode().splitlines())
    assert 0 < float(lines["remaining_ms"]) <= 5100 * PATIENCE
    answer = client.unary("Describe")(b"").decode()
    assert "remaining_ms=none" in answer


@pytest.mark.parametrize("method", SLEEPERS)
def test_cancelling_a_call_cancels_the_handlers_task(client, method):
    """rule 22: cancelling a client call reaches the server handler."""
    call, key = start(client, method)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    assert client.wait_for(f"cancelled.{key}") == 1


RELAYS = {"Relay": "unary_unary", "GlobalRelay": "unary_unary", "RelayPour": "unary_stream"}


@pytest.mark.parametrize("ending", ["cancel", "deadline", "loss"])
@pytest.mark.parametrize("method", RELAYS)
def test_the_end_of_a_call_reaches_through_two_hops(client, scenario_server, start_scenarios, open_client, method,
                                                    ending):
    """rule 22: the handler of the first server waits for a call of the second, whose handler is cancelled as well."""
    server = start_scenarios()
    second = open_client(server)
    key = new_key()
    first = open_client(scenario_server)
    # A flood that nobody reads stands still, as the gate at which the unary handler waits.
    values = {"key": key, "target": server.address, "count": 10**6, "bytes": 10_000}
    call = getattr(first.channel, RELAYS[method])(SERVICE + method)
    timeout = 1.0 if ending == "deadline" else 60 * PATIENCE
    begun = call(b"", timeout=timeout, metadata=parameters(**values)) if method == "RelayPour" else \
        call.future(b"", timeout=timeout, metadata=parameters(**values))
    assert second.wait_for(f"started.{key}") == 1
    if ending == "cancel":
        begun.cancel()
    elif ending == "loss":
        first.channel.close()
    assert client.wait_for(f"cancelled.{key}") == 1
    assert second.wait_for(f"cancelled.{key}") == 1


def test_cancelling_a_dialogue_ends_the_handler_that_reads(client):
    key = new_key()
    requests = iter(lambda: time.sleep(0.05) or b"x", None)
    call = client.both_streams("Listen")(requests, timeout=60, metadata=parameters(key=key))
    assert next(call) == b"x"
    call.cancel()
    assert client.wait_for(f"cancelled.{key}") == 1
    assert "CANCELLED" in client.stats.note(f"error.{key}")


@pytest.mark.parametrize("method", ["Pour", "GlobalPour"])
def test_cancelling_a_server_stream_ends_the_handler_that_writes(client, method):
    key = new_key()
    call = client.server_stream(method)(b"", timeout=60, metadata=parameters(key=key, count=10**6, bytes=10_000))
    next(call)
    call.cancel()
    assert client.wait_for(f"cancelled.{key}") == 1
    written = client.stats[f"written.{key}"]
    time.sleep(0.2)
    assert client.stats[f"written.{key}"] == written < 10**6


def test_a_lost_connection_cancels_its_handlers(client, open_channel, open_client, scenario_server):
    """rule 22: loss of the connection is CANCELLED in the handler."""
    channel = open_channel(scenario_server)
    other = type(client)(channel)
    call, key = start(other, "Hold")
    channel.close()
    assert client.wait_for(f"cancelled.{key}") == 1


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_connection_that_vanishes_cancels_its_handlers(client, open_raw, scenario_server, ending):
    """rule 22: by FIN or by RST, with a handler that sleeps, one that reads and one that writes."""
    keys = [new_key() for _ in range(3)]
    raw = open_raw(scenario_server, auto_credit=False)
    sleeping = raw.open("Sleep", parameters(key=keys[0], ms=60_000))
    raw.data(sleeping, message(b""), end_stream=True)
    raw.open("Listen", parameters(key=keys[1]))
    writing = raw.open("Pour", parameters(key=keys[2], count=10_000, bytes=10_000))
    raw.data(writing, message(b""), end_stream=True)
    for key in keys:
        assert client.wait_for(f"started.{key}") == 1
    getattr(raw, ending)()
    for key in keys:
        assert client.wait_for(f"cancelled.{key}") == 1, key


def test_a_stream_that_the_peer_resets_cancels_its_handler_alone(raw):
    """rule 22: RST_STREAM CANCEL ends one call, and the others go on."""
    first, second = new_key(), new_key()
    streams = []
    for key in [first, second]:
        streams.append(raw.open("Hold", parameters(key=key)))
        raw.data(streams[-1], message(b"held"), end_stream=True)
        assert raw.wait_for(f"started.{key}") == 1
    raw.reset(streams[0])
    assert raw.wait_for(f"cancelled.{first}") == 1
    raw.call("Release", fields=parameters(key=second))
    assert raw.result(streams[1]).messages == [b"held"]


def test_a_handler_that_is_deaf_to_cancellation_ends_in_its_own_time_and_harms_nobody(client):
    call, key = start(client, "Ignore", ms=500)
    call.cancel()
    assert client.call("Get", b"meanwhile") == b"meanwhile"
    assert client.wait_for(f"finished.{key}") == 1


def test_a_thousand_cancelled_calls_a_second_leave_the_connection_alone(raw):
    """An honest client that cancels much is not taken for an attacker."""
    for _ in range(1000):
        stream = raw.open("Hold", parameters(key="never"))
        raw.data(stream, message(b""), end_stream=True)
        raw.reset(stream)
    raw.drain()
    assert not raw.goaways
    raw.assert_serves()


def test_calls_cancelled_at_random_moments_leave_nothing_behind(client, scenario_server):
    """Races between the end that a client decides and the end that a handler decides."""
    before = client.stats
    for number in range(300):
        call = client.unary("Sleep").future(b"", timeout=5, metadata=parameters(ms=number % 7))
        time.sleep((number % 11) / 1500)
        call.cancel()
    stream = client.unary("Get")(b"after", timeout=5)
    assert stream == b"after"

    def all_ended():
        stats = client.stats
        ended = sum(stats[name] - before[name] for name in ["finished", "failed", "cancelled"])
        return ended == stats["started"] - before["started"]

    deadline = time.monotonic() + 5 * PATIENCE
    while not all_ended() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all_ended(), client.stats.values
