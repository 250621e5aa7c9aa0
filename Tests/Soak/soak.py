"""Calls of all kinds for as long as one likes, while connections are cut and servers die; scripts/soak runs it.

Six lanes, each a client and a server, plaintext and TLS: with nothing in between, behind a proxy that cuts and stalls
connections, and with a server that is killed or stopped and started again. Each answer is compared with what was sent.
Where nothing is in between no call may fail; elsewhere a call may fail with what the fault explains, and never with
anything else or with a wrong answer.

After a warm-up, and at the end, all lanes pause and memory and descriptors of the processes that lived through it are
compared: RSS may have grown by GROWTH_BYTES_MAX, descriptors not at all.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "Tests" / "Foreign"))

from client_process import ClientProcess, Result, encoded_metadata  # noqa: E402
from cutting_proxy import CuttingProxy  # noqa: E402
from scenario_client import SERVICE, parameters  # noqa: E402
from server_process import ServerProcess, wait_until  # noqa: E402
from tls_fixtures import Certificates  # noqa: E402

MIB = 1024 * 1024
# A leak of 200 bytes a call shows after 80,000 calls, and of a descriptor at once.
GROWTH_BYTES_MAX = 16 * MIB
# A round that takes longer is told, since something may have hung.
SLOW_ROUND_SECONDS = 10
ECHOES = {"unary": "Get", "server": "Expand", "client": "Collect", "bidi": "Update"}
# How a call may end whose connection or server was lost.
LOST = {"UNAVAILABLE"}


class Problems:
    """What was wrong, from any thread."""

    def __init__(self):
        self.list = []
        self._lock = threading.Lock()

    def add(self, text):
        with self._lock:
            self.list.append(text)
        print(f"PROBLEM {text}", flush=True)


class Lane(threading.Thread):
    """A client, its server, and what is done with them, in an order that the seed decides."""

    def __init__(self, name, seed, certificates, faults, problems):
        super().__init__(name=name, daemon=True)
        self.random = random.Random(f"{seed} {name}")
        self.faults = faults
        self.problems = problems
        self.server_options = ["--log-level", "warning"]
        client_options = ["--log-level", "error"]
        if certificates:
            self.server_options += certificates.options("server")
            client_options += certificates.client_options() + ["--tls-server-name", "localhost"]
        self.server = ServerProcess.scenarios(*self.server_options)
        self.proxy = CuttingProxy(self.server.port) if faults else None
        target = self.proxy.address if faults else self.server.address
        self.client = ClientProcess(target, *client_options, "--initial-backoff-ms", "20")
        self.codes = {}
        self.calls = 0
        self.resume = threading.Event()
        self.resume.set()
        self.is_idle = threading.Event()
        self.stops = False
        self.slot = 0

    @property
    def is_lossy(self):
        return bool(self.faults)

    # Checking

    def note(self, what, codes, allowed):
        """Adds up how calls ended, and complains of ends that nothing explains."""
        allowed = set(allowed) | (LOST if self.is_lossy else set())
        for code, count in codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
            self.calls += count
        strange = {code: count for code, count in codes.items() if code not in allowed}
        if strange:
            self.problems.add(f"{self.name}: {what} ended with {strange}")

    # Rounds

    def run(self):
        rounds = [(self.load, 8), (self.stream, 3), (self.late, 2), (self.cancelled, 3), (self.listening, 2)]
        if not self.is_lossy:
            rounds.append((self.channels, 1))
        try:
            while not self.stops:
                if not self.resume.is_set():
                    self.is_idle.set()
                    self.resume.wait()
                    self.is_idle.clear()
                    continue
                round_of = self.random.choices([round for round, _ in rounds], [weight for _, weight in rounds])[0]
                began = time.monotonic()
                round_of()
                if time.monotonic() - began > SLOW_ROUND_SECONDS:
                    print(f"slow: {self.name} {round_of.__name__} took {time.monotonic() - began:.0f} s", flush=True)
        except Exception as problem:  # noqa: BLE001: whatever it is, the soak fails for it
            self.problems.add(f"{self.name}: {type(problem).__name__}: {problem}")
        self.is_idle.set()

    def load(self):
        """Many calls at once of one kind; every answer is its own call's."""
        choose = self.random
        kind = choose.choice(list(ECHOES))
        workers, calls = choose.randint(1, 40), choose.randint(1, 100)
        size = choose.choice([4, 30, 30, 1000, 20_000]) if kind != "server" else 30
        if size == 20_000:
            calls = min(calls, 10)
        blocking = choose.random() < 0.4
        summary = self.client.run(
            "load", workers=workers, calls=calls, kind=kind, path=SERVICE + ECHOES[kind], bytes=size,
            numbering="index", blocking=blocking, on=choose.choice(["task", "loop", "main"]),
            wait_for_ready=self.is_lossy and choose.random() < 0.5, timeout_ms=60_000, seconds=120,
        )
        self.note(f"load of {kind}", summary["codes"], {"OK"})
        if sum(summary["codes"].values()) != workers * calls:
            self.problems.add(f"{self.name}: {workers * calls} calls of {kind} had {summary['codes']} as their ends")
        # White space among the bytes of a number divides words, which are joined without it.
        divided = 0
        if kind == "server":
            divided = sum(1 for number in range(workers * calls)
                          if (whole := number.to_bytes(4, "big") + bytes([number % 256]) * 26).split() != [whole])
        if summary["mismatches"] > divided:
            self.problems.add(f"{self.name}: {summary['mismatches']} wrong answers of {kind}, blocking: {blocking}")

    def begin(self, path, kind, **fields):
        """Begins a call under a name that is used again and again, so that the client forgets the one before."""
        self.slot = (self.slot + 1) % 100
        name = f"s{self.slot}"
        metadata = encoded_metadata(fields.pop("metadata", ()))
        self.client.tell("start", id=name, kind=kind, path=SERVICE + path, metadata=metadata, **fields)
        return name

    def end_of(self, name):
        return Result(self.client.expect("end", name, 90))

    def stream(self):
        """Long streams of numbered messages, in both directions."""
        choose = self.random
        count, size = choose.randint(10, 300), choose.choice([4, 100, 5000])
        numbered = {"numbering": "index", "expected_bytes": size, "keep": False, "timeout_ms": 60_000}
        names = [
            self.begin("Update", "bidi", count=count, bytes=size, blocking=choose.random() < 0.5, **numbered)
            for _ in range(choose.randint(1, 4))
        ]
        for name in names:
            result = self.end_of(name)
            self.note("stream", {result.code: 1}, {"OK"})
            if result.misplaced or (result.code == "OK" and result.count != count):
                self.problems.add(f"{self.name}: a stream of {count} messages: {result}")

    def late(self):
        """Calls whose deadline comes long before their answer."""
        workers, calls = self.random.randint(1, 20), self.random.randint(1, 5)
        summary = self.client.run(
            "load", workers=workers, calls=calls, path=SERVICE + "Sleep", bytes=10, seconds=60,
            metadata=encoded_metadata(parameters(ms=30_000, key="late")), timeout_ms=self.random.randint(1, 100),
            blocking=self.random.random() < 0.5,
        )
        self.note("late call", summary["codes"], {"DEADLINE_EXCEEDED"})

    def cancelled(self):
        """Calls that are cancelled at any time, some while nobody has answered, some by letting go of them."""
        names = []
        for _ in range(self.random.randint(1, 20)):
            how = self.random.choice(["hand", "task", "drop"])
            # A unary call has no other handle than its task.
            kind = self.random.choice(["unary", "bidi"]) if how == "task" else "bidi"
            fields = {"drop": True} if how == "drop" else {}
            if kind == "unary":
                fields["metadata"] = parameters(ms=60_000, key="cancelled")
            else:
                fields |= {"count": 3, "bytes": 10, "hold": True}
            path = "Sleep" if kind == "unary" else "Listen"
            names.append((self.begin(path, kind, **fields), how))
        if self.random.random() < 0.7:
            time.sleep(self.random.random() * 0.05)
        for name, how in names:
            self.client.tell("cancel", id=name, how=how)
        for name, how in names:
            # To let go of a call is no failure for who did it.
            result = self.end_of(name)
            self.note(f"call cancelled by {how}", {result.code: 1}, {"OK" if how == "drop" else "CANCELLED"})

    def listening(self):
        """A stream that is open while others come and go, and ends in order."""
        name = self.begin("Listen", "bidi", count=20, bytes=100, hold=True, keep=False, expected_bytes=100)
        self.load()
        self.client.tell("finish", id=name)
        result = self.end_of(name)
        self.note("open stream", {result.code: 1}, {"OK"})
        if result.code == "OK" and (result.count != 20 or result.misplaced):
            self.problems.add(f"{self.name}: an open stream: {result}")

    def channels(self):
        """Channels that are opened, used and closed, or let go of."""
        summary = self.client.run("channels", count=20, workers=4, path=SERVICE + "Get", bytes=10,
                                  drop=self.random.random() < 0.5)
        self.calls += 20
        if summary["failures"]:
            self.problems.add(f"{self.name}: new channels: {summary['failures']}")

    # Faults

    def disturb(self):
        """One fault of those that are this lane's."""
        fault = self.random.choice(self.faults)
        if fault in ("reset", "close", "half"):
            self.proxy.cut(fault, lambda: self.random.random() < 0.7)
        elif fault == "stall":
            self.proxy.stall(True)
            time.sleep(self.random.random() * 0.5)
            self.proxy.stall(False)
        else:
            self.restart(fault)
        return fault

    def restart(self, how):
        """Ends the server, by SIGKILL or in order, and starts another on another port."""
        if how == "kill":
            self.server.process.kill()
        else:
            self.server.terminate()
        replacement = ServerProcess.scenarios(*self.server_options)
        old, self.server = self.server, replacement
        self.proxy.backend = replacement.port
        if old.exit_code(40) is None:
            self.problems.add(f"{self.name}: a server that was told to stop did not")
        if old.crash or (how == "terminate" and old.exit_code(0) != 0):
            self.problems.add(f"{self.name}: a server ended with {old.exit_code(0)}: {old.crash}\n{old.log[-2000:]}")
        old.close()

    # Figures

    @property
    def processes(self):
        """The processes that live through it all, as (name, pid)."""
        lasting = [("client", self.client.pid)]
        return lasting if "kill" in self.faults else lasting + [("server", self.server.pid)]

    def close(self):
        for part in (self.client, self.server, *([self.proxy] if self.proxy else [])):
            try:
                if isinstance(part, ServerProcess) and part.crash:
                    self.problems.add(f"{self.name}: the server crashed: {part.crash}")
                part.close()
            except AssertionError as problem:
                self.problems.add(f"{self.name}: {problem}")


def rss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} is gone")


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def figures(lanes):
    return {(lane.name, name): (rss_bytes(pid), descriptors(pid)) for lane in lanes for name, pid in lane.processes}


def pause(lanes, problems):
    """Lets every lane end its round, and waits until no connection is on its way out."""
    for lane in lanes:
        lane.resume.clear()
    for lane in lanes:
        if not lane.is_idle.wait(200):
            problems.add(f"{lane.name}: a round does not end")
    settled = [0]

    def is_settled():
        now = [descriptors(pid) for lane in lanes for _, pid in lane.processes]
        same = now == settled[0]
        settled[0] = now
        return same

    wait_until(is_settled, seconds=10, interval=1)


def disturb_until(end, lanes, seed):
    """Faults in the lanes that have them, every second or so; returns how often each was."""
    choose = random.Random(f"{seed} faults")
    counts = {}
    while time.monotonic() < end:
        time.sleep(min(choose.uniform(0.2, 1.8), max(end - time.monotonic(), 0)))
        fault = choose.choice(lanes).disturb()
        counts[fault] = counts.get(fault, 0) + 1
    return counts


def compare(before, after, problems):
    print(f"{'':28} {'RSS, MiB':>18} {'descriptors':>16}")
    for key, (rss, count) in after.items():
        old_rss, old_count = before[key]
        print(f"{' '.join(key):28} {old_rss / MIB:7.1f} -> {rss / MIB:7.1f} {old_count:6} -> {count:6}")
        if rss - old_rss > GROWTH_BYTES_MAX:
            problems.add(f"{' '.join(key)}: memory grew by {(rss - old_rss) / MIB:.1f} MiB")
        # A channel may be between two connections; a server then has one less.
        if count > old_count + 1:
            problems.add(f"{' '.join(key)}: {count - old_count} more descriptors")


def soak(seconds, seed, certificates, problems):
    """Runs it all; returns the lanes."""
    cuts, restarts = ["reset", "close", "half", "stall"], ["kill", "terminate"]
    lanes = [
        Lane(f"{way}-{security}", seed, certificates if security == "tls" else None, faults, problems)
        for way, faults in (("direct", []), ("cut", cuts), ("restart", restarts + cuts))
        for security in ("plaintext", "tls")
    ]
    faulty = [lane for lane in lanes if lane.is_lossy]
    start = time.monotonic()
    try:
        for lane in lanes:
            lane.start()
        disturb_until(start + max(seconds * 0.25, 10), faulty, f"{seed} warm-up")
        pause(lanes, problems)
        warm, warm_calls = figures(lanes), sum(lane.calls for lane in lanes)
        print(f"warm after {time.monotonic() - start:.0f} s and {warm_calls} calls", flush=True)
        for lane in lanes:
            lane.resume.set()
        counts = disturb_until(start + seconds, faulty, seed)
        pause(lanes, problems)
        for lane in lanes:
            print(f"{lane.name:18} {lane.calls:8} calls {dict(sorted(lane.codes.items()))}")
            if lane.codes.get("OK", 0) * 2 < lane.calls:
                problems.add(f"{lane.name}: less than half of its calls succeeded")
        print(f"faults {dict(sorted(counts.items()))}")
        compare(warm, figures(lanes), problems)
    finally:
        for lane in lanes:
            lane.stops = True
            lane.resume.set()
        for lane in lanes:
            lane.join(60)
        for lane in lanes:
            lane.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=int)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"soaking for {options.seconds} s, --seed {seed}", flush=True)
    problems = Problems()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([str(REPOSITORY / "scripts" / "make-certs"), folder], check=True, stdout=subprocess.DEVNULL)
        soak(options.seconds, seed, Certificates(pathlib.Path(folder)), problems)
    print("1 passed" if not problems.list else f"FAILED, {len(problems.list)} problems, --seed {seed}")
    return 1 if problems.list else 0


if __name__ == "__main__":
    sys.exit(main())
