"""docs/security.md names what there is."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
TESTS = sorted(file for file in (ROOT / "tests").rglob("test_*.py"))
KNOWN = {name for file in TESTS for name in re.findall(r"def (test_\w+)\(", file.read_text())}

REQUIREMENTS = 253
"""Of ASVS 5.0.0, at the levels 1 and 2."""


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\btest_\w+\b(?!\.py)", PAGE))))
def test_a_test(name):
    assert name in KNOWN


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:\w+/)?test_\w+\.py", PAGE))))
def test_a_file_of_tests(path):
    assert [file for file in TESTS if str(file).endswith(f"/{path}")]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:app|roles|templates)/[^`]+)`", PAGE))))
def test_a_file(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("page", sorted(set(re.findall(r"\]\(([\w.-]+\.md)\)", PAGE))))
def test_a_page_beside_it(page):
    assert (ROOT / "docs" / page).exists()


def test_every_requirement_stands_there_once():
    rows = re.findall(r"^\| ((?:\d+\.\d+\.\d+(?:, )?)+) \|", PAGE, re.MULTILINE)
    counted = Counter(number for row in rows for number in row.split(", "))
    assert [number for number, count in counted.items() if count > 1] == []
    assert len(counted) == REQUIREMENTS
