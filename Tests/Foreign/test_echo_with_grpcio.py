"""The echo service as a gRPC client sees it that we did not write: grpcio."""

import concurrent.futures
import pathlib
import queue

import grpc
import pytest

from server_process import PATIENCE, wait_until

TIMEOUT = 20 * PATIENCE
MIB = 1024 * 1024
TEXT = "grüezi 世界 🐦"


@pytest.fixture(params=["apus-echo", "apus-scenarios"])
def server(request):
    """Both servers have the echo service: one with synchronous unary handlers, one with asynchronous ones."""
    return request.getfixturevalue("echo_server" if request.param == "apus-echo" else "scenario_server")


@pytest.fixture
def stub(echo, open_channel, server):
    return echo.Stub(open_channel(server))


def call_in_four_ways(echo, stub):
    assert stub.Get(echo.Request(text=TEXT), timeout=TIMEOUT).text == TEXT
    words = "swifts sleep on the wing"
    assert [part.text for part in stub.Expand(echo.Request(text=words), timeout=TIMEOUT)] == words.split()
    requests = (echo.Request(text=word) for word in words.split())
    assert stub.Collect(requests, timeout=TIMEOUT).text == words
    outbox = queue.SimpleQueue()
    answers = stub.Update(iter(outbox.get, None), timeout=TIMEOUT)
    for word in words.split():
        outbox.put(echo.Request(text=word))
        assert next(answers).text == word
    outbox.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def test_get_returns_the_text(echo, stub):
    assert stub.Get(echo.Request(text=TEXT), timeout=TIMEOUT).text == TEXT


def test_an_empty_text_is_a_message_of_length_zero_and_comes_back(echo, stub):
    """rule 7: a message of length zero is a message."""
    assert stub.Get(echo.Request(), timeout=TIMEOUT).text == ""
    assert [part.text for part in stub.Update(iter([echo.Request()] * 3), timeout=TIMEOUT)] == ["", "", ""]


def test_all_four_methods_answer(echo, stub):
    call_in_four_ways(echo, stub)


def test_streams_without_any_message_end_well(echo, stub):
    assert list(stub.Expand(echo.Request(text=" \t "), timeout=TIMEOUT)) == []
    assert stub.Collect(iter([]), timeout=TIMEOUT).text == ""
    assert list(stub.Update(iter([]), timeout=TIMEOUT)) == []


def test_a_stream_of_ten_thousand_messages_keeps_their_order(echo, stub):
    texts = [f"word{number}" for number in range(10_000)]
    assert [part.text for part in stub.Expand(echo.Request(text=" ".join(texts)), timeout=TIMEOUT)] == texts
    assert stub.Collect((echo.Request(text=text) for text in texts), timeout=TIMEOUT).text == " ".join(texts)
    answers = stub.Update((echo.Request(text=text) for text in texts), timeout=TIMEOUT)
    assert [part.text for part in answers] == texts


def test_a_method_that_is_not_served_is_unimplemented(echo, open_channel, server):
    """rule 1: the message says whether the service or the method is missing."""
    channel = open_channel(server)
    for path, part in [("/echo.v1.EchoService/Nope", "no method Nope"), ("/nope.Service/Get", "nope.Service")]:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(path)(b"", timeout=TIMEOUT)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert part in error.value.details()


def test_a_request_that_does_not_parse_is_internal(open_channel, server):
    """rule 32: a message that does not parse ends the call with INTERNAL."""
    channel = open_channel(server)
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/echo.v1.EchoService/Get")(b"\xff\xff\xff", timeout=TIMEOUT)
    assert error.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("listen", ["[::1]:0", "localhost:0", "0.0.0.0:0", "[::]:0"])
def test_every_kind_of_address_is_served(echo, start_echo, open_channel, listen):
    server = start_echo(listen=listen)
    target = server.address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    call_in_four_ways(echo, echo.Stub(open_channel(target)))


def test_every_address_of_ipv6_takes_ipv4_as_well_or_says_that_it_does_not(echo, start_echo, open_channel):
    server = start_echo(listen="[::]:0")
    with open_channel(f"127.0.0.1:{server.port}") as channel:
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=2)
        except grpc.FutureTimeoutError:
            return
        assert echo.Stub(channel).Get(echo.Request(text="v4"), timeout=TIMEOUT).text == "v4"


def test_a_unix_socket_is_served_and_its_file_removed_at_the_end(echo, start_echo, open_channel, tmp_path):
    path = tmp_path / "echo.sock"
    server = start_echo(listen=f"unix:{path}")
    assert server.address == f"unix:{path}"
    call_in_four_ways(echo, echo.Stub(open_channel(server)))
    server.terminate()
    assert server.exit_code() == 0
    assert not path.exists()


def test_an_abstract_unix_socket_is_served(echo, start_echo, open_channel):
    server = start_echo(listen="unix-abstract:apus-foreign-test")
    call_in_four_ways(echo, echo.Stub(open_channel("unix-abstract:apus-foreign-test")))
    assert server.is_running


def test_a_unix_socket_file_of_a_dead_server_is_replaced(echo, start_echo, open_channel, tmp_path):
    path = tmp_path / "echo.sock"
    first = start_echo(listen=f"unix:{path}")
    first.process.kill()
    first.process.wait()
    assert path.exists()
    # What the kill leaves behind is no crash of the server's own.
    first.process.returncode = 0
    second = start_echo(listen=f"unix:{path}")
    call_in_four_ways(echo, echo.Stub(open_channel(second)))


def test_one_loop_thread_serves_as_well(echo, start_echo, open_channel):
    call_in_four_ways(echo, echo.Stub(open_channel(start_echo("--threads", "1"))))


def test_a_message_of_three_mib_goes_both_ways(echo, stub):
    text = "x" * (3 * MIB)
    assert stub.Get(echo.Request(text=text), timeout=TIMEOUT).text == text
    assert [part.text for part in stub.Update(iter([echo.Request(text=text)]), timeout=TIMEOUT)] == [text]


def test_a_message_of_three_mib_passes_windows_of_64_kib_both_ways(echo, start_scenarios, open_channel):
    """rule 34: a message larger than the window does not wait for itself."""
    server = start_scenarios("--stream-window-bytes", 65_536, "--connection-window-bytes", 65_536)
    small = {"http2__bdp_probe": 0, "http2__lookahead_bytes": 65_536}
    stub = echo.Stub(open_channel(server, **small))
    text = "0123456789abcdef" * (3 * MIB // 16)
    assert stub.Get(echo.Request(text=text), timeout=TIMEOUT).text == text
    assert [part.text for part in stub.Update(iter([echo.Request(text=text)] * 3), timeout=TIMEOUT)] == [text] * 3
    assert stub.Collect(iter([echo.Request(text="y"), echo.Request(text=text)]), timeout=TIMEOUT).text == "y " + text


def test_a_message_over_the_limit_is_resource_exhausted(echo, stub):
    """rule 14: 4 MiB is the limit by default, and the next call is served."""
    request = echo.Request(text="x" * (4 * MIB + 1))
    for call in [lambda: stub.Get(request, timeout=TIMEOUT),
                 lambda: list(stub.Expand(request, timeout=TIMEOUT)),
                 lambda: stub.Collect(iter([request]), timeout=TIMEOUT),
                 lambda: list(stub.Update(iter([request]), timeout=TIMEOUT))]:
        with pytest.raises(grpc.RpcError) as error:
            call()
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error.value
        assert str(4 * MIB) in error.value.details()
    assert stub.Get(echo.Request(text="after"), timeout=TIMEOUT).text == "after"


def test_a_thousand_calls_at_once_on_one_connection_are_all_answered(echo, stub):
    calls = [stub.Get.future(echo.Request(text=str(number)), timeout=TIMEOUT) for number in range(1000)]
    assert [call.result().text for call in calls] == [str(number) for number in range(1000)]


def test_two_hundred_connections_are_served_at_once(echo, open_channel, server):
    before = server.descriptors
    stubs = [echo.Stub(open_channel(server)) for _ in range(200)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda pair: pair[1].Get(echo.Request(text=str(pair[0])), timeout=TIMEOUT).text,
                                enumerate(stubs)))
    assert answers == [str(number) for number in range(200)]
    assert server.descriptors >= before + 200


def test_connections_are_spread_over_the_loops(echo, start_echo, open_channel):
    """New connections go to the loop with the fewest: two busy connections keep two threads busy."""
    server = start_echo("--threads", "2")
    stubs = [echo.Stub(open_channel(server)) for _ in range(8)]
    for _ in range(200):
        for stub in stubs:
            stub.Get(echo.Request(text="x"), timeout=TIMEOUT)

    def busy_threads():
        tasks = pathlib.Path(f"/proc/{server.pid}/task")
        switches = []
        for task in tasks.iterdir():
            status = (task / "status").read_text()
            name = status.split("Name:\t", 1)[1].split("\n", 1)[0]
            count = int(status.split("voluntary_ctxt_switches:\t", 1)[1].split("\n", 1)[0])
            switches.append((count, name))
        return sorted(count for count, name in switches if count > 300)

    assert wait_until(lambda: len(busy_threads()) >= 2), busy_threads()
