"""The other stacks that `run` compares with: what they need installed, how they are built, which versions they are.

gRPC C++ and grpc-go come from Debian's packages, so nothing is downloaded at build time; a peer whose packages are not
there is left out of the tables and named.
"""

import glob
import os
import shutil
import subprocess

import servers
from servers import Failure

SOURCES = os.path.join(servers.HERE, "Peers")
PROTO = os.path.join(servers.HERE, "..", "proto")
BUILT = os.path.join(servers.SCRATCH, "peers")
GO_LIBRARIES = "/usr/share/gocode"  # where Debian puts the sources of Go packages

CPP_PACKAGES = ["libgrpc++-dev", "protobuf-compiler", "protobuf-compiler-grpc", "g++", "pkg-config"]
GO_PACKAGES = ["golang-go", "golang-google-grpc-dev", "protobuf-compiler", "protoc-gen-go-1-3"]


def _there(*commands):
    return all(shutil.which(command) for command in commands)


def missing(peer):
    """The packages to install for a peer, None if it can be built."""
    if peer == "grpc-go":
        there = _there("go", "protoc", "protoc-gen-go") and os.path.isdir(f"{GO_LIBRARIES}/src/google.golang.org/grpc")
        return None if there else GO_PACKAGES
    there = _there("protoc", "grpc_cpp_plugin", "pkg-config") and _compiler() is not None
    there = there and subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"]).returncode == 0
    return None if there else CPP_PACKAGES


def build(names):
    """Builds the servers and clients of those peers that are named."""
    os.makedirs(servers.TOOLS, exist_ok=True)
    if "grpc-go" in names:
        _build_go()
    if {"cpp-callback", "cpp-async"} & set(names):
        _build_cpp()


def versions(names):
    """Lines that name what was measured."""
    lines = []
    if "grpc-go" in names:
        grpc = "of unknown version"
        if shutil.which("dpkg-query"):
            grpc = _output("dpkg-query", "--show", "--showformat", "${Version}", "golang-google-grpc-dev") or grpc
        lines.append(f"grpc-go {grpc}, {_output('go', 'version').removeprefix('go version ').strip()}")
    if {"cpp-callback", "cpp-async"} & set(names):
        compiler = _output(_compiler(), "--version").splitlines()[0]
        lines.append(f"gRPC C++ {_output('pkg-config', '--modversion', 'grpc++').strip()}, {compiler}")
    return lines


def _output(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True).stdout


def _compiler():
    # Debian's libraries are built with GCC; a clang that finds its standard library links with them too.
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def _is_built(directory, tools):
    sources = [path for path in glob.glob(f"{SOURCES}/{directory}/**", recursive=True) if os.path.isfile(path)]
    sources += [f"{SOURCES}/bench.proto", f"{PROTO}/echo/v1/echo.proto", os.path.abspath(__file__)]
    return all(servers.is_newer(servers.tool(name), sources) for name in tools)


def _generate(*arguments):
    servers.run(["protoc", "-I", PROTO, "-I", SOURCES, *arguments])


def _build_go():
    if _is_built("Go", ["go-client", "go-server"]):
        return
    root = os.path.join(BUILT, "go")
    package = os.path.join(root, "src", "apusbench")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(f"{package}/bench")
    option = "plugins=grpc,Mecho/v1/echo.proto=apusbench/echo/v1"
    _generate(f"--go_out={option}:{package}", "echo/v1/echo.proto")
    _generate(f"--go_out={option}:{package}/bench", "bench.proto")
    # A path of packages, without modules, is how Debian's Go libraries are meant to be used.
    environment = {**os.environ, "GOPATH": f"{root}:{GO_LIBRARIES}", "GO111MODULE": "off", "CGO_ENABLED": "0",
                   "GOCACHE": os.path.join(BUILT, "go-cache"), "GOFLAGS": ""}
    for program in ("client", "server"):
        shutil.copytree(f"{SOURCES}/Go/{program}", f"{package}/{program}")
        servers.run(["go", "build", "-o", servers.tool(f"go-{program}"), f"apusbench/{program}"], env=environment)


def _build_cpp():
    if _is_built("CPlusPlus", ["cpp-client", "cpp-server"]):
        return
    root = os.path.join(BUILT, "cpp")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    _generate(f"--cpp_out={root}", f"--grpc_out={root}", plugin, "echo/v1/echo.proto", "bench.proto")

    def flags(kind):
        shown = subprocess.run(["pkg-config", kind, "grpc++", "protobuf"], capture_output=True, text=True)
        if shown.returncode != 0:
            raise Failure(shown.stderr.strip())
        return shown.stdout.split()

    compile_only = [_compiler(), "-std=c++17", "-O2", "-Wall", "-Wextra", f"-I{root}", *flags("--cflags"), "-c"]
    objects = []
    for source in glob.glob(f"{root}/**/*.cc", recursive=True):
        objects.append(source.removesuffix(".cc") + ".o")
        servers.run([*compile_only, source, "-o", objects[-1]])
    for program in ("client", "server"):
        own = f"{root}/{program}.o"
        servers.run([*compile_only, f"{SOURCES}/CPlusPlus/{program}.cc", "-o", own])
        servers.run([_compiler(), "-o", servers.tool(f"cpp-{program}"), own, *objects, *flags("--libs")])
