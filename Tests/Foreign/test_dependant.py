"""A package of a user's, outside the repository, that depends on Apus by the URL and version of a git repository:
`swift package generate-stubs` makes its stubs, it builds without a word about our code, and it calls.

What is tried is the working tree, committed to a clone of the repository and tagged there.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from server_process import PATIENCE, REPOSITORY

pytestmark = pytest.mark.full

VERSION = "0.99.0"
BUILD_TIMEOUT = 1200 * PATIENCE
GENERATE = ["swift", "package", "--allow-writing-to-package-directory", "generate-stubs"]


def run(*command, cwd, environment=None, timeout=60):
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(environment or {})}, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def git(*arguments, cwd):
    done = run("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A clone that has the working tree as a version."""
    clone = tmp_path_factory.mktemp("release") / "apus"
    git("clone", "--quiet", str(REPOSITORY), str(clone), cwd=REPOSITORY)
    for path in git("ls-files", "-z", cwd=clone).split("\0")[:-1]:
        (clone / path).unlink()
    for path in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPOSITORY).split("\0")[:-1]:
        if (REPOSITORY / path).is_file():
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, clone / path)
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--allow-empty", "--message", "A version", cwd=clone)
    git("tag", VERSION, cwd=clone)
    return clone


@pytest.fixture(scope="module")
def package(release, tmp_path_factory):
    """The user's package, without its stubs."""
    folder = tmp_path_factory.mktemp("user") / "greeter"
    shutil.copytree(pathlib.Path(__file__).parent / "dependant", folder)
    manifest = (folder / "Package.swift.in").read_text()
    (folder / "Package.swift.in").unlink()
    (folder / "Package.swift").write_text(manifest.replace("@URL@", f"file://{release}").replace("@VERSION@", VERSION))
    return folder


@pytest.fixture(scope="module")
def protoc(tmp_path_factory):
    """A program as Debian's protoc is one; of PyPI's there is only a module."""
    program = tmp_path_factory.mktemp("bin") / "protoc"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
    program.chmod(0o755)
    return program


def test_a_user_generates_builds_and_calls(package, protoc):
    done = run(*GENERATE, "--protoc", str(protoc), "--target", "Greeter", "protos", cwd=package, timeout=BUILD_TIMEOUT)
    assert done.returncode == 0, done.stdout
    sources = package / "Sources" / "Greeter"
    made = sorted(str(path.relative_to(sources)) for path in sources.rglob("greet/**/*.swift"))
    assert made == ["greet/v1/greet.apus.swift", "greet/v1/greet.pb.swift", "greet/v1/person.pb.swift"]

    # In one order of swift-protobuf's traits, so that the two builds are the same (docs/decisions/0011).
    os.environ["SWIFT_DETERMINISTIC_HASHING"] = "1"
    built = run("swift", "build", cwd=package, timeout=BUILD_TIMEOUT)
    assert built.returncode == 0, built.stdout
    assert "warning:" not in built.stdout, built.stdout
    binaries = package / ".build" / "debug"
    compiled = {path.parent.name for path in binaries.rglob("*.o")}
    assert "ApusTransport.build" in compiled and "Greeter.build" in compiled
    generator = {"ApusCodeGen.build", "SwiftProtobufPluginLibrary.build", "protoc_gen_apus.build",
                 "protoc_gen_swift.build"}
    assert not compiled & generator, "whoever builds pays for the generator"

    # What the server logs goes to standard error.
    called = subprocess.run([binaries / "Greeter"], capture_output=True, text=True, timeout=60)
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines() == [
        "Hello, Ada", "INVALID_ARGUMENT nobody name", "Hello, Grace", "Hello, Barbara", "greeted 3", "serving",
    ]

    # Nothing of what a user has built is built again because stubs were made.
    again = run(*GENERATE, "--protoc", str(protoc), "--target", "Greeter", "protos", cwd=package, timeout=BUILD_TIMEOUT)
    assert again.returncode == 0 and "building" not in again.stdout and "wrote" not in again.stdout, again.stdout
    assert "Compiling Greeter" not in run("swift", "build", cwd=package, timeout=BUILD_TIMEOUT).stdout


BAD = [
    ([], "say where the code goes: --output-path FOLDER or --target NAME"),
    (["--output-path", "out"], "say which .proto files, or folders of them, to generate from"),
    (["--output-path", "out", "--color", "red", "protos"],
     "there is no option --color; `swift package generate-stubs --help` lists them"),
    (["--output-path", "out", "--target", "Greeter", "protos"],
     "--output-path and --target both say where the code goes; give one of them"),
    (["--target", "Gretter", "protos"],
     "--target Gretter: there is no such target in this package; there are Greeter"),
    (["--output-path", "out", "prtos"], "prtos: there is no such file or folder"),
    (["--output-path", "out", "Sources"], "Sources: there is no .proto file in this folder"),
    (["--output-path", "out", "Package.swift"], "Package.swift: this is not a .proto file"),
    (["--output-path", "out", "--import-path", "imports", "protos"],
     "--import-path imports: there is no such file or folder"),
    (["--output-path", "out", "--access-level", "open", "protos"],
     '--access-level is internal, package or public, not "open"'),
    (["--output-path", "out", "--file-naming", "short", "protos"],
     '--file-naming is full-path, path-to-underscores or drop-path, not "short"'),
    (["--output-path", "out", "--no-messages", "--no-client", "--no-server", "protos"],
     "--no-messages, --no-client and --no-server together leave nothing to make"),
    (["--protoc"], "--protoc needs a value"),
    (["--output-path", "out", "--protoc", "/no/protoc", "protos"], "--protoc /no/protoc: there is no such file"),
    (["--output-path", "out", "--protoc", "Package.swift", "protos"], "--protoc Package.swift: this is not a program"),
]


def problem(package, *arguments, **environment):
    """What the command says that fails; a line."""
    done = run(*GENERATE, *arguments, cwd=package, timeout=BUILD_TIMEOUT, environment=environment)
    assert done.returncode == 1, done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert not (package / "out").exists()
    return line.removeprefix("error: ")


def test_what_is_missing_is_said_in_a_line(package):
    for arguments, line in BAD:
        assert problem(package, *arguments) == line, arguments


def test_a_protoc_that_is_missing_is_said_to_be(package, tmp_path):
    for folder in os.environ["PATH"].split(":"):
        for program in pathlib.Path(folder).glob("*"):
            if program.name != "protoc" and not (tmp_path / program.name).is_symlink():
                (tmp_path / program.name).symlink_to(program)
    assert problem(package, "--output-path", "out", "protos", PATH=str(tmp_path)) == (
        "there is no protoc on the PATH: install it (Debian's package is protobuf-compiler), or say where it is with "
        "--protoc PATH or PROTOC_PATH"
    )
    assert problem(package, "--output-path", "out", "protos", PROTOC_PATH="/no/protoc") == (
        "PROTOC_PATH /no/protoc: there is no such file"
    )


def test_what_protoc_and_its_plugins_refuse_is_passed_on(package, protoc):
    folder = package / "bad"
    folder.mkdir()
    (folder / "gone.proto").write_text('syntax = "proto3"; import "no/such.proto"; service S {}')
    (folder / "same.proto").write_text('syntax = "proto3"; message M {} service M_ { rpc A(M) returns (M); }'
                                       'service S { rpc GetIt(M) returns (M); rpc get_it(M) returns (M); }')
    for name, reason in [
        ("gone", 'Import "no/such.proto" was not found'),
        ("same", "--apus_out: same.proto: methods GetIt and get_it of S are both getIt in Swift; rename one"),
    ]:
        done = run(*GENERATE, "--protoc", str(protoc), "--output-path", "out", f"bad/{name}.proto", cwd=package,
                   timeout=BUILD_TIMEOUT)
        assert done.returncode == 1, done.stdout
        assert reason in done.stdout and f"error: nothing is generated: {protoc} failed" in done.stdout, done.stdout
        assert not list(package.rglob("out/*"))
