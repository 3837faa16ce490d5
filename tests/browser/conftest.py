"""Two people, each at a browser of her own, at an embedded server."""

import shutil
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright
from target import salon

PASSWORD = "a good long passphrase"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with salon(tmp_path_factory.mktemp("browser"), {}) as target:
        for username, name, role in (("alice", "Alice Martin", "teacher"), ("bob", "Bob Diallo", "student")):
            arguments = ("--name", name, "--role", role, "--password-stdin")
            target.manage("create_user", username, *arguments, stdin=f"{PASSWORD}\n")
        target.manage("create_user", "olga", "--superuser", "--password-stdin", stdin=f"{PASSWORD}\n")
        target.manage("create_room", "Class 5B", "--member", "alice", "bob")
        yield target


@pytest_asyncio.fixture
async def chromium():
    path = shutil.which("chromium")
    assert path, "chromium is not installed; tests/system-packages chromium installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        await browser.close()


@pytest.fixture
def at_a_browser(chromium, server):
    """Opens the page for a person who speaks `locale`, signed in where `username` is given; no script may fail, and
    nothing may need what the page's Content-Security-Policy forbids."""

    @asynccontextmanager
    async def open_page(username=None, locale="en-GB"):
        context = await chromium.new_context(base_url=server.urls[0], locale=locale)
        page = await context.new_page()
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
        await page.goto("/")
        if username:
            await page.locator("[name=username]").fill(username)
            await page.locator("[name=password]").fill(PASSWORD)
            await page.locator("main button").click()
        yield page
        await context.close()
        assert problems == []

    return open_page
