"""Messages of grpc.testing as grpcio's calls take them, with what grpcio does not tell: whether one came compressed.

A channel or server made with UNTOUCHED hands messages out as they came. gzip's first byte is no beginning of a message
of protobuf (field 3 of a wire type that is not in use), so that bytes tell by themselves what they are.
"""

import dataclasses
import gzip
import pathlib
import types

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

GZIP_MAGIC = b"\x1f\x8b"
UNTOUCHED = [("grpc.per_message_decompression", 0)]
LARGE_MESSAGES = [("grpc.max_receive_message_length", 16 * 1024 * 1024), ("grpc.max_send_message_length", -1)]

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

SERVICE = "grpc.testing.TestService"
UNIMPLEMENTED_SERVICE = "grpc.testing.UnimplementedService"


@dataclasses.dataclass
class Received:
    """A message, and whether it came compressed."""
    message: object
    compressed: bool


def decoder(kind):
    """Makes a message of bytes, whole or compressed."""
    def decode(data):
        compressed = data.startswith(GZIP_MAGIC)
        return Received(kind.FromString(gzip.decompress(data) if compressed else data), compressed)
    return decode


def encode(message):
    return message if isinstance(message, bytes) else message.SerializeToString()


def load_messages(descriptors):
    """The messages of a file that `protoc --descriptor_set_out` made, by their names.

    grpc_tools' own modules would be `grpc.testing`, which is inside of grpcio.
    """
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(descriptors).read_bytes()).file
    for file in files:
        pool.Add(file)
    found = message_factory.GetMessageClassesForFiles([file.name for file in files], pool)
    return types.SimpleNamespace(**{name.rpartition(".")[2]: kind for name, kind in found.items()})
