"""Fixtures for tests of TLS: certificates, a server with TLS that tests share, and proxies that speak TLS."""

import functools
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sysconfig
import time

import pytest

from server_process import PATIENCE, REPOSITORY, ServerProcess, wait_until

ECHO_GET = "/echo.v1.EchoService/Get"


class Certificates:
    """What scripts/make-certs has made; that script says what each is."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = self.path("ca.pem")

    def path(self, name):
        return str(self.folder / name)

    def text(self, name):
        return (self.folder / name).read_bytes()

    def pair(self, name):
        return self.path(name + ".pem"), self.path(name + ".key")

    def options(self, name, client_ca=None):
        """Options of our programs and of grpcio_peer.py, for a server or a client that shows a certificate."""
        certificate, key = self.pair(name)
        options = ["--tls-cert", certificate, "--tls-key", key]
        return options + (["--tls-client-ca", self.path(client_ca + ".pem")] if client_ca else [])

    def client_options(self, name=None, ca="ca"):
        """Options of our client that trusts an authority, and may show a certificate."""
        return ["--tls", "--tls-ca", self.path(ca + ".pem"), *(self.options(name) if name else [])]

    def server_context(self, name, protocols=("h2",), client_ca=None):
        """Python's TLS for a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair(name))
        if protocols:
            context.set_alpn_protocols(protocols)
        if client_ca:
            context.load_verify_locations(self.path(client_ca + ".pem"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, name=None, protocols=("h2",)):
        """Python's TLS for a client."""
        context = ssl.create_default_context(cafile=self.ca)
        if protocols:
            context.set_alpn_protocols(protocols)
        if name:
            context.load_cert_chain(*self.pair(name))
        return context

    def connect(self, address, context=None, server_name="localhost", **options):
        """A socket on which TLS is established."""
        host, port = address.rsplit(":", 1)
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=10 * PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return (context or self.client_context()).wrap_socket(plain, server_hostname=server_name, **options)
        except BaseException:
            plain.close()
            raise

    @functools.lru_cache(maxsize=100)
    def serial(self, name):
        """The serial number of a certificate, as ssl writes it."""
        done = subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", self.path(name + ".pem")], check=True,
                              capture_output=True, text=True)
        return done.stdout.strip().removeprefix("serial=")

    def shown_by(self, address, server_name="localhost"):
        """The serial number of the certificate that a server shows to a new connection."""
        with self.connect(address, server_name=server_name) as connection:
            return connection.getpeercert()["serialNumber"]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([REPOSITORY / "scripts" / "make-certs", folder], check=True, capture_output=True)
    return Certificates(folder)


@pytest.fixture(scope="session")
def shared_tls_echo(certificates):
    server = ServerProcess.echo(*certificates.options("server"), "--log-level", "debug")
    yield server
    server.close()


@pytest.fixture
def tls_echo(shared_tls_echo):
    """An apus-echo with TLS that other tests use as well."""
    yield shared_tls_echo
    assert shared_tls_echo.crash is None and shared_tls_echo.is_running, shared_tls_echo.crash


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy(ServerProcess):
    """A server that does not say where it listens, so that it is told, and asked until it answers."""

    def __init__(self, command, port):
        super().__init__(command, expect_listening=False)
        self.address = f"127.0.0.1:{port}"

        def listens():
            with socket.socket() as probe:
                return not self.is_running or probe.connect_ex(("127.0.0.1", port)) == 0

        assert wait_until(listens, 20) and self.is_running, f"{command[0]} did not start:\n{self.log}"


def envoy_tls(kind, **fields):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext", **fields}}


def envoy_config(port, server, common_tls, mutual, upstream_tls):
    host, upstream_port = server.address.rsplit(":", 1)
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                 "HttpConnectionManager",
        "codec_type": "AUTO", "stat_prefix": "in",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}]}]},
    }
    cluster = {
        "name": "server", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": host, "port_value": int(upstream_port)}}}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}},
    }
    if upstream_tls:
        cluster["transport_socket"] = envoy_tls("Upstream", sni="localhost", common_tls_context=upstream_tls)
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{
            "transport_socket": envoy_tls("Downstream", require_client_certificate=mutual,
                                          common_tls_context=common_tls),
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        }],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


class Proxies:
    """Starts proxies with TLS in front of a server: nginx and Envoy."""

    def __init__(self, certificates, folder):
        self.certificates, self.folder = certificates, folder
        self.started = []

    def close(self):
        for server in self.started:
            server.close()

    def nginx(self, server, certificate="server", client_ca=None, http2=True, upstream_tls=False):
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        assert program, "there is no nginx; scripts/setup installs it"
        port = free_port()
        folder = self.folder / f"nginx-{port}"
        folder.mkdir()
        chain, key = self.certificates.pair(certificate)
        mutual = f"ssl_client_certificate {self.certificates.path(f'{client_ca}.pem')}; ssl_verify_client on;"
        upstream = f"""
            grpc_pass grpcs://{server.address}; grpc_ssl_trusted_certificate {self.certificates.ca};
            grpc_ssl_verify on; grpc_ssl_name localhost; grpc_ssl_server_name on; grpc_ssl_protocols TLSv1.2 TLSv1.3;
        """ if upstream_tls else f"grpc_pass grpc://{server.address};"
        paths = "".join(f"{kind}_temp_path {folder}/{kind};\n"
                        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        (folder / "nginx.conf").write_text(f"""
            daemon off; master_process off; pid {folder}/pid; error_log stderr info;
            events {{ worker_connections 1000; }}
            http {{
                access_log off; client_max_body_size 0; {paths}
                server {{
                    listen 127.0.0.1:{port} ssl {"http2" if http2 else ""};
                    ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
                    {mutual if client_ca else ""}
                    location / {{ {upstream} }}
                }}
            }}
        """)
        self.started.append(Proxy([program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], port))
        return self.started[-1]

    def envoy(self, server, certificate="server", client_ca=None, upstream_tls=False, upstream_certificate=None):
        program = pathlib.Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
        assert program.exists(), "there is no Envoy; scripts/python-environment installs it"
        port = free_port()
        config = envoy_config(port, server, self._envoy_tls(certificate, client_ca), client_ca is not None,
                              self._envoy_tls(upstream_certificate, "ca") if upstream_tls else None)
        file = self.folder / f"envoy-{port}.json"
        file.write_text(json.dumps(config))
        self.started.append(Proxy([str(program), "-c", str(file), "--concurrency", "1", "--disable-hot-restart",
                                   "--log-level", "warning"], port))
        return self.started[-1]

    def _envoy_tls(self, certificate, ca):
        """What Envoy calls a common TLS context."""
        context = {"alpn_protocols": ["h2"]}
        if certificate:
            chain, key = self.certificates.pair(certificate)
            context["tls_certificates"] = [{"certificate_chain": {"filename": chain},
                                            "private_key": {"filename": key}}]
        if ca:
            context["validation_context"] = {"trusted_ca": {"filename": self.certificates.path(f"{ca}.pem")}}
        return context


@pytest.fixture(scope="session")
def proxies(certificates, tmp_path_factory):
    starter = Proxies(certificates, tmp_path_factory.mktemp("proxies"))
    yield starter
    starter.close()


class SecureServers:
    """Servers with the scenario service and TLS, each started once: of grpcio, ours, and proxies in front of ours."""

    def __init__(self, certificates, proxies, starters):
        self.certificates, self.proxies, self.starters = certificates, proxies, starters
        self.running = {}

    def start(self, kind, name="server", client_ca=None):
        asked = (kind, name, client_ca)
        if asked not in self.running:
            if kind in self.starters:
                self.running[asked] = self.starters[kind](*self.certificates.options(name, client_ca))
            else:
                self.running[asked] = getattr(self.proxies, kind)(self.behind, name, client_ca)
        return self.running[asked]

    @functools.cached_property
    def behind(self):
        return self.starters["apus"]("--log-level", "info")

    @property
    def crash(self):
        for server in [*self.running.values(), *([self.behind] if "behind" in self.__dict__ else [])]:
            if server.crash or not server.is_running:
                return f"{server.process.args[0]}: {server.crash}"
        return None


@pytest.fixture(scope="session")
def secure_servers(certificates, proxies, shared_peers):
    return SecureServers(certificates, proxies, shared_peers[1])


class Dialogue:
    """What `openssl s_client` said, and how it ended."""

    def __init__(self, output, code):
        self.output = output
        self.code = code

    def __contains__(self, text):
        return text in self.output

    def __repr__(self):
        return f"openssl s_client ended with {self.code}:\n{self.output}"


def s_client(address, *options, say=(), pause=0.05, seconds=10):
    """Runs `openssl s_client`: waits until it is connected, says lines, waits a while after each and leaves."""
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", address, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    os.set_blocking(process.stdout.fileno(), False)
    output = b""

    def has(text):
        nonlocal output
        output += process.stdout.read() or b""
        return text in output or process.poll() is not None

    def tell(line):
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass

    assert wait_until(lambda: has(b"\n---\n") and (has(b"Verify return code") or has(b"DONE")), seconds), output
    # Tickets of TLS 1.3 come after the handshake; who wants them waits for longer.
    for line in [None, *say]:
        if line:
            tell(line)
        end = time.monotonic() + pause * PATIENCE
        while time.monotonic() < end and process.poll() is None:
            has(b"")
            time.sleep(0.01)
    tell("Q")
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass
    code = process.wait(seconds * PATIENCE)
    os.set_blocking(process.stdout.fileno(), True)
    output += process.stdout.read() or b""
    process.stdout.close()
    return Dialogue(output.decode(errors="replace"), code)
