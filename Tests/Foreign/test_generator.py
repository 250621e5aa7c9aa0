"""protoc-gen-apus under protoc: its options, and what it says of protos that it cannot serve.

What the stubs do is tested in Swift (GeneratedStubTests); that the committed ones are what the generator writes, by
scripts/generate --check.
"""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from server_process import PATIENCE

SERVICE = """
syntax = "proto3";
package some.where;
import "google/protobuf/empty.proto";
message Thing { string name = 1; }
service Things {
  rpc Get(Thing) returns (Thing);
  rpc Forget(Thing) returns (google.protobuf.Empty);
}
"""


class Protoc:
    """Runs protoc with the plugin over files of a folder."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder)
        self.output = self.root / "out"
        self.output.mkdir()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, *names, options=""):
        plugin = os.path.join(os.environ["APUS_BIN"], "protoc-gen-apus")
        return subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={self.root}",
             f"--plugin=protoc-gen-apus={plugin}", f"--apus_out={self.output}", f"--apus_opt={options}", *names],
            capture_output=True, text=True,
        )

    def files(self, *names, options=""):
        """What is written, by path."""
        done = self.run(*names, options=options)
        assert done.returncode == 0, done.stderr
        return {str(path.relative_to(self.output)): path.read_text() for path in self.output.rglob("*.swift")}

    def complaint(self, *names, options=""):
        """The line that says why nothing is written."""
        done = self.run(*names, options=options)
        assert done.returncode != 0
        assert list(self.output.rglob("*")) == []
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        return lines[0].removeprefix("--apus_out: ")


@pytest.fixture
def protoc(tmp_path):
    return Protoc(tmp_path)


@pytest.fixture
def things(protoc):
    protoc.write("some/where/things.proto", SERVICE)
    return protoc


@pytest.mark.parametrize("options, path", [
    ("", "some/where/things.apus.swift"),
    ("FileNaming=FullPath", "some/where/things.apus.swift"),
    ("FileNaming=PathToUnderscores", "some_where_things.apus.swift"),
    ("FileNaming=drop_path", "things.apus.swift"),
])
def test_files_are_named_as_swift_protobuf_names_them(things, options, path):
    assert list(things.files("some/where/things.proto", options=options)) == [path]


@pytest.mark.parametrize("options, declaration, imported", [
    ("", "enum Some_Where_Things {", "import Apus"),
    ("Visibility=Internal,UseAccessLevelOnImports=true", "enum Some_Where_Things {", "internal import Apus"),
    ("Visibility=Package", "package enum Some_Where_Things {", "import Apus"),
    ("Visibility=public,UseAccessLevelOnImports=true", "public enum Some_Where_Things {", "public import Apus"),
])
def test_visibility(things, options, declaration, imported):
    [text] = things.files("some/where/things.proto", options=options).values()
    assert declaration in text.splitlines()
    assert imported in text.splitlines()


@pytest.mark.parametrize("option, gone", [
    ("Server=false", "protocol Handler"), ("Client=false", "struct Client"), ("Reflection=false", "descriptor"),
])
def test_parts_can_be_left_out(things, option, gone):
    [whole] = things.files("some/where/things.proto").values()
    assert gone in whole
    [part] = things.files("some/where/things.proto", options=option).values()
    assert gone not in part


def test_messages_of_other_modules_are_imported_and_qualified(protoc):
    protoc.write("base.proto", 'syntax = "proto3"; package base; message Thing {}')
    protoc.write("top.proto", 'syntax = "proto3"; package top; import "base.proto";'
                              "service Top { rpc Get(base.Thing) returns (base.Thing); }")
    protoc.write("modules", 'mapping { module_name: "Base" proto_file_path: "base.proto" }')
    [text] = protoc.files("top.proto", options=f"ProtoPathModuleMappings={protoc.root}/modules").values()
    assert "import Base" in text.splitlines()
    assert "_ request: Base.Base_Thing," in text


def test_well_known_types_are_imported_from_swift_protobuf(things):
    [text] = things.files("some/where/things.proto").values()
    assert "import SwiftProtobuf" in text.splitlines()
    assert "SwiftProtobuf.Google_Protobuf_Empty" in text


def test_files_without_services_get_no_stub(protoc):
    protoc.write("plain.proto", 'syntax = "proto3"; message Thing {}')
    assert protoc.files("plain.proto") == {}


@pytest.mark.parametrize("options, complaint", [
    ("Color=red", "there is no option Color"),
    ("Visibility=secret", 'Visibility is one of Internal, Package, Public, not "secret"'),
    ("FileNaming=short", 'FileNaming is one of FullPath, PathToUnderscores, DropPath, not "short"'),
    ("Server=maybe", 'Server is true or false, not "maybe"'),
    ("ProtoPathModuleMappings=/nowhere", "ProtoPathModuleMappings=/nowhere cannot be used"),
    ("ImplementationOnlyImports=true", "ImplementationOnlyImports is not supported; use UseAccessLevelOnImports"),
])
def test_bad_options_are_named(things, options, complaint):
    assert things.complaint("some/where/things.proto", options=options).startswith(complaint)


def test_methods_of_one_swift_name(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; message M {}'
                            "service S { rpc GetIt(M) returns (M); rpc get_it(M) returns (M); }")
    assert protoc.complaint("a.proto") == "a.proto: methods GetIt and get_it of S are both getIt in Swift; rename one"


def test_services_of_one_swift_name(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; package x.y; message M {} service Z {}')
    protoc.write("b.proto", 'syntax = "proto3"; package x; service Y_Z {}')
    assert protoc.complaint("a.proto", "b.proto") == (
        "b.proto: service x.Y_Z and service x.y.Z (a.proto) are both X_Y_Z in Swift; rename one, or set swift_prefix"
    )


def test_a_service_and_a_message_of_one_swift_name(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; package x; message Y_Z {}')
    protoc.write("b.proto", 'syntax = "proto3"; package x.y; service Z {}')
    assert protoc.complaint("a.proto", "b.proto") == (
        "b.proto: service x.y.Z and message x.Y_Z (a.proto) are both X_Y_Z in Swift; rename one, or set swift_prefix"
    )


def test_a_service_and_an_imported_message_of_one_swift_name(protoc):
    """What is imported is in the stub's module as well, unless it is mapped to another."""
    protoc.write("a.proto", 'syntax = "proto3"; package x; message Y_Z {}')
    protoc.write("b.proto", 'syntax = "proto3"; package x.y; import "a.proto";'
                            "service Z { rpc Get(x.Y_Z) returns (x.Y_Z); }")
    assert protoc.complaint("b.proto") == (
        "b.proto: service x.y.Z and message x.Y_Z (a.proto) are both X_Y_Z in Swift; rename one, or set swift_prefix"
    )
    protoc.write("modules", 'mapping { module_name: "A" proto_file_path: "a.proto" }')
    assert list(protoc.files("b.proto", options=f"ProtoPathModuleMappings={protoc.root}/modules")) == ["b.apus.swift"]


@pytest.mark.parametrize("name", ["Apus", "ApusProtobuf"])
def test_a_message_that_would_hide_a_module(protoc, name):
    protoc.write("a.proto", f'syntax = "proto3"; message {name} {{}} service S {{ rpc Get({name}) returns ({name}); }}')
    assert protoc.complaint("a.proto") == (
        f"a.proto: message {name} would hide the module {name} in Swift; rename it, put it into a package, or set "
        "swift_prefix"
    )


def test_a_service_that_is_called_as_a_type_of_swift(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; service String {} service Type {} service _ {}')
    [text] = protoc.files("a.proto").values()
    assert [line for line in text.splitlines() if line.startswith("enum ")] == [
        "enum StringService {", "enum TypeService {", "enum _Service {",
    ]
    # What they are called on the wire stays.
    assert 'static let name = "String"' in text


def test_a_file_whose_name_means_something_in_a_string(protoc):
    name = 'a"\\(b)\tü.proto'
    protoc.write(name, 'syntax = "proto3"; service S {}')
    [text] = protoc.files(name).values()
    escaped = 'a\\"\\\\(b)\\u{9}ü.proto'
    assert f"// Source: {escaped}" in text and f'name: "{escaped}",' in text


def test_time_grows_with_the_size_of_a_proto(protoc):
    """Thousands of methods, and megabytes of descriptors, are a matter of seconds."""
    messages = "".join(f"message M{number} {{ string a_field_{number} = 1; M{number} next_{number} = 2; }}\n"
                       for number in range(6000))
    methods = "".join(f"rpc Method{number}(M{number}) returns (M{number});\n" for number in range(2000))
    protoc.write("huge.proto", f'syntax = "proto3"; package huge; {messages} service S {{ {methods} }}')
    started = time.monotonic()
    [text] = protoc.files("huge.proto").values()
    assert time.monotonic() - started < 20 * PATIENCE
    assert len(text) > 4_000_000


def test_files_of_one_path(protoc):
    for folder in ("a", "b"):
        protoc.write(f"{folder}/same.proto", f'syntax = "proto3"; package {folder}; service S {{}}')
    assert protoc.complaint("a/same.proto", "b/same.proto", options="FileNaming=DropPath") == (
        "a/same.proto and b/same.proto would both be written to same.apus.swift; choose another FileNaming"
    )


def test_a_prefix_that_is_no_name(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; option swift_prefix = "1-2"; service S {}')
    assert protoc.complaint("a.proto") == 'a.proto: swift_prefix "1-2" cannot begin a name in Swift'


def test_an_import_that_is_not_there_is_protocs_to_report(protoc):
    protoc.write("a.proto", 'syntax = "proto3"; import "gone.proto"; service S {}')
    done = protoc.run("a.proto")
    assert done.returncode != 0
    assert "gone.proto: File not found" in done.stderr
