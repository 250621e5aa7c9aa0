"""Fixtures for gRPC's interoperability tests: servers and clients of three makes, started and watched."""

import pathlib
import subprocess
import sys

import pytest

from interop_codec import load_messages
from interop_cpp import build
from server_process import PATIENCE, REPOSITORY, ServerProcess, executable

PROTOS = ["empty", "messages", "test"]

# Who the tests are run with; gRPC C++ is a large package.
GRPC_CPP = pytest.param("c++", marks=pytest.mark.full)
EACH_KIND_OF_SERVER = pytest.mark.parametrize("kind", ["apus", "grpcio", GRPC_CPP])


@pytest.fixture(scope="session")
def interop_descriptors(tmp_path_factory):
    """A file with what protoc makes of the protos of grpc.testing."""
    file = tmp_path_factory.mktemp("interop") / "descriptors"
    proto = REPOSITORY / "proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", f"--descriptor_set_out={file}",
         *[str(proto / "grpc" / "testing" / f"{name}.proto") for name in PROTOS]],
        check=True,
    )
    return file


@pytest.fixture(scope="session")
def interop_messages(interop_descriptors):
    return load_messages(interop_descriptors)


class InteropServers:
    """Starts servers of the tests: "apus", "grpcio" or "c++"."""

    def __init__(self, descriptors):
        self.descriptors = descriptors
        self.started = []
        self.running = {}

    def start(self, kind, *options):
        """A server of the test's own."""
        self.started.append(ServerProcess([*self._command(kind), "--listen", "127.0.0.1:0", *map(str, options)]))
        return self.started[-1]

    def shared(self, kind, *options):
        """A server with these options that other tests use as well."""
        if (kind, options) not in self.running:
            self.running[kind, options] = self.start(kind, *options)
        return self.running[kind, options]

    def _command(self, kind):
        if kind == "apus":
            return [executable("apus-interop"), "server"]
        if kind == "c++":
            return [build.peer("server")]
        program = pathlib.Path(__file__).with_name("interop_server.py")
        return [sys.executable, str(program), "--descriptors", str(self.descriptors)]

    def close(self):
        for server in self.started:
            server.close()

    def verify(self):
        for server in self.started:
            assert server.crash is None and server.is_running, f"a server crashed: {server.crash}\n{server.log}"


@pytest.fixture(scope="session")
def all_interop_servers(interop_descriptors):
    servers = InteropServers(interop_descriptors)
    yield servers
    servers.close()


@pytest.fixture
def interop_servers(all_interop_servers):
    yield all_interop_servers
    all_interop_servers.verify()


class Outcomes:
    """The lines of a run of the client: what became of each case."""

    def __init__(self, process):
        self.exit_code = process.returncode
        self.output = process.stdout + process.stderr
        self.lines = process.stdout.splitlines()

    def __getitem__(self, case):
        """PASS, FAIL or SKIP; None when there is no line for the case."""
        for line in self.lines:
            word, _, rest = line.partition(" ")
            if rest.split(":")[0] == case:
                return word
        return None

    def __repr__(self):
        return f"exit code {self.exit_code}:\n{self.output}"


def run_interop_client(command, server, *options, seconds=90):
    """Runs a client of ours or of gRPC C++ against a server."""
    target = server if isinstance(server, str) else server.address
    return Outcomes(subprocess.run(
        [*command, "--target", target, *map(str, options)], capture_output=True, text=True,
        timeout=seconds * PATIENCE,
    ))


@pytest.fixture
def run_our_interop_client():
    """Runs `apus-interop client`."""
    return lambda server, *options, **keywords: run_interop_client(
        [executable("apus-interop"), "client"], server, *options, **keywords)


@pytest.fixture
def run_cpp_interop_client():
    """Runs the client on gRPC C++."""
    return lambda server, *options, **keywords: run_interop_client(
        [build.peer("client")], server, *options, **keywords)
