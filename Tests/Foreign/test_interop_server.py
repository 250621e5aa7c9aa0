"""gRPC's interoperability tests: the clients of grpcio and of gRPC C++ against our server.

How each case goes is in gRPC's doc/interop-test-descriptions.md; what the client demands is in interop_client.py.
"""

import time

import grpc
import pytest

import interop_client
from interop_client import InteropClient, expect_responses, expect_status
from interop_fixtures import GRPC_CPP
from server_process import PATIENCE

EACH_CASE = pytest.mark.parametrize("case", interop_client.CASES, ids=lambda case: case.__name__)


@pytest.fixture
def open_interop_client(interop_messages):
    """Opens clients of grpcio."""
    opened = []

    def open(server, **options):
        opened.append(InteropClient(server.address, interop_messages, **options))
        return opened[-1]

    yield open
    for client in opened:
        client.channel.close()


@pytest.fixture
def interop_client_of_ours(interop_servers, open_interop_client):
    """A client of our server."""
    return open_interop_client(interop_servers.shared("apus"))


@EACH_CASE
def test_grpcio_passes_each_case_at_our_server(interop_client_of_ours, case):
    case(interop_client_of_ours)


@EACH_CASE
def test_grpcio_passes_each_case_at_our_server_over_tls(interop_servers, open_interop_client, certificates, case):
    credentials = grpc.ssl_channel_credentials(certificates.text("ca.pem"))
    server = interop_servers.shared("apus", *certificates.options("server"))
    case(open_interop_client(server, credentials=credentials))


def test_grpcio_waits_at_our_servers_limit_of_streams(interop_servers, open_interop_client):
    client = open_interop_client(interop_servers.shared("apus", "--max-concurrent-streams", 2),
                                 max_concurrent_streams=2)
    interop_client.max_concurrent_streams_connection_scaling(client)


# gRPC C++

CASES_OF_CPP = [
    "empty_unary", "large_unary", "very_large_request", "client_streaming", "server_streaming", "ping_pong",
    "empty_stream", "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server",
    "custom_metadata", "status_code_and_message", "special_status_message", "unimplemented_method",
    "unimplemented_service", "pick_first_unary", "rpc_soak", "channel_soak", "long_lived_channel",
    "client_compressed_unary", "server_compressed_unary", "client_compressed_streaming",
    "server_compressed_streaming",
]


@pytest.mark.full
@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize("case", CASES_OF_CPP)
def test_cpp_passes_each_case_at_our_server(interop_servers, run_cpp_interop_client, certificates, case, tls):
    server = interop_servers.shared("apus", *(certificates.options("server") if tls else []))
    # Its credentials take the name that the certificate has to have from the target.
    target = server.address.replace("127.0.0.1", "localhost") if tls else server.address
    outcomes = run_cpp_interop_client(target, "--case", case, *(["--tls-ca", certificates.ca] if tls else []))
    assert outcomes.lines == [f"PASS {case}"] and outcomes.exit_code == 0, outcomes


@pytest.mark.full
@pytest.mark.parametrize("case", ["client_compressed_unary", "client_compressed_streaming"])
def test_cpp_compresses_with_deflate_for_our_server(interop_servers, run_cpp_interop_client, case):
    """rule 13"""
    outcomes = run_cpp_interop_client(interop_servers.shared("apus"), "--case", case, "--compression", "deflate")
    assert outcomes.lines == [f"PASS {case}"], outcomes


@pytest.mark.full
def test_cpp_waits_at_our_servers_limit_of_streams(interop_servers, run_cpp_interop_client):
    server = interop_servers.shared("apus", "--max-concurrent-streams", 2)
    case = "max_concurrent_streams_connection_scaling"
    outcomes = run_cpp_interop_client(server, "--case", case, "--max-concurrent-streams", 2)
    assert outcomes.lines == [f"PASS {case}"], outcomes


# The others among themselves, so that a case which fails at ours can be told from a case that is wrong

@pytest.mark.parametrize("kind", ["grpcio", GRPC_CPP])
@EACH_CASE
def test_grpcio_passes_each_case_at_the_others(interop_servers, open_interop_client, kind, case):
    case(open_interop_client(interop_servers.shared(kind)))


@pytest.mark.full
@pytest.mark.parametrize("kind", ["grpcio", "c++"])
@pytest.mark.parametrize("case", CASES_OF_CPP)
def test_cpp_passes_each_case_at_the_others(interop_servers, run_cpp_interop_client, kind, case):
    outcomes = run_cpp_interop_client(interop_servers.shared(kind), "--case", case)
    assert outcomes.lines == [f"PASS {case}"] and outcomes.exit_code == 0, outcomes


# Each case can fail

FAULTS = {
    "unknown-field": ["empty_unary"],
    "short-payloads": ["large_unary", "very_large_request", "client_streaming", "server_streaming", "ping_pong",
                       "half_duplex", "cancel_after_first_response", "rpc_soak", "channel_soak",
                       "long_lived_channel"],
    "dirty-payloads": ["large_unary", "server_streaming", "ping_pong", "custom_metadata"],
    "extra-response": ["server_streaming", "empty_stream"],
    "missing-response": ["server_streaming"],
    "early-end": ["ping_pong"],
    "accepts-all": ["client_compressed_unary", "client_compressed_streaming"],
    "refuses-all": ["client_compressed_unary", "client_compressed_streaming"],
    "never-compressed": ["server_compressed_unary", "server_compressed_streaming"],
    "always-compressed": ["server_compressed_unary", "server_compressed_streaming"],
    "no-echo": ["custom_metadata"],
    "other-code": ["status_code_and_message"],
    "other-message": ["status_code_and_message", "special_status_message"],
    "everything-implemented": ["unimplemented_method", "unimplemented_service"],
    "changing-id": ["pick_first_unary"],
}


@pytest.mark.parametrize("fault,name", [(fault, name) for fault, names in FAULTS.items() for name in names])
def test_a_case_of_grpcio_fails_at_a_server_that_is_wrong(interop_servers, open_interop_client, fault, name):
    case = getattr(interop_client, name)
    client = open_interop_client(interop_servers.shared("grpcio", "--fault", fault))
    with pytest.raises((AssertionError, StopIteration, grpc.RpcError)) as failure:
        case(client)
    if failure.errisinstance(grpc.RpcError):
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT and fault == "refuses-all"


@pytest.mark.full
@pytest.mark.parametrize("fault,name", [(fault, name) for fault, names in FAULTS.items() for name in names
                                        if name in CASES_OF_CPP])
def test_a_case_of_cpp_fails_at_a_server_that_is_wrong(interop_servers, run_cpp_interop_client, fault, name):
    outcomes = run_cpp_interop_client(interop_servers.shared("grpcio", "--fault", fault), "--case", name)
    assert outcomes[name] == "FAIL" and outcomes.exit_code == 1, outcomes


# Features of the server that no case asks for

def test_responses_wait_as_long_as_they_are_told_to(interop_client_of_ours):
    client = interop_client_of_ours
    parameters = [client.messages.ResponseParameters(size=1, interval_us=50_000) for _ in range(3)]
    request = client.messages.StreamingOutputCallRequest(response_parameters=parameters)
    start = time.monotonic()
    expect_responses(client.streaming_output_call(request), [1, 1, 1])
    assert time.monotonic() - start >= 0.15
    start = time.monotonic()
    expect_responses(client.full_duplex_call(iter([request])), [1, 1, 1])
    assert time.monotonic() - start >= 0.15


def test_a_status_ends_a_dialogue_whatever_follows(interop_client_of_ours):
    client = interop_client_of_ours
    status = client.messages.EchoStatus(code=9, message="enough")
    requests = [client.duplex_request([3]), client.messages.StreamingOutputCallRequest(response_status=status),
                client.duplex_request([5])]
    call = client.full_duplex_call(iter(requests))
    assert len(next(call).message.payload.body) == 3
    expect_status(grpc.StatusCode.FAILED_PRECONDITION, lambda: next(call), "enough")
    request = client.duplex_request([3], response_status=status)
    call = client.streaming_output_call(request)
    expect_status(grpc.StatusCode.FAILED_PRECONDITION, lambda: next(call), "enough")


@pytest.mark.parametrize("size", [-1, -2**31, 16 * 1024 * 1024 + 1, 2**31 - 1])
def test_a_payload_that_cannot_be_made_is_an_invalid_argument(interop_client_of_ours, size):
    client = interop_client_of_ours
    request = client.messages.SimpleRequest(response_size=size)
    expect_status(grpc.StatusCode.INVALID_ARGUMENT, lambda: client.unary_call(request))
    expect_status(grpc.StatusCode.INVALID_ARGUMENT,
                  lambda: list(client.streaming_output_call(client.duplex_request([size]))))


def test_a_payload_type_that_does_not_exist_is_an_invalid_argument(interop_client_of_ours):
    client = interop_client_of_ours
    request = client.messages.SimpleRequest(response_size=1, response_type=1)
    expect_status(grpc.StatusCode.INVALID_ARGUMENT, lambda: client.unary_call(request))


@pytest.mark.parametrize("code", [-1, 17, 2**31 - 1])
def test_a_status_code_that_does_not_exist_is_an_invalid_argument(interop_client_of_ours, code):
    client = interop_client_of_ours
    request = client.messages.SimpleRequest(response_status=client.messages.EchoStatus(code=code))
    expect_status(grpc.StatusCode.INVALID_ARGUMENT, lambda: client.unary_call(request))


def test_a_status_of_ok_is_none(interop_client_of_ours):
    client = interop_client_of_ours
    request = client.messages.SimpleRequest(response_size=7, response_status=client.messages.EchoStatus(message="fine"))
    assert len(client.unary_call(request).message.payload.body) == 7


def test_a_cacheable_answer_says_so_and_is_another_each_time(interop_client_of_ours):
    client = interop_client_of_ours
    method = client.channel.unary_unary("/grpc.testing.TestService/CacheableUnaryCall")
    answers = []
    for _ in range(2):
        response, call = method.with_call(b"", timeout=10 * PATIENCE)
        assert "max-age=60" in dict(call.initial_metadata())["cache-control"]
        answers.append(client.messages.SimpleResponse.FromString(response).payload.body)
    assert answers[0] != answers[1] and all(answer.isdigit() for answer in answers)


def test_several_values_of_metadata_come_back_in_their_order(interop_client_of_ours):
    sent = [("x-grpc-test-echo-initial", "b"), ("x-grpc-test-echo-trailing-bin", b"\x00"),
            ("x-grpc-test-echo-initial", "a"), ("x-grpc-test-echo-trailing-bin", b""), ("x-other", "not this")]
    client = interop_client_of_ours
    _, call = client.unary_call_with_call(client.messages.SimpleRequest(), metadata=sent)

    def shown(metadata):
        return [(key, value) for key, value in metadata if key.startswith("x-")]

    assert shown(call.initial_metadata()) == [sent[0], sent[2]]
    assert shown(call.trailing_metadata()) == [sent[1], sent[3]]
