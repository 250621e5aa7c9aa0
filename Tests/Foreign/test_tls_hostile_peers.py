"""TLS with peers that abuse it: floods behind the handshake, sessions that outlive a certificate, alerts in a crowd.

tlslite-ng, a TLS in pure Python, sends what OpenSSL would not.
"""

import socket
import ssl
import subprocess
import threading
import time

import pytest
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import CipherSuite, KeyUpdateMessageType
from tlslite.errors import TLSError
from tlslite.messages import ClientHello, HelloRequest

from client_process import USES_REFERENCE
from raw_connection import PREFACE, RawConnection, connect
from server_process import PATIENCE, wait_until
from tls_fixtures import ECHO_GET

HELLO = b"\x0a\x05hello"
TLS12, TLS13 = (3, 3), (3, 4)
BOTH_VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


def settings(version):
    chosen = HandshakeSettings()
    chosen.minVersion = chosen.maxVersion = version
    return chosen


def flood(connection, count):
    """Asks again and again: for new keys in TLS 1.3, for a new handshake in TLS 1.2. How often it could."""
    hello = ClientHello().create(TLS12, bytearray(32), bytearray(), [CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256])
    if not connection._client:
        hello = HelloRequest().create()
    for number in range(count):
        try:
            update = KeyUpdateMessageType.update_requested
            request = (connection.send_keyupdate_request(update) if connection.version == TLS13
                       else connection._sendMsg(hello))
            for _ in request:
                pass
        # tlslite-ng asserts when the other end has closed in the middle.
        except (OSError, TLSError, AssertionError):
            return number
    return count


@BOTH_VERSIONS
def test_a_client_that_asks_for_keys_or_handshakes_without_end_is_refused(certificates, start_scenarios, version):
    """RFC 8446 §4.6.3 sets no limit, OpenSSL neither; a KeyUpdate of 27 bytes costs a server 14 µs."""
    server = start_scenarios(*certificates.options("server"))
    with connect(server.address) as peer:
        port = peer.getsockname()[1]
        connection = TLSConnection(peer)
        connection.handshakeClientCert(settings=settings(version), serverName="localhost", alpn=[b"h2"])
        flood(connection, 1000)
        line = server.log_has(f"127.0.0.1:{port}.*TLS with a peer failed")
        assert line and "without end" in line, server.log
    raw = RawConnection(certificates.connect(server.address))
    assert raw.call("Get", b"x").messages == [b"x"]
    raw.close()


def test_keys_may_be_updated_time_and_again_beside_data(certificates, start_scenarios):
    pings = "--min-ping-milliseconds", 0, "--permit-pings-without-calls"
    server = start_scenarios(*certificates.options("server"), *pings)
    with connect(server.address) as peer:
        connection = TLSConnection(peer)
        connection.handshakeClientCert(settings=settings(TLS13), serverName="localhost", alpn=[b"h2"])
        connection.write(PREFACE + b"\0\0\0\4\0\0\0\0\0")
        received = b""
        for number in range(200):
            assert flood(connection, 1) == 1
            connection.write(b"\0\0\x08\6\0\0\0\0\0" + b"%08d" % number)
            while b"%08d" % number not in received:
                more = bytes(connection.read(max=65_536, min=1))
                assert more, "the server closed the connection"
                received += more
        connection.close()
    assert server.log_has("closed a connection") and "TLS with a peer failed" not in server.log


@pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
@BOTH_VERSIONS
def test_a_server_that_asks_for_keys_or_handshakes_without_end_is_left(certificates, listen_with_tlslite,
                                                                       open_client_process, version):
    address = listen_with_tlslite(lambda connection: flood(connection, 1000), version)
    result = open_client_process(address, *certificates.client_options()).call()
    assert result.code == "UNAVAILABLE" and "without end" in result.text and address in result.text, result


@pytest.fixture
def listen_with_tlslite(certificates):
    """A server of tlslite-ng; a function treats each connection."""
    opened = []

    def listen(treat, version):
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)
        chain = X509CertChain()
        chain.parsePemList(certificates.text("server.pem").decode())
        key = parsePEMKey(certificates.text("server.key").decode(), private=True)

        def serve():
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                opened.append(accepted)
                connection = TLSConnection(accepted)
                try:
                    connection.handshakeServer(certChain=chain, privateKey=key, settings=settings(version),
                                               alpn=[b"h2"])
                    treat(connection)
                except (OSError, TLSError):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield listen
    for descriptor in opened:
        descriptor.close()


# Alerts

@pytest.mark.parametrize("name", [None, "client-unknown"])
def test_a_client_that_sends_on_behind_its_handshake_hears_the_alert_all_the_same(certificates, start_echo, name):
    """A socket that is closed with unread bytes resets the connection: who still sends learns that, and no more."""
    server = start_echo(*certificates.options("server", client_ca="ca"))
    for _ in range(20):
        connection = certificates.connect(server.address, certificates.client_context(name))
        connection.settimeout(10 * PATIENCE)
        for _ in range(100):
            connection.send(bytes(16_384))
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED|UNKNOWN_CA"):
            while connection.recv(65_536):
                pass
        connection.close()


def test_who_only_looks_whether_the_port_is_open_is_not_logged_as_a_fault(certificates, start_echo):
    """Load balancers do so every few seconds."""
    server = start_echo(*certificates.options("server"), "--log-level", "info")
    for _ in range(20):
        connect(server.address).close()
    with connect(server.address) as peer:
        peer.sendall(b"\x16\x03\x01")
    assert server.log_has("TLS with a peer failed")
    assert server.log.count("TLS with a peer failed") == 1, server.log


# The application's own verification

def test_a_verification_whose_connection_ends_is_cancelled(certificates, start_scenarios):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-client-optional",
                             "--tls-verification-ms", 600_000, "--handshake-milliseconds", 300)
    waiting = [certificates.connect(server.address, certificates.client_context("client")) for _ in range(20)]
    # A client without a certificate is not verified.
    raw = RawConnection(certificates.connect(server.address))
    assert raw.wait_for("started.verification", 20) == 20
    assert raw.wait_for("cancelled.verification", 20) == 20
    line = server.log_has("was not verified in time")
    assert line and "127.0.0.1:" in line, server.log
    raw.close()
    for connection in waiting:
        connection.close()


def test_a_server_that_stops_cancels_its_verifications(certificates, start_scenarios):
    server = start_scenarios(*certificates.options("server", client_ca="ca"), "--tls-verification-ms", 600_000)
    connection = certificates.connect(server.address, certificates.client_context("client"))
    time.sleep(0.1 * PATIENCE)
    server.terminate()
    assert server.exit_code() == 0
    connection.close()


# Sessions and certificates

def lives_for(certificates, folder, name, seconds):
    """A certificate as `name`, but one that ends soon; its folder's name for it."""
    chain, key = certificates.pair(name)
    (folder / "index").write_text("")
    (folder / "ca.conf").write_text(f"""
        [ca]
        default_ca = books
        [books]
        database = {folder}/index
        new_certs_dir = {folder}
        rand_serial = yes
        default_md = sha256
        policy = any
        copy_extensions = copy
        [any]
        commonName = supplied
    """)
    request = subprocess.run(["openssl", "x509", "-x509toreq", "-in", chain, "-signkey", key, "-copy_extensions",
                              "copyall"], check=True, capture_output=True).stdout
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
    (folder / "request").write_bytes(request)
    subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", folder / "ca.conf", "-cert", certificates.ca,
                    "-keyfile", certificates.path("ca.key"), "-in", folder / "request", "-out", folder / "short.pem",
                    "-enddate", end], check=True, capture_output=True)
    return folder / "short.pem", key


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_client_does_not_come_in_by_a_session_when_its_certificate_has_expired(certificates, start_echo, tmp_path,
                                                                                 version):
    """RFC 8446 §4.6.1: each resumption brings a new ticket, so that tickets alone would never end."""
    server = start_echo(*certificates.options("server", client_ca="ca"))
    lifetime = 4 * PATIENCE
    chain, key = lives_for(certificates, tmp_path, "client", lifetime)
    context = certificates.client_context()
    context.load_cert_chain(chain, key)
    context.maximum_version = version
    session, reused, end = None, [], time.monotonic() + lifetime + 10 * PATIENCE
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_EXPIRED"):
        while time.monotonic() < end:
            raw = RawConnection(certificates.connect(server.address, context, session=session))
            reused.append(raw.socket.session_reused)
            if raw.call(ECHO_GET, HELLO).messages != [HELLO]:
                # The alert comes behind the handshake, and is read by the next one who reads.
                raw.socket.recv(1)
            session = raw.socket.session
            raw.close()
            time.sleep(0.2)
    assert reused[:3] == [False, True, True], reused
    assert server.log_has("has expired")


@pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
@pytest.mark.parametrize("version", [[], ["--tls12"]], ids=["1.3", "1.2"])
def test_a_server_is_not_trusted_by_a_session_when_its_certificate_has_expired(certificates, start_raw_server, tmp_path,
                                                                               open_client_process, version):
    lifetime = 4 * PATIENCE
    context = certificates.server_context("server")
    context.load_cert_chain(*lives_for(certificates, tmp_path, "server", lifetime))
    reused = []

    def script(connection):
        reused.append(connection.socket.session_reused)
        connection.request().reply(b"served")
        connection.go_away(1)

    server = start_raw_server(script, tls_context=context)
    client = open_client_process(server, *certificates.client_options(), *version)
    end = time.monotonic() + lifetime + 10 * PATIENCE
    while (result := client.call(wait_for_ready=False)).code == "OK" and time.monotonic() < end:
        time.sleep(0.2)
    assert result.code == "UNAVAILABLE" and "has expired" in result.text, result
    assert reused[:3] == [False, True, True], reused


# A client that reads its files anew

@pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
def test_a_client_reads_its_files_anew_or_is_given_others(certificates, start_raw_server, open_client_process,
                                                          tmp_path):
    """A connection that exists goes on; the next one sees the new authority."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificates.text("ca.pem"))

    def first(connection):
        connection.request().reply(b"served")
        connection.request().reply(b"served")
        connection.go_away(2**31 - 1)

    def others(connection):
        connection.request().reply(b"served")

    server = start_raw_server([first, others, others], tls_context=certificates.server_context("server"))
    client = open_client_process(server, "--tls", "--tls-ca", authority)

    def reload(how, **fields):
        client.tell(how, **fields)
        return client.expect("reloaded")["error"]

    assert client.call().message == b"served"
    authority.write_bytes(b"nothing")
    error = reload("reload-tls")
    assert error.startswith("INVALID_ARGUMENT") and str(authority) in error and "no certificate" in error, error
    authority.write_bytes(certificates.text("unknown-ca.pem"))
    assert reload("reload-tls") is None
    assert client.call().message == b"served", "the connection that exists did not go on"
    assert wait_until(lambda: client.state != "READY")
    result = client.call()
    assert result.code == "UNAVAILABLE" and "no authority" in result.text, result
    authority.write_bytes(certificates.text("ca.pem"))
    assert reload("replace-tls", tls_server_name="elsewhere.example") is None
    assert wait_until(lambda: "“elsewhere.example”" in client.call().text)
    assert reload("replace-tls", tls_server_name="a.test.example") is None
    assert client.call(wait_for_ready=True, seconds=20).message == b"served"


@pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
def test_a_channel_in_plaintext_has_no_tls_to_replace(echo_server, open_client_process):
    client = open_client_process(echo_server)
    client.tell("replace-tls")
    error = client.expect("reloaded")["error"]
    assert error.startswith("FAILED_PRECONDITION") and "plaintext" in error, error
