"""Fixtures: servers that are started and watched, stubs for echo.proto, channels that are closed."""

import pathlib
import subprocess
import sys

import grpc
import pytest

# What a test of the client asks for by name.
from client_fixtures import (  # noqa: F401
    answered_by, open_client_process, peer, peer_client, shared_peers, start_our_peer, start_peer, start_raw_server,
    stubs_folder,
)
from conformance_peer import ConformancePeer
from interop_fixtures import (  # noqa: F401
    all_interop_servers, interop_descriptors, interop_messages, interop_servers, run_cpp_interop_client,
    run_our_interop_client,
)
from raw_connection import RawConnection
from scenario_client import ScenarioClient
from server_process import REPOSITORY, ServerProcess, raise_descriptor_limit
from tls_fixtures import certificates, proxies, secure_servers, shared_tls_echo, tls_echo  # noqa: F401

LOG_LINES_SHOWN = 40


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also runs the tests marked `full`, which take long")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: takes long; runs with --full or -m full alone")
    raise_descriptor_limit()


def pytest_collection_modifyitems(config, items):
    # `-m "not full"` deselects by itself; any other choice of markers is taken as said.
    if config.getoption("--full") or config.getoption("-m"):
        return
    kept = [item for item in items if item.get_closest_marker("full") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for server in item.stash.get(SERVERS, []):
            report.sections.append((f"log of the server at {server.address}", last_lines(server.log)))


SERVERS = pytest.StashKey()


def last_lines(text):
    return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])


def verify(server, may_end=False):
    """Fails when the server crashed: no test passes over that."""
    crash = server.crash
    code = server.process.poll()
    if crash or (code is not None and (code < 0 or not may_end)):
        pytest.fail(f"the server crashed (exit code {code}): {crash}\n{last_lines(server.log)}")


@pytest.fixture(scope="session")
def shared_echo():
    server = ServerProcess.echo()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_scenarios():
    server = ServerProcess.scenarios()
    yield server
    server.close()


@pytest.fixture
def echo_server(request, shared_echo):
    """An apus-echo that other tests use as well."""
    request.node.stash.setdefault(SERVERS, []).append(shared_echo)
    verify(shared_echo)
    yield shared_echo
    verify(shared_echo)


@pytest.fixture
def scenario_server(request, shared_scenarios):
    """An apus-scenarios with the default configuration that other tests use as well."""
    request.node.stash.setdefault(SERVERS, []).append(shared_scenarios)
    verify(shared_scenarios)
    yield shared_scenarios
    verify(shared_scenarios)


@pytest.fixture
def start_scenarios(request):
    """Starts an apus-scenarios of the test's own, with options."""
    started = []

    def start(*options, **keywords):
        server = ServerProcess.scenarios(*options, **keywords)
        started.append(server)
        request.node.stash.setdefault(SERVERS, []).append(server)
        return server

    yield start
    stop_all(started)


@pytest.fixture
def start_echo(request):
    """Starts an apus-echo of the test's own, with options."""
    started = []

    def start(*options, **keywords):
        server = ServerProcess.echo(*options, **keywords)
        started.append(server)
        request.node.stash.setdefault(SERVERS, []).append(server)
        return server

    yield start
    stop_all(started)


def stop_all(servers):
    for server in servers:
        server.stop()
    try:
        for server in servers:
            verify(server, may_end=True)
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def open_channel():
    """Opens channels, each with a connection of its own."""
    channels = []

    def open(server, **options):
        target = server if isinstance(server, str) else server.address
        arguments = {"grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": -1,
                     "grpc.max_send_message_length": -1, "grpc.enable_retries": 0, "grpc.enable_http_proxy": 0}
        arguments |= {"grpc." + name.replace("__", "."): value for name, value in options.items()}
        channel = grpc.insecure_channel(target, options=list(arguments.items()))
        channels.append(channel)
        return channel

    yield open
    for channel in channels:
        channel.close()


@pytest.fixture
def open_client(open_channel):
    """Opens a channel and gives a client of the scenario service on it."""
    return lambda server, **options: ScenarioClient(open_channel(server, **options))


@pytest.fixture
def client(open_client, scenario_server):
    """A client of the shared scenario server."""
    return open_client(scenario_server)


@pytest.fixture
def open_raw():
    """Opens connections on which a test sends each frame itself."""
    connections = []

    def open(server, **options):
        connection = RawConnection(server.address, **options)
        connections.append(connection)
        return connection

    yield open
    for connection in connections:
        connection.close()


@pytest.fixture
def open_conformance_peer(echo_server):
    """Opens connections of the conformance tests to the shared echo server."""
    peers = []

    def open():
        peers.append(ConformancePeer(echo_server.address))
        return peers[-1]

    yield open
    for peer in peers:
        peer.close()


@pytest.fixture
def raw(open_raw, scenario_server):
    """A raw connection to the shared scenario server."""
    return open_raw(scenario_server)


class EchoStubs:
    """What grpc_tools made of echo.proto."""

    def __init__(self, messages, services):
        self.Request = messages.EchoRequest
        self.Response = messages.EchoResponse
        self.Stub = services.EchoServiceStub


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """Stubs of the echo service, generated anew from the proto."""
    folder = tmp_path_factory.mktemp("stubs")
    proto = REPOSITORY / "proto"
    file = pathlib.Path("echo") / "v1" / "echo.proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", f"--python_out={folder}",
         f"--grpc_python_out={folder}", str(proto / file)],
        check=True,
    )
    sys.path.insert(0, str(folder))
    from echo.v1 import echo_pb2, echo_pb2_grpc
    return EchoStubs(echo_pb2, echo_pb2_grpc)
