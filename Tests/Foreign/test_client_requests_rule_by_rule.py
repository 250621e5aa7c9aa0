"""What the client puts on the wire, read frame by frame (rules 4, 5, 6, 9, 10, 11, 22)."""

import re
import threading

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from client_process import USES_REFERENCE, not_of_the_reference
from raw_connection import CANCEL
from raw_server import INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE
from server_process import PATIENCE

UNITS = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}
KINDS = ["unary", "server", "client", "bidi"]


@pytest.fixture
def sent(start_raw_server, open_client_process):
    """Makes one call that is answered with OK; returns the request as it came and the result."""

    def send(settings=None, options=(), **fields):
        requests = []

        def script(connection):
            requests.append(connection.request())
            requests[-1].reply(b"answer")

        server = start_raw_server(script, settings=settings)
        client = open_client_process(server, *options)
        result = client.call(**fields)
        assert (result.code, result.messages) == ("OK", [b"answer"]), result
        request = requests[0]
        request.address = server.address
        return request, result

    return send


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_of_a_request_is_what_grpc_asks_for(sent, kind, blocking):
    """rules 4 and 5: POST, http, path, authority, `te: trailers`, content-type, a user agent; no time-out unasked."""
    request, _ = sent(kind=kind, path="/a.b.C/D", blocking=blocking)
    names = [name for name, _ in request.fields]
    fields = dict(request.fields)
    assert len(names) == len(fields), f"a field came twice: {names}"
    pseudo = [":method", ":scheme", ":path", ":authority"]
    assert sorted(names[:4]) == sorted(pseudo), "pseudo-header fields come first, and there are four"
    assert not any(name.startswith(":") for name in names[4:])
    assert (fields[":method"], fields[":scheme"], fields[":path"]) == ("POST", "http", "/a.b.C/D")
    assert fields[":authority"] == request.address
    assert fields["te"] == "trailers"
    assert fields["content-type"] == "application/grpc"
    assert ("grpc" if USES_REFERENCE else "apus") in fields["user-agent"].lower()
    assert "grpc-timeout" not in fields
    assert "grpc-previous-rpc-attempts" not in fields


def test_authority_and_user_agent_can_be_configured(sent):
    request, _ = sent(options=["--authority", "echo.example:443", "--user-agent", "my-app/1.2"])
    assert request.first(":authority") == "echo.example:443"
    assert request.first("user-agent").startswith("my-app/1.2")


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("kind", ["client", "bidi"])
def test_a_request_stream_ends_with_end_stream_on_data(sent, kind, count):
    """rule 6: never on HEADERS; an empty DATA frame ends a request without a message."""
    request, _ = sent(kind=kind, count=count, bytes=10)
    assert request.messages == [bytes([number]) * 10 for number in range(count)]
    own = [frame for frame in request.connection.frames if frame.stream_id == request.stream]
    heads = [frame for frame in own if isinstance(frame, HeadersFrame)]
    data = [frame for frame in own if isinstance(frame, DataFrame)]
    assert len(heads) == 1 and "END_STREAM" not in heads[0].flags
    assert data and "END_STREAM" in data[-1].flags


@pytest.mark.parametrize("kind", ["unary", "server"])
@pytest.mark.parametrize("payload", [b"", b"x", b"large" * 20_000])
def test_a_single_request_is_one_message_and_end_stream_on_data(sent, kind, payload):
    """rules 6 and 7: a message of length zero is a message."""
    request, _ = sent(kind=kind, payloads=[payload])
    assert request.messages == [payload]
    assert request.answer.ended_by == "DATA"


@pytest.mark.parametrize("milliseconds", [1, 50, 99.9999, 100, 1234.567, 100_000, 3_600_000, 30 * 86_400_000, 10**12])
def test_a_timeout_is_encoded_in_the_finest_unit_that_fits_into_eight_digits(start_raw_server, open_client_process,
                                                                             milliseconds):
    """rule 5: and is what is left of it when the request is sent, rounded up."""
    values = []
    server = start_raw_server(lambda connection: connection.serve(
        lambda request: (values.append(request.first("grpc-timeout")), request.reply())))
    client = open_client_process(server)
    assert client.call(timeout_ms=60_000).code == "OK"
    client.call(timeout_ms=milliseconds)
    if milliseconds < 10 and len(values) == 1:
        return
    assert len(values) == 2, "the request did not come"
    found = re.fullmatch(r"(\d{1,8})([HMSmun])", values[1])
    assert found, values
    number, unit = int(found.group(1)), found.group(2)
    nanoseconds = number * UNITS[unit]
    asked = milliseconds * 10**6
    if USES_REFERENCE:
        return
    # A unit of rounding is allowed for, and the age of the clock of the loop's turn, in which the call may have come;
    # how long the request waited is not known, and under a second.
    turn = 100 * 10**6 * PATIENCE
    assert nanoseconds <= max(asked, 1) + UNITS[unit] + turn or (unit == "H" and number == 99_999_999)
    assert nanoseconds >= min(asked - 10**9 * PATIENCE, 99_999_999 * UNITS["H"])
    finer = {"H": "M", "M": "S", "S": "m", "m": "u", "u": "n"}.get(unit)
    if finer:
        assert -(-min(asked, nanoseconds) // UNITS[finer]) > 99_999_999 - UNITS[unit] // UNITS[finer], \
            f"{values[1]} would have fitted into a finer unit"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("milliseconds", [0, -5])
@not_of_the_reference
def test_a_call_whose_deadline_has_passed_is_not_sent(start_raw_server, open_client_process, kind, milliseconds):
    """rule 5."""
    seen = []
    server = start_raw_server(lambda connection: connection.serve(
        lambda request: (seen.append(request.path), request.reply())))
    client = open_client_process(server)
    assert client.call().code == "OK"
    result = client.call("Late", kind=kind, timeout_ms=milliseconds)
    assert result.code == "DEADLINE_EXCEEDED"
    assert client.call().code == "OK"
    assert [path.rsplit("/", 1)[1] for path in seen] == ["Get", "Get"]


@pytest.mark.parametrize("blocking", [False, True])
def test_metadata_keeps_its_order_and_bytes_travel_as_base64_without_padding(sent, blocking):
    """rules 10 and 11."""
    metadata = [("x-one", "1"), ("x-many", "a"), ("x-other", "o"), ("x-many", "b"), ("x-data-bin", b"\x00\xff"),
                ("x-data-bin", b""), ("x-data-bin", bytes(range(256))), ("x-empty", ""), ("X-Upper", "u"),
                ("x-tab", "a\tb")]
    if USES_REFERENCE:
        metadata = [(key, value) for key, value in metadata if key not in ("X-Upper", "x-tab")]
    request, _ = sent(metadata=metadata, blocking=blocking)
    custom = [(name, value) for name, value in request.fields if name.startswith("x-")]
    bins = [value for name, value in custom if name == "x-data-bin"]
    assert bins[:2] == ["AP8", ""] and not bins[2].endswith("=")
    expected = [(key.lower(), value) for key, value in metadata if isinstance(value, str)]
    assert [(name, value) for name, value in custom if name != "x-data-bin"] == expected
    assert [name for name, _ in custom] == [key.lower() for key, _ in metadata]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["grpc-status", "grpc-timeout", "grpc-encoding", "grpc-made-up", "content-type", "te",
                                 "host", "connection", ":path", "x space", "x:colon", "", "x\u00e9"])
@not_of_the_reference
def test_reserved_and_illegal_metadata_fails_the_call_and_names_the_key(start_raw_server, open_client_process, key,
                                                                        kind):
    """rule 9: nothing of such a call reaches the wire."""
    seen = []
    server = start_raw_server(lambda connection: connection.serve(
        lambda request: (seen.append(request.path), request.reply())))
    client = open_client_process(server)
    result = client.call("Bad", kind=kind, metadata=[(key, "value")])
    assert (result.code, result.origin) == ("INTERNAL", "local"), result
    assert key in result.text
    assert client.call().code == "OK"
    assert [path.rsplit("/", 1)[1] for path in seen] == ["Get"]


@pytest.mark.parametrize("value", ["nul\x00", "line\n", "return\r", "delete\x7f"])
@not_of_the_reference
def test_a_metadata_value_with_a_control_character_fails_the_call(start_raw_server, open_client_process, value):
    """rule 11."""
    client = open_client_process(start_raw_server(lambda connection: connection.serve()))
    result = client.call(metadata=[("x-bad", value)])
    assert result.code == "INTERNAL" and "x-bad" in result.text, result
    assert client.call().code == "OK"


@pytest.mark.parametrize("key", ["grpc-trace-bin", "grpc-tags-bin"])
def test_the_reserved_names_that_applications_may_set_are_sent(sent, key):
    """rule 9."""
    request, _ = sent(metadata=[(key, b"\x01\x02")])
    assert request.first(key) == "AQI"


@not_of_the_reference
def test_the_settings_of_a_client_forbid_push_and_name_its_limits(sent):
    """rules 8 and 34: ENABLE_PUSH 0, MAX_HEADER_LIST_SIZE, the windows of the configuration."""
    request, _ = sent()
    settings = request.connection.server_settings
    assert settings[SettingsFrame.ENABLE_PUSH] == 0
    assert settings[SettingsFrame.MAX_HEADER_LIST_SIZE] == 8192
    assert settings[SettingsFrame.INITIAL_WINDOW_SIZE] == 256 * 1024
    answered = len(b"answer") + 5
    assert request.connection.send_window >= 1024 * 1024 - answered


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_keeps_to_the_header_list_that_the_server_takes(start_raw_server, open_client_process, kind):
    """rule 8: name + value + 32 for each field; one that is over it fails with RESOURCE_EXHAUSTED and is not sent."""
    arrived = []

    def script(connection):
        connection.serve(lambda request: (arrived.append(list_bytes(request.fields)), request.reply(b"m")))

    client = open_client_process(start_raw_server(script, settings={MAX_HEADER_LIST_SIZE: 1000}))
    assert client.call("Get", kind).code == "OK"
    base = arrived.pop()
    for over in (0, 1):
        value = "v" * (1000 - base - len("x-large") - 32 + over)
        result = client.call("Get", kind, metadata=[("x-large", value)])
        if over:
            assert (result.code, result.origin) == ("RESOURCE_EXHAUSTED", "local"), result
            assert "1001" in result.text and "1000" in result.text
        else:
            assert result.code == "OK", result
    assert arrived == [1000]
    assert client.call("Get", kind).code == "OK"


def list_bytes(fields):
    return sum(len(name) + len(value) + 32 for name, value in fields)


@pytest.mark.parametrize("window", [1, 1000])
def test_a_client_keeps_to_the_window_that_it_was_given(start_raw_server, open_client_process, window):
    """RFC 9113 §6.9: of the server's SETTINGS, and of credit that comes later."""
    def script(connection):
        request = connection.request(whole=False)
        connection.drain(0.3)
        assert request.answer.data_bytes == window, "the first window is not used, or exceeded"
        for step in [1, 7, 5000]:
            before = request.answer.data_bytes
            connection.credit(request.stream, step)
            connection.run_until(lambda: request.answer.data_bytes >= before + step, 5)
            connection.drain(0.1)
            assert request.answer.data_bytes == before + step
        connection.credit(request.stream, 100_000)
        request.wait_end().reply(request.messages[0][-5:])

    server = start_raw_server(script, settings={INITIAL_WINDOW_SIZE: window}, auto_credit=False)
    result = open_client_process(server).call(payloads=[b"x" * 40_000 + b"tail!"])
    assert (result.code, result.messages) == ("OK", [b"tail!"])


def test_a_window_that_is_made_smaller_while_a_request_is_sent(start_raw_server, open_client_process):
    """RFC 9113 §6.9.2: it may become negative, and then more credit is needed before anything is sent."""
    def script(connection):
        request = connection.request(whole=False)
        connection.drain(0.3)
        assert request.answer.data_bytes == 50_000
        connection.change_settings({INITIAL_WINDOW_SIZE: 10})
        connection.wait_settings_acks(2)
        connection.credit(request.stream, 49_990)
        connection.drain(0.2)
        assert request.answer.data_bytes == 50_000, "bytes were sent into a window of zero"
        connection.credit(request.stream, 7)
        connection.run_until(lambda: request.answer.data_bytes >= 50_007, 5)
        connection.drain(0.1)
        assert request.answer.data_bytes == 50_007
        connection.change_settings({INITIAL_WINDOW_SIZE: 200_000})
        request.wait_end().reply()

    server = start_raw_server(script, settings={INITIAL_WINDOW_SIZE: 50_000}, auto_credit=False)
    assert open_client_process(server).call(payloads=[b"x" * 60_000]).code == "OK"


def test_a_client_keeps_to_the_window_of_the_connection(start_raw_server, open_client_process):
    """RFC 9113 §6.9.1: 65,535 bytes for all streams together until there is credit."""
    def script(connection):
        first, second = connection.requests(2, whole=False)
        connection.drain(0.3)
        assert first.answer.data_bytes + second.answer.data_bytes == 65_535
        connection.credit(0, 200_000)
        for request in [first, second]:
            request.wait_end().reply()

    server = start_raw_server(script, settings={INITIAL_WINDOW_SIZE: 10**6}, auto_credit=False)
    client = open_client_process(server)
    calls = [client.start("Large", count=1, bytes=80_000) for _ in range(2)]
    assert [call.result().code for call in calls] == ["OK", "OK"]


HOWS = ["hand"] if USES_REFERENCE else ["hand", "task", "drop"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_resets_the_stream_with_cancel(start_raw_server, open_client_process, kind, how):
    """rule 22: by hand, by the task, by dropping the call; the connection lives on."""
    if kind == "unary" and how != "task" and not USES_REFERENCE:
        pytest.skip("a unary call is cancelled by its task")
    codes = []
    arrived = threading.Event()

    def script(connection):
        request = connection.request(whole=False)
        if how != "drop":
            request.head()
        arrived.set()
        codes.append(request.wait_reset())
        connection.serve()

    client = open_client_process(start_raw_server(script))
    call = client.start("Cancelled", kind=kind, hold=True, drop=how == "drop")
    assert arrived.wait(10 * PATIENCE)
    call.cancel(how)
    if how != "drop":
        result = call.result()
        assert result.code == "CANCELLED"
        assert USES_REFERENCE or result.origin == "local"
    assert client.call().messages == [b"served"]
    assert codes == [CANCEL]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_resets_the_stream_with_cancel(start_raw_server, open_client_process, kind, blocking):
    """rule 22: DEADLINE_EXCEEDED at the client, RST_STREAM CANCEL on the wire."""
    codes = []

    def script(connection):
        request = connection.request(whole=False)
        request.head()
        codes.append(request.wait_reset())
        connection.serve()

    client = open_client_process(start_raw_server(script))
    result = client.call("Late", kind=kind, timeout_ms=300 * PATIENCE, blocking=blocking)
    assert result.code == "DEADLINE_EXCEEDED", result
    assert 290 <= result.milliseconds / PATIENCE < 3000
    assert client.call().messages == [b"served"]
    assert codes == [CANCEL]


def test_what_arrives_after_the_deadline_changes_nothing(start_raw_server, open_client_process):
    """rule 22: a status that comes too late is not reported."""
    def script(connection):
        request = connection.request()
        request.head().message(b"one")
        request.wait_reset()
        request.message(b"two").trailers(status=5, text="too late")
        connection.serve()

    client = open_client_process(start_raw_server(script))
    result = client.call("Late", kind="server", timeout_ms=300)
    assert (result.code, result.messages) == ("DEADLINE_EXCEEDED", [b"one"])
    assert client.call().messages == [b"served"]
