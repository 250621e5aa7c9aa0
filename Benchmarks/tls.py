"""Servers over TLS under h2load: Apus beside nghttpd and nginx, with the same certificate, protocol and ciphers.

nghttpd and nginx answer a GET with a file of as many bytes as Apus's messages have, and have no request's message to
read; what they do is less, so that a ratio to them is no flattery.
"""

import collections
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

import h2load
import servers
from servers import Failure

SMALL_BYTES = len(servers.MESSAGE)
BULK_BYTES = 65_536
PREFIX_BYTES = 5
BULK_STREAMS = 10
BULK_PATH = "/bench.v1.BenchService/Fetch"
NEW_CONNECTIONS = 250  # at once

PROTOCOL, CIPHER, KEY_EXCHANGE = "TLSv1.3", "TLS_AES_128_GCM_SHA256", "ECDH prime256v1 256 bits"
H2LOAD_OPTIONS = [f"--tls13-ciphers={CIPHER}", "--groups=P-256"]  # all that nghttpd knows

STACKS = {
    "nghttpd": "nghttpd, a file",
    "nginx": "nginx, a file",
    "raw-sync": "**Apus, bytes, synchronous handler**",
    "raw-async": "Apus, bytes, async handler",
    "proto-async": "Apus, protobuf, async handler",
}
REFERENCE = "raw-sync"  # the one that does least beside what a server of files does
FILE_SERVERS = {"nghttpd": "nghttp2-server", "nginx": "nginx"}

# CPU of the server in microseconds, for each request or connection.
Figures = collections.namedtuple("Figures", "small_rate small_cpu bulk_rate bulk_cpu connection_rate connection_cpu")


def missing(name):
    """The package to install for a server, None if there is nothing to install."""
    there = name not in FILE_SERVERS or shutil.which(name) or os.path.exists(f"/usr/sbin/{name}")
    return None if there else FILE_SERVERS[name]


def versions(names):
    def said(*arguments):
        done = subprocess.run(arguments, capture_output=True, text=True)
        return (done.stdout + done.stderr).splitlines()[0].strip()

    path = {name: shutil.which(name) or f"/usr/sbin/{name}" for name in names}
    return [*([said(path["nghttpd"], "--version")] if "nghttpd" in names else []),
            *([said(path["nginx"], "-v").removeprefix("nginx version: ")] if "nginx" in names else [])]


class Material:
    """A folder with certificates, the files that file servers serve, and the requests that Apus gets."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory()
        self.path = self._directory.name
        servers.run([os.path.join(servers.HERE, "..", "scripts", "make-certs"), self.path], stdout=subprocess.DEVNULL)
        self._write("files/small", bytes(SMALL_BYTES))
        self._write("files/bulk", bytes(PREFIX_BYTES + BULK_BYTES))
        self._write("request", servers.MESSAGE)

    def _write(self, name, data):
        os.makedirs(os.path.dirname(self.file(name)), exist_ok=True)
        with open(self.file(name), "wb") as file:
            file.write(data)

    def file(self, name):
        return os.path.join(self.path, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._directory.cleanup()


class FileServer(servers.Server):
    """nghttpd or nginx: one thread that serves the files of a folder."""

    def __init__(self, name, material, core):
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        certificate, key = material.file("server-ec.pem"), material.file("server-ec.key")
        program = shutil.which(name) or f"/usr/sbin/{name}"
        if name == "nghttpd":
            arguments = [program, "--address=127.0.0.1", "--workers=1", f"--htdocs={material.file('files')}",
                         "--max-concurrent-streams=128", str(port), key, certificate]
        else:
            configuration = material.file("nginx.conf")
            with open(configuration, "w") as file:
                file.write(_nginx_configuration(material, self.address, certificate, key))
            arguments = [program, "-p", material.path, "-c", configuration]
        self._start(name, arguments, core)
        self._wait_until_it_accepts(port)

    def _wait_until_it_accepts(self, port):
        for _ in range(servers.START_SECONDS_MAX * 100):
            self.check_alive()
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
        raise Failure(f"{self.variant} does not accept connections")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _nginx_configuration(material, address, certificate, key):
    temporary = "\n".join(f"    {kind}_temp_path {material.file('nginx-' + kind)};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
daemon off;
master_process off;
pid {material.file("nginx.pid")};
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    open_file_cache max=10;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 128;
{temporary}
    server {{
        listen {address} ssl http2 backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        root {material.file("files")};
    }}
}}
"""


def _started(name, material, core):
    if name in FILE_SERVERS:
        return FileServer(name, material, core)
    secure = ["--tls-cert", material.file("server-ec.pem"), "--tls-key", material.file("server-ec.key")]
    return servers.Server(name, "127.0.0.1:0", core=core, more_arguments=secure)


class _Loads:
    """The three loads of a server."""

    def __init__(self, server, material):
        self.server = server
        self.url = f"https://{server.address}"
        if isinstance(server, FileServer):
            self.small = (f"{self.url}/small", [], SMALL_BYTES)
            self.bulk = (f"{self.url}/bulk", [], PREFIX_BYTES + BULK_BYTES)
        else:
            posted = [*h2load.GRPC_HEADERS, "-d"]
            self.small = (f"{self.url}{servers.UNARY_PATH}", [*posted, material.file("request")], SMALL_BYTES)
            self.bulk = (f"{self.url}{BULK_PATH}", [*posted, material.file("request")],
                         PREFIX_BYTES + BULK_BYTES)

    def run(self, what, requests, **how):
        url, options, body_bytes = what
        output = h2load.run(self.server, url, requests, [*H2LOAD_OPTIONS, *options], body_bytes, **how)
        # What h2load says of its first connection goes for all.
        for name, wanted in (("TLS Protocol", PROTOCOL), ("Cipher", CIPHER), ("Server Temp Key", KEY_EXCHANGE)):
            said = re.search(rf"^{name}: (.*)$", output, re.MULTILINE)
            if said is None or said.group(1) != wanted:
                raise Failure(f"{self.server.variant}: {name} is {said and said.group(1)}, not {wanted}")
        return h2load.rate(output)

    def measure(self, what, requests, **how):
        """Requests per second, and the server's CPU for each."""
        before = self.server.cpu_nanoseconds()
        rate = self.run(what, requests, **how)
        return rate, (self.server.cpu_nanoseconds() - before) / 1000 / requests


def measure(names, rounds, seconds, core, rotated, step):
    """Figures by server; `rotated` orders a round, `step` is told of what is done."""
    figures = {name: [] for name in names}
    counts = {}
    with Material() as material:
        for index in range(rounds):
            for name in rotated(names, index):
                with _started(name, material, core) as server:
                    loads = _Loads(server, material)
                    many = {"streams": h2load.STREAMS}
                    few = {"streams": BULK_STREAMS}
                    new = {"connections": NEW_CONNECTIONS, "streams": 1}
                    small_rate, bulk_rate = loads.run(loads.small, 10_000, **many), loads.run(loads.bulk, 500, **few)
                    small, bulk = counts.setdefault(name, (max(10_000, round(small_rate * seconds)),
                                                           max(500, round(bulk_rate * seconds))))
                    figures[name].append(Figures(
                        *loads.measure(loads.small, small, **many),
                        *loads.measure(loads.bulk, bulk, **few),
                        *loads.measure(loads.small, NEW_CONNECTIONS, **new),
                    ))
                step(f"{name} over TLS")
    return figures
