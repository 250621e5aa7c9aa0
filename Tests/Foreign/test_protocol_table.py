"""docs/PROTOCOL.md and the tests agree: what it names exists, and no rule is left out."""

import ast
import functools
import re

import pytest

from server_process import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "PROTOCOL.md"
TESTS = REPOSITORY / "Tests"
RULES = range(1, 35)


def rows():
    """The cells of each row that is about a rule, by the rule's number."""
    found = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells[0].isdigit():
            assert int(cells[0]) not in found, f"rule {cells[0]} has two rows"
            found[int(cells[0])] = cells
    return found


@functools.cache
def functions_of(name):
    """The tests of a file, without `test_`, by the name that the table has for it."""
    for path in (TESTS / "Foreign" / f"test_{name}{ending}.py" for ending in ("_rule_by_rule", "")):
        if path.exists():
            tree = ast.parse(path.read_text())
            return {node.name.removeprefix("test_") for node in tree.body
                    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    raise AssertionError(f"there is no test_{name}.py in {TESTS / 'Foreign'}")


def named(text):
    """What stands between backticks in the manner of a test, or of a suite."""
    quoted = re.findall(r"`([^`]+)`", text)
    return ([name for name in quoted if re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name) and not name.endswith(".py")],
            [name for name in quoted if re.fullmatch(r"[A-Z]\w+Tests", name)])


def test_every_test_that_is_named_exists():
    tests, suites = named(DOCUMENT.read_text())
    assert len(tests) > 100, "the table was read"
    missing = [name for name in tests if name.split(".")[1] not in functions_of(name.split(".")[0])]
    swift = {path.stem for path in TESTS.rglob("*Tests.swift")}
    missing += [name for name in suites if name not in swift]
    assert missing == []


def test_every_rule_has_a_row():
    assert sorted(rows()) == list(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_tests_on_both_sides_or_a_reason(rule):
    cells = rows()[rule]
    assert len(cells) == 4
    for cell in cells[2:]:
        tests, suites = named(cell)
        assert tests or suites or re.match(r"– \(.+\)|not built", cell), cell
    assert any(sum(map(len, named(cell))) for cell in cells[2:]), "no test at all"


@pytest.mark.parametrize("rule", RULES)
def test_suites_that_are_named_for_a_rule_name_it(rule):
    paths = {path.stem: path for path in TESTS.rglob("*Tests.swift")}
    for suite in {suite for cell in rows()[rule][2:] for suite in named(cell)[1]}:
        mentions = re.findall(r"rules? (\d+)(?: (?:and|to) (\d+))?", paths[suite].read_text())
        numbers = {number for first, last in mentions for number in range(int(first), int(last or first) + 1)}
        assert rule in numbers, f"{suite} says nothing of rule {rule}"
