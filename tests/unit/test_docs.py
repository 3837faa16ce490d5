"""The documents: what is generated is fresh, and what is linked is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

import variables  # noqa: E402 (found by the line above)

PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "-C", ROOT, "ls-files", "*.md"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
)


def links(page):
    """Where a page leads within the repository: each a path and an anchor."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for found in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        link = found[0] or found[1]
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page):
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_variables_are_as_the_roles_have_them():
    assert variables.PAGE.read_text() == variables.page(), "docs/variables.md is stale: make docs writes it anew"


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_what_a_role_can_be_told_is_described(role):
    entries = variables.described(ROOT / "roles" / role)
    described = {name for entry in entries.values() for name in entry.get("options", {})}
    assert set(variables.defaults(ROOT / "roles" / role)) <= described


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page):
    for path, anchor in links(page):
        assert path.exists(), path
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), anchor


def test_every_document_is_reached():
    reached = {path for path, _ in links(DOCS / "README.md")} | {DOCS / "README.md"}
    assert {page for page in PAGES if page.parent == DOCS} <= reached
    assert DOCS / "README.md" in {path for path, _ in links(ROOT / "README.md")}
