"""How much memory an idle connection costs.

usage: idle_connections.py [--connections N] [--program PATH] [OPTION...]

Starts apus-echo (or the program named, with the options given), opens N connections that finish the HTTP/2 handshake
and make no call, and prints the server's memory per connection. Kernel memory for the sockets is not in it.
"""

import argparse
import selectors
import time

from hyperframe.frame import SettingsFrame

from raw_connection import PREFACE, connect
from server_process import ServerProcess, executable, raise_descriptor_limit, wait_until

GREETING = PREFACE + SettingsFrame(0).serialize()
ACKNOWLEDGEMENT = SettingsFrame(0, flags=["ACK"]).serialize()
HANDSHAKE_SECONDS_MAX = 60


def open_idle(address, count):
    """Connections that have finished the handshake: both SETTINGS are acknowledged."""
    connections = []
    with selectors.DefaultSelector() as selector:
        waiting = set()
        for _ in range(count):
            connection = connect(address)
            connection.sendall(GREETING)
            connections.append(connection)
            selector.register(connection, selectors.EVENT_READ, bytearray())
            waiting.add(connection)
        end = time.monotonic() + HANDSHAKE_SECONDS_MAX
        while waiting:
            if time.monotonic() > end:
                raise RuntimeError(f"{len(waiting)} of {count} connections got no SETTINGS")
            for key, _ in selector.select(1):
                data = key.fileobj.recv(4096)
                if not data:
                    raise RuntimeError("the server closed a connection")
                key.data.extend(data)
                if ACKNOWLEDGEMENT in key.data:
                    key.fileobj.sendall(ACKNOWLEDGEMENT)
                    selector.unregister(key.fileobj)
                    waiting.discard(key.fileobj)
    return connections


def measure(server, count):
    """The bytes of the server's memory for each of so many idle connections, and the connections."""
    for connection in open_idle(server.address, 100):
        connection.close()
    wait_until(lambda: server.descriptors < 60, 2)
    before = server.rss_bytes
    connections = open_idle(server.address, count)
    wait_until(lambda: server.descriptors >= count, 5)
    time.sleep(0.5)
    return (server.rss_bytes - before) / count, connections


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--program", help="a server that prints `listening on ADDRESS`")
    arguments, options = parser.parse_known_args()
    raise_descriptor_limit()
    program = arguments.program or executable("apus-echo")
    command = [program, *options] if arguments.program else [program, "serve", "--listen", "127.0.0.1:0", *options]
    server = ServerProcess(command)
    try:
        bytes_each, connections = measure(server, arguments.connections)
        print(f"{len(connections)} idle connections: {bytes_each:.0f} bytes per connection, "
              f"{server.rss_bytes / 1024 / 1024:.1f} MiB in all")
    finally:
        server.close()


if __name__ == "__main__":
    main()
