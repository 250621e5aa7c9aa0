"""Peers that cannot be reached or do not speak gRPC: the error names cause and address, in time (rules 20, 22, 28)."""

import os
import socket
import ssl
import subprocess
import threading
import time

import pytest

from client_process import USES_REFERENCE, not_of_the_reference
from server_process import PATIENCE, wait_until

BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True])
# A connection attempt that nothing answers is given up after this.
CONNECT_TIMEOUT_MS = 600 * PATIENCE


def assert_unavailable(result, address, *causes, within_ms=5000):
    """UNAVAILABLE, in time, with a text that has the address and one of the causes."""
    assert result.code == "UNAVAILABLE", result
    assert result.milliseconds < within_ms * PATIENCE
    if not USES_REFERENCE:
        assert result.origin == "local"
        assert address in result.text, result
        text = result.text.lower()
        assert any(cause.lower() in text for cause in causes), f"none of {causes} in {result.text!r}"


class Listener:
    """Accepts connections and does with each as it is told, in a thread."""

    def __init__(self, treat):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.accepted_at = []
        self.held = []
        self.treat = treat
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.accepted_at.append(time.monotonic())
            self.held.append(connection)
            try:
                self.treat(connection)
            except OSError:
                pass

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.held:
            connection.close()
        self.thread.join(5)


@pytest.fixture
def listen():
    listeners = []

    def start(treat):
        listeners.append(Listener(treat))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


def closed_port():
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Not reachable

@BOTH_WAYS
@pytest.mark.parametrize("kind", ["unary", "server", "client", "bidi"])
def test_a_port_at_which_nobody_listens(open_client_process, kind, blocking):
    target = f"127.0.0.1:{closed_port()}"
    result = open_client_process(target).call(kind=kind, blocking=blocking)
    assert_unavailable(result, target, "connection refused")


def test_all_addresses_of_a_name_at_which_nobody_listens(open_client_process):
    port = closed_port()
    result = open_client_process(f"dns:///localhost:{port}").call()
    assert_unavailable(result, str(port), "connection refused")


@BOTH_WAYS
def test_a_name_that_does_not_resolve(open_client_process, blocking):
    result = open_client_process("no-such-host.invalid:50051").call(blocking=blocking, seconds=30)
    assert_unavailable(result, "no-such-host.invalid", "resolve", "name", "no address", within_ms=25_000)


@BOTH_WAYS
def test_a_unix_socket_that_is_not_there(open_client_process, tmp_path, blocking):
    path = tmp_path / "absent.sock"
    result = open_client_process(f"unix:{path}").call(blocking=blocking)
    assert_unavailable(result, str(path), "no such file")


@pytest.fixture
def full_listener():
    """A port whose queue of connections is full: what connects now gets no answer at all."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    time.sleep(0.1)
    yield "127.0.0.1:%d" % listener.getsockname()[1]
    for client in waiting:
        client.close()
    listener.close()


@BOTH_WAYS
@not_of_the_reference
def test_a_host_that_does_not_answer(open_client_process, full_listener, blocking):
    """rule 28: the connection time-out is kept."""
    client = open_client_process(full_listener, "--connect-timeout-ms", CONNECT_TIMEOUT_MS)
    result = client.call(blocking=blocking)
    assert_unavailable(result, full_listener, "timed out", "timeout", "time-out", "within")
    assert result.milliseconds >= CONNECT_TIMEOUT_MS * 0.9


def test_an_unreachable_network(open_client_process):
    """Refused at once or by the time-out, as the machine's routes have it."""
    client = open_client_process("192.0.2.1:50051", "--connect-timeout-ms", CONNECT_TIMEOUT_MS)
    result = client.call(seconds=30)
    assert_unavailable(result, "192.0.2.1:50051", "timed out", "timeout", "time-out", "within", "unreachable",
                       "refused", "no route", within_ms=25_000)


@pytest.mark.parametrize("target", ["", "nothing", "127.0.0.1", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:65536",
                                    "[::1:50051", "unix:", "http://127.0.0.1:50051", "ipv4:not-a-number:1",
                                    "ipv4:127.0.0.1", "ipv6:127.0.0.1:1", "gopher:///x:1", ":50051"])
@not_of_the_reference
def test_a_target_that_makes_no_sense_is_refused_with_its_text(open_client_process, target):
    refused = open_client_process(target).expect("refused")
    assert refused["code"] == "INVALID_ARGUMENT"
    assert target in refused["message"]


# Reachable, and not a gRPC server

@BOTH_WAYS
@not_of_the_reference
def test_a_peer_that_accepts_and_says_nothing(listen, open_client_process, blocking):
    """rule 28: READY only on SETTINGS; the connection time-out ends the wait."""
    listener = listen(lambda connection: None)
    client = open_client_process(listener.address, "--connect-timeout-ms", CONNECT_TIMEOUT_MS)
    result = client.call(blocking=blocking)
    assert_unavailable(result, listener.address, "settings")
    assert result.milliseconds >= CONNECT_TIMEOUT_MS * 0.9


@BOTH_WAYS
def test_a_deadline_while_a_peer_says_nothing(listen, open_client_process, blocking):
    """rule 22: DEADLINE_EXCEEDED at the deadline, and its text says what was waited for."""
    listener = listen(lambda connection: None)
    result = open_client_process(listener.address).call(timeout_ms=300, blocking=blocking)
    assert result.code == "DEADLINE_EXCEEDED"
    assert 290 <= result.milliseconds < 3000 * PATIENCE
    assert USES_REFERENCE or listener.address in result.text, result


@BOTH_WAYS
@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 505 HTTP Version Not Supported\r\n\r\n",
])
def test_a_peer_that_speaks_http1(listen, open_client_process, answer, blocking):
    def treat(connection):
        connection.recv(24)
        connection.sendall(answer)

    listener = listen(treat)
    result = open_client_process(listener.address).call(blocking=blocking)
    assert_unavailable(result, listener.address, "HTTP/1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that the server made for itself."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )
    return folder / "certificate.pem", folder / "key.pem"


def test_a_peer_that_speaks_tls_and_hangs_up(listen, open_client_process, certificate):
    """OpenSSL gives no reason when it gets a plain preface."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def treat(connection):
        try:
            context.wrap_socket(connection, server_side=True)
        except ssl.SSLError:
            pass

    listener = listen(treat)
    assert_unavailable(open_client_process(listener.address).call(), listener.address, "closed", "reset", "ended")


@pytest.mark.parametrize("reason", [70, 40, 10])
@BOTH_WAYS
def test_a_peer_that_answers_with_an_alert_of_tls(listen, open_client_process, reason, blocking):
    """As other libraries do: a record of type 21 with a fatal alert, protocol_version for instance."""
    def treat(connection):
        connection.recv(10_000)
        connection.sendall(bytes([21, 3, 1, 0, 2, 2, reason]))

    listener = listen(treat)
    assert_unavailable(open_client_process(listener.address).call(blocking=blocking), listener.address, "TLS")


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(100),
                                      os.urandom(100), bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])],
                         ids=["smtp", "ssh", "zeros", "random", "a frame other than SETTINGS"])
@not_of_the_reference
def test_a_peer_that_speaks_something_else(listen, open_client_process, greeting):
    listener = listen(lambda connection: connection.sendall(greeting))
    client = open_client_process(listener.address, "--connect-timeout-ms", CONNECT_TIMEOUT_MS)
    assert_unavailable(client.call(), listener.address, "HTTP/2", "preface", "settings", "protocol")


@BOTH_WAYS
def test_a_peer_that_closes_right_after_it_accepted(listen, open_client_process, blocking):
    listener = listen(lambda connection: connection.close())
    result = open_client_process(listener.address).call(blocking=blocking)
    assert_unavailable(result, listener.address, "closed", "reset", "ended")


def test_a_peer_that_closes_after_its_settings_and_half_of_a_frame(listen, open_client_process):
    def treat(connection):
        connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + bytes([0, 0, 8]))
        connection.recv(10_000)
        connection.close()

    listener = listen(treat)
    assert_unavailable(open_client_process(listener.address).call(), listener.address, "closed", "reset", "ended")


# Back-off

@not_of_the_reference
def test_connections_are_tried_again_with_back_off(listen, open_client_process):
    """rule 28: × 1.6 each time, ± 20 %; accepting alone, without SETTINGS, does not reset it."""
    listener = listen(lambda connection: connection.close())
    client = open_client_process(listener.address, "--initial-backoff-ms", 200)
    client.start("Wait", wait_for_ready=True)
    assert wait_until(lambda: len(listener.accepted_at) >= 6, 20)
    times = listener.accepted_at[:6]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    for number, gap in enumerate(gaps):
        expected = 0.2 * 1.6 ** number
        assert 0.8 * expected - 0.02 <= gap, f"too early: {gaps}"
        assert gap <= 1.2 * expected + 0.5 * PATIENCE, f"too late: {gaps}"


@not_of_the_reference
def test_calls_fail_fast_while_the_channel_backs_off(listen, open_client_process):
    """rule 28: at once, with the cause of the last attempt, and without an attempt of their own."""
    listener = listen(lambda connection: connection.close())
    client = open_client_process(listener.address, "--initial-backoff-ms", 60_000)
    assert client.call().code == "UNAVAILABLE"
    for _ in range(5):
        result = client.call()
        assert_unavailable(result, listener.address, "closed", "reset", "ended", within_ms=500)
    assert len(listener.accepted_at) == 1
    late = client.call(wait_for_ready=True, timeout_ms=300)
    assert late.code == "DEADLINE_EXCEEDED" and listener.address in late.text


def test_calls_that_wait_for_ready_are_served_when_the_server_comes(start_raw_server, open_client_process):
    port = closed_port()
    client = open_client_process(f"127.0.0.1:{port}", "--initial-backoff-ms", 100, "--connect-timeout-ms", 1000)
    calls = [client.start("Wait", kind=kind, wait_for_ready=True) for kind in ["unary", "server", "client", "bidi"]]
    time.sleep(0.5)
    start_raw_server(lambda connection: connection.serve(), address=("127.0.0.1", port))
    assert [call.result(20).messages for call in calls] == [[b"served"]] * 4
