"""Builds the peers on gRPC C++ into .cache/interop-cpp, when they are not there or older than their sources."""

import fcntl
import functools
import pathlib
import shutil
import subprocess

SOURCES = pathlib.Path(__file__).resolve().parent
REPOSITORY = SOURCES.parents[2]
PROTO = REPOSITORY / "proto"
BUILT = REPOSITORY / ".cache" / "interop-cpp"
PROTOS = [f"grpc/testing/{name}.proto" for name in ("empty", "messages", "test")]
TOOLS = ["g++", "protoc", "grpc_cpp_plugin", "pkg-config"]
PROGRAMS = ["client", "server"]


@functools.cache
def peer(name):
    """The path of a peer, "client" or "server"."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with open(BUILT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_built():
            build()
    return str(BUILT / name)


def is_built():
    sources = [*SOURCES.iterdir(), *(PROTO / proto for proto in PROTOS)]
    newest = max(source.stat().st_mtime for source in sources if source.is_file())
    return all((BUILT / name).exists() and (BUILT / name).stat().st_mtime > newest for name in PROGRAMS)


def run(*arguments):
    done = subprocess.run(arguments, cwd=BUILT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{arguments[0]} failed:\n{done.stderr}")
    return done.stdout


def build():
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"there is no {', '.join(missing)}; `scripts/setup --full` installs gRPC C++")
    plugin = shutil.which("grpc_cpp_plugin")
    run("protoc", f"-I{PROTO}", "--cpp_out=.", "--grpc_out=.", f"--plugin=protoc-gen-grpc={plugin}", *PROTOS)
    flags = run("pkg-config", "--cflags", "grpc++", "protobuf").split()
    generated = [proto.removesuffix("proto") + "pb.cc" for proto in PROTOS] + ["grpc/testing/test.grpc.pb.cc"]
    objects = [compiled(BUILT / source, flags) for source in generated]
    libraries = run("pkg-config", "--libs", "grpc++", "protobuf").split()
    for program in PROGRAMS:
        own = compiled(SOURCES / f"{program}.cc", ["-Wall", "-Wextra", *flags])
        run("g++", "-o", program, own, *objects, *libraries)


def compiled(source, flags):
    """Not optimised, which takes most of the time."""
    name = source.name.removesuffix("cc") + "o"
    run("g++", "-std=c++17", "-O0", "-I.", *flags, "-c", str(source), "-o", name)
    return name
