"""The client's TLS with servers that it has to refuse: each error names the address and the cause, in time."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time

import pytest

from client_process import USES_REFERENCE
from raw_server import MAX_CONCURRENT_STREAMS
from server_process import PATIENCE, executable, wait_until
from test_client_unwelcome_peers import CONNECT_TIMEOUT_MS, assert_unavailable, listen  # noqa: F401

pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])


@pytest.fixture
def serve(certificates, start_raw_server):
    """Starts a server of Python's ssl that shows a certificate; it answers every call."""
    def serve(name="server", script=lambda connection: connection.serve(), protocols=("h2",), client_ca=None,
              prepare=None, **options):
        context = certificates.server_context(name, protocols, client_ca)
        if prepare:
            prepare(context)
        return start_raw_server(script, tls_context=context, **options)

    return serve


@pytest.fixture
def open_secure(certificates, open_client_process):
    """Starts a client with TLS, which trusts the authority `ca`."""
    def open(server, *options, ca="ca", name=None):
        return open_client_process(server, *certificates.client_options(name, ca), *options)

    return open


# Certificates

@pytest.mark.parametrize("name", ["server", "server-ec", "server-chain"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_good_certificate_is_accepted_for_its_name_and_its_address(serve, open_secure, name, host):
    server = serve(name)
    target = server.address.replace("127.0.0.1", host)
    assert open_secure(target).call().message == b"served"


REFUSED = {
    "expired": ["has expired", "valid until"],
    "future": ["not valid yet"],
    "wrong-host": ["is not for", "elsewhere.example"],
    "common-name": ["is not for"],
    "self-signed": ["no authority that is trusted"],
    "unknown": ["no authority that is trusted", "Authority that nobody trusts"],
    "client": ["purpose"],
}


@BOTH_WAYS
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_certificate_that_is_not_acceptable_is_refused(serve, open_secure, name, host, blocking):
    server = serve(name)
    target = server.address.replace("127.0.0.1", host)
    result = open_secure(target).call(blocking=blocking)
    for cause in REFUSED[name]:
        assert_unavailable(result, target, cause)
    assert "127.0.0.1" in result.text, "the address is missing"
    assert wait_until(lambda: server.losses), "the server was not told by an alert"


ALERTS = {"expired": "CERTIFICATE_EXPIRED", "unknown": "UNKNOWN_CA",
          "wrong-host": "BAD_CERTIFICATE|CERTIFICATE_UNKNOWN"}


@pytest.mark.parametrize("name", ALERTS)
def test_the_server_hears_why_by_an_alert(serve, open_secure, name):
    server = serve(name)
    open_secure(server).call()
    assert wait_until(lambda: server.losses)
    assert any(alert in server.losses[0] for alert in ALERTS[name].split("|")), server.losses


def test_the_systems_authorities_are_trusted_by_default_and_no_others(certificates, serve, open_client_process):
    server = serve()
    result = open_client_process(server, "--tls").call()
    assert_unavailable(result, server.address, "no authority that is trusted")


def test_the_environment_names_the_systems_authorities(certificates, serve, open_client_process, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    assert open_client_process(serve(), "--tls").call().message == b"served"


def test_a_server_name_in_place_of_the_targets_host(serve, open_secure):
    server = serve("wrong-host")
    assert open_secure(server, "--tls-server-name", "elsewhere.example").call().message == b"served"
    result = open_secure(server, "--tls-server-name", "other.example").call()
    assert_unavailable(result, server.address, "“other.example”")


@pytest.mark.parametrize("host, asked", [("localhost", "localhost"), ("127.0.0.1", None)])
def test_the_server_name_is_asked_for_unless_it_is_an_address(serve, open_secure, host, asked):
    """RFC 6066 §3."""
    names = []

    def prepare(context):
        context.sni_callback = lambda _, name, __: names.append(name)

    server = serve(prepare=prepare)
    assert open_secure(server.address.replace("127.0.0.1", host)).call().code == "OK"
    assert names == [asked]


@pytest.mark.parametrize("name, verification", [("wrong-host", "chain"), ("wrong-host", "none"), ("unknown", "none")])
def test_less_may_be_verified_when_one_says_so(serve, open_secure, name, verification):
    assert open_secure(serve(name), "--tls-verification", verification).call().message == b"served"


def test_the_chain_is_verified_even_when_the_name_is_not(serve, open_secure):
    server = serve("unknown")
    assert_unavailable(open_secure(server, "--tls-verification", "chain").call(), server.address, "no authority")


@pytest.mark.parametrize("version", [[], ["--tls12"]], ids=["1.3", "1.2"])
def test_a_verification_of_our_own_decides(serve, open_secure, version):
    server = serve()
    delay = 300
    client = open_secure(server, "--tls-refuse", "CN=someone", "--tls-verification-ms", delay, *version)
    result = client.call()
    assert result.message == b"served" and result.milliseconds >= delay
    result = open_secure(server, "--tls-refuse", "CN=localhost", "--tls-verification-ms", 20, *version).call()
    assert_unavailable(result, server.address, "it is not on the list")


@BOTH_WAYS
def test_a_verification_that_takes_too_long_ends_by_the_deadline_or_the_connection_timeout(serve, open_secure,
                                                                                           blocking):
    server = serve()
    slow = ["--tls-verification-ms", 20_000]
    result = open_secure(server, *slow).call(timeout_ms=300, blocking=blocking)
    assert result.code == "DEADLINE_EXCEEDED" and server.address in result.text, result
    result = open_secure(server, *slow, "--connect-timeout-ms", CONNECT_TIMEOUT_MS).call(blocking=blocking)
    assert_unavailable(result, server.address, "within", "timed out", "time")
    assert result.milliseconds >= CONNECT_TIMEOUT_MS * 0.9


def test_a_channel_that_is_closed_while_it_verifies_ends_its_calls(serve, open_secure):
    server = serve()
    client = open_secure(server, "--tls-verification-ms", 20_000)
    call = client.start("Get")
    assert wait_until(lambda: server.accepted == 1)
    time.sleep(0.2 * PATIENCE)
    client.close_channel()
    assert call.result(2).code == "CANCELLED"


# What is agreed on

@pytest.mark.parametrize("version", [[], ["--tls12"]], ids=["1.3", "1.2"])
def test_what_the_client_agrees_on(serve, open_secure, version):
    """RFC 9113 §9.2."""
    seen = []

    def script(connection):
        tls = connection.socket
        seen.append((tls.version(), tls.selected_alpn_protocol(), tls.compression(), tls.cipher()[0]))
        connection.serve()

    assert open_secure(serve(script=script), *version).call().code == "OK"
    name, protocol, compression, suite = seen[0]
    assert (name, protocol, compression) == ("TLSv1.2" if version else "TLSv1.3", "h2", None)
    assert "GCM" in suite or "CHACHA20" in suite


def test_requests_say_that_they_came_by_https(serve, open_secure):
    """RFC 9113 §8.3.1."""
    schemes = []

    def script(connection):
        request = connection.request()
        schemes.append(request.first(":scheme"))
        request.reply(b"ok")

    assert open_secure(serve(script=script)).call().code == "OK"
    assert schemes == ["https"]


@BOTH_WAYS
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2c", "http/1.0")])
@pytest.mark.parametrize("version", [[], ["--tls12"]], ids=["1.3", "1.2"])
def test_a_server_that_does_not_agree_on_h2_is_refused(serve, open_secure, protocols, version, blocking):
    """RFC 9113 §3.2: nothing of HTTP/2 is sent to it."""
    server = serve(protocols=protocols, greet=False, script=lambda connection: None)
    result = open_secure(server, *version).call(blocking=blocking)
    assert_unavailable(result, server.address, "ALPN")
    assert "h2" in result.text


def test_a_server_that_answers_with_no_application_protocol_is_named_so(listen, open_secure):  # noqa: F811
    def treat(connection):
        connection.recv(10_000)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2, 120]))

    listener = listen(treat)
    assert_unavailable(open_secure(listener.address).call(), listener.address, "ALPN")


def test_a_server_of_tls_1_1_alone_is_refused(serve, open_secure):
    def prepare(context):
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED

    server = serve(prepare=prepare)
    assert_unavailable(open_secure(server).call(), server.address, "version")


@pytest.mark.parametrize("suite", ["ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"])
def test_a_server_with_suites_that_http2_forbids_alone_is_refused(serve, open_secure, suite):
    """RFC 9113 §9.2.2."""
    def prepare(context):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)

    server = serve(prepare=prepare)
    assert_unavailable(open_secure(server).call(), server.address, "cipher suite")


@pytest.mark.parametrize("alert, words", [(40, "handshake"), (70, "version"), (80, "internal"), (48, "unknown"),
                                          (42, "certificate"), (116, "certificate"), (0, "closed")])
def test_an_alert_in_place_of_a_handshake_is_told(listen, open_secure, alert, words):  # noqa: F811
    def treat(connection):
        connection.recv(10_000)
        connection.sendall(bytes([21, 3, 3, 0, 2, 2 if alert else 1, alert]))
        if not alert:
            connection.shutdown(socket.SHUT_RDWR)

    listener = listen(treat)
    assert_unavailable(open_secure(listener.address).call(), listener.address, words)


# Sessions

@pytest.mark.parametrize("version", [[], ["--tls12"]], ids=["1.3", "1.2"])
def test_sessions_are_resumed(serve, open_secure, version):
    """A ticket of TLS 1.3 is used once (RFC 8446 §C.4); each connection brings another."""
    reused = []

    def script(connection):
        reused.append(connection.socket.session_reused)
        connection.request().reply(b"%d" % len(reused))
        connection.go_away(1)

    client = open_secure(serve(script=script), *version)
    for number in range(4):
        assert client.call(wait_for_ready=True).message == b"%d" % (number + 1)
    assert reused == [False, True, True, True]


def test_a_session_that_the_server_has_forgotten_is_replaced(serve, certificates, open_secure, start_raw_server):
    reused = []

    def script(connection):
        reused.append(connection.socket.session_reused)
        connection.request().reply(b"ok")
        connection.go_away(1)

    server = serve(script=script)
    client = open_secure(server)
    assert client.call().code == "OK"
    # Another context has other keys for its tickets.
    server.tls_context = certificates.server_context("server-ec")
    assert client.call(wait_for_ready=True).code == "OK"
    assert reused == [False, False]


# Ends

@BOTH_WAYS
@pytest.mark.parametrize("when", ["at once", "after the hello", "after half of its own hello"])
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_server_that_hangs_up_in_mid_handshake(listen, open_secure, certificates, when, ending,  # noqa: F811
                                                 blocking):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certificates.server_context("server").wrap_bio(incoming, outgoing, server_side=True)

    def treat(connection):
        if when != "at once":
            incoming.write(connection.recv(65_536))
        if when == "after half of its own hello":
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                pass
            connection.sendall(outgoing.read()[:500])
            time.sleep(0.1)
        if ending == "abort":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    listener = listen(treat)
    result = open_secure(listener.address).call(blocking=blocking)
    assert_unavailable(result, listener.address, "closed", "reset")
    # A reset may come so early that it is connecting that fails.
    too_early = when == "at once" and f"connect {listener.address}" in result.text
    assert "TLS" in result.text or too_early, result


@BOTH_WAYS
def test_a_server_that_stops_in_mid_handshake_is_given_up(listen, open_secure, blocking):  # noqa: F811
    listener = listen(lambda connection: connection.recv(65_536))
    result = open_secure(listener.address, "--connect-timeout-ms", CONNECT_TIMEOUT_MS).call(blocking=blocking)
    assert_unavailable(result, listener.address, "TLS")
    assert result.milliseconds >= CONNECT_TIMEOUT_MS * 0.9


@BOTH_WAYS
def test_a_deadline_in_mid_handshake(listen, open_secure, blocking):  # noqa: F811
    listener = listen(lambda connection: None)
    result = open_secure(listener.address).call(timeout_ms=300, blocking=blocking)
    assert result.code == "DEADLINE_EXCEEDED" and listener.address in result.text, result
    assert 290 <= result.milliseconds < 3000 * PATIENCE


PLAINTEXT = {
    "HTTP/1": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP/1"),
    "HTTP/2": (b"\0\0\0\4\0\0\0\0\0", "HTTP/2"),
    "SMTP": (b"220 mail.example ESMTP\r\n", "220 mail"),
    "zeros": (bytes(100), "00 00"),
    "random": (b"\x0d\xd2" + os.urandom(100), "0d d2"),
}


@BOTH_WAYS
@pytest.mark.parametrize("kind", PLAINTEXT)
def test_a_server_that_speaks_plaintext(listen, open_secure, kind, blocking):  # noqa: F811
    answer, words = PLAINTEXT[kind]
    listener = listen(lambda connection: connection.sendall(answer))
    result = open_secure(listener.address).call(blocking=blocking)
    assert_unavailable(result, listener.address, "plaintext")
    assert words in result.text, result


@pytest.mark.parametrize("answer", [b"\x16\x03\x03\x00\x05hello", b"\x16\x03\x03\xff\xff" + bytes(70_000)])
def test_a_server_whose_records_make_no_sense(listen, open_secure, answer):  # noqa: F811
    listener = listen(lambda connection: (connection.recv(65_536), connection.sendall(answer)))
    assert_unavailable(open_secure(listener.address).call(), listener.address, "TLS")


def test_our_own_server_in_plaintext(echo_server, open_secure):
    assert_unavailable(open_secure(echo_server).call(), echo_server.address, "closed", "plaintext", "alert")


def test_a_plaintext_client_of_a_server_with_tls(tls_echo, open_client_process):
    result = open_client_process(tls_echo).call()
    assert_unavailable(result, tls_echo.address, "TLS")


@BOTH_WAYS
@pytest.mark.parametrize("ending", ["truncated", "close_notify", "reset"])
def test_a_connection_that_ends_in_the_middle_of_a_response(serve, open_secure, ending, blocking):
    """RFC 8446 §6.1: without close_notify the rest may have been cut off on the way; with it the server left."""
    def script(connection):
        request = connection.request().head()
        request.data(b"\0\0\0\3\xe8half of it")
        if ending == "close_notify":
            try:
                connection.socket.unwrap()
            except (OSError, ssl.SSLError):
                pass
        if ending == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.socket.close()
        else:
            socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

    server = serve(script=script)
    result = open_secure(server).call("Pour", "server", blocking=blocking)
    assert_unavailable(result, server.address, {"reset": "reset"}.get(ending, "closed"))
    assert ("close_notify" in result.text) == (ending == "truncated"), result


def test_a_record_that_was_tampered_with_ends_the_calls(serve, open_secure):
    def script(connection):
        request = connection.request().head()
        socket.socket.send(connection.socket, b"\x17\x03\x03\x00\x40" + os.urandom(64))
        time.sleep(0.3)

    server = serve(script=script)
    result = open_secure(server).call("Pour", "server")
    assert_unavailable(result, server.address, "TLS")


def test_a_client_that_closes_says_close_notify(serve, open_secure):
    """ssl tells an end without it by an error."""
    ends = []

    def script(connection):
        connection.request().reply(b"served")
        connection.socket.suppress_ragged_eofs = False
        connection.socket.settimeout(10 * PATIENCE)
        try:
            while connection.socket.recv(65_536):
                pass
            ends.append("close_notify")
        except ssl.SSLEOFError:
            ends.append("cut off")

    client = open_secure(serve(script=script))
    assert client.call().code == "OK"
    client.close_channel()
    assert wait_until(lambda: ends) == ["close_notify"]


def test_calls_queue_behind_a_handshake_and_the_servers_limit(serve, open_secure):
    server = serve(settings={MAX_CONCURRENT_STREAMS: 1})
    client = open_secure(server, "--tls-verification-ms", 300)
    calls = [client.start("Get") for _ in range(20)]
    assert [call.result().messages for call in calls] == [[b"served"]] * 20
    assert server.accepted == 1


WATCHES_FOR_CLEANUP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

/* What the C library is told to call at exit; a name is printed for what a shared library has of its own. */
int __cxa_atexit(void (*function)(void *), void *argument, void *library) {
    int (*registers)(void (*)(void *), void *, void *) = dlsym(RTLD_NEXT, "__cxa_atexit");
    Dl_info found;
    if (dladdr((void *)function, &found) && found.dli_sname) fprintf(stderr, "at exit: %s\\n", found.dli_sname);
    return registers(function, argument, library);
}
"""


@pytest.mark.skipif(PATIENCE > 1, reason="a sanitizer wants to be loaded first")
def test_openssl_does_not_clean_up_while_threads_still_use_it(certificates, tmp_path):
    """A process that ends by `exit` has loops that go on; what OpenSSL would free is still in their hands."""
    (tmp_path / "watch.c").write_text(WATCHES_FOR_CLEANUP)
    library = tmp_path / "watch.so"
    compiler = shutil.which("gcc") or shutil.which("clang")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "watch.c", "-ldl"], check=True)
    watched = {"env": os.environ | {"LD_PRELOAD": str(library)}, "capture_output": True, "text": True,
               "timeout": 30 * PATIENCE}
    # That such a registration would be seen: Python's ssl makes one.
    told = subprocess.run([sys.executable, "-c", "import ssl; ssl.create_default_context()"], **watched).stderr
    assert "OPENSSL_cleanup" in told, told
    for command in [["get", "--target", "127.0.0.1:1", *certificates.client_options("client"), "hello"],
                    ["serve", "--listen", "192.0.2.1:0", *certificates.options("server", client_ca="ca")]]:
        told = subprocess.run([executable("apus-echo"), *command], **watched).stderr
        assert "127.0.0.1:1" in told or "192.0.2.1" in told, told
        assert "OPENSSL_cleanup" not in told, told


# The command line, and configurations that cannot be

def get(*options):
    return subprocess.run([executable("apus-echo"), "get", *options, "hello"], capture_output=True, text=True,
                          timeout=30 * PATIENCE)


def test_apus_echo_calls_with_tls(certificates, tls_echo):
    done = get("--target", tls_echo.address, "--tls", "--tls-ca", certificates.ca)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done
    done = get("--target", tls_echo.address, "--tls")
    assert done.returncode == 1 and "no authority" in done.stderr and tls_echo.address in done.stderr, done
    trusting = ["--target", tls_echo.address, "--tls", "--tls-ca", certificates.ca]
    done = get(*trusting, "--tls-server-name", "a.test.example")
    assert done.returncode == 0, done
    done = get("--target", tls_echo.address, "--tls-ca", certificates.ca)
    assert done.returncode == 64 and "--tls" in done.stderr


@pytest.mark.parametrize("command, expected", [("expand", "a\nb\n"), ("collect", "a b\n"), ("update", "a b\n")])
def test_apus_echo_streams_with_tls(certificates, tls_echo, command, expected):
    done = subprocess.run([executable("apus-echo"), command, "--target", tls_echo.address, "--tls", "--tls-ca",
                           certificates.ca, *(["a", "b"] if command == "collect" else ["a b"])], capture_output=True,
                          text=True, timeout=30 * PATIENCE)
    assert (done.returncode, done.stdout) == (0, expected), done


def test_a_channel_that_cannot_load_its_files_is_refused_with_file_and_cause(certificates, open_client_process):
    client, key = certificates.pair("client")
    other = certificates.path("server.key")
    for options, words in [
        (["--tls-ca", "/no/such/ca.pem"], ["/no/such/ca.pem", "No such file"]),
        (["--tls-ca", key], [key, "no certificate"]),
        (["--tls-cert", client, "--tls-key", other], [client, other, "does not match"]),
        (["--tls-cert", client, "--tls-key", certificates.path("server-encrypted.key")], ["encrypted"]),
    ]:
        refused = open_client_process("127.0.0.1:1", "--tls", *options).expect("refused")
        assert refused["code"] == "INVALID_ARGUMENT" and "127.0.0.1:1" in refused["message"]
        for word in words:
            assert word in refused["message"], refused


def test_plaintext_over_a_network_has_to_be_asked_for(open_client_process):
    refused = open_client_process("192.0.2.1:1", "--security-unsaid").expect("refused")
    assert refused["code"] == "INVALID_ARGUMENT" and "plaintext" in refused["message"], refused
