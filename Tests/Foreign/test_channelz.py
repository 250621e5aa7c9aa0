"""channelz as Python's grpcio-channelz reads it: servers, channels, subchannels and sockets of our processes."""

import concurrent.futures
import ipaddress
import queue
import ssl
import threading
import time

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

from idle_connections import open_idle
from raw_connection import REFUSED_STREAM, connect, message
from scenario_client import new_key, parameters
from server_process import PATIENCE, wait_until

TIMEOUT = 20 * PATIENCE
GET = "/echo.v1.EchoService/Get"
READY = channelz_pb2.ChannelConnectivityState.READY


class Channelz:
    """What a process shows over a channel of its own."""

    def __init__(self, channel):
        self.stub = channelz_pb2_grpc.ChannelzStub(channel)

    def servers(self, start=0, max_results=0):
        request = channelz_pb2.GetServersRequest(start_server_id=start, max_results=max_results)
        return self.stub.GetServers(request, timeout=TIMEOUT)

    @property
    def server(self):
        """The only server of the process."""
        response = self.servers()
        assert len(response.server) == 1 and response.end
        return response.server[0]

    def server_by_id(self, server_id):
        return self.stub.GetServer(channelz_pb2.GetServerRequest(server_id=server_id), timeout=TIMEOUT).server

    def sockets_page(self, start=0, max_results=0):
        request = channelz_pb2.GetServerSocketsRequest(
            server_id=self.server.ref.server_id, start_socket_id=start, max_results=max_results
        )
        return self.stub.GetServerSockets(request, timeout=TIMEOUT)

    def sockets(self):
        """The ids of the server's connections, as far as one page."""
        return {ref.socket_id for ref in self.sockets_page().socket_ref}

    def socket(self, socket_id, summary=False):
        request = channelz_pb2.GetSocketRequest(socket_id=socket_id, summary=summary)
        return self.stub.GetSocket(request, timeout=TIMEOUT).socket

    def new_socket(self, known):
        """The one connection that is not among those that were known."""
        new = wait_until(lambda: self.sockets() - known)
        assert len(new) == 1
        return new.pop()

    def channels(self):
        return list(self.stub.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=TIMEOUT).channel)

    def channel(self, channel_id):
        return self.stub.GetChannel(channelz_pb2.GetChannelRequest(channel_id=channel_id), timeout=TIMEOUT).channel

    def subchannel(self, subchannel_id):
        request = channelz_pb2.GetSubchannelRequest(subchannel_id=subchannel_id)
        return self.stub.GetSubchannel(request, timeout=TIMEOUT).subchannel


@pytest.fixture
def open_channelz(open_channel):
    return lambda server: Channelz(open_channel(server))


def code_of(call):
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code()


def calls(data):
    return data.calls_started, data.calls_succeeded, data.calls_failed


def is_recent(timestamp, since):
    # The loop's clock is read once a turn.
    return since - 1 <= timestamp.ToNanoseconds() / 1e9 <= time.time() + 1


# MARK: - Counts


def test_a_connection_counts_streams_and_messages(start_scenarios, open_channelz, open_client):
    server = start_scenarios()
    channelz = open_channelz(server)
    known = channelz.sockets()
    before = calls(channelz.server.data)
    client = open_client(server)
    began = time.time()
    for number in range(5):
        assert client.call("SynchronousGet", b"%d" % number) == b"%d" % number
    for number in range(4):
        assert client.call("Get", b"x") == b"x"
    for _ in range(3):
        assert code_of(lambda: client.call("Fail", code=9)) == grpc.StatusCode.FAILED_PRECONDITION
    assert code_of(lambda: client.call("NoSuchMethod")) == grpc.StatusCode.UNIMPLEMENTED
    assert list(client.server_stream("Expand")(b"a b c", timeout=TIMEOUT)) == [b"a", b"b", b"c"]
    assert client.client_stream("Collect")(iter([b"a", b"b"]), timeout=TIMEOUT) is not None
    assert list(client.both_streams("Update")(iter([b"1"] * 7), timeout=TIMEOUT)) == [b"1"] * 7

    socket_id = channelz.new_socket(known)
    socket = channelz.socket(socket_id)
    data = socket.data
    # 9 unary calls, 3 that failed, 1 that there is no method for, 3 streams; all of them the server ended.
    assert (data.streams_started, data.streams_succeeded, data.streams_failed) == (16, 16, 0)
    # Of the unknown method's request nothing is kept.
    assert data.messages_received == 9 + 3 + 1 + 2 + 7
    assert data.messages_sent == 9 + 3 + 1 + 7
    assert is_recent(data.last_remote_stream_created_timestamp, began)
    assert is_recent(data.last_message_sent_timestamp, began)
    assert is_recent(data.last_message_received_timestamp, began)
    assert not data.HasField("last_local_stream_created_timestamp")
    assert data.keep_alives_sent == 0
    assert data.local_flow_control_window.value > 0 and data.remote_flow_control_window.value > 0
    after = calls(channelz.server.data)
    assert after[2] - before[2] == 4
    # channelz's own call, under way when it counts.
    assert after[0] - after[1] - after[2] == before[0] - before[1] - before[2] == 1
    assert is_recent(channelz.server.data.last_call_started_timestamp, began)


@pytest.mark.parametrize("ending", ["cancel", "deadline", "loss"])
def test_a_call_that_does_not_come_to_its_end_has_failed(start_scenarios, open_channelz, open_client, ending):
    server = start_scenarios()
    channelz = open_channelz(server)
    known = channelz.sockets()
    failed = channelz.server.data.calls_failed
    client = open_client(server)
    key = new_key()
    call = client.unary("Hold").future(b"", timeout=0.5 if ending == "deadline" else TIMEOUT,
                                       metadata=parameters(key=key))
    socket_id = channelz.new_socket(known)
    data = wait_until(lambda: (found := channelz.socket(socket_id).data).streams_started and found)
    assert (data.streams_started, data.streams_succeeded, data.streams_failed) == (1, 0, 0)
    assert data.messages_received == 1 and data.messages_sent == 0
    if ending == "cancel":
        call.cancel()
    elif ending == "loss":
        client.channel.close()
    assert wait_until(lambda: channelz.server.data.calls_failed == failed + 1)
    if ending == "cancel":
        assert wait_until(lambda: channelz.socket(socket_id).data.streams_failed == 1)
    elif ending == "deadline":
        # The server's own timer, which ends the stream with a status, or the client's, which resets it.
        data = channelz.socket(socket_id).data
        assert data.streams_succeeded + data.streams_failed == 1
    else:
        assert wait_until(lambda: code_of_or_none(lambda: channelz.socket(socket_id)) == grpc.StatusCode.NOT_FOUND)


def code_of_or_none(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return None


def test_refused_streams_have_failed(start_scenarios, open_channelz, open_raw):
    server = start_scenarios("--max-streams", 2)
    channelz = open_channelz(server)
    known = channelz.sockets()
    failed = channelz.server.data.calls_failed
    # Before the server's SETTINGS are acknowledged.
    raw = open_raw(server)
    streams = [raw.open("Hold", parameters(key=new_key()), end_stream=False) for _ in range(3)]
    raw.run_until(lambda: raw.answer(streams[2]).is_over)
    assert raw.answer(streams[2]).reset == REFUSED_STREAM
    data = channelz.socket(channelz.new_socket(known)).data
    assert (data.streams_started, data.streams_succeeded, data.streams_failed) == (3, 0, 1)
    assert channelz.server.data.calls_failed == failed + 1


def test_keepalives_are_counted(start_scenarios, open_channelz):
    server = start_scenarios("--keepalive-milliseconds", 200, "--keepalive-timeout-milliseconds", 60_000)
    channelz = open_channelz(server)
    known = channelz.sockets()
    idle, = open_idle(server.address, 1)
    socket_id = channelz.new_socket(known)
    # Nothing answers, so that one PING is all there is for a minute.
    assert wait_until(lambda: channelz.socket(socket_id).data.keep_alives_sent == 1)
    idle.close()


def test_counts_under_load_add_up(echo_server, start_echo, open_channelz, open_channel):
    server = start_echo("--threads", "2")
    channelz = open_channelz(server)
    stop = threading.Event()
    answers = queue.SimpleQueue()

    def ask():
        while not stop.is_set():
            for ref in channelz.sockets_page().socket_ref:
                try:
                    data = channelz.socket(ref.socket_id).data
                    assert data.streams_started >= data.streams_succeeded + data.streams_failed
                    answers.put(data.streams_started)
                except grpc.RpcError as error:
                    assert error.code() == grpc.StatusCode.NOT_FOUND

    asking = threading.Thread(target=ask)
    asking.start()
    before = calls(channelz.server.data)
    channels = [open_channel(server) for _ in range(8)]
    count = 300

    def call(channel):
        get = channel.unary_unary(GET)
        for _ in range(count):
            assert get(b"\n\2hi", timeout=TIMEOUT) == b"\n\2hi"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(call, channels))
    stop.set()
    asking.join(TIMEOUT)
    assert not asking.is_alive() and answers.qsize() > 0
    sockets = {socket_id: channelz.socket(socket_id).data for socket_id in channelz.sockets()}
    busy = [data for data in sockets.values() if data.messages_sent == count]
    assert len(busy) == 8
    assert all(data.streams_succeeded == data.messages_received == count for data in busy)
    after = calls(channelz.server.data)
    assert after[1] - before[1] >= 8 * count and after[2] == before[2]


# MARK: - Sockets and pages


def test_sockets_appear_and_go(start_echo, open_channelz):
    channelz = open_channelz(start_echo())
    known = channelz.sockets()
    assert len(known) == 1
    address = channelz.server.listen_socket[0].name
    connections = open_idle(address, 3)
    assert wait_until(lambda: len(channelz.sockets()) == 4)
    local_ports = {connection.getsockname()[1] for connection in connections}
    sockets = [channelz.socket(socket_id) for socket_id in channelz.sockets() - known]
    assert {socket.remote.tcpip_address.port for socket in sockets} == local_ports
    assert all(str(ipaddress.ip_address(socket.local.tcpip_address.ip_address)) == "127.0.0.1" for socket in sockets)
    assert {socket.ref.name for socket in sockets} == {f"127.0.0.1:{port}" for port in local_ports}
    for connection in connections:
        connection.close()
    assert wait_until(lambda: channelz.sockets() == known)
    assert code_of(lambda: channelz.socket(sockets[0].ref.socket_id)) == grpc.StatusCode.NOT_FOUND


def test_three_hundred_connections_in_pages(start_echo, open_channelz):
    server = start_echo("--threads", "2")
    channelz = open_channelz(server)
    connections = open_idle(server.address, 300)
    assert wait_until(lambda: server.descriptors > 300)
    for max_results, longest in [(0, 100), (7, 7), (1000, 100)]:
        found, start, pages = [], 0, 0
        while True:
            page = channelz.sockets_page(start, max_results)
            ids = [ref.socket_id for ref in page.socket_ref]
            assert 0 < len(ids) <= longest and ids == sorted(set(ids))
            found += ids
            start, pages = ids[-1] + 1, pages + 1
            if page.end:
                break
            assert len(ids) == longest
        assert len(found) == len(set(found)) == 301
        assert pages == -(-301 // longest)
    beyond = channelz.sockets_page(found[-1] + 1)
    assert beyond.end and not beyond.socket_ref
    for connection in connections:
        connection.close()


def test_what_there_is_not(echo_server, open_channelz):
    channelz = open_channelz(echo_server)
    server_id = channelz.server.ref.server_id
    socket_id = channelz.sockets().pop()
    assert channelz.server_by_id(server_id).ref.server_id == server_id
    for missing in [0, -1, 2**62, socket_id]:
        assert code_of(lambda: channelz.server_by_id(missing)) == grpc.StatusCode.NOT_FOUND
        assert code_of(lambda: channelz.channel(missing)) == grpc.StatusCode.NOT_FOUND
        assert code_of(lambda: channelz.subchannel(missing)) == grpc.StatusCode.NOT_FOUND
    for missing in [0, -1, 2**62, server_id]:
        assert code_of(lambda: channelz.socket(missing)) == grpc.StatusCode.NOT_FOUND
    request = channelz_pb2.GetServerSocketsRequest(server_id=socket_id)
    assert code_of(lambda: channelz.stub.GetServerSockets(request, timeout=TIMEOUT)) == grpc.StatusCode.NOT_FOUND
    assert code_of(lambda: channelz.servers(-1)) == grpc.StatusCode.INVALID_ARGUMENT
    assert code_of(lambda: channelz.servers(0, -1)) == grpc.StatusCode.INVALID_ARGUMENT
    assert not channelz.channels()
    for start in (server_id + 1, 2**63 - 1):
        page = channelz.servers(start, 2**63 - 1)
        assert page.end and not page.server
    assert channelz.sockets_page(2**63 - 1, 2**63 - 1).end


def test_the_socket_that_listens(echo_server, open_channelz):
    channelz = open_channelz(echo_server)
    ref = channelz.server.listen_socket[0]
    assert ref.name == echo_server.address
    socket = channelz.socket(ref.socket_id)
    assert socket.local.tcpip_address.port == echo_server.port and not socket.HasField("remote")
    assert ref.socket_id not in channelz.sockets()


def test_options_are_left_out_of_a_summary(echo_server, open_channelz):
    channelz = open_channelz(echo_server)
    socket_id = channelz.sockets().pop()
    assert not channelz.socket(socket_id, summary=True).data.option
    options = {option.name: option for option in channelz.socket(socket_id).data.option}
    assert options["TCP_NODELAY"].value == "1" and int(options["SO_RCVBUF"].value) > 0
    info = channelz_pb2.SocketOptionTcpInfo()
    assert options["TCP_INFO"].additional.Unpack(info)
    assert info.tcpi_state == 1 and info.tcpi_rtt > 0 and info.tcpi_snd_mss > 500
    # What is shown can be read by a tool that knows the protocol alone.
    assert MessageToDict(channelz.socket(socket_id))["ref"]["socketId"] == str(socket_id)


# MARK: - Kinds of addresses, and TLS


def test_unix_sockets(start_echo, open_channelz, tmp_path):
    path = str(tmp_path / "echo.sock")
    server = start_echo(listen="unix:" + path)
    channelz = open_channelz(server)
    assert channelz.server.listen_socket[0].name == "unix:" + path
    assert channelz.socket(channelz.server.listen_socket[0].socket_id).local.uds_address.filename == path
    socket = channelz.socket(channelz.sockets().pop())
    assert socket.local.uds_address.filename == path
    # The other end has no name.
    assert socket.remote.WhichOneof("address") == "uds_address" and socket.remote.uds_address.filename == ""
    assert {option.name for option in socket.data.option} == {"SO_SNDBUF", "SO_RCVBUF"}


def test_abstract_unix_sockets(start_echo, open_channelz):
    server = start_echo(listen=f"unix-abstract:apus-channelz-{time.monotonic_ns()}")
    channelz = open_channelz(server)
    assert channelz.socket(channelz.sockets().pop()).local.other_address.name == server.address


def test_ipv6(start_echo, open_channelz):
    channelz = open_channelz(start_echo(listen="[::1]:0"))
    socket = channelz.socket(channelz.sockets().pop())
    for address in (socket.local, socket.remote):
        assert ipaddress.ip_address(address.tcpip_address.ip_address) == ipaddress.ip_address("::1")


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem.decode()[pem.decode().index("-----BEGIN CERTIFICATE"):])


@pytest.mark.parametrize("client", [None, "client"])
def test_tls_is_shown(certificates, start_echo, client):
    server = start_echo(*certificates.options("server", client_ca="ca" if client else None))
    pair = [certificates.text(client + end) for end in (".key", ".pem")] if client else []
    credentials = grpc.ssl_channel_credentials(certificates.text("ca.pem"), *pair)
    with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
        channelz = Channelz(channel)
        tls = channelz.socket(channelz.sockets().pop()).security.tls
        assert tls.standard_name.startswith("TLS_") and not tls.other_name
        assert tls.local_certificate == der(certificates.text("server.pem"))
        assert tls.remote_certificate == (der(certificates.text(client + ".pem")) if client else b"")
        # One that has not got through its handshake has nothing to show.
        known = channelz.sockets()
        with connect(f"127.0.0.1:{server.port}"):
            assert not channelz.socket(channelz.new_socket(known)).HasField("security")


def test_plaintext_has_no_security(echo_server, open_channelz):
    channelz = open_channelz(echo_server)
    assert not channelz.socket(channelz.sockets().pop()).HasField("security")


# MARK: - Channels


def test_the_channel_of_a_handler_that_is_a_client(start_scenarios, open_channelz, open_client):
    """A relay makes a channel for each call, and lets go of it afterwards."""
    relay, target = start_scenarios(), start_scenarios()
    channelz, behind = open_channelz(relay), open_client(target)
    assert not channelz.channels()
    key = new_key()
    began = time.time()
    future = open_client(relay).unary("Relay").future(
        b"through", timeout=TIMEOUT, metadata=parameters(key=key, target=target.address)
    )
    assert behind.wait_for(f"started.{key}") == 1
    channel, = channelz.channels()
    assert channel.ref.name == channel.data.target == target.address
    assert channel.data.state.state == READY and calls(channel.data) == (1, 0, 0)
    assert is_recent(channel.data.last_call_started_timestamp, began)
    assert is_recent(channel.data.trace.creation_timestamp, began)
    assert [event.description for event in channel.data.trace.events] == ["connecting", "ready"]
    assert channelz.channel(channel.ref.channel_id).ref == channel.ref
    subchannel = channelz.subchannel(channel.subchannel_ref[0].subchannel_id)
    assert subchannel.data.state.state == READY and calls(subchannel.data) == (1, 0, 0)
    socket = channelz.socket(subchannel.socket_ref[0].socket_id)
    assert socket.remote.tcpip_address.port == target.port
    assert (socket.data.streams_started, socket.data.messages_sent, socket.data.messages_received) == (1, 1, 0)
    assert is_recent(socket.data.last_local_stream_created_timestamp, began)
    # The same socket, as its other end shows it.
    theirs = Channelz(behind.channel)
    other_ends = [theirs.socket(socket_id) for socket_id in theirs.sockets()]
    assert socket.local in [other_end.remote for other_end in other_ends]

    behind.release(key)
    assert future.result(TIMEOUT) == b"through"
    assert wait_until(lambda: not channelz.channels())
    for gone in (
        lambda: channelz.channel(channel.ref.channel_id),
        lambda: channelz.subchannel(subchannel.ref.subchannel_id),
        lambda: channelz.socket(socket.ref.socket_id),
    ):
        assert code_of(gone) == grpc.StatusCode.NOT_FOUND


def test_many_channels_vanish_when_their_calls_have_ended(start_scenarios, open_channelz, open_client):
    relay, target = start_scenarios(), start_scenarios()
    channelz, behind = open_channelz(relay), open_client(target)
    client = open_client(relay)
    key = new_key()
    metadata = parameters(key=key, target=target.address)
    futures = [client.unary("Relay").future(b"", timeout=TIMEOUT, metadata=metadata) for _ in range(40)]
    assert behind.wait_for(f"started.{key}", 40) == 40
    found = channelz.channels()
    assert len(found) == 40 and [channel.ref.channel_id for channel in found] == sorted(
        channel.ref.channel_id for channel in found
    )
    page = channelz.stub.GetTopChannels(
        channelz_pb2.GetTopChannelsRequest(start_channel_id=found[10].ref.channel_id, max_results=5), timeout=TIMEOUT
    )
    assert [channel.ref for channel in page.channel] == [channel.ref for channel in found[10:15]] and not page.end
    for future in futures:
        future.cancel()
    assert wait_until(lambda: not channelz.channels(), 10)


# MARK: - The end


def test_while_the_server_drains(start_scenarios, open_raw):
    """A client that has not answered the PING of the shutdown may still begin calls: channelz answers them."""
    server = start_scenarios()
    raw = open_raw(server, auto_ping=False)
    held = raw.open("Hold", parameters(key=new_key()))
    raw.data(held, message(b"held"), end_stream=True)

    def ask(method, request, response):
        stream = raw.open("/grpc.channelz.v1.Channelz/" + method)
        raw.data(stream, message(request.SerializeToString()), end_stream=True)
        answer = raw.result(stream)
        return answer.status, response.FromString(answer.messages[0]) if answer.messages else None

    status, before = ask("GetServers", channelz_pb2.GetServersRequest(), channelz_pb2.GetServersResponse)
    assert status == 0 and len(before.server[0].listen_socket) == 1
    server.terminate()
    raw.run_until(lambda: raw.goaways and raw.pings, 3)
    status, draining = ask("GetServers", channelz_pb2.GetServersRequest(), channelz_pb2.GetServersResponse)
    assert status == 0 and draining.end
    shown = draining.server[0]
    assert not shown.listen_socket and calls(shown.data)[0] == 3 and calls(shown.data)[2] == 0
    assert [event.description.split()[0] for event in shown.data.trace.events] == ["listening", "shutting"]
    listening = channelz_pb2.GetSocketRequest(socket_id=before.server[0].listen_socket[0].socket_id)
    assert ask("GetSocket", listening, channelz_pb2.GetSocketResponse)[0] == grpc.StatusCode.NOT_FOUND.value[0]
    sockets = channelz_pb2.GetServerSocketsRequest(server_id=shown.ref.server_id)
    status, page = ask("GetServerSockets", sockets, channelz_pb2.GetServerSocketsResponse)
    assert status == 0 and len(page.socket_ref) == 1
