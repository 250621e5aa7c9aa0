"""Times and rates of the server over a socket: who is too slow, old or idle, or asks too often (rules 23 to 25)."""

import re
import time

import hpack
import pytest

from raw_connection import PREFACE, connect, message
from server_process import PATIENCE

CALM = 11  # ENHANCE_YOUR_CALM


def last_words(raw):
    """Code and debug data of the last GOAWAY, once the server has closed the connection."""
    raw.run_until(lambda: raw.is_closed)
    assert raw.is_closed
    return raw.goaways[-1].error_code, raw.goaways[-1].additional_data.decode()


def test_pings_that_come_too_often_end_the_connection_with_too_many_pings(start_scenarios, open_raw):
    """rule 24: three pass, for a connection that answers no call, and the fourth is too many."""
    server = start_scenarios()
    raw = open_raw(server)
    raw.run_until(lambda: raw.server_settings)
    for count in range(1, 4):
        raw.ping()
        assert raw.run_until(lambda: len(raw.ping_acks) == count)
    raw.ping()
    assert last_words(raw) == (CALM, "too_many_pings")
    assert server.log_has("does too much.*|too_many_pings")
    assert len(re.findall("too_many_pings", server.log)) == 1
    open_raw(server).assert_serves()


def test_an_answer_in_between_forgives_pings(start_scenarios, open_raw):
    """rule 24: HEADERS or DATA sent reset the strikes."""
    raw = open_raw(start_scenarios())
    for count in range(1, 40):
        if count % 3 == 0:
            raw.assert_serves()
        raw.ping()
        assert raw.run_until(lambda: len(raw.ping_acks) == count), raw.goaways
    assert not raw.goaways


@pytest.mark.parametrize("permitted", [False, True])
def test_pings_without_a_call_keep_to_two_hours_unless_permitted(start_scenarios, open_raw, permitted):
    """rule 24, with the least interval configured as none: with a call any rate passes."""
    server = start_scenarios("--min-ping-milliseconds", 0, *(["--permit-pings-without-calls"] if permitted else []))
    raw = open_raw(server)
    stream = raw.open("Collect")
    for count in range(1, 21):
        raw.ping()
        assert raw.run_until(lambda: len(raw.ping_acks) == count), raw.goaways
    raw.data(stream, b"", end_stream=True)
    raw.result(stream)
    for _ in range(20):
        raw.ping()
    if permitted:
        assert raw.run_until(lambda: len(raw.ping_acks) == 40)
    else:
        assert last_words(raw) == (CALM, "too_many_pings")


def test_a_client_that_is_gone_is_noticed_by_keepalive(start_scenarios, open_raw):
    """rule 23: a PING after the time without a byte; no answer within the time-out ends the connection."""
    server = start_scenarios("--keepalive-milliseconds", 200, "--keepalive-timeout-milliseconds", 300)
    raw = open_raw(server, auto_ping=False)
    stream = raw.open("Collect")
    assert raw.run_until(lambda: raw.pings)
    assert raw.run_until(lambda: raw.is_closed)
    assert not raw.answer(stream).is_over
    assert server.log_has("did not answer a keepalive PING")


def test_a_client_that_answers_keepalive_is_kept(start_scenarios, open_raw):
    """rule 23."""
    raw = open_raw(start_scenarios("--keepalive-milliseconds", 50, "--keepalive-timeout-milliseconds", 500))
    assert raw.run_until(lambda: len(raw.pings) >= 4)
    raw.assert_serves()
    assert not raw.goaways


def test_an_idle_connection_is_closed_with_max_idle(start_scenarios, open_raw):
    """rule 25: GOAWAY(2³¹−1) and a PING, then the last GOAWAY, both NO_ERROR."""
    raw = open_raw(start_scenarios("--max-idle-milliseconds", 300))
    raw.assert_serves()
    assert last_words(raw) == (0, "max_idle")
    assert [goaway.last_stream_id for goaway in raw.goaways] == [2**31 - 1, 1]
    assert raw.pings


def test_an_old_connection_drains_with_max_age_and_its_calls_end(start_scenarios, open_raw):
    """rule 25."""
    raw = open_raw(start_scenarios("--max-age-milliseconds", 500))
    stream = raw.open("Collect")
    assert raw.run_until(lambda: len(raw.goaways) == 2)
    raw.data(stream, message(b"late"), end_stream=True)
    assert raw.result(stream).status == 0
    assert last_words(raw) == (0, "max_age")


def test_calls_of_an_old_connection_are_stopped_after_the_grace_period(start_scenarios, open_raw):
    """rule 25."""
    server = start_scenarios("--max-age-milliseconds", 300, "--max-age-grace-milliseconds", 300)
    raw = open_raw(server)
    stream = raw.open("Collect")
    raw.run_until(lambda: raw.is_closed)
    assert raw.answer(stream).reset == 8
    assert server.log_has("too old")


def test_a_client_of_grpcio_notices_neither_age_nor_idleness(start_scenarios, open_client):
    """A connection every 100 ms or so, and no call fails."""
    server = start_scenarios("--max-age-milliseconds", 100, "--max-idle-milliseconds", 50)
    client = open_client(server, enable_retries=1)
    end = time.monotonic() + 3
    count = 0
    while time.monotonic() < end:
        assert client.call("Get", b"x") == b"x"
        count += 1
        if count % 50 == 0:
            time.sleep(0.06)
    assert count > 50


def head_by_drops(raw, stream, fields, more=b""):
    """HEADERS of which all but the last hundred bytes come."""
    block = raw.encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields]) + more
    raw.send_bytes((len(block) + 100).to_bytes(3, "big") + b"\x01\x04" + stream.to_bytes(4, "big") + block)


def drops_on_a_new_stream(raw):
    head_by_drops(raw, raw.new_stream(), raw.head("Get"))


def drops_behind_a_fault(raw):
    stream = raw.new_stream()
    head_by_drops(raw, stream, raw.head("Get", [("connection", "close")]))
    assert raw.run_until(lambda: raw.answer(stream).reset is not None)


def drops_of_a_head_that_is_far_too_large(raw):
    stream = raw.new_stream()
    # One byte stands for a field of four thousand, over and over.
    head_by_drops(raw, stream, raw.head("Get"), b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 1000)
    assert raw.run_until(lambda: raw.answer(stream).reset is not None)


def drops_on_a_stream_that_is_refused(raw):
    for _ in range(100):
        raw.open("Sink")
    stream = raw.new_stream()
    head_by_drops(raw, stream, raw.head("Get"))
    assert raw.run_until(lambda: raw.answer(stream).reset is not None)


def drops_of_trailers_behind_the_servers_end(raw):
    stream = raw.open("NoSuchMethod")
    assert raw.run_until(lambda: raw.answer(stream).reset is not None)
    head_by_drops(raw, stream, [("x-trailer", "x")])


@pytest.mark.parametrize("send_drops", [
    drops_on_a_new_stream, drops_behind_a_fault, drops_of_a_head_that_is_far_too_large,
    drops_on_a_stream_that_is_refused, drops_of_trailers_behind_the_servers_end,
])
def test_header_fields_that_come_by_drops_end_the_connection(start_scenarios, open_raw, send_drops):
    """Read or skipped, a block of header fields has to be over in time."""
    server = start_scenarios("--header-milliseconds", 300)
    raw = open_raw(server)
    raw.run_until(lambda: raw.server_settings)
    send_drops(raw)
    assert last_words(raw) == (CALM, "header_timeout")
    assert server.log_has("did not end a block of header fields in time")


def test_skipped_header_fields_that_end_in_time_are_no_excess(start_scenarios, open_raw):
    server = start_scenarios("--header-milliseconds", 1000)
    raw = open_raw(server)
    raw.run_until(lambda: raw.server_settings)
    drops_behind_a_fault(raw)
    raw.send_bytes(b"\x88" * 100)
    time.sleep(1.5)
    raw.assert_serves()
    assert not raw.goaways


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE, PREFACE + b"\x00\x00\x00\x04"])
def test_a_peer_has_until_its_settings_for_the_handshake(start_scenarios, said):
    server = start_scenarios("--handshake-milliseconds", 300)
    with connect(server.address) as peer:
        peer.sendall(said)
        peer.settimeout(5 * PATIENCE)
        while peer.recv(1000):
            pass
    assert server.log_has("did not speak HTTP/2 in time")


def test_the_log_of_many_who_break_the_protocol_is_bounded(start_scenarios):
    """Once for each connection, and not more than so often: what is left out is counted."""
    server = start_scenarios("--threads", 1, "--log-level", "info")
    for _ in range(300):
        with connect(server.address) as peer:
            peer.sendall(b"nonsense" * 10)
            peer.settimeout(5)
            try:
                while peer.recv(1000):
                    pass
            except ConnectionError:
                pass
    lines = [line for line in server.log.splitlines() if "broke the protocol" in line]
    assert 50 <= len(lines) < 150
    time.sleep(0.5)
    with connect(server.address) as peer:
        peer.sendall(b"nonsense" * 10)
    assert server.log_has(r"left-out=\d+ lines like this")
