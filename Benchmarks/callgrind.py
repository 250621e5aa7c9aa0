"""Reads callgrind's output: self cost by function and by library, and the difference between two runs."""

import collections
import os
import re
import shutil
import subprocess

# `calls` counts, by (caller, callee), how often one function called another.
Profile = collections.namedtuple("Profile", "total by_function by_object calls")

_NAME = re.compile(r"(fn|cfn|ob|cob|fl|fi|fe|cfi|cfl)=\((\d+)\)(?: (.*))?$")


def read(path):
    """The profile in a file. Costs are keyed by (library, function)."""
    names = {"fn": {}, "ob": {}}  # the file gives a name once, then its number
    by_function = collections.Counter()
    calls = collections.Counter()
    library = function = callee = ""
    total = None
    skip = False  # the line after `calls=` is the cost of the callee
    with open(path, errors="replace") as file:
        for line in file:
            first = line[0]
            if first.isdigit() or first in "+-*":
                if skip:
                    skip = False
                else:
                    by_function[library, function] += int(line.split()[1])
                continue
            if line.startswith("calls="):
                skip = True
                calls[function, callee] += int(line[len("calls="):].split()[0])
                continue
            match = _NAME.match(line)
            if match:
                kind, number, name = match.groups()
                table = names.get(kind.removeprefix("c"))
                if table is None:
                    continue
                if name is not None:
                    # without the marks of recursion ('2) and of symbol versions (@@GLIBC_2.2.5)
                    table[number] = re.sub(r"'\d+$|@@.*$", "", name)
                if kind == "fn":
                    function = table[number]
                elif kind == "cfn":
                    callee = table[number]
                elif kind == "ob":
                    library = os.path.basename(table[number])
            elif line.startswith("totals:"):
                total = int(line.split()[1])
    if total is None:
        raise ValueError(f"{path} is not a complete callgrind profile")
    by_object = collections.Counter()
    for (library, _), cost in by_function.items():
        by_object[library] += cost
    return Profile(total, by_function, by_object, calls)


def difference(many, few, requests):
    """What one request more costs."""
    def per_request(one, other):
        return {key: (cost - other.get(key, 0)) / requests for key, cost in one.items()}
    return Profile(
        (many.total - few.total) / requests,
        per_request(many.by_function, few.by_function),
        per_request(many.by_object, few.by_object),
        per_request(many.calls, few.calls),
    )


def largest(costs, count, least=0.5):
    return [entry for entry in sorted(costs.items(), key=lambda entry: -entry[1])[:count] if entry[1] >= least]


def demangle(names):
    """Swift's names made readable, where a toolchain is at hand."""
    names = list(names)
    if shutil.which("swift-demangle") is None:
        return names
    done = subprocess.run(["swift-demangle", "--simplified", "--compact"], input="\n".join(names), text=True,
                          capture_output=True)
    lines = done.stdout.splitlines()
    return lines if len(lines) == len(names) else names
