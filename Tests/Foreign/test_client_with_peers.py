"""The client against a server of grpcio and against ours: all that a call can be and become."""

import os
import time

import pytest

from client_process import USES_REFERENCE, not_of_the_reference
from scenario_client import new_key, parameters
from server_process import PATIENCE, wait_until

UNICODE = "schlägt fehl: 100 % — 你好 🐦\n\ttab \"quoted\" \\ end"
CODES = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
         "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]
KINDS = ["unary", "server", "client", "bidi"]
ECHOES = {"unary": "Get", "server": "Expand", "client": "Collect", "bidi": "Update"}
MIB = 1024 * 1024
BOTH_WAYS = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def custom(metadata):
    return [(key, value) for key, value in metadata if key.startswith("x-")]


def without_space(size):
    """Random bytes of which no server makes several words."""
    return os.urandom(size).translate(bytes.maketrans(b" \t\n\r\v\f", b"______"))


# The four kinds

@BOTH_WAYS
def test_calls_of_every_kind_by_the_stubs(peer_client, blocking):
    client = peer_client
    if USES_REFERENCE:
        pytest.skip("the reference has no stubs")
    text = "Grüße, 世界 🐦"
    assert client.echo([text], blocking=blocking) == [text]
    assert client.echo([""], blocking=blocking) == [""]
    assert client.echo(["a b  c"], "server", blocking=blocking) == ["a", "b", "c"]
    assert client.echo([""], "server", blocking=blocking) == []
    assert client.echo(["a", "b", "c"], "client", blocking=blocking) == ["a b c"]
    assert client.echo([], "client", blocking=blocking) == [""]
    assert client.echo(["1", "2", text], "bidi", blocking=blocking) == ["1", "2", text]
    assert client.echo([], "bidi", blocking=blocking) == []


@BOTH_WAYS
@EACH_KIND
def test_what_is_sent_comes_back(peer_client, kind, blocking):
    payload = without_space(1000)
    result = peer_client.call(ECHOES[kind], kind, payloads=[payload], blocking=blocking)
    assert (result.code, result.messages) == ("OK", [payload]), result


@BOTH_WAYS
def test_a_dialogue_of_ten_thousand_messages_keeps_its_order(peer_client, blocking):
    result = peer_client.call("Update", "bidi", count=10_000, bytes=50, numbering="index", keep=False, seconds=60,
                              blocking=blocking)
    assert (result.code, result.count, result.misplaced, result.written) == ("OK", 10_000, 0, 10_000), result


@BOTH_WAYS
@EACH_KIND
def test_messages_of_three_mebibytes_go_both_ways(peer_client, kind, blocking):
    payload = without_space(3 * MIB)
    result = peer_client.call(ECHOES[kind], kind, payloads=[payload], blocking=blocking, seconds=30)
    assert (result.code, result.messages) == ("OK", [payload])


@BOTH_WAYS
def test_several_large_messages_in_a_dialogue(peer_client, blocking):
    result = peer_client.call("Update", "bidi", count=20, bytes=3 * MIB, keep=False, expected_bytes=3 * MIB,
                              seconds=60, blocking=blocking)
    assert (result.code, result.count, result.misplaced) == ("OK", 20, 0), result


# Metadata

@BOTH_WAYS
@EACH_KIND
def test_metadata_comes_back_as_initial_metadata_and_trailers(peer, peer_client, kind, blocking):
    """rules 10 and 11: text, several values of a key in their order, and every byte."""
    if kind in ("server", "client"):
        pytest.skip("the scenario service has no such method")
    every_byte = bytes(range(256))
    sent = [("x-one", "1"), ("x-many", "a"), ("x-other", "o"), ("x-many", "b"), ("x-many", "a"),
            ("x-data-bin", every_byte), ("x-data-bin", b""), ("x-data-bin", b"\x00"), ("x-empty", ""),
            ("x-punctuation", "a,b;c=d \"e\" ~!@#$%^&*()")]
    method = "EchoMetadata" if kind == "unary" else "EchoMetadataStream"
    result = peer_client.call(method, kind, payloads=[b"m"], metadata=sent, blocking=blocking)
    assert result.code == "OK", result
    assert custom(result.initial) == sent
    assert custom(result.trailers) == sent
    if not USES_REFERENCE:
        shown = {key for key, _ in result.initial + result.trailers if not key.startswith("x-")}
        assert shown <= {"date", "server", "user-agent"}, shown


@BOTH_WAYS
def test_initial_metadata_is_there_before_the_first_message(peer_client, blocking):
    key = new_key()
    call = peer_client.start("InitialMetadataFirst", "server", metadata=parameters(key=key), watch_head=True,
                             blocking=blocking)
    assert ("x-first", "here") in call.head()
    peer_client.release(key)
    result = call.result()
    assert (result.code, result.messages) == ("OK", [b"then a message"])


def test_large_metadata_within_the_limit_comes_back(peer_client):
    sent = [("x-large", "v" * 3000), ("x-large-bin", os.urandom(2000))]
    assert custom(peer_client.call("EchoMetadata", metadata=sent).trailers) == sent


# Errors

@BOTH_WAYS
@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_code_arrives_with_its_unicode_message_and_metadata(peer_client, code, blocking):
    """rules 16 and 19: in trailers alone."""
    metadata = parameters(code=code) + [("x-detail", "first"), ("x-detail", "second"), ("x-detail-bin", b"\x00\xff")]
    result = peer_client.call("Fail", payloads=[UNICODE.encode()], metadata=metadata, blocking=blocking)
    assert (result.code, result.text) == (CODES[code], UNICODE), result
    assert custom(result.error_metadata) == metadata
    assert USES_REFERENCE or result.origin == "peer"


@BOTH_WAYS
def test_an_error_after_messages_lets_the_messages_through(peer_client, blocking):
    result = peer_client.call("FailAfter", "server", payloads=[UNICODE.encode()],
                              metadata=parameters(count=3, code=5), blocking=blocking)
    assert result.messages == [UNICODE.encode()] * 3
    assert (result.code, result.text) == ("NOT_FOUND", UNICODE)


@BOTH_WAYS
def test_errors_of_client_streams_and_dialogues_arrive(peer_client, blocking):
    result = peer_client.call("FailAtEnd", "client", payloads=[b"a", b"last"], metadata=parameters(code=9),
                              blocking=blocking)
    assert (result.code, result.text) == ("FAILED_PRECONDITION", "last")
    result = peer_client.call("FailAtOnce", "bidi", payloads=[b"a"], metadata=parameters(code=10), hold=True,
                              blocking=blocking)
    assert (result.code, result.text) == ("ABORTED", "at once")


def test_status_details_arrive_as_bytes(open_client_process, start_peer):
    """rule 9: `grpc-status-details-bin` is shown to applications."""
    if start_peer.kind == "apus":
        pytest.skip("apus-scenarios has no such method")
    details = os.urandom(300)
    result = open_client_process(start_peer()).call("FailWithDetails", payloads=[details])
    assert (result.code, result.text) == ("INVALID_ARGUMENT", "see the details")
    assert result.all_trailers("grpc-status-details-bin") == [details]


@BOTH_WAYS
@EACH_KIND
def test_a_method_that_is_not_served_is_unimplemented(peer_client, kind, blocking):
    result = peer_client.call("NoSuchMethod", kind, blocking=blocking)
    assert result.code == "UNIMPLEMENTED", result
    assert peer_client.call(payloads=[b"next"]).message == b"next"


@BOTH_WAYS
def test_a_response_over_the_limit_is_resource_exhausted(peer, open_client_process, blocking):
    """rule 14: here; and the connection lives on."""
    client = open_client_process(peer)
    result = client.call("Large", metadata=parameters(bytes=4 * MIB + 1), blocking=blocking)
    assert result.code == "RESOURCE_EXHAUSTED", result
    assert client.call("Large", metadata=parameters(bytes=4 * MIB), keep=False, blocking=blocking).bytes == 4 * MIB
    assert client.call(payloads=[b"next"]).message == b"next"


@BOTH_WAYS
def test_a_request_over_the_servers_limit_is_resource_exhausted(peer_client, blocking):
    """rule 14: there; the server ends the call before the request has come (rule 21)."""
    for kind in KINDS:
        result = peer_client.call(ECHOES[kind], kind, count=1, bytes=4 * MIB + 1, blocking=blocking)
        assert result.code == "RESOURCE_EXHAUSTED", result
    assert peer_client.call(payloads=[b"next"]).message == b"next"


@BOTH_WAYS
def test_a_server_that_ends_early_is_no_error(peer_client, blocking):
    """rule 21: before the client has half-closed, and while it writes without end."""
    result = peer_client.call("WriteAndReturn", "bidi", payloads=[b"a"], hold=True, blocking=blocking)
    assert (result.code, result.messages) == ("OK", [b"that is all"])
    result = peer_client.call("ReturnEarly", "client", count=10**7, bytes=1000, seconds=30,
                              metadata=parameters(count=2, bytes=200_000), keep=False, blocking=blocking)
    assert (result.code, result.bytes) == ("OK", 200_000), result
    assert 2 <= result.written < 10**7


# Deadlines and cancellation

@BOTH_WAYS
@EACH_KIND
def test_a_deadline_ends_the_call_and_its_handler(peer_client, kind, blocking):
    """rule 22."""
    key = new_key()
    method = {"unary": "Sleep", "server": "Pour", "client": "Sink", "bidi": "Listen"}[kind]
    asked = {"client": {"pause_after": 1}, "server": {"count": 10**7, "bytes": 10_000}}.get(kind, {"ms": 60_000})
    result = peer_client.call(
        method, kind, timeout_ms=400 * PATIENCE, blocking=blocking, hold=kind == "bidi", keep=False, count=1, bytes=1,
        metadata=parameters(key=key, **asked))
    assert result.code == "DEADLINE_EXCEEDED", result
    assert 390 <= result.milliseconds / PATIENCE < 3000
    assert peer_client.wait_for(f"cancelled.{key}") == 1


def test_a_deadline_is_deadline_exceeded_whichever_clock_is_first(peer_client):
    """rule 22: what the server does at the deadline does not look like a cancellation when it comes first."""
    calls = [peer_client.start("Hold", timeout_ms=20 + number / 10, metadata=parameters(key="never"))
             for number in range(200)]
    assert {call.result().code for call in calls} == {"DEADLINE_EXCEEDED"}


HOWS = ["hand"] if USES_REFERENCE else ["hand", "task", "drop"]


@pytest.mark.parametrize("how", HOWS)
@EACH_KIND
def test_cancelling_reaches_the_handler(peer_client, kind, how):
    """rule 22: by hand, by the task, by dropping the call; reported as CANCELLED in every kind."""
    if kind == "unary" and how != "task" and not USES_REFERENCE:
        pytest.skip("a unary call is cancelled by its task")
    key = new_key()
    method = {"unary": "Hold", "server": "Pour", "client": "Sink", "bidi": "Listen"}[kind]
    call = peer_client.start(method, kind, hold=True, drop=how == "drop", keep=False, count=1, bytes=1,
                             metadata=parameters(key=key, count=10**7, bytes=1000))
    assert peer_client.wait_for(f"started.{key}") == 1
    call.cancel(how)
    if how != "drop":
        result = call.result()
        assert result.code == "CANCELLED", result
        assert USES_REFERENCE or result.origin == "local"
    assert peer_client.wait_for(f"cancelled.{key}") == 1


@pytest.mark.parametrize("kind", ["server", "bidi"])
@not_of_the_reference
def test_leaving_the_loop_that_reads_cancels_the_call(peer_client, kind):
    """rule 22: nobody holds the call after a `break`."""
    key = new_key()
    method = {"server": "Pour", "bidi": "Listen"}[kind]
    peer_client.start(method, kind, break_after=2, keep=False, count=5, bytes=10, hold=True,
                      metadata=parameters(key=key, count=10**7, bytes=1000))
    assert peer_client.wait_for(f"cancelled.{key}") == 1


@EACH_KIND
@not_of_the_reference
def test_cancelling_by_hand_from_another_thread_ends_a_blocking_call(peer_client, kind):
    """rule 22."""
    if kind == "unary":
        pytest.skip("a blocking unary call has no handle")
    key = new_key()
    method = {"server": "Pour", "client": "Sink", "bidi": "Listen"}[kind]
    call = peer_client.start(method, kind, hold=True, keep=False, blocking=True, count=1, bytes=1,
                             metadata=parameters(key=key, count=10**7, bytes=1000))
    assert peer_client.wait_for(f"started.{key}") == 1
    call.cancel()
    assert call.result().code == "CANCELLED"
    assert peer_client.wait_for(f"cancelled.{key}") == 1


def test_a_thousand_cancellations_leave_the_connection_in_use(peer_client):
    """rule 22: an honest client may cancel as much as it likes."""
    for _ in range(20):
        calls = [peer_client.start("Listen", "bidi", hold=True, count=1, bytes=1) for _ in range(50)]
        for call in calls:
            call.cancel()
        assert {call.result(30).code for call in calls} == {"CANCELLED"}
    assert peer_client.call(payloads=[b"next"]).message == b"next"


# A server that goes and comes

@BOTH_WAYS
def test_calls_in_flight_fail_when_the_server_is_killed_and_later_ones_succeed(start_peer, open_client_process,
                                                                               blocking):
    """rule 22: UNAVAILABLE, whose text names address and cause; rule 28: the client connects anew."""
    server = start_peer()
    client = open_client_process(server, "--initial-backoff-ms", 200)
    calls = []
    for kind, method in [("unary", "Hold"), ("server", "Pour"), ("client", "Sink"), ("bidi", "Listen")]:
        key = new_key()
        calls.append(client.start(
            method, kind, hold=True, keep=False, blocking=blocking, watch_head=False, pause_after=None,
            metadata=parameters(key=key, count=10**8 if kind == "server" else 0, bytes=100)))
        assert client.wait_for(f"started.{key}") == 1
    server.process.kill()
    server.process.wait()
    for call in calls:
        if call is calls[2]:
            call.finish()
        result = call.result()
        assert result.code == "UNAVAILABLE", result
        if not USES_REFERENCE:
            assert result.origin == "local"
            assert server.address in result.text
            assert any(cause in result.text.lower() for cause in ("closed", "reset", "lost", "ended")), result
    refused = client.call(blocking=blocking)
    assert refused.code == "UNAVAILABLE"
    if not USES_REFERENCE:
        assert server.address in refused.text and "refused" in refused.text.lower(), refused
    start_peer(listen=server.address)
    result = client.call(payloads=[b"again"], wait_for_ready=True, blocking=blocking, seconds=20)
    assert result.messages == [b"again"], result
    assert client.call(payloads=[b"and again"], blocking=blocking).message == b"and again"


def test_a_server_that_shuts_down_lets_running_calls_end(start_peer, open_client_process):
    """rules 25 and 26: SIGTERM with calls under way, which end well, and a new server for those that come after."""
    grace = ["--grace-milliseconds", 10_000]
    server = start_peer(*grace)
    client = open_client_process(server, "--initial-backoff-ms", 200)
    key = new_key()
    call = client.start("Sleep", payloads=[b"done"], metadata=parameters(key=key, ms=1500))
    assert client.wait_for(f"started.{key}") == 1
    server.terminate()
    time.sleep(0.3)
    result = call.result(20)
    assert (result.code, result.messages) == ("OK", [b"done"]), result
    assert server.exit_code(10) == 0
    start_peer(listen=server.address)
    assert client.call(payloads=[b"next"], wait_for_ready=True, seconds=20).message == b"next"


# Addresses

@pytest.mark.parametrize("form", ["unix:{}", "unix://{}"])
def test_unix_sockets_are_targets(start_peer, open_client_process, tmp_path, form):
    path = tmp_path / "server.sock"
    start_peer(listen=f"unix:{path}")
    client = open_client_process(form.format(path))
    for kind in KINDS:
        assert client.call(ECHOES[kind], kind, payloads=[b"unix"]).messages == [b"unix"]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "dns:127.0.0.1:{}",
                                  "ipv4:127.0.0.1:{}"])
def test_forms_of_tcp_targets(peer, open_client_process, form):
    assert open_client_process(form.format(peer.port)).call(payloads=[b"tcp"]).messages == [b"tcp"]


@pytest.mark.parametrize("form", ["[::1]:{}", "ipv6:[::1]:{}"])
def test_ipv6_is_a_target(start_peer, open_client_process, form):
    server = start_peer(listen="[::1]:0")
    assert open_client_process(form.format(server.port)).call(payloads=[b"six"]).messages == [b"six"]


def test_an_abstract_unix_socket_is_a_target(start_our_peer, open_client_process):
    name = f"apus-test-{os.getpid()}"
    start_our_peer(listen=f"unix-abstract:{name}")
    assert open_client_process(f"unix-abstract:{name}").call(payloads=[b"abstract"]).messages == [b"abstract"]


@not_of_the_reference
def test_states_of_a_channel(peer, open_client_process):
    client = open_client_process(peer)
    assert client.state == "idle"
    client.tell("connect")
    assert wait_until(lambda: client.state == "ready")
    assert client.call().code == "OK"
    client.close_channel()
    assert wait_until(lambda: client.state == "closed")
