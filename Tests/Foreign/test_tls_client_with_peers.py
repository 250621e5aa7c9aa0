"""The client over TLS with servers of grpcio, behind nginx and Envoy, and with ours; with and without certificates."""

import os
import time

import pytest

from client_process import USES_REFERENCE
from raw_connection import PREFACE, connect
from scenario_client import new_key, parameters
from server_process import PATIENCE
from test_client_backpressure import MEMORY_SLACK, PIECE, stays_still, warm_up
from test_client_with_peers import ECHOES, KINDS, MIB, without_space

pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="the reference has no options for TLS")
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])


@pytest.fixture(params=["grpcio", "apus", "nginx", "envoy"])
def start_secure(request, secure_servers):
    """Gives a server of a kind, which other tests use as well."""
    def start(name="server", client_ca=None):
        return secure_servers.start(request.param, name, client_ca)

    start.kind = request.param
    yield start
    assert secure_servers.crash is None


@pytest.fixture
def secure_client(certificates, start_secure, open_client_process):
    """A client of such a server."""
    return open_client_process(f"localhost:{start_secure().port}", *certificates.client_options())


def test_calls_of_every_kind(secure_client):
    for kind in KINDS:
        for blocking in [False, True]:
            payload = without_space(1000)
            result = secure_client.call(ECHOES[kind], kind, payloads=[payload], blocking=blocking)
            assert (result.code, result.messages) == ("OK", [payload]), result


def test_large_messages(secure_client):
    for kind in KINDS:
        payload = without_space(3 * MIB)
        result = secure_client.call(ECHOES[kind], kind, payloads=[payload], seconds=30)
        assert (result.code, result.messages) == ("OK", [payload])


def test_a_dialogue_of_many_small_messages_keeps_its_order(secure_client):
    result = secure_client.call("Update", "bidi", count=10_000, bytes=50, numbering="index", keep=False, seconds=60)
    assert (result.code, result.count, result.misplaced, result.written) == ("OK", 10_000, 0, 10_000), result


def test_many_calls_at_once(secure_client):
    summary = secure_client.run("load", workers=200, calls=10, path="/apus.test.v1.ScenarioService/Get", bytes=20,
                                numbering="index")
    assert summary["codes"] == {"OK": 2000} and summary["mismatches"] == 0, summary


def test_metadata_and_errors(secure_client):
    sent = [("x-text", "one"), ("x-data-bin", bytes(range(256)))]
    result = secure_client.call("EchoMetadata", metadata=sent)
    # Proxies add fields of their own.
    assert result.code == "OK" and [pair for pair in result.initial if pair in sent] == sent, result
    assert secure_client.call("/no.such/Method").code == "UNIMPLEMENTED"


@BOTH_WAYS
def test_deadlines_and_cancellation(secure_client, blocking):
    late = secure_client.call("Hold", timeout_ms=300 * PATIENCE, metadata=parameters(key="never"), blocking=blocking)
    assert late.code == "DEADLINE_EXCEEDED", late
    key = new_key()
    call = secure_client.start("Listen", "bidi", hold=True, metadata=parameters(key=key), blocking=blocking)
    assert secure_client.wait_for(f"started.{key}") == 1
    call.cancel("hand" if blocking else "task")
    assert call.result().code == "CANCELLED"
    assert secure_client.wait_for(f"cancelled.{key}") == 1


def test_mutual_tls(certificates, start_secure, open_client_process):
    server = start_secure(client_ca="ca")
    target = f"localhost:{server.port}"
    for name in ["client", "client-ec"]:
        assert open_client_process(target, *certificates.client_options(name)).call(payloads=[b"x"]).message == b"x"


@BOTH_WAYS
@pytest.mark.parametrize("name", [None, "client-unknown", "client-expired"])
def test_a_server_that_refuses_the_clients_certificate_is_told_by_its_alert(certificates, start_secure, name, blocking,
                                                                            open_client_process):
    """In TLS 1.3 the client learns of it after its own handshake. nginx answers with HTTP status 400 instead."""
    server = start_secure(client_ca="ca")
    client = open_client_process(server, *certificates.client_options(name))
    result = client.call(blocking=blocking)
    if start_secure.kind == "nginx":
        assert result.code == "INTERNAL" and "400" in result.text, result
        return
    assert result.code == "UNAVAILABLE" and result.origin == "local", result
    # grpcio hangs up without an alert.
    expected = ["closed"] if start_secure.kind == "grpcio" else ["certificate", "alert"]
    assert all(word in result.text for word in [server.address, *expected]), result


def test_an_nginx_without_http2_is_refused(certificates, proxies, start_our_peer, open_client_process):
    server = proxies.nginx(start_our_peer(), http2=False)
    result = open_client_process(server, *certificates.client_options()).call()
    assert result.code == "UNAVAILABLE" and "ALPN" in result.text and server.address in result.text, result


@pytest.mark.parametrize("name", ["expired", "wrong-host", "unknown"])
def test_certificates_that_are_not_acceptable(certificates, start_secure, open_client_process, name):
    server = start_secure(name)
    result = open_client_process(server, *certificates.client_options()).call()
    cause = {"expired": "has expired", "wrong-host": "is not for", "unknown": "no authority"}[name]
    assert result.code == "UNAVAILABLE" and cause in result.text and server.address in result.text, result


def test_a_server_whose_reader_stops_suspends_the_writer(certificates, start_our_peer, open_client_process):
    server = start_our_peer(*certificates.options("server"))
    client = open_client_process(server, *certificates.client_options())
    before, server_before = warm_up(client), server.rss_bytes
    key = new_key()
    count = 256 * MIB // PIECE // PATIENCE
    call = client.start("Sink", "client", count=count, bytes=PIECE, metadata=parameters(pause_after=10, key=key))
    assert client.wait_for(f"read.{key}", 10) == 10
    written = stays_still(lambda: call.progress[0])
    assert 10 <= written < count / 2, "the writer was not suspended"
    assert client.call(payloads=[b"meanwhile"]).message == b"meanwhile"
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    assert server.rss_bytes - server_before < MEMORY_SLACK
    client.release(key)
    assert call.result(120).messages == [f"{count} messages, {count * PIECE} bytes".encode()]


def test_a_client_whose_reader_stops_holds_up_the_server(certificates, start_our_peer, open_client_process):
    server = start_our_peer(*certificates.options("server"))
    client = open_client_process(server, *certificates.client_options())
    before, server_before = warm_up(client), server.rss_bytes
    key = new_key()
    count = 256 * MIB // PIECE // PATIENCE
    call = client.start("Pour", "server", keep=False, pause_after=5, expected_bytes=PIECE,
                        metadata=parameters(count=count, bytes=PIECE, key=key))
    assert call.paused() == 5
    written = stays_still(lambda: client.stats()[f"written.{key}"])
    assert written < count / 2, "the handler was not held up"
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    assert server.rss_bytes - server_before < MEMORY_SLACK
    call.resume()
    result = call.result(120)
    assert (result.code, result.count, result.misplaced) == ("OK", count, 0), result


def test_a_server_that_does_not_read_its_socket_holds_up_the_writer(certificates, start_raw_server,
                                                                    open_client_process):
    """By TCP, beneath TLS: encrypted bytes wait in the socket and not in memory, and no processor time is spent."""
    released = []

    def script(connection):
        connection.credit(0, 2**31 - 1 - 65_535)
        connection.discarded.add(1)
        request = connection.request(whole=False)
        while not released:
            time.sleep(0.02)
        request.wait_end(60).reply(b"%d" % request.answer.data_bytes)

    server = start_raw_server(script, settings={4: 2**31 - 1}, auto_credit=False,
                              tls_context=certificates.server_context("server"))
    client = open_client_process(server, *certificates.client_options())
    before = client.figures["rss_bytes"]
    count = 128 * MIB // PIECE // PATIENCE
    call = client.start("Fill", "client", count=count, bytes=PIECE)
    written = stays_still(lambda: call.progress[0])
    assert 0 < written < count / 2
    assert client.figures["rss_bytes"] - before < MEMORY_SLACK
    released.append(True)
    assert call.result(60).messages == [b"%d" % (count * (PIECE + 5))]


def test_a_unix_socket_with_tls_needs_a_server_name(certificates, start_our_peer, open_client_process, tmp_path):
    path = tmp_path / "server.sock"
    start_our_peer(*certificates.options("server"), listen=f"unix:{path}")
    client = open_client_process(f"unix:{path}", *certificates.client_options(), "--tls-server-name", "localhost")
    assert client.call(payloads=[b"unix"]).message == b"unix"


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("mutual", [False, True], ids=["", "mutual"])
def test_handshakes_leave_memory_and_descriptors_flat(certificates, start_our_peer, open_client_process, count, mutual):
    server = start_our_peer(*certificates.options("server-ec", client_ca="ca" if mutual else None), "--log-level",
                            "info")
    client = open_client_process(f"localhost:{server.port}",
                                 *certificates.client_options("client-ec" if mutual else None), "--log-level", "info")
    count //= PATIENCE

    def handshakes(number):
        summary = client.run("channels", count=number, workers=4, path="/apus.test.v1.ScenarioService/SynchronousGet",
                             bytes=20, seconds=600)
        assert summary["failures"] == {}, summary

    handshakes(max(500, count // 20))
    client.call("Get")
    time.sleep(1.5)
    before, server_before, descriptors = client.figures, server.rss_bytes, server.descriptors
    handshakes(count)
    for _ in range(50):
        after = client.figures
        if after["descriptors"] <= before["descriptors"] and server.descriptors <= descriptors:
            break
        time.sleep(0.1)
    assert after["descriptors"] <= before["descriptors"] + 1
    assert server.descriptors <= descriptors + 1
    growth = (32 if os.environ.get("APUS_SANITIZER") else 4) * MIB
    print(f"grown by {after['rss_bytes'] - before['rss_bytes']} and {server.rss_bytes - server_before} bytes")
    assert after["rss_bytes"] - before["rss_bytes"] < growth
    assert server.rss_bytes - server_before < growth


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.full)])
def test_handshakes_that_fail_leave_memory_and_descriptors_flat(certificates, start_our_peer, open_client_process,
                                                                count):
    """The client refuses the server's certificate, and the server hears so."""
    server = start_our_peer(*certificates.options("unknown"), "--log-level", "warning")
    client = open_client_process(f"127.0.0.1:{server.port}", *certificates.client_options(), "--log-level", "warning")
    count //= PATIENCE

    def handshakes(number):
        summary = client.run("channels", count=number, workers=4, path="/apus.test.v1.ScenarioService/SynchronousGet",
                             bytes=20, seconds=600)
        assert sum(summary["failures"].values()) == number, summary
        assert all("no authority" in failure for failure in summary["failures"]), summary

    handshakes(max(300, count // 20))
    time.sleep(1.5)
    before, server_before, descriptors = client.figures, server.rss_bytes, server.descriptors
    handshakes(count)
    for _ in range(50):
        after = client.figures
        if after["descriptors"] <= before["descriptors"] and server.descriptors <= descriptors:
            break
        time.sleep(0.1)
    assert after["descriptors"] <= before["descriptors"] + 1 and server.descriptors <= descriptors + 1
    growth = (32 if os.environ.get("APUS_SANITIZER") else 4) * MIB
    assert after["rss_bytes"] - before["rss_bytes"] < growth
    assert server.rss_bytes - server_before < growth


@pytest.mark.parametrize("form, listen", [
    ("localhost:{}", "127.0.0.1:0"), ("dns:///localhost:{}", "127.0.0.1:0"), ("ipv4:127.0.0.1:{}", "127.0.0.1:0"),
    ("[::1]:{}", "[::1]:0"), ("ipv6:[::1]:{}", "[::1]:0"),
])
def test_forms_of_targets(certificates, start_our_peer, open_client_process, form, listen):
    """What is verified is the name or the address in the target."""
    server = start_our_peer(*certificates.options("server"), listen=listen)
    client = open_client_process(form.format(server.port), *certificates.client_options())
    assert client.call(payloads=[b"x"]).message == b"x"


def test_addresses_are_verified_as_addresses(certificates, start_our_peer, open_client_process):
    """A certificate for a name alone is none for the address that the name has."""
    server = start_our_peer(*certificates.options("wrong-host"), listen="[::1]:0")
    result = open_client_process(f"[::1]:{server.port}", *certificates.client_options()).call()
    assert result.code == "UNAVAILABLE" and "“::1”" in result.text and "elsewhere.example" in result.text, result


def test_a_server_that_comes_back_is_found_again(certificates, start_our_peer, open_client_process):
    """Killed in mid-call; the next server shows another certificate and knows no session of the first."""
    server = start_our_peer(*certificates.options("server"))
    client = open_client_process(server, *certificates.client_options(), "--initial-backoff-ms", 100)
    key = new_key()
    call = client.start("Hold", metadata=parameters(key=key))
    assert client.wait_for(f"started.{key}") == 1
    server.process.kill()
    server.process.wait()
    result = call.result()
    assert result.code == "UNAVAILABLE" and server.address in result.text, result
    start_our_peer(*certificates.options("server-chain"), listen=server.address)
    assert client.call(payloads=[b"again"], wait_for_ready=True, seconds=20).message == b"again"


def test_a_server_that_shuts_down_lets_running_calls_end(certificates, start_our_peer, open_client_process):
    """Beside a connection that is in its handshake, which waits for nothing."""
    server = start_our_peer(*certificates.options("server"), "--grace-milliseconds", 10_000)
    client = open_client_process(server, *certificates.client_options())
    half_open = connect(server.address)
    key = new_key()
    call = client.start("Sleep", payloads=[b"done"], metadata=parameters(key=key, ms=700))
    assert client.wait_for(f"started.{key}") == 1
    server.terminate()
    assert call.result(20).messages == [b"done"]
    assert server.exit_code(5) == 0
    half_open.close()


def test_a_server_that_shuts_down_does_not_wait_for_a_verification(certificates, start_our_peer):
    server = start_our_peer(*certificates.options("server", client_ca="ca"), "--tls-verification-ms", 60_000)
    connection = certificates.connect(server.address, certificates.client_context("client"))
    connection.send(PREFACE)
    time.sleep(0.2 * PATIENCE)
    server.terminate()
    assert server.exit_code(5) == 0
    connection.close()
