"""Handlers of every kind are answered correctly, those that misbehave included."""

import concurrent.futures
import queue
import time

import grpc
import pytest

from raw_connection import message
from scenario_client import new_key, parameters
from server_process import PATIENCE

TIMEOUT = 20 * PATIENCE


class Dialogue:
    """A bidirectional call in which each side speaks when the test says so."""

    def __init__(self, client, method, **values):
        self.outbox = queue.SimpleQueue()
        self.call = client.both_streams(method)(
            iter(self.outbox.get, None), timeout=TIMEOUT, metadata=parameters(**values)
        )

    def send(self, *messages):
        for payload in messages:
            self.outbox.put(payload)

    def end(self):
        self.outbox.put(None)

    def receive(self):
        return next(self.call)

    def rest(self):
        return list(self.call)


@pytest.mark.parametrize("prefix", ["", "Global", "WithoutNonsending"])
def test_each_shape_is_answered_wherever_its_handler_runs(client, prefix):
    """On the loop, on the global pool, and in a target compiled without NonisolatedNonsendingByDefault."""
    for _ in range(50):
        assert client.call(prefix + "Get", b"get") == b"get"
        assert list(client.server_stream(prefix + "Expand")(b"a b c", timeout=TIMEOUT)) == [b"a", b"b", b"c"]
        assert client.client_stream(prefix + "Collect")(iter([b"a", b"b"]), timeout=TIMEOUT) == b"ab"
    dialogue = Dialogue(client, prefix + "Update")
    for number in range(50):
        dialogue.send(b"%d" % number)
        assert dialogue.receive() == b"%d" % number
    dialogue.end()
    assert dialogue.rest() == []


@pytest.mark.parametrize("prefix", ["", "Global", "WithoutNonsending", "Actor"])
def test_long_streams_are_whole_wherever_their_handler_runs(client, prefix):
    payloads = [b"%d" % number * 50 for number in range(3000)]
    assert list(client.both_streams(prefix + "Update")(iter(payloads), timeout=TIMEOUT)) == payloads
    if prefix != "Actor":
        assert client.client_stream(prefix + "Collect")(iter(payloads), timeout=TIMEOUT) == b"".join(payloads)


@pytest.mark.parametrize("method", ["Get", "SynchronousGet", "GlobalGet", "ActorAdd"])
def test_a_server_whose_handlers_all_run_on_the_global_pool_answers(start_scenarios, open_client, method):
    client = open_client(start_scenarios("--global-handlers"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.call(method, b"x", count=0), range(200)))
    assert len(set(answers)) == 1


def test_an_actor_shared_by_calls_of_every_loop_and_by_other_tasks_loses_no_update(open_client, scenario_server):
    clients = [open_client(scenario_server) for _ in range(8)]
    before = int(clients[0].call("ActorAdd", count=0))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(client.call, method, count=5) for client in clients for _ in range(25)
                 for method in ["ActorAdd", "ActorAddFromTasks"]]
        for call in calls:
            call.result()
    assert int(clients[0].call("ActorAdd", count=0)) == before + 8 * 25 * (5 + 10)


def test_an_actor_reads_and_writes_streams_of_several_connections(open_client, scenario_server):
    clients = [open_client(scenario_server) for _ in range(4)]
    before = int(clients[0].call("ActorAdd", count=0))

    def stream(client):
        payloads = [b"x"] * 200
        assert list(client.both_streams("ActorUpdate")(iter(payloads), timeout=TIMEOUT)) == payloads
        client.client_stream("ActorCollect")(iter(payloads), timeout=TIMEOUT)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(stream, clients))
    assert int(clients[0].call("ActorAdd", count=0)) == before + 4 * 400


def test_a_handler_that_sleeps_lets_others_run(client):
    began = time.monotonic()
    calls = [client.unary("Sleep").future(b"z", timeout=TIMEOUT, metadata=parameters(ms=300)) for _ in range(50)]
    assert [call.result() for call in calls] == [b"z"] * 50
    assert time.monotonic() - began < 3 * PATIENCE


@pytest.mark.parametrize("method", ["Throw", "ThrowSynchronously"])
def test_an_error_that_is_no_rpc_error_is_unknown_and_its_text_stays_here(client, scenario_server, method):
    """rule 32: UNKNOWN; the text goes to the log and not to the client."""
    with pytest.raises(grpc.RpcError) as error:
        client.call(method)
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert "swordfish" not in error.value.details()
    assert "swordfish" not in str(error.value.trailing_metadata())
    assert scenario_server.log_has(rf"{method}\b.*swordfish|swordfish.*{method}\b")


def test_an_error_that_is_no_rpc_error_ends_a_stream_with_unknown(client):
    """rule 32, in the middle of a stream."""
    dialogue = Dialogue(client, "ThrowStream")
    dialogue.send(b"one")
    assert dialogue.receive() == b"one"
    with pytest.raises(grpc.RpcError) as error:
        dialogue.rest()
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert "swordfish" not in error.value.details()
    dialogue.end()


def test_the_text_of_an_error_is_sent_when_the_server_is_configured_so(start_scenarios, open_client):
    """rule 32: not sent unless configured."""
    client = open_client(start_scenarios("--send-error-descriptions"))
    with pytest.raises(grpc.RpcError) as error:
        client.call("Throw")
    assert error.value.code() == grpc.StatusCode.UNKNOWN
    assert "swordfish" in error.value.details()


@pytest.mark.parametrize("method", ["Block", "BlockSynchronously"])
def test_a_handler_that_blocks_its_thread_for_two_seconds_is_answered_and_named_in_the_log(
    start_scenarios, open_client, method
):
    server = start_scenarios()
    client = open_client(server)
    assert client.call(method, b"late", ms=2000, timeout=15) == b"late"
    line = server.log_has(rf"apus\.test\.v1\.ScenarioService/{method}\b")
    assert line and "warning" in line, server.log
    assert client.call("Get", b"after") == b"after"


def test_a_handler_that_blocks_on_the_global_pool_holds_nobody_up(start_scenarios, open_client):
    server = start_scenarios("--threads", 1)
    client = open_client(server)
    blocked = client.unary("GlobalBlock").future(b"b", timeout=TIMEOUT, metadata=parameters(ms=1500))
    time.sleep(0.2)
    began = time.monotonic()
    for _ in range(20):
        assert client.call("Get", b"quick") == b"quick"
    assert time.monotonic() - began < 1 * PATIENCE
    assert blocked.result() == b"b"
    assert "held up" not in server.log


def test_a_handler_reads_with_a_timeout_in_a_task_group(client):
    """A child task that reads is cancelled by its timeout, and the next one reads on."""
    dialogue = Dialogue(client, "ReadWithTimeout", ms=150)
    dialogue.send(b"first")
    assert dialogue.receive() == b"first"
    assert dialogue.receive() == b"timeout"
    assert dialogue.receive() == b"timeout"
    dialogue.send(b"second")
    answers = [dialogue.receive()]
    while answers[-1] == b"timeout":
        answers.append(dialogue.receive())
    assert answers[-1] == b"second"
    dialogue.end()
    assert dialogue.rest()[-1] == b"end"


def test_a_handler_reads_and_writes_in_child_tasks(client):
    answers = list(client.both_streams("ReadBesideWrite")(
        iter([b"x"] * 500), timeout=TIMEOUT, metadata=parameters(count=500)
    ))
    assert answers == [b"%d" % number for number in range(500)] + [b"read 500"]


def test_a_handler_that_returns_before_its_client_is_done_answers(client):
    """rule 21: a client that still sends gets the answer and no error."""
    for read in [0, 1]:
        requests = iter(lambda: time.sleep(0.001) or b"x" * 1000, None)
        answer = client.client_stream("ReturnEarly")(
            requests, timeout=TIMEOUT, metadata=parameters(count=read, bytes=200_000)
        )
        assert answer == b"e" * 200_000


def test_a_dialogue_that_the_handler_ends_first_ends_well(client):
    """rule 21, for both streams."""
    requests = iter(lambda: time.sleep(0.001) or b"x" * 1000, None)
    call = client.both_streams("WriteAndReturn")(requests, timeout=TIMEOUT)
    assert list(call) == [b"that is all"]
    assert call.code() == grpc.StatusCode.OK


def test_a_message_written_after_the_end_is_an_error_for_the_writer_alone(client):
    key = new_key()
    call = client.server_stream("WriteLate")(b"", timeout=TIMEOUT, metadata=parameters(key=key, ms=100))
    assert list(call) == [b"in time"]
    note = client.wait_for_note(f"late.{key}")
    assert note and note != "written", note


def test_a_stream_read_after_the_end_gives_an_end_or_an_error(client):
    key = new_key()
    call = client.client_stream("ReadLate")(iter([]), timeout=TIMEOUT, metadata=parameters(key=key, ms=100))
    assert call == b""
    note = client.wait_for_note(f"late.{key}")
    assert note and note != "a message", note


def test_a_context_kept_after_its_call_keeps_saying_what_it_said(client):
    """What later calls bring does not show in it, and what is asked of it has no effect on them."""
    key = new_key()
    client.call("KeepContext", key=key)
    for _ in range(20):
        client.call("Get", key="another")
        answer, call = client.unary("AskKeptContext").with_call(b"", timeout=TIMEOUT)
        assert answer.decode() == f"apus.test.v1.ScenarioService/KeepContext {key}"
        assert "x-late" not in dict(call.initial_metadata()) | dict(call.trailing_metadata())


def test_a_thousand_handlers_of_one_connection_run_at_once(start_scenarios, open_client):
    """1,000 calls at once on one connection: each handler has started before any ends."""
    server = start_scenarios("--max-streams", 2000, "--max-handlers-per-connection", 2000)
    client = open_client(server)
    key = new_key()
    calls = [client.unary("Hold").future(b"%d" % number, timeout=TIMEOUT, metadata=parameters(key=key))
             for number in range(1000)]
    assert client.wait_for(f"started.{key}", 1000, 15) == 1000
    client.release(key)
    assert [call.result() for call in calls] == [b"%d" % number for number in range(1000)]
    assert client.stats[f"finished.{key}"] == 1000


def test_more_calls_than_the_stream_limit_wait_at_the_client(start_scenarios, open_client):
    server = start_scenarios("--max-streams", 10)
    client, observer = open_client(server), open_client(server)
    key = new_key()
    calls = [client.unary("Hold").future(b"", timeout=TIMEOUT, metadata=parameters(key=key)) for _ in range(50)]
    assert observer.wait_for(f"started.{key}", 10) == 10
    time.sleep(0.2)
    assert observer.stats[f"started.{key}"] == 10
    observer.release(key)
    for call in calls:
        call.result()


def test_handlers_whose_call_was_given_up_count_towards_the_limit_of_the_connection(start_scenarios, open_raw):
    """A peer that resets what it begins cannot make handlers pile up; other connections are served."""
    server = start_scenarios("--max-handlers-per-connection", 20)
    raw, other = open_raw(server), open_raw(server)
    key = new_key()
    for number in range(20):
        stream = raw.open("Ignore", parameters(ms=1000, key=key))
        raw.data(stream, message(b""), end_stream=True)
        assert other.wait_for(f"started.{key}", number + 1) == number + 1
        raw.reset(stream)
    refused = raw.open("Get")
    raw.data(refused, message(b""), end_stream=True)
    assert raw.result(refused).reset == 7
    other.assert_serves()
    time.sleep(1.3 * PATIENCE)
    raw.assert_serves()


def test_calls_over_the_servers_limit_of_handlers_are_resource_exhausted(start_scenarios, open_client):
    server = start_scenarios("--max-handlers", 3)
    client = open_client(server)
    key = new_key()
    held = [client.unary("Hold").future(b"", timeout=TIMEOUT, metadata=parameters(key=key)) for _ in range(3)]
    # Nothing can be asked without taking a place: give the three time to take theirs.
    time.sleep(0.5 * PATIENCE)
    refused = None
    deadline = time.monotonic() + 5 * PATIENCE
    while refused is None and time.monotonic() < deadline:
        try:
            client.call("Get")
        except grpc.RpcError as error:
            refused = error.code()
    assert refused == grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in held:
        call.cancel()
    deadline = time.monotonic() + 5 * PATIENCE
    while True:
        try:
            client.release(key)
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline
    assert client.call("Get", b"room") == b"room"


def test_connections_over_the_limit_wait_and_are_served_when_there_is_room(start_scenarios, open_raw):
    server = start_scenarios("--max-connections", 2)
    first, second = open_raw(server), open_raw(server)
    first.assert_serves()
    second.assert_serves()
    third = open_raw(server)
    stream = third.open("Get")
    third.data(stream, message(b"wait"), end_stream=True)
    assert third.receive(0.3) is None
    assert server.log_has("as many connections as it may")
    first.close()
    assert third.result(stream).messages == [b"wait"]
