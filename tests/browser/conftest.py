"""People, each at a browser of her own, at an embedded server; in a run of Molecule, at its host."""

import os
import shutil
import subprocess
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright
from target import on, salon

from instance import Instance

HOST = Instance.of_molecule()
PASSWORD = "a good long passphrase"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    # A microphone that hums, and is allowed.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PEOPLE = (
    ("alice", "Alice Martin", "teacher"),
    ("bob", "Bob Diallo", "student"),
    ("carol", "Carol Weiss", "parent"),
)


def pytest_collection_modifyitems(config, items):
    """At a test host, what is marked for it; the rest needs a server that is only its own, or measures one."""
    if HOST:
        here = [item for item in items if "browser" in item.path.parts]
        config.hook.pytest_deselected(items=[item for item in here if not item.get_closest_marker("host")])
        items[:] = [item for item in items if item not in here or item.get_closest_marker("host")]


def populate(target):
    for username, name, role in PEOPLE:
        arguments = ("--name", name, "--role", role, "--password-stdin")
        target.manage("create_user", username, *arguments, stdin=f"{PASSWORD}\n")


@pytest.fixture(scope="session")
def host():
    target = on(HOST)
    populate(target)
    yield target
    target.close()


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    if HOST:
        yield request.getfixturevalue("host")
        return
    # A token ends when it says so, and no test waits for the tolerance of clocks.
    with salon(tmp_path_factory.mktemp("browser"), {"SALON_TOKEN_LEEWAY": "0"}) as target:
        populate(target)
        target.manage("create_user", "olga", "--superuser", "--password-stdin", stdin=f"{PASSWORD}\n")
        yield target


@pytest.fixture
def room(server):
    """A room of alice, bob and carol in which nothing was said yet; its name is the one that was used last."""
    return int(server.manage("create_room", "Class 5B", "--member", "alice", "bob", "carol"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory):
    path = shutil.which("chromium")
    assert path, "chromium is not installed; tests/system-packages chromium installs it"
    options = {"args": QUIET}
    if HOST:
        # It finds the host without a name server, and trusts whom its owner has told it to.
        home = tmp_path_factory.mktemp("home")
        trust(home / ".pki/nssdb", HOST.authority)
        options = {
            "args": [*QUIET, f"--host-resolver-rules=MAP {HOST.domain} {HOST.address}"],
            "env": {**os.environ, "HOME": str(home)},
        }
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, **options)
        yield browser
        await browser.close()


def trust(store, authority):
    """Have a browser whose store this is trust an authority."""
    store.mkdir(parents=True)
    for arguments in (
        ("-N", "--empty-password"),
        ("-A", "-n", "Salon's authority", "-t", "C,,", "-i", authority),
    ):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True)


@pytest.fixture
def at_a_browser(chromium, server):
    """Opens the page for a person who speaks `locale`, signed in where `username` is given; no script may fail, nothing
    may need what the page's Content-Security-Policy forbids, and nothing may be asked of another host."""

    @asynccontextmanager
    async def open_page(username=None, locale="en-GB", path="/", base_url=None, **options):
        url = base_url or server.urls[0]
        context = await chromium.new_context(base_url=url, locale=locale, **options)
        page = await context.new_page()
        page.set_default_timeout(20_000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("dialog", lambda dialog: problems.append(f"A script ran: {dialog.message}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "data:", "blob:")) else problems.append(request.url),
        )
        await page.goto(path)
        if username:
            await page.locator("[name=username]").fill(username)
            await page.locator("[name=password]").fill(PASSWORD)
            await page.locator("main button.primary").click()
            await page.wait_for_url(lambda found: "/login/" not in found)
        yield page
        await context.close()
        assert problems == []

    return open_page
