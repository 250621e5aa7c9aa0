"""Load by h2load."""

import re
import subprocess

from raw_connection import message
from server_process import PATIENCE


def h2load(server, path, count, tmp_path, payload=b"hello", connections=10, streams=100, seconds=120,
           scheme="http"):
    """Sends calls of one message; returns how many succeeded, by HTTP and by grpc-status where that is seen."""
    body = tmp_path / "request.bin"
    body.write_bytes(message(payload))
    done = subprocess.run(
        ["h2load", f"-c{connections}", f"-m{streams}", "-n", str(count), "-d", str(body), "-H", "te: trailers",
         "-H", "content-type: application/grpc", f"{scheme}://{server.address}{path}"],
        capture_output=True, text=True, timeout=seconds * PATIENCE,
    )
    found = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, "
                      r"(\d+) errored, (\d+) timeout", done.stdout)
    assert found, done.stdout + done.stderr
    total, _, _, succeeded, failed, errored, timed_out = map(int, found.groups())
    traffic = re.search(r"traffic: .*?\((\d+)\) total.*?\((\d+)\) data", done.stdout)
    assert (total, failed, errored, timed_out) == (count, 0, 0, 0), done.stdout
    return succeeded, int(traffic.group(2))
