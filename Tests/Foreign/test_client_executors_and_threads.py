"""The client called from wherever Swift runs: tasks, actors, main, loops, threads; and the blocking calls' manners."""

import subprocess

import pytest

from client_process import USES_REFERENCE
from scenario_client import SERVICE, parameters
from server_process import PATIENCE, executable

pytestmark = pytest.mark.skipif(USES_REFERENCE, reason="this is about executors of Swift")
KINDS = ["unary", "server", "client", "bidi"]
ECHOES = {"unary": "Get", "server": "Expand", "client": "Collect", "bidi": "Update"}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@EACH_KIND
@pytest.mark.parametrize("on", ["task", "main", "actor", "loop", "other-loop"])
def test_asynchronous_calls_are_made_from_anywhere(peer_client, kind, on):
    for number in range(3):
        payload = b"%d-from-%s" % (number, on.encode())
        result = peer_client.call(ECHOES[kind], kind, payloads=[payload], on=on)
        assert (result.code, result.messages) == ("OK", [payload]), result


@EACH_KIND
@pytest.mark.parametrize("on", ["task", "main", "actor", "loop", "other-loop"])
def test_calls_from_anywhere_end_by_deadline_and_cancellation(peer_client, kind, on):
    """rule 22."""
    method = {"unary": "Hold", "server": "InitialMetadataFirst", "client": "Sink", "bidi": "Listen"}[kind]
    asked = parameters(key="never", pause_after=0)
    late = peer_client.call(method, kind, on=on, timeout_ms=200 * PATIENCE, hold=kind == "bidi", metadata=asked)
    assert late.code == "DEADLINE_EXCEEDED", late
    call = peer_client.start(method, kind, on=on, hold=kind == "bidi", metadata=asked)
    peer_client.figures
    call.cancel("task")
    assert call.result().code == "CANCELLED"


@EACH_KIND
@pytest.mark.parametrize("on", ["thread", "main", "task", "actor"])
def test_blocking_calls_are_made_from_any_thread_that_may_wait(peer_client, kind, on):
    payload = b"blocking-from-" + on.encode()
    result = peer_client.call(ECHOES[kind], kind, payloads=[payload], on=on, blocking=True)
    assert (result.code, result.messages) == ("OK", [payload]), result


@EACH_KIND
@pytest.mark.parametrize("on", ["loop", "other-loop"])
def test_a_blocking_call_on_the_thread_of_a_loop_is_refused(peer_client, kind, on):
    """The channel's own loop would wait for itself; any other would hold up its calls. The loop works on."""
    result = peer_client.call(ECHOES[kind], kind, payloads=[b"no"], on=on, blocking=True)
    assert (result.code, result.origin) == ("FAILED_PRECONDITION", "local"), result
    assert "loop" in result.text
    assert peer_client.call(payloads=[b"yes"], on=on).messages == [b"yes"]


def warnings(client):
    return [line for line in client.log.splitlines() if "warning" in line.lower() and "block" in line.lower()]


def test_blocking_calls_in_tasks_are_warned_of_once(peer_client):
    for _ in range(3):
        assert peer_client.call(on="task", blocking=True).code == "OK"
    assert len(warnings(peer_client)) == 1, peer_client.log


@pytest.mark.parametrize("on", ["thread", "main"])
def test_blocking_calls_outside_of_tasks_are_not_warned_of(peer_client, on):
    for _ in range(3):
        assert peer_client.call(on=on, blocking=True).code == "OK"
    assert warnings(peer_client) == []


def test_a_blocking_call_in_main_before_any_task(peer):
    done = subprocess.run([executable("apus-client-scenarios"), "main-thread", "--target", peer.address],
                          capture_output=True, text=True, timeout=20 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert '"code":"OK"' in done.stdout, done.stdout


def expected(number):
    """A message of 30 bytes that is numbered by its first four."""
    return number.to_bytes(4, "big") + bytes([number % 256]) * 26


@EACH_KIND
@pytest.mark.parametrize("blocking", [False, True], ids=["tasks", "threads"])
def test_ten_workers_share_a_channel(peer, open_client_process, kind, blocking):
    """Every answer is its own call's."""
    calls = 100 if peer.kind == "grpcio" else 1000
    client = open_client_process(peer)
    summary = client.run("load", workers=10, calls=calls, kind=kind, path=SERVICE + ECHOES[kind], bytes=30,
                         numbering="index", blocking=blocking, seconds=120)
    assert summary["codes"] == {"OK": 10 * calls}, summary
    # White space among the bytes of a number divides words, which are joined without it.
    divided = [number for number in range(10 * calls) if b"".join(expected(number).split()) != expected(number)]
    assert summary["mismatches"] <= (len(divided) if kind == "server" else 0), summary


@pytest.mark.parametrize("on", ["task", "loop", "main"])
def test_many_tasks_of_one_executor_share_a_channel(peer, open_client_process, on):
    client = open_client_process(peer)
    summary = client.run("load", workers=200, calls=20, path=SERVICE + "Get", bytes=30,
                         numbering="index", on=on, seconds=60)
    assert summary["codes"] == {"OK": 4000} and summary["mismatches"] == 0, summary
