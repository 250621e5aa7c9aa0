"""Calls of apus.test.v1.ScenarioService: messages are bytes, parameters are metadata."""

import itertools

from server_process import PATIENCE, wait_until

SERVICE = "/apus.test.v1.ScenarioService/"

_keys = itertools.count(1)


def new_key():
    """A name under which a call is recorded, used by no other test."""
    return f"k{next(_keys)}"


def parameters(**values):
    """Metadata `x-NAME: VALUE`; an underscore in a name becomes a dash."""
    return [("x-" + name.replace("_", "-"), str(value)) for name, value in values.items()]


class Stats:
    """What the server recorded: `stats["cancelled.KEY"]`, 0 when nothing was."""

    def __init__(self, text):
        self.values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def __getitem__(self, name):
        return int(self.values.get(name, 0))

    def note(self, name):
        return self.values.get(name)


class ScenarioClient:
    """Calls by the method's name."""

    def __init__(self, channel):
        self.channel = channel

    def unary(self, method):
        return self.channel.unary_unary(SERVICE + method)

    def server_stream(self, method):
        return self.channel.unary_stream(SERVICE + method)

    def client_stream(self, method):
        return self.channel.stream_unary(SERVICE + method)

    def both_streams(self, method):
        return self.channel.stream_stream(SERVICE + method)

    def call(self, method, request=b"", timeout=10, metadata=None, **values):
        """A unary call; further keywords become parameters."""
        sent = list(metadata or []) + parameters(**values)
        return self.unary(method)(request, timeout=timeout * PATIENCE, metadata=sent)

    @property
    def stats(self):
        return Stats(self.call("Stats").decode())

    def wait_for(self, name, value=1, seconds=5):
        """Waits until a count is at least `value`; returns what it is."""
        wait_until(lambda: self.stats[name] >= value, seconds)
        return self.stats[name]

    def wait_for_note(self, name, seconds=5):
        wait_until(lambda: self.stats.note(name) is not None, seconds)
        return self.stats.note(name)

    def release(self, key):
        self.call("Release", key=key)
