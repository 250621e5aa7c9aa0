"""A sample of the conformance cases over TLS: frames come out of its records as they do out of a plain socket."""

import pytest

import test_http2_conformance_frames as frames
import test_http2_conformance_generic as generic
import test_http2_conformance_hpack as hpack
import test_http2_conformance_messages as messages
from conformance_peer import ConformancePeer

SAMPLE = {
    generic.case: ["2/2", "3.1/3", "3.10/2", "4/4", "5/14"],
    frames.case: ["3.5/1", "4.2/1", "4.2/2", "5.1/8", "5.1/12", "5.1.1/2", "5.4.1/2", "6.3/1", "6.5.3/1", "6.9.1/2",
                  "6.9.2/2", "6.10/2"],
    messages.case: ["8.1/1", "8.1.2.3/1", "8.1.2.6/2", "8.2/1"],
    hpack.case: ["2.3.3/1", "6.3/1"],
}
CASES = [(check, name) for cases, numbers in SAMPLE.items() for check, name in zip(cases.all, cases.ids)
         if check.number in numbers]


def test_the_sample_is_whole():
    assert len(CASES) == sum(map(len, SAMPLE.values()))


@pytest.mark.parametrize("check", [check for check, _ in CASES], ids=[name for _, name in CASES])
def test_over_tls(check, tls_echo, certificates):
    peer = ConformancePeer(certificates.connect(tls_echo.address))
    try:
        check(peer)
    finally:
        peer.close()
