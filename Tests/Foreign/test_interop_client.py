"""gRPC's interoperability tests: our client against our server, and against those of grpcio and of gRPC C++.

How each case goes is in gRPC's doc/interop-test-descriptions.md; what our client demands is in Sources/apus-interop.
"""

import pytest

from interop_fixtures import EACH_KIND_OF_SERVER, GRPC_CPP
from server_process import PATIENCE

# What all cases take; the defaults are for runs by hand.
BRIEFLY = ["--soak-iterations", "50", "--iterations", "3", "--iteration-interval", "10ms",
           "--soak-per-iteration-max-acceptable-latency", f"{10 * PATIENCE}s",
           "--soak-overall-timeout", f"{60 * PATIENCE}s"]

CASES = [
    "empty_unary", "large_unary", "very_large_request", "client_streaming", "server_streaming", "ping_pong",
    "empty_stream", "client_compressed_unary", "server_compressed_unary", "client_compressed_streaming",
    "server_compressed_streaming", "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server",
    "custom_metadata", "status_code_and_message", "special_status_message", "unimplemented_method",
    "unimplemented_service", "pick_first_unary", "rpc_soak", "channel_soak", "long_lived_channel",
]
AT_THE_LIMIT = "max_concurrent_streams_connection_scaling"


@EACH_KIND_OF_SERVER
@pytest.mark.parametrize("case", CASES)
def test_our_client_passes_each_case(interop_servers, run_our_interop_client, kind, case):
    outcomes = run_our_interop_client(interop_servers.shared(kind), "--case", case, *BRIEFLY)
    assert outcomes.lines == [f"PASS {case}"] and outcomes.exit_code == 0, outcomes


@pytest.mark.parametrize("kind", ["apus", GRPC_CPP])
@pytest.mark.parametrize("case", ["client_compressed_unary", "client_compressed_streaming"])
def test_our_client_compresses_with_deflate(interop_servers, run_our_interop_client, kind, case):
    """rule 13: grpcio hides whether it inflated a message, and bytes do not tell deflate from protobuf."""
    outcomes = run_our_interop_client(interop_servers.shared(kind), "--case", case, "--compression", "deflate")
    assert outcomes.lines == [f"PASS {case}"], outcomes


@EACH_KIND_OF_SERVER
def test_our_client_passes_all_cases_over_tls(interop_servers, run_our_interop_client, certificates, kind):
    server = interop_servers.shared(kind, *certificates.options("server"))
    outcomes = run_our_interop_client(server, "--case", "all", *BRIEFLY, *certificates.client_options())
    assert [outcomes[case] for case in CASES] == ["PASS"] * len(CASES), outcomes
    assert outcomes[AT_THE_LIMIT] == "SKIP" and outcomes.exit_code == 0, outcomes
    assert len(outcomes.lines) == len(CASES) + 1, outcomes


@EACH_KIND_OF_SERVER
def test_our_client_waits_at_the_servers_limit_of_streams(interop_servers, run_our_interop_client, kind):
    """rule 29"""
    server = interop_servers.shared(kind, "--max-concurrent-streams", 2)
    outcomes = run_our_interop_client(server, "--case", AT_THE_LIMIT, "--max-concurrent-streams", 2)
    assert outcomes.lines == [f"PASS {AT_THE_LIMIT}"] and outcomes.exit_code == 0, outcomes


# Each case can fail

FAULTS = [
    ("empty_unary", "unknown-field", "the response: expected"),
    ("large_unary", "short-payloads", 'the payload of the response: expected 314159 bytes, got 314158 bytes'),
    ("large_unary", "dirty-payloads", "the payload of the response: expected zeros, got 1 at index 314158"),
    ("very_large_request", "short-payloads", "expected 10 bytes, got 9 bytes"),
    ("client_streaming", "short-payloads", "aggregated_payload_size: expected 74922, got 74918"),
    ("server_streaming", "short-payloads", "the payload of response 0: expected 31415 bytes, got 31414 bytes"),
    ("server_streaming", "missing-response", "the number of responses: expected 4, got 3"),
    ("server_streaming", "extra-response", "the number of responses: expected 4, got 5"),
    ("ping_pong", "dirty-payloads", "the payload of the response: expected zeros, got 1 at index 31414"),
    ("ping_pong", "end-after-response", "expected"),
    ("empty_stream", "extra-response", "the number of responses: expected 0, got 1"),
    ("client_compressed_unary", "accepts-all", "against its word: expected INVALID_ARGUMENT, got OK"),
    ("client_compressed_unary", "refuses-all", "expected a call to succeed, got INVALID_ARGUMENT"),
    ("server_compressed_unary", "never-compressed", 'expected "compressed", got "uncompressed"'),
    ("server_compressed_unary", "always-compressed", 'expected "uncompressed", got "compressed"'),
    ("client_compressed_streaming", "accepts-all", "against its word: expected INVALID_ARGUMENT, got OK"),
    ("client_compressed_streaming", "refuses-all", "got INVALID_ARGUMENT"),
    ("server_compressed_streaming", "never-compressed", 'how response 0 came: expected "compressed"'),
    ("server_compressed_streaming", "always-compressed", 'how response 1 came: expected "uncompressed"'),
    ("cancel_after_begin", "early-end", "the status of StreamingInputCall: expected CANCELLED, got OK"),
    ("cancel_after_first_response", "short-payloads", "expected 31415 bytes, got 31414 bytes"),
    ("custom_metadata", "no-echo", 'metadata of UnaryCall: expected ["test_initial_metadata_value"], got []'),
    ("custom_metadata", "echo-elsewhere", "the initial metadata of UnaryCall"),
    ("status_code_and_message", "other-code", 'expected UNKNOWN "test status message", got INTERNAL'),
    ("status_code_and_message", "other-message", 'got UNKNOWN "test status message."'),
    ("special_status_message", "other-message", r'expected UNKNOWN "\t\ntest with whitespace\r\nand Unicode'),
    ("unimplemented_method", "everything-implemented", "expected UNIMPLEMENTED, got OK"),
    ("unimplemented_service", "everything-implemented", "expected UNIMPLEMENTED, got OK"),
    ("pick_first_unary", "changing-id", "server_id: expected"),
    ("rpc_soak", "short-payloads", "expected 0 calls at most to fail"),
    ("channel_soak", "short-payloads", "expected 0 calls at most to fail"),
    ("long_lived_channel", "short-payloads", "response 0: expected 314159 bytes"),
    (AT_THE_LIMIT, "no-address", "peer_socket_address: expected the client's address, got none"),
]


@pytest.mark.parametrize("case,fault,why", FAULTS)
def test_a_case_fails_at_a_server_that_is_wrong(interop_servers, run_our_interop_client, case, fault, why):
    server = interop_servers.shared("grpcio", "--fault", fault)
    outcomes = run_our_interop_client(server, "--case", case, "--max-concurrent-streams", 2, *BRIEFLY)
    assert outcomes.exit_code == 1 and outcomes[case] == "FAIL" and why in outcomes.lines[0], outcomes


def test_no_case_is_without_a_fault():
    # A deadline of a millisecond ends a call whatever the server does.
    assert {case for case, _, _ in FAULTS} == {*CASES, AT_THE_LIMIT} - {"timeout_on_sleeping_server"}


def test_a_server_without_a_limit_fails_the_case_of_the_limit(interop_servers, run_our_interop_client):
    outcomes = run_our_interop_client(interop_servers.shared("grpcio"), "--case", AT_THE_LIMIT,
                                      "--max-concurrent-streams", 2)
    assert 'a call beyond 2 open ones: expected "waiting", got "answered"' in outcomes.output, outcomes


@pytest.mark.parametrize("case", ["rpc_soak", "channel_soak"])
def test_a_soak_counts_slow_calls_and_stops_in_time(interop_servers, run_our_interop_client, case):
    server = interop_servers.shared("apus")
    slow = ["--case", case, "--soak-iterations", 5, "--soak-per-iteration-max-acceptable-latency", "0ms"]
    outcomes = run_our_interop_client(server, *slow, "--soak-max-failures", 4)
    assert outcomes[case] == "FAIL" and "call 4 took" in outcomes.output, outcomes
    assert run_our_interop_client(server, *slow, "--soak-max-failures", 5).exit_code == 0
    outcomes = run_our_interop_client(server, "--case", case, "--soak-overall-timeout", "0ms")
    assert "expected 1000 calls in 0.0 seconds, got 0" in outcomes.output, outcomes


def test_an_unreachable_server_fails_every_case(run_our_interop_client):
    outcomes = run_our_interop_client("127.0.0.1:1", "--case", "all", *BRIEFLY, "--timeout", "1s")
    assert outcomes.exit_code == 1
    assert {outcomes[case] for case in CASES} == {"FAIL"}, outcomes
    assert "UNAVAILABLE" in outcomes.output


def test_an_unknown_case_is_a_mistake_of_use(run_our_interop_client):
    outcomes = run_our_interop_client("127.0.0.1:1", "--case", "nix")
    assert outcomes.exit_code == 64 and 'there is no case "nix"' in outcomes.output, outcomes


def test_a_case_that_lacks_its_parameter_is_a_mistake_of_use(run_our_interop_client):
    outcomes = run_our_interop_client("127.0.0.1:1", "--case", AT_THE_LIMIT)
    assert outcomes.exit_code == 64 and "--max-concurrent-streams" in outcomes.output, outcomes
