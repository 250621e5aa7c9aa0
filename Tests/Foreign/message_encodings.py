"""Message encodings by Python's own gzip and zlib, and the one that the scenario server adds: none of the product's."""

import functools
import gzip
import itertools
import zlib

REVERSED_RUNS = "x-reversed-runs"


def reversed_runs(payload):
    """As ReversingCodec.swift describes it."""
    pairs = []
    for byte, run in itertools.groupby(reversed(payload)):
        count = len(list(run))
        while count:
            pairs.append(bytes([min(count, 255), byte]))
            count -= min(count, 255)
    return b"".join(pairs)


def restore_runs(data):
    pairs = [data[index:index + 2] for index in range(0, len(data), 2)]
    return b"".join(bytes([pair[1]]) * pair[0] for pair in reversed(pairs))


COMPRESS = {"gzip": lambda payload: gzip.compress(payload, mtime=0), "deflate": zlib.compress,
            REVERSED_RUNS: reversed_runs}
INFLATE = {"gzip": gzip.decompress, "deflate": zlib.decompress, REVERSED_RUNS: restore_runs}


@functools.cache
def bomb(encoding, mebibytes):
    """So many MiB of zeros, compressed without being held in memory."""
    machine = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    block = bytes(1024 * 1024)
    return b"".join([*(machine.compress(block) for _ in range(mebibytes)), machine.flush()])


def text(size):
    """Text that shrinks to about a third, other with each size."""
    words = [b"%x" % (index * index * 2654435761 % 2**32 + size) for index in range(size // 6 + 1)]
    return b" ".join(words)[:size]
