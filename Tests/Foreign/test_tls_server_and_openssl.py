"""The server's TLS as `openssl s_client` finds it: what is agreed on, and what is refused."""

import signal

import pytest
from hyperframe.frame import SettingsFrame

from raw_connection import PREFACE
from server_process import ServerProcess, wait_until
from tls_fixtures import s_client

# TLS 1.1 is offered by OpenSSL 3 only below its default level of security.
WEAK = ["-cipher", "ALL:@SECLEVEL=0"]


@pytest.fixture
def connect(certificates, tls_echo):
    def connect(*options, alpn="h2", **keywords):
        protocols = ["-alpn", alpn] if alpn else []
        return s_client(tls_echo.address, *protocols, "-CAfile", certificates.ca, *options, **keywords)

    return connect


def refusals(server):
    return server.log.count("TLS with a peer failed")


@pytest.fixture
def refused(connect, tls_echo):
    """Connects in vain, with an alert; returns the line that the server logs."""
    def refused(alert, *options, **keywords):
        before = refusals(tls_echo)
        dialogue = connect(*options, **keywords)
        assert dialogue.code != 0 and alert in dialogue, dialogue
        assert wait_until(lambda: refusals(tls_echo) > before), "the server logs nothing"
        line = [line for line in tls_echo.log.splitlines() if "TLS with a peer failed" in line][-1]
        assert "127.0.0.1:" in line, line
        return line

    return refused


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_what_is_agreed_on_by_default(connect, version):
    """RFC 9113 §9.2: TLS 1.2 or 1.3, ALPN h2, an ephemeral key, no compression."""
    dialogue = connect(version)
    assert dialogue.code == 0, dialogue
    for line in ["ALPN protocol: h2", "Compression: NONE", "Verify return code: 0 (ok)",
                 "Server Temp Key: X25519"]:
        assert line in dialogue, dialogue
    assert "Secure Renegotiation IS supported" in dialogue or version == "-tls1_3"


@pytest.mark.parametrize("version, option, suites", [
    ("-tls1_3", "-ciphersuites", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]),
    ("-tls1_2", "-cipher", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]),
])
def test_the_servers_order_of_suites_counts(connect, version, option, suites):
    """128 bits are preferred, in whatever order the client has them."""
    for offer in [suites, suites[::-1]]:
        assert f"Cipher is {suites[0]}" in connect(version, option, ":".join(offer))


def test_compression_is_not_agreed_on_even_when_it_is_asked_for(connect):
    assert "Compression: NONE" in connect("-tls1_2", "-comp")


def test_h2_is_chosen_among_several_protocols(connect):
    assert "ALPN protocol: h2" in connect(alpn="http/1.1,h2,spdy/3")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("alpn, offer", [(None, "no protocol"), ("http/1.1", "http/1.1"), ("grpc-exp,h2c", "h2c")])
def test_a_client_that_does_not_offer_h2_is_refused(refused, version, alpn, offer):
    """RFC 9113 §3.2, RFC 7301 §3.2: no_application_protocol."""
    line = refused("alert number 120", version, alpn=alpn)
    assert "ALPN" in line and offer in line


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_1_2_are_refused(refused, version):
    """RFC 8996."""
    assert "version" in refused("alert protocol version", version, *WEAK)


# RFC 9113 Appendix A forbids them: CBC, and keys that are not ephemeral.
FORBIDDEN = ["ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA", "AES128-GCM-SHA256", "AES256-SHA256", "AES128-SHA",
             "ALL:!AESGCM:!CHACHA20:!AESCCM:!ARIAGCM"]


@pytest.mark.parametrize("suite", FORBIDDEN)
def test_suites_that_http2_forbids_are_refused(refused, suite):
    """RFC 9113 §9.2.2."""
    assert "cipher" in refused("alert handshake failure", "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")


@pytest.mark.parametrize("suite", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
                                   "ECDHE-RSA-CHACHA20-POLY1305"])
def test_suites_that_http2_wants_are_agreed_on(connect, suite):
    """RFC 9113 §9.2.2 demands the first."""
    assert f"Cipher is {suite}" in connect("-tls1_2", "-cipher", suite)


def test_renegotiation_is_refused(connect):
    """RFC 9113 §9.2.1."""
    dialogue = connect("-tls1_2", say=["R"], pause=0.5)
    assert "RENEGOTIATING" in dialogue and "no renegotiation" in dialogue, dialogue
    assert dialogue.code != 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_by_its_ticket(connect, tmp_path, version):
    """RFC 5077, RFC 8446 §4.6.1."""
    session = str(tmp_path / "session.pem")
    first = connect(version, "-sess_out", session, pause=0.3)
    assert "New, TLS" in first, first
    second = connect(version, "-sess_in", session)
    assert "Reused, TLS" in second and "ALPN protocol: h2" in second, second


def test_a_ticket_is_forgotten_when_certificates_are_read_anew(certificates, start_echo, tmp_path):
    """The key of the tickets is made anew with them."""
    server = start_echo(*certificates.options("server"))
    session = str(tmp_path / "session.pem")
    options = ["-alpn", "h2", "-CAfile", certificates.ca]
    s_client(server.address, *options, "-sess_out", session, pause=0.3)
    server.process.send_signal(signal.SIGHUP)
    assert server.log_has("read anew")
    assert "New, TLS" in s_client(server.address, *options, "-sess_in", session)


@pytest.mark.parametrize("name, shown", [("one.example", "one"), ("two.example", "two"), ("TWO.example", "two"),
                                         ("a.wild.example", "wild"), ("a.b.wild.example", "server"),
                                         ("unheard-of.example", "server"), (None, "server"),
                                         ("x.test.example", "server")])
def test_the_server_name_chooses_among_certificates(certificates, start_scenarios, name, shown):
    """RFC 6066 §3: an exact name, a wildcard for one label, and else the first."""
    options = [word for pair in ["server", "one", "two", "wild"] for word in certificates.options(pair)]
    server = start_scenarios(*options)
    asked = ["-servername", name] if name else ["-noservername"]
    dialogue = s_client(server.address, "-alpn", "h2", "-CAfile", certificates.ca, *asked)
    subject = {"server": "localhost", "wild": "wild.example"}.get(shown, f"{shown}.example")
    assert f"subject=CN = {subject}\n" in dialogue and "Verify return code: 0 (ok)" in dialogue, dialogue


@pytest.mark.parametrize("algorithms, kind", [("ECDSA+SHA256", "ECDSA"), ("RSA-PSS+SHA256", "RSA-PSS")])
def test_the_clients_algorithms_choose_among_certificates_for_the_same_name(certificates, start_scenarios, algorithms,
                                                                            kind):
    server = start_scenarios(*certificates.options("server"), *certificates.options("server-ec"))
    dialogue = s_client(server.address, "-alpn", "h2", "-CAfile", certificates.ca, "-sigalgs", algorithms,
                        "-servername", "localhost")
    assert f"Peer signature type: {kind}" in dialogue and "Verify return code: 0 (ok)" in dialogue, dialogue


def test_intermediates_are_sent(certificates, start_echo):
    server = start_echo(*certificates.options("server-chain"))
    dialogue = s_client(server.address, "-alpn", "h2", "-CAfile", certificates.ca, "-showcerts")
    assert dialogue.output.count("BEGIN CERTIFICATE") >= 2 and "Verify return code: 0 (ok)" in dialogue, dialogue


def test_a_client_is_told_whose_certificates_are_wanted(certificates, start_echo):
    """RFC 8446 §4.2.4."""
    server = start_echo(*certificates.options("server", client_ca="ca"))
    dialogue = s_client(server.address, "-alpn", "h2", "-CAfile", certificates.ca)
    assert "Acceptable client certificate CA names\nCN = Test authority" in dialogue, dialogue


def test_keys_are_updated_when_a_client_asks_for_it(connect):
    """RFC 8446 §4.6.3: the server updates its own before it says anything more, here its SETTINGS."""
    dialogue = connect("-tls1_3", "-msg", say=["K", (PREFACE + SettingsFrame(0).serialize()).decode()],
                       pause=0.2)
    assert "KEYUPDATE" in dialogue and dialogue.code == 0, dialogue
    assert "<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in dialogue, dialogue


def test_no_early_data_is_taken(connect):
    """It could be replayed by whoever saw it (RFC 8446 §8)."""
    assert "Max Early Data: 0" in connect("-tls1_3")


REFUSALS = [
    ("-tls1_3", None, "alert number 116", "no certificate"),
    ("-tls1_2", None, "alert handshake failure", "no certificate"),
    ("-tls1_3", "client-unknown", "alert unknown ca", "no authority"),
    ("-tls1_2", "client-unknown", "alert unknown ca", "no authority"),
    ("-tls1_3", "client-expired", "alert certificate expired", "has expired"),
    ("-tls1_2", "client-expired", "alert certificate expired", "has expired"),
    ("-tls1_3", "server", "certificate", "purpose"),
]


@pytest.fixture(scope="module")
def mutual(certificates):
    server = ServerProcess.echo(*certificates.options("server", client_ca="ca"))
    yield server
    server.close()


@pytest.mark.parametrize("version, name, alert, cause", REFUSALS)
def test_a_client_hears_why_its_certificate_is_refused(certificates, mutual, version, name, alert, cause):
    before = refusals(mutual)
    certificate, key = certificates.pair(name) if name else (None, None)
    shown = ["-cert", certificate, "-key", key] if name else []
    # In TLS 1.3 the alert comes after the client's own handshake.
    dialogue = s_client(mutual.address, "-alpn", "h2", "-CAfile", certificates.ca, version, *shown, pause=2)
    assert alert in dialogue and dialogue.code != 0, dialogue
    assert wait_until(lambda: refusals(mutual) > before)
    assert cause in [line for line in mutual.log.splitlines() if "TLS with a peer failed" in line][-1]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_ticket_does_not_outlive_the_trust_in_its_authority(certificates, start_echo, tmp_path, version):
    """A client that is trusted no longer does not come in by a session of earlier."""
    authority = tmp_path / "clients.pem"
    authority.write_bytes(certificates.text("ca.pem"))
    server = start_echo(*certificates.options("server"), "--tls-client-ca", str(authority))
    certificate, key = certificates.pair("client")
    session = str(tmp_path / "session.pem")
    options = [version, "-alpn", "h2", "-CAfile", certificates.ca, "-cert", certificate, "-key", key]
    assert s_client(server.address, *options, "-sess_out", session, pause=0.3).code == 0
    assert "Reused, TLS" in s_client(server.address, *options, "-sess_in", session, "-sess_out", session,
                                    pause=0.3)
    authority.write_bytes(certificates.text("unknown-ca.pem"))
    server.process.send_signal(signal.SIGHUP)
    assert server.log_has("read anew")
    dialogue = s_client(server.address, *options, "-sess_in", session, pause=2)
    assert "alert unknown ca" in dialogue and "Reused" not in dialogue, dialogue
