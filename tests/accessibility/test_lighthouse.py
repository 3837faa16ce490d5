"""Lighthouse gives 95 of 100 or more in each category that it rates."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from browser_session import BrowserSession

LIGHTHOUSE = Path(__file__).parent / "node_modules" / "lighthouse" / "cli" / "index.js"
PASSWORD = "a good long passphrase"
ENOUGH = 0.95


def scores(url, tmp_path, *arguments):
    report = tmp_path / "report.json"
    flags = "--headless=new --no-sandbox --disable-gpu --disable-background-networking"
    command = [
        "node",
        LIGHTHOUSE,
        url,
        "--quiet",
        "--output=json",
        f"--output-path={report}",
        f"--chrome-flags={flags}",
    ]
    environment = {**os.environ, "CHROME_PATH": shutil.which("chromium")}
    subprocess.run([*command, *arguments], env=environment, check=True, timeout=300)
    told = json.loads(report.read_text())
    low = [
        f"{audit['id']}: {audit.get('displayValue', '')}"
        for audit in told["audits"].values()
        if audit["score"] is not None and audit["score"] < 0.9
    ]
    return {name: category["score"] for name, category in told["categories"].items()}, low


@pytest.mark.parametrize("preset", ["mobile", "desktop"])
@pytest.mark.parametrize("screen", ["sign-in", "conversation"])
def test_it_is_rated_well(server, rooms, tmp_path, screen, preset):
    arguments = ["--preset=desktop"] if preset == "desktop" else []
    path = "/login/"
    if screen == "conversation":
        session = BrowserSession(server)
        session.login("alice", PASSWORD)
        headers = tmp_path / "headers.json"
        headers.write_text(json.dumps({"Cookie": session.cookie_header}))
        arguments.append(f"--extra-headers={headers}")
        path = f"/?room={rooms['class']}"
    rated, low = scores(server.urls[0] + path, tmp_path, *arguments)
    assert {"performance", "accessibility", "best-practices"} <= rated.keys()
    assert all(score >= ENOUGH for score in rated.values()), (rated, low)
