"""`buf` and our protos: what scripts/protos finds, and the template of `buf generate` (docs/buf.gen.yaml)."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from server_process import REPOSITORY, executable

BUF = os.path.join(os.path.dirname(sys.executable), "buf")


@pytest.fixture
def workspace(tmp_path):
    """The protos with their rules, to be changed."""
    shutil.copytree(REPOSITORY / "proto", tmp_path / "proto")
    shutil.copy(REPOSITORY / "buf.yaml", tmp_path)
    return tmp_path


def buf(workspace, *arguments, **environment):
    return subprocess.run([BUF, *arguments], cwd=workspace, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment})


def breaking(workspace):
    return buf(workspace, "breaking", "--against", "proto/released.txtpb")


def test_the_protos_keep_the_rules(workspace):
    assert buf(workspace, "lint").stdout == ""
    assert breaking(workspace).stdout == ""


ECHO, HEALTH, STATUS = "echo/v1/echo.proto", "grpc/health/v1/health.proto", "google/rpc/status.proto"
CHANGES = [
    (ECHO, "rpc Get(EchoRequest)", "rpc Fetch(EchoRequest)", 'Previously present RPC "Get"'),
    (ECHO, "rpc Update(stream EchoRequest)", "rpc Update(EchoRequest)", "client streaming"),
    (ECHO, "string text = 1;", "bytes text = 1;", 'changed type from "string" to "bytes"'),
    (ECHO, "string text = 1;", "string text = 2;", 'Previously present field "1"'),
    (HEALTH, "SERVICE_UNKNOWN = 3;", "", 'Previously present enum value "3"'),
    (STATUS, "package google.rpc;", "package google.rpc2;", 'changed from "google.rpc" to "google.rpc2"'),
]


@pytest.mark.parametrize("file, was, becomes, found", CHANGES)
def test_a_change_that_breaks_the_last_release_is_found(workspace, file, was, becomes, found):
    path = workspace / "proto" / file
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, becomes))
    done = breaking(workspace)
    assert done.returncode != 0 and found in done.stdout and f"proto/{file}" in done.stdout, done.stdout


def test_what_is_added_breaks_nothing(workspace):
    path = workspace / "proto" / ECHO
    path.write_text(path.read_text().replace("string text = 1;", "string text = 1;\n  int32 times = 2;"))
    (workspace / "proto/echo/v1/more.proto").write_text('syntax = "proto3";\npackage echo.v1;\nmessage More {}\n')
    assert breaking(workspace).stdout == ""


def test_a_proto_of_ours_that_is_out_of_style_is_found(workspace):
    (workspace / "proto/echo/v1/style.proto").write_text('syntax = "proto3";\npackage echo.v1;\nmessage more {}\n')
    assert "should be PascalCase" in buf(workspace, "lint").stdout


@pytest.fixture
def plugins(tmp_path_factory):
    """A folder with our plugin and swift-protobuf's; for the latter one that makes nothing, where it was not built."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "protoc-gen-apus").symlink_to(executable("protoc-gen-apus"))
    built = sorted(pathlib.Path(REPOSITORY / ".cache" / "bin").glob("protoc-gen-swift-*"))
    # An empty answer of a plugin is one without files, which says too little for protos with optional fields of proto3.
    (folder / "protoc-gen-swift").symlink_to(built[-1] if built else shutil.which("true"))
    return folder, bool(built)


def test_buf_generate_with_the_template(workspace, plugins):
    folder, has_messages = plugins
    done = buf(workspace, "generate", "--template", str(REPOSITORY / "docs/buf.gen.yaml"),
               PATH=f"{folder}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout
    generated = workspace / "Sources/Generated"
    stubs = sorted(str(path.relative_to(generated)) for path in generated.rglob("*.apus.swift"))
    assert stubs == [
        "echo/v1/echo.apus.swift", "grpc/channelz/v1/channelz.apus.swift", "grpc/health/v1/health.apus.swift",
        "grpc/reflection/v1/reflection.apus.swift", "grpc/reflection/v1alpha/reflection.apus.swift",
        "grpc/testing/test.apus.swift",
    ]
    assert "public enum Echo_V1_EchoService {" in (generated / "echo/v1/echo.apus.swift").read_text()
    assert (generated / "echo/v1/echo.pb.swift").exists() == has_messages


def test_what_the_plugin_refuses_is_what_buf_says(workspace, plugins):
    folder, _ = plugins
    (workspace / "proto/echo.proto").write_text('syntax = "proto3";\npackage echo;\nmessage V1_EchoService {}\n')
    done = buf(workspace, "generate", "--template", str(REPOSITORY / "docs/buf.gen.yaml"),
               PATH=f"{folder}:{os.environ['PATH']}")
    assert done.returncode != 0
    assert "service echo.v1.EchoService and message echo.V1_EchoService" in done.stdout, done.stdout
    assert "are both Echo_V1_EchoService in Swift" in done.stdout
