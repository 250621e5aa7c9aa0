"""A server under test as a process of its own: started on a free port, watched, and stopped."""

import os
import pathlib
import re
import resource
import signal
import subprocess
import tempfile
import time

# Sanitizers slow everything down; what waits for the server waits this much longer.
PATIENCE = 10 if os.environ.get("APUS_SANITIZER") else 1

CRASH = re.compile(r"fatal error|Fatal error|Swift runtime failure|\*\*\* (Program|Signal)|Thread .* crashed"
                   r"|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|Precondition failed|precondition failure")

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def executable(name):
    """The path of an executable in APUS_BIN, or in the folder of the release build."""
    folder = pathlib.Path(os.environ.get("APUS_BIN", REPOSITORY / ".build" / "release"))
    path = folder / name
    if not path.exists():
        raise RuntimeError(f"{path} is not there; build it and set APUS_BIN to its folder")
    return str(path)


def raise_descriptor_limit():
    """Lets this process, and the servers it starts, have as many descriptors as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wait_until(condition, seconds=5, interval=0.01):
    """Waits until the condition holds; returns its last value."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(interval)


class ServerProcess:
    """A running server: its address, what it logged, and what the kernel says of it."""

    def __init__(self, command, expect_listening=True):
        self._log = tempfile.NamedTemporaryFile(prefix="apus-log-", suffix=".txt")
        self._checked_bytes = 0
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, start_new_session=True
        )
        self.address = None
        if expect_listening:
            line = self.process.stdout.readline()
            if not line.startswith("listening on "):
                code = self.process.wait(10)
                raise RuntimeError(f"{command} ended with {code} and said {line!r} {self.log}")
            self.address = line.removeprefix("listening on ").strip()

    @classmethod
    def echo(cls, *options, listen="127.0.0.1:0"):
        return cls([executable("apus-echo"), "serve", "--listen", listen, *options])

    @classmethod
    def scenarios(cls, *options, listen="127.0.0.1:0"):
        return cls([executable("apus-scenarios"), "--listen", listen, *map(str, options)])

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        """All that the server wrote to standard error."""
        return pathlib.Path(self._log.name).read_text(errors="replace")

    def log_has(self, pattern, seconds=3):
        """Waits for a line that matches; returns the line, or None."""
        def look():
            for line in self.log.splitlines():
                if re.search(pattern, line):
                    return line
            return None
        return wait_until(look, seconds)

    @property
    def is_running(self):
        return self.process.poll() is None

    @property
    def crash(self):
        """The first line that tells of a crash, or None."""
        for line in self.log.splitlines():
            if CRASH.search(line):
                return line
        return None

    @property
    def rss_bytes(self):
        return self._status("VmRSS") * 1024

    @property
    def threads(self):
        return self._status("Threads")

    @property
    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        raise RuntimeError(f"no {name} of process {self.pid}")

    def terminate(self):
        """SIGTERM, as an orderly end begins."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds=5):
        """Waits for the end; None when it does not come in time."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        """Ends the server, in whatever state it is."""
        if self.is_running:
            self.terminate()
            if self.exit_code(3) is None:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def close(self):
        self.stop()
        self._log.close()
