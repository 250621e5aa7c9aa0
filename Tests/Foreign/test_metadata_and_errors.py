"""Metadata both ways, status codes and messages, with grpcio."""

import os

import grpc
import pytest

from scenario_client import SERVICE, new_key, parameters
from server_process import PATIENCE

TIMEOUT = 10 * PATIENCE
UNICODE = "schlägt fehl: 100 % — 你好 🐦\n\ttab \"quoted\" \\ end"
CODES = {code.value[0]: code for code in grpc.StatusCode}


def custom(metadata):
    return [(key, value) for key, value in metadata if key.startswith("x-")]


@pytest.mark.parametrize("method", ["EchoMetadata", "EchoMetadataSynchronously"])
def test_metadata_comes_back_as_initial_metadata_and_trailers(client, method):
    """rules 10, 11: text, several values of a key in their order, and bytes of every value."""
    every_byte = bytes(range(256))
    sent = [("x-one", "1"), ("x-many", "a"), ("x-other", "o"), ("x-many", "b"), ("x-many", "a"),
            ("x-data-bin", every_byte), ("x-data-bin", b""), ("x-data-bin", b"\x00"), ("x-empty", ""),
            ("x-punctuation", "a,b;c=d \"e\" ~!@#$%^&*()")]
    answer, call = client.unary(method).with_call(b"", timeout=TIMEOUT, metadata=sent)
    assert custom(call.initial_metadata()) == sent
    assert custom(call.trailing_metadata()) == sent
    assert "x-data-bin:" + every_byte.hex() in answer.decode().splitlines()


def test_metadata_of_a_stream_goes_ahead_of_its_messages_and_after_them(client):
    sent = [("x-stream", "s"), ("x-raw-bin", os.urandom(100))]
    call = client.both_streams("EchoMetadataStream")(iter([b"1", b"2"]), timeout=TIMEOUT, metadata=sent)
    assert custom(call.initial_metadata()) == sent
    assert list(call) == [b"1", b"2"]
    assert custom(call.trailing_metadata()) == sent


def test_initial_metadata_can_be_sent_before_the_first_message(client):
    key = new_key()
    call = client.server_stream("InitialMetadataFirst")(b"", timeout=TIMEOUT, metadata=parameters(key=key))
    assert ("x-first", "here") in call.initial_metadata()
    client.release(key)
    assert list(call) == [b"then a message"]


def test_large_metadata_within_the_limit_comes_back(client):
    sent = [("x-large", "v" * 3000), ("x-large-bin", os.urandom(2000))]
    _, call = client.unary("EchoMetadata").with_call(b"", timeout=TIMEOUT, metadata=sent)
    assert custom(call.trailing_metadata()) == sent


@pytest.mark.parametrize("key", ["grpc-status", "grpc-timeout", "grpc-made-up", "connection", "te", "content-type"])
def test_a_handler_that_sets_reserved_metadata_gets_an_error_that_names_the_key(client, key):
    """rule 9: what begins with grpc- is not the application's to set."""
    with pytest.raises(grpc.RpcError) as error:
        client.call("ForbiddenMetadata", key.encode())
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert key in error.value.details()


@pytest.mark.parametrize("key", ["x space", "x:colon", "", "x\u00e9"])
def test_a_handler_that_sets_metadata_with_an_illegal_name_gets_an_error(client, key):
    """rule 9: names consist of 0-9, a-z, underscore, dash and dot."""
    with pytest.raises(grpc.RpcError) as error:
        client.call("ForbiddenMetadata", key.encode())
    assert error.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("method", ["Fail", "FailSynchronously"])
@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_code_arrives_with_its_unicode_message_and_metadata(client, method, code):
    """rule 19: the message travels percent-encoded and arrives as it was."""
    metadata = parameters(code=code) + [("x-detail", "first"), ("x-detail", "second"), ("x-detail-bin", b"\x00\xff")]
    with pytest.raises(grpc.RpcError) as error:
        client.unary(method)(UNICODE.encode(), timeout=TIMEOUT, metadata=metadata)
    assert error.value.code() == CODES[code]
    assert error.value.details() == UNICODE
    assert custom(error.value.trailing_metadata()) == metadata


def test_an_error_with_the_code_ok_is_unknown(client):
    with pytest.raises(grpc.RpcError) as error:
        client.call("Fail", b"strange", code=0)
    assert error.value.code() == grpc.StatusCode.UNKNOWN


def test_an_error_after_messages_lets_the_messages_through(client):
    call = client.server_stream("FailAfter")(UNICODE.encode(), timeout=TIMEOUT, metadata=parameters(count=3, code=5))
    received = []
    with pytest.raises(grpc.RpcError) as error:
        for part in call:
            received.append(part)
    assert received == [UNICODE.encode()] * 3
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, UNICODE)


def test_errors_of_client_streams_arrive(client):
    with pytest.raises(grpc.RpcError) as error:
        client.client_stream("FailAtEnd")(iter([b"a", b"last"]), timeout=TIMEOUT, metadata=parameters(code=9))
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "last")
    with pytest.raises(grpc.RpcError) as error:
        list(client.both_streams("FailAtOnce")(iter([b"a"]), timeout=TIMEOUT, metadata=parameters(code=10)))
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.ABORTED, "at once")


def test_an_error_in_trailers_only_still_carries_initial_metadata_that_the_handler_set(open_channel, scenario_server):
    channel = open_channel(scenario_server)
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(SERVICE + "Fail")(b"m" * 2000, timeout=TIMEOUT, metadata=parameters(code=7))
    assert error.value.details() == "m" * 2000
