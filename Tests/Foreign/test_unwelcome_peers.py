"""Ports in use, peers that speak something else, connections that are cut: a named cause, and the server serves on."""

import os
import re
import socket
import ssl
import subprocess
import time

import pytest
from hyperframe.frame import HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from raw_connection import PREFACE, connect, message
from scenario_client import new_key, parameters
from server_process import PATIENCE, ServerProcess, executable


def outcome(command):
    """Exit code and standard error of a server that does not get to listen."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * PATIENCE)
    return done.returncode, done.stderr


def test_a_port_in_use_is_said_with_the_address_and_the_cause(echo_server, start_echo):
    code, log = outcome([executable("apus-echo"), "serve", "--listen", echo_server.address])
    assert code not in (0, None) and code > 0
    assert echo_server.address in log
    assert re.search("address already in use|EADDRINUSE", log, re.IGNORECASE), log
    assert echo_server.is_running


def test_a_unix_socket_in_use_is_not_taken_from_its_server(start_echo, tmp_path):
    path = tmp_path / "echo.sock"
    server = start_echo(listen=f"unix:{path}")
    code, log = outcome([executable("apus-echo"), "serve", "--listen", f"unix:{path}"])
    assert code > 0
    assert str(path) in log and re.search("in use|EADDRINUSE", log, re.IGNORECASE), log
    connect(server.address).close()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path):
    path = tmp_path / "precious.txt"
    path.write_text("keep me")
    code, log = outcome([executable("apus-echo"), "serve", "--listen", f"unix:{path}"])
    assert code > 0 and str(path) in log
    assert path.read_text() == "keep me"


@pytest.mark.parametrize("listen, cause", [
    ("nonsense", "port"), ("127.0.0.1:", "port"), ("127.0.0.1:99999", "port"), (":50051", "host"),
    ("::1:50051", "bracket"), ("unix:", "path"), ("no-such-host.invalid:0", "no-such-host.invalid"),
    ("192.0.2.1:0", "192.0.2.1"), ("unix:/no/such/folder/s.sock", "/no/such/folder/s.sock"),
    ("unix:/tmp/" + "x" * 200, "107"),
])
def test_an_address_that_cannot_be_listened_on_is_said_with_its_cause(listen, cause):
    code, log = outcome([executable("apus-echo"), "serve", "--listen", listen])
    assert code > 0
    assert cause in log, log


def receive_all(connected, seconds=5):
    connected.settimeout(seconds * PATIENCE)
    received = b""
    try:
        while data := connected.recv(65_536):
            received += data
    except ConnectionError:
        pass
    return received


@pytest.fixture
def server(start_scenarios):
    return start_scenarios()


def assert_serves(open_raw, server):
    open_raw(server).assert_serves()


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST /echo.v1.EchoService/Get HTTP/1.1", "HEAD / HTTP/1.0",
                                          "OPTIONS * HTTP/1.1", "BREW /pot HTTP/1.1"])
def test_an_http1_peer_is_answered_in_its_own_terms_and_named_in_the_log(server, open_raw, request_line):
    with connect(server.address) as peer:
        peer.sendall(request_line.encode() + b"\r\nHost: x\r\nUser-Agent: test\r\n\r\n")
        answer = receive_all(peer)
    assert answer.startswith(b"HTTP/1.1 505"), answer
    head, body = answer.split(b"\r\n\r\n", 1)
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"HTTP/2" in body
    assert server.log_has("HTTP/1")
    assert_serves(open_raw, server)


def test_an_http1_request_that_asks_for_an_upgrade_is_answered_like_any(server, open_raw):
    with connect(server.address) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                     b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert receive_all(peer).startswith(b"HTTP/1.1 505")
    assert_serves(open_raw, server)


NOISE = {
    "zeros": b"\x00" * 100, "random": bytes((index * 197 + 13) % 256 for index in range(4096)),
    "text": b"hello?\r\n", "ssh": b"SSH-2.0-OpenSSH_9.2\r\n", "redis": b"*1\r\n$4\r\nPING\r\n",
    "a preface that goes wrong": PREFACE[:20] + b"XX" + b"\x00" * 50, "one byte": b"\xff",
}


@pytest.mark.parametrize("noise", NOISE)
def test_noise_closes_the_connection_and_is_named_in_the_log(server, open_raw, noise):
    with connect(server.address) as peer:
        peer.sendall(NOISE[noise])
        receive_all(peer)
    assert server.log_has("broke the protocol"), server.log
    assert_serves(open_raw, server)


def test_noise_that_comes_byte_by_byte_closes_the_connection_too(server, open_raw):
    with connect(server.address) as peer:
        try:
            for byte in b"GET / HTTP/1.1\r\n\r\n":
                peer.sendall(bytes([byte]))
                time.sleep(0.005)
        except ConnectionError:
            pass
        receive_all(peer)
    assert server.log_has("broke the protocol")
    assert_serves(open_raw, server)


def test_a_preface_that_comes_byte_by_byte_is_accepted(server):
    with connect(server.address) as peer:
        for byte in PREFACE + SettingsFrame(0).serialize() + PingFrame(0, opaque_data=b"bytewise").serialize():
            peer.sendall(bytes([byte]))
        received = b""
        end = time.monotonic() + 5 * PATIENCE
        peer.settimeout(0.2)
        while b"bytewise" not in received and time.monotonic() < end:
            try:
                received += peer.recv(4096)
            except TimeoutError:
                pass
        assert b"bytewise" in received


def test_a_tls_peer_is_told_by_an_alert_and_named_in_the_log(server, open_raw):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)) as error:
        with connect(server.address) as peer:
            context.wrap_socket(peer, server_hostname="localhost")
    assert "alert" in str(error.value).lower(), error.value
    assert server.log_has("TLS")
    assert_serves(open_raw, server)


def test_a_peer_that_says_nothing_is_let_go_in_time(start_scenarios, open_raw):
    server = start_scenarios("--handshake-milliseconds", 300)
    began = time.monotonic()
    for opening in [b"", PREFACE[:10], PREFACE]:
        with connect(server.address) as peer:
            peer.sendall(opening)
            receive_all(peer)
    assert 0.8 < time.monotonic() - began < 4 * PATIENCE
    assert server.log_has("did not speak HTTP/2 in time")
    assert_serves(open_raw, server)


def test_a_peer_that_connects_and_leaves_is_no_fault(server, open_raw):
    for _ in range(20):
        connect(server.address).close()
    assert_serves(open_raw, server)
    assert "broke the protocol" not in server.log


@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("sent", ["head", "half a prefix", "half a message", "half a frame", "whole message"])
def test_a_connection_cut_in_mid_call_is_named_in_the_log(server, open_raw, sent, ending):
    raw = open_raw(server)
    raw.assert_serves()
    stream = raw.open("Collect" if sent != "whole message" else "Listen")
    if sent == "half a prefix":
        raw.data(stream, message(b"half")[:3])
    if sent == "half a message":
        raw.data(stream, message(b"half")[:7])
    if sent == "half a frame":
        raw.send_bytes(b"\x00\x10\x00\x00\x00" + stream.to_bytes(4, "big") + b"\x00\x00")
    if sent == "whole message":
        raw.data(stream, message(b"whole"))
    if sent != "half a frame":
        raw.ping()
        raw.run_until(lambda: raw.ping_acks)
    else:
        # What a reset overtakes the kernel drops.
        time.sleep(0.2 * PATIENCE)
    getattr(raw, ending)()
    line = server.log_has("lost a connection with calls open")
    assert line and "cause=" in line and "calls=1" in line, server.log
    assert_serves(open_raw, server)


def test_a_connection_cut_while_the_server_writes_is_named_in_the_log(server, open_raw):
    raw = open_raw(server)
    key = new_key()
    stream = raw.open("Pour", parameters(count=10_000, bytes=10_000, key=key))
    raw.data(stream, message(b""), end_stream=True)
    raw.run_until(lambda: raw.answer(stream).data_bytes > 0)
    raw.abort()
    assert server.log_has("lost a connection with calls open")
    assert open_raw(server).wait_for(f"cancelled.{key}") == 1


BROKEN_FRAMES = {
    "a frame that is too large": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "SETTINGS of a bad length": b"\x00\x00\x05\x04\x00\x00\x00\x00\x00" + b"\x00" * 5,
    "a PING of a bad length": b"\x00\x00\x07\x06\x00\x00\x00\x00\x00" + b"\x00" * 7,
    "DATA on stream 0": b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x",
    "HEADERS on an even stream": HeadersFrame(2, data=b"\x82", flags=["END_HEADERS"]).serialize(),
    "DATA on an idle stream": b"\x00\x00\x01\x00\x00\x00\x00\x00\x09x",
    "a window update of zero": WindowUpdateFrame(0, window_increment=1).serialize()[:9] + b"\x00\x00\x00\x00",
    "a window that overflows": WindowUpdateFrame(0, window_increment=2**31 - 1).serialize() * 2,
    "HPACK that makes no sense": HeadersFrame(1, data=b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
    "CONTINUATION out of place": b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x82",
    "padding longer than the frame": b"\x00\x00\x02\x00\x08\x00\x00\x00\x03\xff\x00",
}


@pytest.mark.parametrize("fault", BROKEN_FRAMES)
def test_frames_that_make_no_sense_close_the_connection_with_goaway_and_a_log_line(server, open_raw, fault):
    """RFC 9113: a connection error; the client is told by GOAWAY, the log names the cause."""
    raw = open_raw(server)
    raw.assert_serves()
    if fault == "padding longer than the frame":
        assert raw.open("Collect") == 3
    raw.send_bytes(BROKEN_FRAMES[fault])
    raw.run_until(lambda: raw.is_closed)
    assert raw.is_closed
    assert raw.goaways and raw.goaways[-1].error_code != 0
    assert_serves(open_raw, server)
    assert server.log_has("broke the protocol|protocol|GOAWAY"), server.log


def test_unknown_frames_and_settings_are_ignored(server, open_raw):
    """RFC 9113 §4.1, §6.5.2."""
    raw = open_raw(server, settings={0x55: 1})
    raw.send_bytes(b"\x00\x00\x04\xfa\x00\x00\x00\x00\x00abcd")
    raw.assert_serves()


def test_a_peers_goaway_lets_its_calls_end(server, open_raw):
    raw = open_raw(server)
    stream = raw.open("Update")
    raw.data(stream, message(b"one"))
    raw.send_bytes(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8)
    raw.data(stream, message(b"two"), end_stream=True)
    assert raw.result(stream).messages == [b"one", b"two"]
    assert raw.result(stream).status == 0


def test_a_client_that_half_closes_its_socket_after_its_request_is_a_lost_connection_or_answered(server, open_raw):
    """A FIN with a call open ends the call; the server serves on."""
    raw = open_raw(server)
    stream = raw.open("Get")
    raw.data(stream, message(b"bye"), end_stream=True)
    raw.auto_credit = False
    raw.socket.shutdown(socket.SHUT_WR)
    raw.run_until(lambda: raw.is_closed)
    assert_serves(open_raw, server)


def test_descriptors_that_are_used_up_are_logged_and_the_server_recovers(open_raw):
    """EMFILE: new connections wait, and are served when there is room."""
    server = ServerProcess(["prlimit", "--nofile=64", executable("apus-scenarios"), "--listen", "127.0.0.1:0"])
    try:
        waiting = [connect(server.address) for _ in range(100)]
        assert server.log_has("cannot accept connections")
        cpu = server.cpu_seconds
        time.sleep(0.5)
        assert server.cpu_seconds - cpu < 0.2 * PATIENCE, "the loop spins on a backlog that it cannot take"
        for peer in waiting:
            peer.close()
        assert_serves(open_raw, server)
        assert server.crash is None
    finally:
        server.close()


def test_nothing_is_left_open_when_the_server_is_killed_from_outside(start_scenarios):
    """The test kit itself: a server killed by a signal is no silent pass."""
    server = start_scenarios()
    os.kill(server.pid, 0)
    assert server.crash is None
