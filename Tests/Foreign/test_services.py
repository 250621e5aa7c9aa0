"""Health, reflection and rich errors, as the tools of others use them: Python's packages for them, and `buf curl`."""

import json
import os
import queue
import subprocess
import sys
import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from raw_connection import RawConnection, message
from server_process import PATIENCE

TIMEOUT = 20 * PATIENCE
SERVICES = ["echo.v1.EchoService", "grpc.channelz.v1.Channelz", "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


def code_of(call):
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code()


# MARK: - Health


@pytest.fixture
def health(open_channel, echo_server):
    return health_pb2_grpc.HealthStub(open_channel(echo_server))


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_each_service_and_the_server_itself_are_serving(health, service):
    assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT).status == SERVING


def test_all_are_listed(health):
    statuses = health.List(health_pb2.HealthListRequest(), timeout=TIMEOUT).statuses
    assert {name: response.status for name, response in statuses.items()} == {name: SERVING for name in ["", *SERVICES]}


def test_a_service_that_there_is_not(health):
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    assert code_of(lambda: health.Check(request, timeout=TIMEOUT)) == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(request, timeout=TIMEOUT)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_who_watches_learns_of_the_shutdown_and_does_not_hold_it_up(open_channel, start_echo):
    server = start_echo()
    health = health_pb2_grpc.HealthStub(open_channel(server))
    answers = queue.SimpleQueue()

    def watch():
        call = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]), timeout=TIMEOUT)
        try:
            for answer in call:
                answers.put(answer.status)
        except grpc.RpcError as error:
            answers.put(error.code())

    thread = threading.Thread(target=watch)
    thread.start()
    assert answers.get(timeout=TIMEOUT) == SERVING
    server.process.terminate()
    assert answers.get(timeout=TIMEOUT) == NOT_SERVING
    assert answers.get(timeout=TIMEOUT) == grpc.StatusCode.UNAVAILABLE
    thread.join(TIMEOUT)
    # The grace period is half a minute, which a watching client would use up.
    assert server.process.wait(TIMEOUT / 2) == 0


# MARK: - Reflection


@pytest.fixture
def database(open_channel, echo_server):
    return ProtoReflectionDescriptorDatabase(open_channel(echo_server))


def test_services_are_listed(database):
    assert sorted(database.get_services()) == SERVICES


def test_a_client_without_protos_calls_what_it_finds(open_channel, echo_server, database):
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("echo.v1.EchoService").FindMethodByName("Get")
    request, response = (message_factory.GetMessageClass(type) for type in (method.input_type, method.output_type))
    call = open_channel(echo_server).unary_unary(
        "/echo.v1.EchoService/Get", request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    assert call(request(text="found"), timeout=TIMEOUT).text == "found"


def ask(channel, *requests):
    """Asks in one stream; an answer is the names of files, numbers, or a code."""
    answers = []
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    for answer in stub.ServerReflectionInfo(iter(requests), timeout=TIMEOUT):
        assert answer.original_request in requests
        kind = answer.WhichOneof("message_response")
        if kind == "file_descriptor_response":
            files = answer.file_descriptor_response.file_descriptor_proto
            answers.append([descriptor_pb2.FileDescriptorProto.FromString(file).name for file in files])
        elif kind == "all_extension_numbers_response":
            answers.append(list(answer.all_extension_numbers_response.extension_number))
        else:
            answers.append(answer.error_response.error_code)
    return answers


def test_files_by_name_and_by_symbol(open_channel, echo_server):
    Request = reflection_pb2.ServerReflectionRequest
    echo = ["echo/v1/echo.proto"]
    symbols = ["echo.v1.EchoService", "echo.v1.EchoService.Get", "echo.v1.EchoRequest", "echo.v1.EchoRequest.text",
               "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc.health.v1.HealthCheckResponse.SERVING",
               "grpc.channelz.v1.SocketOptionTcpInfo"]
    answers = ask(open_channel(echo_server), Request(file_by_filename="echo/v1/echo.proto"),
                  *(Request(file_containing_symbol=symbol) for symbol in symbols))
    channelz = ["grpc/channelz/v1/channelz.proto", "google/protobuf/any.proto", "google/protobuf/duration.proto",
                "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"]
    assert answers[:-1] == [echo] * 5 + [["grpc/health/v1/health.proto"]] * 2
    assert sorted(answers[-1]) == sorted(channelz)


def test_what_there_is_not(open_channel, echo_server):
    Request, not_found, invalid = reflection_pb2.ServerReflectionRequest, 5, 3
    extension = reflection_pb2.ExtensionRequest(containing_type="echo.v1.EchoRequest", extension_number=1)
    answers = ask(
        open_channel(echo_server), Request(file_by_filename="no.proto"), Request(file_containing_symbol="no.Such"),
        Request(file_containing_extension=extension), Request(all_extension_numbers_of_type="no.Such"),
        Request(all_extension_numbers_of_type="echo.v1.EchoRequest"), Request(host="nothing asked"),
    )
    assert answers == [not_found, not_found, not_found, not_found, [], invalid]


def test_a_client_that_asks_and_does_not_read_holds_up_itself_alone(echo_server, database):
    """Answers are larger than questions; those that nobody reads are not made."""
    question = message(reflection_pb2.ServerReflectionRequest(
        file_by_filename="grpc/reflection/v1/reflection.proto").SerializeToString())
    raw = RawConnection(echo_server.address, auto_credit=False)
    stream = raw.open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    database.get_services()
    before, sent, stalled = echo_server.rss_bytes, 0, 0
    while stalled < 3:
        count = min(raw.send_window, raw.stream_windows[stream], 16_000) // len(question)
        if count > 0:
            raw.data(stream, question * count)
            sent += count
        else:
            stalled += 1
        raw.step(0.2)
        assert sent * len(question) < 4 * 2**20, "the server takes questions without an end"
    assert echo_server.rss_bytes - before < 16 * 2**20
    assert sorted(database.get_services()) == SERVICES
    # Whoever reads after all gets an answer to each question.
    raw.auto_credit = True
    raw.credit(stream, 2**30)
    raw.credit(0, 2**30)
    raw.data(stream, b"", end_stream=True)
    answer = raw.result(stream, seconds=30)
    assert (answer.status, len(answer.messages)) == (0, sent)
    raw.close()


# MARK: - buf curl


def buf_curl(*arguments, **environment):
    program = os.path.join(os.path.dirname(sys.executable), "buf")
    done = subprocess.run([program, "curl", "--protocol", "grpc", *arguments], capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["plaintext", "TLS"])
def buf(request):
    """Calls a path of a server with JSON, knowing nothing of its protos."""
    if request.param == "plaintext":
        server = request.getfixturevalue("echo_server")
        return lambda path, *options: buf_curl("--http2-prior-knowledge", *options, f"http://{server.address}{path}")
    server, certificates = request.getfixturevalue("tls_echo"), request.getfixturevalue("certificates")
    return lambda path, *options: buf_curl("--cacert", certificates.path("ca.pem"), *options,
                                           f"https://{server.address}{path}")


def test_buf_curl_lists_services(buf):
    assert buf("", "--list-services").split() == SERVICES


def test_buf_curl_calls_with_json(buf):
    assert json.loads(buf("/echo.v1.EchoService/Get", "--data", '{"text": "grüezi"}')) == {"text": "grüezi"}
    answers = buf("/echo.v1.EchoService/Update", "--data", '{"text": "one"}{"text": "two"}')
    assert [json.loads(part + "}") for part in answers.split("}")[:-1]] == [{"text": "one"}, {"text": "two"}]


# MARK: - Rich errors


def test_details_of_an_error_are_read_by_grpcio_status(open_channel, scenario_server):
    call = open_channel(scenario_server).unary_unary("/apus.test.v1.ScenarioService/ThrowDetails")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"", timeout=TIMEOUT)
    status = rpc_status.from_call(raised.value)
    assert (status.code, status.message) == (grpc.StatusCode.FAILED_PRECONDITION.value[0], "not yet")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info) and status.details[1].Unpack(retry)
    assert (info.reason, dict(info.metadata)) == ("COLD", {"wanted": "warm"})
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1.5
