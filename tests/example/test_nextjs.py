"""examples/nextjs builds against salon-client, and talks to what `make run` starts."""

import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from playwright.async_api import expect
from talk import contents, write
from target import PROJECT, free_port, running

from waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLE = PROJECT / "examples" / "nextjs"
PASSWORD = "salon-demo"


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (ours)
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def frontend(demo, tmp_path_factory):
    """Its address, once it is built with the four lines that the server prints."""
    (log,) = (path.read_text() for path in Path(demo.environment["SALON_DATA_DIR"]).glob("server-*.log"))
    lines = dict(re.findall(r"^(NEXT_PUBLIC_\w+)=(.*)$", log, re.MULTILINE))
    assert len(lines) == 4, log
    environment = {**os.environ, **lines, "NEXT_TELEMETRY_DISABLED": "1"}
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    command = ["node", "node_modules/next/dist/bin/next", "start", "--port", str(port)]
    directory = tmp_path_factory.mktemp("frontend")
    with running(command, directory / "log", cwd=EXAMPLE, env=environment):
        url = f"http://localhost:{port}"
        wait_until(lambda: answers(url), "the frontend", 60)
        yield url


async def test_the_example_talks_with_the_page(demo, frontend, chromium):
    context = await chromium.new_context(locale="en-GB")
    example, page = await context.new_page(), await context.new_page()
    await page.goto(demo.urls[0])
    await page.locator("[name=username]").fill("bob")
    await page.locator("[name=password]").fill(PASSWORD)
    await page.locator("main button.primary").click()
    await example.goto(frontend)
    await expect(example.get_by_role("status")).to_have_text("connected")

    await write(page, "<b>From the page</b>")
    await expect(example.get_by_label("Messages")).to_contain_text("Bob Diallo <b>From the page</b>")
    await example.get_by_label("Message", exact=True).press_sequentially("From Next.js")
    await expect(page.locator("#typing")).to_have_text("Alice Martin is typing…")
    await example.get_by_role("button", name="Send").click()
    await expect(contents(page)).to_have_text(["<b>From the page</b>", "From Next.js"])
    await expect(example.get_by_label("Messages").get_by_role("listitem")).to_have_count(2)
    await context.close()
