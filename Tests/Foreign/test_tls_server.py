"""The server's TLS with peers that are welcome (grpcio, h2load, proxies) and with those that are not."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import grpc
import pytest
from hyperframe.frame import PingFrame, SettingsFrame

from h2load import h2load
from raw_connection import LARGEST_WINDOW, PREFACE, RawConnection, connect
from scenario_client import ScenarioClient, new_key, parameters
from server_process import PATIENCE, executable, wait_until
from test_echo_with_grpcio import call_in_four_ways
from tls_fixtures import ECHO_GET

MIB = 1024 * 1024
TIMEOUT = 20 * PATIENCE
HELLO = b"\x0a\x05hello"


@pytest.fixture
def open_secure(certificates):
    """Opens channels of grpcio with TLS."""
    channels = []

    def open(server, ca="ca", certificate=None, **options):
        pair = [certificates.text(certificate + end) for end in (".key", ".pem")] if certificate else []
        credentials = grpc.ssl_channel_credentials(certificates.text(ca + ".pem"), *pair)
        arguments = {"grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": -1,
                     "grpc.enable_retries": 0, "grpc.enable_http_proxy": 0}
        arguments |= {"grpc." + name.replace("__", "."): value for name, value in options.items()}
        channels.append(grpc.secure_channel(f"localhost:{server.port}", credentials, options=list(arguments.items())))
        return channels[-1]

    yield open
    for channel in channels:
        channel.close()


def call(channel, timeout=TIMEOUT):
    return channel.unary_unary(ECHO_GET)(HELLO, timeout=timeout)


def answer_or_error(channel, timeout=TIMEOUT):
    """For a thread of its own, from which an error would reach nobody."""
    try:
        return call(channel, timeout)
    except Exception as error:
        return repr(error)


def refusal(channel):
    """The error of a call that cannot be made."""
    with pytest.raises(grpc.RpcError) as error:
        call(channel)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    return error.value.details()


def described(client):
    return dict(line.split("=", 1) for line in client.call("DescribeSecurity").decode().splitlines())


# Welcome peers

@pytest.mark.parametrize("name", ["server", "server-ec", "server-chain", "server-4096"])
def test_all_four_methods_answer_grpcio(echo, certificates, start_echo, open_secure, name):
    call_in_four_ways(echo, echo.Stub(open_secure(start_echo(*certificates.options(name)))))


def test_grpcio_refuses_a_server_whose_authority_it_does_not_know(tls_echo, open_secure):
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(open_secure(tls_echo, ca="unknown-ca"))
    # It hangs up without an alert.
    line = tls_echo.log_has("handshake")
    assert line and "127.0.0.1:" in line, tls_echo.log


def test_large_messages_and_many_small_ones(echo, tls_echo, open_secure):
    stub = echo.Stub(open_secure(tls_echo))
    text = os.urandom(3 * MIB // 2).hex()
    assert stub.Get(echo.Request(text=text), timeout=TIMEOUT).text == text
    assert [part.text for part in stub.Update(iter([echo.Request(text=text)] * 5), timeout=TIMEOUT)] == [text] * 5
    texts = [f"word{number}" for number in range(10_000)]
    answers = stub.Update((echo.Request(text=text) for text in texts), timeout=TIMEOUT)
    assert [part.text for part in answers] == texts


def test_every_request_of_h2load_succeeds(tls_echo, tmp_path):
    count = 50_000 // PATIENCE
    succeeded, _ = h2load(tls_echo, ECHO_GET, count, tmp_path, HELLO, scheme="https")
    assert succeeded == count


def test_messages_of_64_kib_by_h2load(start_scenarios, certificates, tmp_path):
    server = start_scenarios(*certificates.options("server"), "--log-level", "info")
    payload = os.urandom(65_536)
    succeeded, data = h2load(server, "/apus.test.v1.ScenarioService/Get", 2000, tmp_path, payload, streams=10,
                             scheme="https")
    assert succeeded == 2000 and data == 2000 * (len(payload) + 5)


@pytest.mark.parametrize("proxy", ["nginx", "envoy"])
def test_a_proxy_that_speaks_tls_to_the_server(proxies, certificates, start_echo, open_secure, echo, proxy):
    """Other stacks as clients of TLS: OpenSSL in nginx, BoringSSL in Envoy."""
    server = start_echo(*certificates.options("server"))
    front = getattr(proxies, proxy)(server, upstream_tls=True)
    stub = echo.Stub(open_secure(front))
    for number in range(20):
        assert stub.Get(echo.Request(text=str(number)), timeout=TIMEOUT).text == str(number)
    assert [part.text for part in stub.Expand(echo.Request(text="a b c"), timeout=TIMEOUT)] == ["a", "b", "c"]


def test_a_proxy_with_a_certificate_of_its_own_is_who_the_server_sees(certificates, start_scenarios, proxies,
                                                                      open_secure):
    server = start_scenarios(*certificates.options("server", client_ca="ca"))
    front = proxies.envoy(server, upstream_tls=True, upstream_certificate="client")
    assert described(ScenarioClient(open_secure(front)))["spiffe_id"] == "spiffe://test.example/client"


# Mutual TLS

def test_a_verified_client_is_known_to_the_handler(certificates, start_scenarios, open_secure):
    server = start_scenarios(*certificates.options("server", client_ca="ca"))
    found = described(ScenarioClient(open_secure(server, certificate="client-ec")))
    assert found["subject"] == "CN=Test client" and found["verified"] == "true"
    assert found["uris"] == found["spiffe_id"] == "spiffe://test.example/client"
    assert found["dns_names"] == "client.test.example"
    assert found["server_name"] == "localhost" and found["protocol"] == "h2" and found["version"] == "TLSv1.3"
    assert int(found["chain"]) >= 1


@pytest.mark.parametrize("name, cause", [(None, "no certificate"), ("client-unknown", "no authority that is trusted"),
                                         ("client-expired", "expired"), ("server", "purpose")])
def test_a_client_without_an_acceptable_certificate_is_refused(certificates, start_echo, open_secure, name, cause):
    """`server` is a certificate for servers alone."""
    server = start_echo(*certificates.options("server", client_ca="ca"))
    refusal(open_secure(server, certificate=name))
    line = server.log_has("TLS with a peer failed")
    assert line and cause in line and re.search(r"127\.0\.0\.1:\d+|\[::1\]:\d+|::1", line), server.log
    assert call(open_secure(server, certificate="client")) == HELLO


def test_certificates_may_be_optional(certificates, start_scenarios, open_secure):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-client-optional")
    assert described(ScenarioClient(open_secure(server)))["subject"] == ""
    assert described(ScenarioClient(open_secure(server, certificate="client")))["subject"] == "CN=Test client"
    refusal(open_secure(server, certificate="client-unknown"))
    assert server.log_has("no authority that is trusted")


def test_a_verification_of_our_own_holds_http2_until_it_has_decided(certificates, start_scenarios):
    delay = 0.5 * PATIENCE
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-verification-ms",
                             int(delay * 1000))
    began = time.monotonic()
    raw = RawConnection(certificates.connect(server.address, certificates.client_context("client")))
    stream = raw.open("Get")
    raw.data(stream, b"\0\0\0\0\2ok", end_stream=True)
    assert raw.receive(delay / 2) is None and not raw.is_closed, "HTTP/2 was spoken before the peer was accepted"
    assert raw.result(stream).messages == [b"ok"]
    assert time.monotonic() - began >= delay
    raw.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_is_known_on_a_resumed_session_too(certificates, start_scenarios, version):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-verification-ms", 10)
    context = certificates.client_context("client")
    context.maximum_version = version
    session = None
    for resumed in ["false", "true", "true"]:
        raw = RawConnection(certificates.connect(server.address, context, session=session))
        text = raw.call("DescribeSecurity", b"").messages[0].decode()
        session = raw.socket.session
        raw.close()
        for line in [f"resumed={resumed}", "subject=CN=Test client", "spiffe_id=spiffe://test.example/client",
                     "verified=true", f"version={version.name.replace('_', '.')}"]:
            assert line in text.splitlines(), text


@pytest.mark.parametrize("delay", [0, 300])
@pytest.mark.parametrize("name", ["server", "server-4096"])
def test_what_follows_the_handshake_in_the_same_segment_is_not_lost(certificates, start_scenarios, name, delay):
    """A client sends its preface with the end of its handshake; a server that verifies keeps it until it is done."""
    pings = "--min-ping-milliseconds", 0, "--permit-pings-without-calls"
    server = start_scenarios(*certificates.options(name, client_ca="ca"), "--tls-verification-ms", delay, *pings)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client_context("client").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connect(server.address) as peer:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.sendall(outgoing.read())
                incoming.write(peer.recv(65_536))
        session.write(PREFACE + SettingsFrame(0).serialize())
        for number in range(100):
            session.write(PingFrame(0, opaque_data=b"%08d" % number).serialize())
        peer.sendall(outgoing.read())
        answer = b""
        while b"%08d" % 99 not in answer:
            more = peer.recv(65_536)
            assert more, "the server closed the connection"
            incoming.write(more)
            try:
                while True:
                    answer += session.read(65_536)
            except ssl.SSLWantReadError:
                pass
    assert all(b"%08d" % number in answer for number in range(100))


def test_a_verification_of_our_own_refuses(certificates, start_scenarios, open_secure):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-refuse", "CN=Test client",
                             "--tls-verification-ms", 20)
    channel = open_secure(server, certificate="client")
    refusal(channel)
    line = server.log_has("TLS with a peer failed")
    assert line and "it is not on the list" in line and "127.0.0.1:" in line, server.log


def test_a_client_that_leaves_while_it_is_verified_leaves_nothing(certificates, start_scenarios, open_secure):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-verification-ms", 300)
    assert call(open_secure(server, certificate="client"))
    before = server.descriptors
    for _ in range(50):
        connection = certificates.connect(server.address, certificates.client_context("client"))
        connection.send(PREFACE)
        connection.close()
    assert wait_until(lambda: server.descriptors <= before), server.descriptors
    assert call(open_secure(server, certificate="client"))


# Unwelcome peers

def received(peer, seconds=5):
    """All that comes until the server hangs up."""
    peer.settimeout(seconds * PATIENCE)
    data = b""
    try:
        while piece := peer.recv(65_536):
            data += piece
    except ConnectionError:
        pass
    return data


PLAINTEXT = {
    "HTTP/1": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1"),
    "HTTP/2": (PREFACE + b"\0\0\0\4\0\0\0\0\0", "HTTP/2"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"),
    "zeros": (bytes(100), "00 00"),
    "random": (bytes((index * 197 + 13) % 256 for index in range(4096)), "0d d2"),
}


@pytest.mark.parametrize("kind", PLAINTEXT)
def test_plaintext_closes_the_connection_and_the_log_names_the_peer(tls_echo, open_secure, kind):
    noise, words = PLAINTEXT[kind]
    with connect(tls_echo.address) as peer:
        port = peer.getsockname()[1]
        peer.sendall(noise)
        received(peer)
    line = tls_echo.log_has(f"TLS with a peer failed.*127.0.0.1:{port}|127.0.0.1:{port}.*TLS with a peer failed")
    assert line and "plaintext" in line and words in line, tls_echo.log
    assert call(open_secure(tls_echo)) == HELLO


def client_hello():
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


GARBAGE = {
    "a record that is no hello": b"\x16\x03\x01\x00\x05hello",
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a hello that goes wrong": client_hello()[:60] + b"\xff" * (len(client_hello()) - 60),
    "two hellos": client_hello() * 2,
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_closes_the_connection_and_the_log_names_the_peer(tls_echo, open_secure, kind):
    with connect(tls_echo.address) as peer:
        port = peer.getsockname()[1]
        try:
            peer.sendall(GARBAGE[kind])
            received(peer)
        except ConnectionError:
            pass
    assert tls_echo.log_has(f"TLS with a peer failed.*127.0.0.1:{port}|127.0.0.1:{port}.*TLS with a peer failed")
    assert call(open_secure(tls_echo)) == HELLO


def test_a_hello_that_comes_byte_by_byte_is_accepted(certificates, tls_echo):
    """And all else too: TLS in pieces of one byte."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connect(tls_echo.address) as peer:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    peer.sendall(bytes([byte]))
                incoming.write(peer.recv(65_536))
        session.write(PREFACE + b"\0\0\0\4\0\0\0\0\0")
        for byte in outgoing.read():
            peer.sendall(bytes([byte]))
        answer = b""
        while len(answer) < 9:
            incoming.write(peer.recv(65_536))
            try:
                answer += session.read(65_536)
            except ssl.SSLWantReadError:
                pass
        assert answer[3] == 4, "that is no SETTINGS frame"


def test_records_that_were_tampered_with_end_the_connection(certificates, tls_echo, open_secure):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connect(tls_echo.address) as peer:
        port = peer.getsockname()[1]
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.sendall(outgoing.read())
                incoming.write(peer.recv(65_536))
        peer.sendall(outgoing.read())
        session.write(PREFACE)
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        peer.sendall(record)
        received(peer)
    assert tls_echo.log_has(f"TLS with a peer failed.*127.0.0.1:{port}|127.0.0.1:{port}.*TLS with a peer failed")
    assert call(open_secure(tls_echo)) == HELLO


STOPS = {"says nothing": b"", "stops in its hello": client_hello()[:100], "stops after its hello": client_hello()}


@pytest.mark.parametrize("way", STOPS)
def test_a_peer_that_stops_in_mid_handshake_is_given_up(certificates, start_scenarios, way):
    server = start_scenarios(*certificates.options("server"), "--handshake-milliseconds", 800)
    began = time.monotonic()
    with connect(server.address) as peer:
        port = peer.getsockname()[1]
        peer.sendall(STOPS[way])
        received(peer)
    assert 0.7 < time.monotonic() - began < 4 * PATIENCE
    line = server.log_has(f"in time.*127.0.0.1:{port}|127.0.0.1:{port}.*in time")
    assert line and "TLS" in line, server.log


def test_a_peer_that_is_silent_after_the_handshake_is_given_up(certificates, start_scenarios):
    server = start_scenarios(*certificates.options("server"), "--handshake-milliseconds", 800)
    with certificates.connect(server.address) as peer:
        began = time.monotonic()
        received(peer)
    assert 0.6 < time.monotonic() - began < 4 * PATIENCE
    assert server.log_has("HTTP/2 in time")


def test_a_peer_that_leaves_in_mid_handshake_is_named(tls_echo, open_secure):
    with connect(tls_echo.address) as peer:
        port = peer.getsockname()[1]
        peer.sendall(client_hello()[:100])
    line = tls_echo.log_has(f"127.0.0.1:{port}")
    assert line and "handshake" in line, tls_echo.log
    assert call(open_secure(tls_echo)) == HELLO


def test_a_connection_that_is_cut_without_close_notify_is_named(certificates, start_scenarios):
    server = start_scenarios(*certificates.options("server"))
    plain = connect(server.address)
    raw = RawConnection(certificates.client_context().wrap_socket(plain, server_hostname="localhost"))
    raw.open("Collect")
    raw.ping()
    raw.run_until(lambda: raw.ping_acks)
    raw.socket.shutdown(socket.SHUT_RDWR)
    line = server.log_has("lost a connection with calls open")
    assert line and "close_notify" in line, server.log
    raw.close()


def test_close_notify_ends_every_connection_that_ends_in_order(certificates, start_echo):
    """So that a client knows that nothing is missing (RFC 8446 §6.1)."""
    server = start_echo(*certificates.options("server"))
    connection = certificates.connect(server.address, suppress_ragged_eofs=False)
    raw = RawConnection(connection)
    assert raw.call(ECHO_GET, HELLO).messages == [HELLO]
    server.terminate()
    # ssl raises an error when it is missing.
    assert raw.run_until(lambda: raw.is_closed)
    raw.close()
    assert server.exit_code() == 0


def test_a_thousand_half_open_handshakes_do_not_stop_good_clients(certificates, start_scenarios, open_secure):
    server = start_scenarios(*certificates.options("server"), "--handshake-milliseconds", 4000 * PATIENCE)
    assert open_secure(server).unary_unary(ECHO_GET)(HELLO, timeout=TIMEOUT) == HELLO
    before = server.descriptors
    hello = client_hello()
    parts = [b"", hello[:50], hello]
    half_open = []
    answered = []
    ends = threading.Event()

    def call_on():
        while not ends.is_set():
            with grpc_channel() as channel:
                answered.append(answer_or_error(channel, 10 * PATIENCE))

    def grpc_channel():
        credentials = grpc.ssl_channel_credentials(certificates.text("ca.pem"))
        return grpc.secure_channel(f"localhost:{server.port}", credentials,
                                   options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])

    caller = threading.Thread(target=call_on)
    caller.start()
    try:
        for number in range(1000):
            half_open.append(connect(server.address))
            half_open[-1].sendall(parts[number % 3])
        begun = len(answered)
        assert wait_until(lambda: len(answered) >= begun + 20, 5), "good clients are not served"
        assert server.descriptors >= before + 900, "the half-open handshakes were not open any more"
    finally:
        ends.set()
        caller.join()
    assert set(answered) == {HELLO}
    assert wait_until(lambda: server.descriptors <= before + 2, 10), "half-open handshakes are not given up"
    for peer in half_open:
        peer.close()


# Certificates that are read anew

class Files:
    """A certificate, a key and an authority that change."""

    def __init__(self, certificates, folder, name):
        self.certificates, self.folder = certificates, folder
        self.certificate, self.key = str(folder / "now.pem"), str(folder / "now.key")
        self.show(name)

    def show(self, name):
        chain, key = self.certificates.pair(name)
        shutil.copy(chain, self.certificate)
        shutil.copy(key, self.key)

    @property
    def options(self):
        return ["--tls-cert", self.certificate, "--tls-key", self.key]


def reload(server, seconds=5):
    """SIGHUP; the line that the server logs of it."""
    pattern = r"read anew|stay as they were"
    before = len(re.findall(pattern, server.log))
    server.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: len(re.findall(pattern, server.log)) > before, seconds), "the server did not say a word"
    return [line for line in server.log.splitlines() if re.search(pattern, line)][-1]


def test_a_reload_under_load_loses_no_call_and_new_connections_see_the_new_certificate(
        certificates, start_echo, open_secure, tmp_path):
    files = Files(certificates, tmp_path, "server")
    server = start_echo(*files.options)
    old = open_secure(server)
    assert call(old) == HELLO
    assert certificates.shown_by(server.address) == certificates.serial("server")
    ours = subprocess.Popen([executable("apus-echo"), "load", "--target", server.address, "--calls",
                             str(40_000 // PATIENCE), *certificates.client_options()],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    answered = []
    ends = threading.Event()

    def call_on():
        while not ends.is_set():
            answered.append(answer_or_error(old))
            answered.append(answer_or_error(open_secure(server)))

    caller = threading.Thread(target=call_on)
    caller.start()
    try:
        number = 0
        while number < 12 or ours.poll() is None:
            name = ["server-ec", "server-chain", "server"][number % 3]
            number += 1
            files.show(name)
            assert "read anew" in reload(server)
            assert certificates.shown_by(server.address) == certificates.serial(name)
    finally:
        ends.set()
        caller.join()
    assert len(answered) > 20 and set(answered) == {HELLO}
    said, _ = ours.communicate(timeout=60 * PATIENCE)
    assert ours.returncode == 0 and "calls/s" in said, said


BREAKAGES = {
    "another key": ("now.key", lambda certificates: certificates.text("client.key"), "does not match"),
    "no certificate": ("now.pem", lambda certificates: b"", "no certificate in"),
    "no key": ("now.key", lambda certificates: b"nothing\n", "no private key in"),
    "garbage": ("now.pem", lambda certificates: certificates.text("server.pem")[:200], "cannot read"),
    "encrypted": ("now.key", lambda certificates: certificates.text("server-encrypted.key"), "encrypted"),
    "absent": ("now.key", None, "No such file"),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_reload_of_a_broken_file_keeps_what_was_and_says_why(certificates, start_echo, open_secure, tmp_path, kind):
    files = Files(certificates, tmp_path, "server")
    server = start_echo(*files.options)
    name, content, cause = BREAKAGES[kind]
    if content:
        (tmp_path / name).write_bytes(content(certificates))
    else:
        (tmp_path / name).unlink()
    line = reload(server)
    assert "stay as they were" in line and str(tmp_path / name) in line and cause.lower() in line.lower(), line
    assert certificates.shown_by(server.address) == certificates.serial("server")
    assert call(open_secure(server)) == HELLO
    files.show("server-ec")
    assert "read anew" in reload(server)
    assert certificates.shown_by(server.address) == certificates.serial("server-ec")


def test_another_configuration_takes_the_place_of_the_first(certificates, start_scenarios, tmp_path):
    files = Files(certificates, tmp_path, "server-ec")
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-client-optional",
                             "--tls-next-cert", files.certificate, "--tls-next-key", files.key)
    raw = RawConnection(certificates.connect(server.address))
    assert raw.call("Get", b"before").messages == [b"before"]
    assert certificates.shown_by(server.address) == certificates.serial("server")

    def replace(words):
        count = server.log.count(words)
        server.process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: server.log.count(words) > count), server.log

    (tmp_path / "now.key").write_bytes(certificates.text("client.key"))
    replace("TLS stays as it was")
    assert server.log_has("does not match")
    assert certificates.shown_by(server.address) == certificates.serial("server")
    files.show("server-ec")
    replace("TLS was replaced")
    assert certificates.shown_by(server.address) == certificates.serial("server-ec")
    # The new one asks for no certificates, the connection of before goes on.
    other = RawConnection(certificates.connect(server.address, certificates.client_context("client")))
    assert "subject=\n" in other.call("DescribeSecurity", b"").messages[0].decode()
    assert raw.call("Get", b"after").messages == [b"after"]
    raw.close()
    other.close()


def test_on_a_unix_socket_a_handler_knows_the_process_that_calls(start_scenarios, tmp_path):
    """SO_PEERCRED, of a process that is not the server's."""
    start_scenarios(listen=f"unix:{tmp_path}/server.sock")
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(tmp_path / "server.sock"))
    raw = RawConnection(peer)
    told = raw.call("DescribeSecurity", b"").messages[0].decode()
    assert told == f"plaintext=yes\nprocess={os.getpid()} {os.getuid()} {os.getgid()}"
    raw.close()


def test_a_reload_replaces_the_authorities_of_clients(certificates, start_echo, open_secure, tmp_path):
    authority = tmp_path / "clients.pem"
    shutil.copy(certificates.ca, authority)
    server = start_echo(*certificates.options("server"), "--tls-client-ca", str(authority))
    assert call(open_secure(server, certificate="client")) == HELLO
    shutil.copy(certificates.path("unknown-ca.pem"), authority)
    assert "read anew" in reload(server)
    refusal(open_secure(server, certificate="client"))
    assert call(open_secure(server, certificate="client-unknown")) == HELLO


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_server_that_cannot_load_its_files_says_which_and_why(certificates, tmp_path, kind):
    files = Files(certificates, tmp_path, "server")
    name, content, cause = BREAKAGES[kind]
    if content:
        (tmp_path / name).write_bytes(content(certificates))
    else:
        (tmp_path / name).unlink()
    done = subprocess.run([executable("apus-echo"), "serve", "--listen", "127.0.0.1:0", *files.options],
                          capture_output=True, text=True, timeout=20 * PATIENCE)
    assert done.returncode > 0
    assert str(tmp_path / name) in done.stderr and cause.lower() in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("options", [["--tls-cert", "x.pem"], ["--tls-key", "x.key"], ["--tls-client-ca", "x.pem"]])
def test_options_that_belong_together(options):
    done = subprocess.run([executable("apus-echo"), "serve", *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 64 and "--tls-cert" in done.stderr, done.stderr


# Time

def test_deadlines_and_cancellation_reach_the_handler(certificates, start_scenarios, open_secure):
    client = ScenarioClient(open_secure(start_scenarios(*certificates.options("server"))))
    key = new_key()
    with pytest.raises(grpc.RpcError) as error:
        client.call("Hold", timeout=0.3, key=key)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.wait_for(f"cancelled.{key}") == 1
    key = new_key()
    stream = client.server_stream("Pour")(b"", timeout=TIMEOUT, metadata=parameters(key=key, count=10**8, bytes=1000))
    next(iter(stream))
    stream.cancel()
    assert client.wait_for(f"cancelled.{key}") == 1


@pytest.mark.parametrize("by", ["HTTP/2", "TCP"])
def test_a_client_that_does_not_read_holds_up_its_stream_alone(certificates, start_scenarios, by):
    """rule 34 over TLS: by its windows, or by its socket; what is encrypted waits in no memory of the server's."""
    server = start_scenarios(*certificates.options("server"), "--log-level", "info")
    windows = {"settings": {4: LARGEST_WINDOW}, "connection_window": LARGEST_WINDOW} if by == "TCP" else {}
    raw = RawConnection(certificates.connect(server.address), **windows)
    for _ in range(50):
        raw.call("Get", b"x" * 1000)
    before = server.rss_bytes
    key = new_key()
    stream = raw.open("Pour", parameters(count=16_384, bytes=65_536, key=key))
    raw.auto_credit = False
    raw.data(stream, b"\0\0\0\0\0", end_stream=True)
    time.sleep(1)
    assert server.rss_bytes - before < 16 * MIB
    cpu = server.cpu_seconds
    time.sleep(0.5)
    assert server.cpu_seconds - cpu < 0.2 * PATIENCE, "the loop spins on a socket that is full"
    raw.close()
    other = RawConnection(certificates.connect(server.address))
    assert other.wait_for(f"cancelled.{key}") == 1
    other.close()


def handshake_and_leave(certificates, server, count):
    """Handshakes that end in every way that a peer has."""
    hello = client_hello()
    good, without_h2 = certificates.client_context("client"), certificates.client_context(protocols=())
    refused = [certificates.client_context(), certificates.client_context("client-unknown")]
    for number in range(count):
        way = number % 8
        try:
            if way < 3:
                with connect(server.address) as peer:
                    peer.sendall([hello[:100], hello, b"GET / HTTP/1.1\r\n\r\n"][way])
            elif way == 3:
                certificates.connect(server.address, without_h2).close()
            elif way < 6:
                with certificates.connect(server.address, refused[way - 4]) as peer:
                    peer.recv(100)
            elif way == 6:
                raw = RawConnection(certificates.connect(server.address, good))
                assert raw.call("SynchronousGet", b"x").messages == [b"x"]
                raw.close()
            else:
                raw = RawConnection(certificates.connect(server.address, good))
                raw.open("Collect")
                raw.abort()
        except (ssl.SSLError, ConnectionError):
            assert way != 6


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.full)])
def test_handshakes_that_end_in_every_way_leave_nothing_behind(certificates, start_scenarios, count):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-verification-ms", 0,
                             "--log-level", "critical")
    handshake_and_leave(certificates, server, 1000 // PATIENCE)
    time.sleep(1.5)
    descriptors, memory = server.descriptors, server.rss_bytes
    handshake_and_leave(certificates, server, count // PATIENCE)
    assert wait_until(lambda: server.descriptors <= descriptors, 5), (descriptors, server.descriptors)
    print(f"grown by {server.rss_bytes - memory} bytes")
    assert server.rss_bytes - memory < (32 if os.environ.get("APUS_SANITIZER") else 4) * MIB
