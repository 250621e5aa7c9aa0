"""Fixtures for tests of the client: clients that are started and watched, servers to misbehave."""

import pathlib
import sys

import pytest

from client_process import ClientProcess
from raw_server import RawServer
from server_process import ServerProcess


@pytest.fixture
def open_client_process():
    """Starts a client of a target."""
    started = []

    def open(server, *options):
        client = ClientProcess(server if isinstance(server, str) else server.address, *options)
        started.append(client)
        return client

    yield open
    problems = []
    for client in started:
        try:
            client.close()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture
def start_raw_server():
    """Starts a server that runs a script for each connection."""
    started = []

    def start(scripts, **options):
        server = RawServer(scripts, **options)
        started.append(server)
        return server

    yield start
    problems = []
    for server in started:
        if server.losses:
            print(f"the server at {server.address} lost: {server.losses}")
        try:
            server.close()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture
def answered_by(start_raw_server, open_client_process):
    """Makes one call of a server that runs a script for its request; returns the result."""

    def call(script, settings=None, options=(), whole=True, **fields):
        def serve(connection):
            script(connection.request(whole=whole))

        server = start_raw_server(serve, settings=settings)
        return open_client_process(server, *options).call(**fields)

    return call


class PeerStarter:
    """Starts servers of one kind, "grpcio" or "apus", which have the scenario service and the echo service."""

    def __init__(self, kind, stubs):
        self.kind = kind
        self.stubs = stubs
        self.started = []

    def __call__(self, *options, listen="127.0.0.1:0"):
        if self.kind == "apus":
            server = ServerProcess.scenarios(*options, listen=listen)
        else:
            program = pathlib.Path(__file__).with_name("grpcio_peer.py")
            server = ServerProcess([sys.executable, str(program), "--listen", listen, "--stubs", str(self.stubs),
                                    *map(str, options)])
        self.started.append(server)
        return server

    def close(self):
        for server in self.started:
            server.close()


@pytest.fixture(scope="session")
def stubs_folder(echo):
    """Where the generated stubs of the echo service are."""
    return pathlib.Path(sys.modules[echo.Request.__module__].__file__).parents[2]


@pytest.fixture(scope="session")
def shared_peers(stubs_folder):
    starters = {kind: PeerStarter(kind, stubs_folder) for kind in ("grpcio", "apus")}
    yield {}, starters
    for starter in starters.values():
        starter.close()


@pytest.fixture(params=["grpcio", "apus"])
def peer(request, shared_peers):
    """A server that other tests use as well: one of grpcio, and ours."""
    running, starters = shared_peers
    if request.param not in running:
        running[request.param] = starters[request.param]()
    server = running[request.param]
    server.kind = request.param
    yield server
    assert server.crash is None and server.is_running, f"the server crashed: {server.crash}"


@pytest.fixture
def peer_client(peer, open_client_process):
    """A client of `peer`."""
    return open_client_process(peer)


@pytest.fixture(params=["grpcio", "apus"])
def start_peer(request, stubs_folder):
    """Starts servers of the test's own: of grpcio, and ours."""
    starter = PeerStarter(request.param, stubs_folder)
    yield starter
    starter.close()


@pytest.fixture
def start_our_peer():
    """Starts an apus-scenarios of the test's own, for what grpcio is too slow for."""
    starter = PeerStarter("apus", None)
    yield starter
    starter.close()
