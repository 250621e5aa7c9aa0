"""The servers that `floor`, `budget` and `run` compare: how each is built, started, asked and stopped.

What is built goes to the package's scratch directory, `Benchmarks/.build` or $APUS_BENCH_SCRATCH, and is rebuilt only
when its source is newer.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SCRATCH = os.path.abspath(os.environ.get("APUS_BENCH_SCRATCH", os.path.join(HERE, ".build")))
TOOLS = os.path.join(SCRATCH, "tools")

UNARY_PATH = "/echo.v1.EchoService/Get"
BIDI_PATH = "/echo.v1.EchoService/Update"
MESSAGE_TEXT = b"this is echo number 0000000000"
MESSAGE = b"\0\0\0\0" + bytes([len(MESSAGE_TEXT) + 2, 0x0A, len(MESSAGE_TEXT)]) + MESSAGE_TEXT

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30

# name: (binary, arguments)
VARIANTS = {
    "floor": ("floor", []),
    "floor-malloc": ("floor", ["--allocator", "malloc"]),
    "raw-sync": ("bench-server", ["--handler", "raw-sync", "--threads", "1"]),
    "raw-async": ("bench-server", ["--handler", "raw-async", "--threads", "1"]),
    "proto-sync": ("bench-server", ["--handler", "proto-sync", "--threads", "1"]),
    "proto-async": ("bench-server", ["--handler", "proto-async", "--threads", "1"]),
    # Registered by hand, where proto-… is by generated stubs; `budget --stubs` compares them.
    "hand-sync": ("bench-server", ["--handler", "hand-sync", "--threads", "1"]),
    "hand-async": ("bench-server", ["--handler", "hand-async", "--threads", "1"]),
}

# Those of other stacks; peers.py builds them.
PEERS = {
    "grpc-go": ("go-server", []),
    "cpp-callback": ("cpp-server", ["--api", "callback"]),
    "cpp-async": ("cpp-server", ["--api", "async"]),
}


class Failure(Exception):
    """Something that makes the measurement void; it ends the script with its text."""


def tool(name):
    return os.path.join(TOOLS, name)


def command(name, package):
    """Path of a program that a Debian package brings."""
    path = shutil.which(name)
    if path is None:
        raise Failure(f"{name} is not installed (apt-get install {package})")
    return path


# MARK: - Building


def build_tools():
    """Compiles the C programs with the Swift toolchain's clang, or any cc."""
    compiler = os.environ.get("CC") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        raise Failure("no C compiler found (clang, cc or $CC)")
    os.makedirs(TOOLS, exist_ok=True)
    for name, sources, extra in [
        ("floor", ["Floor/floor.c", "Floor/pool.h", "Floor/message.h"], ["-lnghttp2"]),
        ("floor-client", ["Floor/floor-client.c", "Floor/pool.h", "Floor/message.h"], ["-lnghttp2"]),
        ("replay", ["Replay/replay.c"], ["-lnghttp2"]),
        ("libmalloccount.so", ["MallocCount/malloccount.c"], ["-fPIC", "-shared"]),
    ]:
        sources, target = [os.path.join(HERE, source) for source in sources], tool(name)
        if is_newer(target, sources):
            continue
        # DWARF 4: valgrind 3.19 does not read version 5
        run([compiler, "-O2", "-gdwarf-4", "-Wall", "-Wextra", "-o", target, sources[0], *extra])


def is_newer(target, sources):
    """True if a file is there and was made after all of its sources."""
    return os.path.exists(target) and os.path.getmtime(target) > max(map(os.path.getmtime, sources))


def build_swift(product, static=False):
    """Builds bench-server or bench-client."""
    # Other flags rebuild everything, so each way to link has a scratch directory of its own.
    scratch = os.path.join(SCRATCH, "static") if static else SCRATCH
    arguments = ["swift", "build", "--quiet", "--package-path", HERE, "--scratch-path", scratch, "-c", "release",
                 "--product", product,
                 "--disable-build-manifest-caching",  # else files added to or removed from ../Sources go unseen
                 "-Xlinker", "--strip-debug"]  # DWARF 5 stops valgrind 3.19; the names of functions stay
    if static:
        arguments.append("--static-swift-stdlib")
    run(arguments, stdout=sys.stderr)
    shown = run([*arguments, "--show-bin-path"], stdout=subprocess.PIPE).stdout.decode().strip()
    shutil.copy2(os.path.join(shown, product), tool(product))


def build(variants, static=False):
    """Builds what the variants need; the tools directory then has the bench-server that was asked for last."""
    build_tools()
    if any(VARIANTS[name][0] == "bench-server" for name in variants):
        build_swift("bench-server", static)


def run(arguments, **options):
    done = subprocess.run(arguments, **options)
    if done.returncode != 0:
        raise Failure(f"{os.path.basename(arguments[0])} failed with {done.returncode}: {' '.join(arguments)}")
    return done


# MARK: - Running


class Server:
    """A started server; a context manager that stops it."""

    def __init__(self, variant, listen, core=None, prefix=(), environment=None, more_arguments=()):
        binary, arguments = VARIANTS.get(variant) or PEERS[variant]
        self._start(variant, [*prefix, tool(binary), *arguments, "--listen", listen, *more_arguments], core,
                    environment)
        self.address = self._wait_until_listening()

    def _start(self, variant, arguments, core, environment=None):
        self.variant = variant
        self.errors = tempfile.TemporaryFile()
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=self.errors, preexec_fn=pin,
            env={**os.environ, "SWIFT_DETERMINISTIC_HASHING": "1", **(environment or {})},
        )

    @property
    def pid(self):
        return self.process.pid

    def _wait_until_listening(self):
        # The line is all a server prints, so a blocking read is enough; a timer bounds it.
        timer = Alarm(START_SECONDS_MAX, self.process)
        with timer:
            for line in self.process.stdout:
                match = re.match(rb"listening on (\S+)", line)
                if match:
                    return match.group(1).decode()
        raise Failure(f"{self.variant} did not start: {self.error_text()}")

    def error_text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip() or f"exit status {self.process.wait()}"

    def cpu_nanoseconds(self):
        """CPU time of all threads, user and system, from the scheduler's own account."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat") as stat:
                total += int(stat.read().split()[0])
        return total

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.variant} died: {self.error_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                print(f"warning: {self.variant} did not stop on SIGTERM", file=sys.stderr)
        self.process.stdout.close()
        self.errors.close()


class Alarm:
    """Kills a process that takes too long, so that a read from it ends."""

    def __init__(self, seconds, process):
        import threading
        self.timer = threading.Timer(seconds, process.kill)

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.cancel()


def replay(server, requests, shape="unary", profile="plain"):
    """Plays requests in lock step, and checks each answer."""
    done = subprocess.run(
        [tool("replay"), server.address, "--requests", str(requests), "--shape", shape, "--profile", profile],
        capture_output=True,
    )
    server.check_alive()
    if done.returncode != 0:
        raise Failure(f"{server.variant}: {done.stderr.decode().strip()}")


class AllocationCounter:
    """Reads the preloaded counter of a process, which writes to a file."""

    def __init__(self, path):
        self.path = path
        self.environment = {"LD_PRELOAD": tool("libmalloccount.so"), "MALLOCCOUNT_OUT": self.path}
        self.readings = 0

    def read(self, server):
        """Allocations so far. The server must be idle."""
        time.sleep(0.05)  # what follows the last answer
        os.kill(server.pid, signal.SIGUSR2)
        self.readings += 1
        for _ in range(500):
            time.sleep(0.01)
            lines = open(self.path).read().splitlines() if os.path.exists(self.path) else []
            if len(lines) >= self.readings:
                return int(re.match(r"total=(\d+)", lines[self.readings - 1]).group(1))
        raise Failure(f"{server.variant}: the allocation counter does not answer")

    def read_last(self):
        """The allocations of a process that has ended."""
        with open(self.path) as lines:
            return int(re.match(r"total=(\d+)", lines.read().splitlines()[-1]).group(1))
