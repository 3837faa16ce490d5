"""The environment is checked when the server starts, and what is wrong with it is said in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MANAGE = Path(__file__).parents[2] / "app" / "manage.py"
DEPLOYED = {
    "SALON_PUBLIC_URL": "https://chat.example.org",
    "SALON_SECRET_KEY": "secret" * 10,
    "SALON_TOKEN_KEY": "token" * 10,
}


def check(directory, environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SALON_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, MANAGE, "check", "--deploy", "--fail-level", "WARNING"],
        env={**kept, "SALON_DATA_DIR": str(directory), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_deployed_server_passes_djangos_own_check(tmp_path):
    done = check(tmp_path, DEPLOYED)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "a deployed server makes no secrets of its own"


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        ({"SALON_SECRET_KEY": ""}, "SALON_SECRET_KEY is not set"),
        ({"SALON_TOKEN_KEY": ""}, "SALON_TOKEN_KEY is not set"),
        ({"SALON_TOKEN_KEY": "short"}, "SALON_TOKEN_KEY has 5 characters; give it at least 32"),
        ({"SALON_ALLOWED_ORIGINS": "https://a.example/"}, "SALON_ALLOWED_ORIGINS has 'https://a.example/'"),
        ({"SALON_ALLOWED_ORIGINS": "https://a.example,b.example"}, "SALON_ALLOWED_ORIGINS has 'b.example'"),
        ({"SALON_ACCEL_LOCATION": "_files"}, "SALON_ACCEL_LOCATION is '_files'; it looks like /_files/."),
        ({"SALON_PUBLIC_URL": "chat.example.org"}, "SALON_PUBLIC_URL is 'chat.example.org'"),
    ],
)
def test_a_mistake_is_named(tmp_path, change, clue):
    done = check(tmp_path, {**DEPLOYED, **change})
    assert done.returncode != 0
    assert done.stderr.startswith("Salon cannot start: ")
    assert done.stderr.count("\n") == 1
    assert clue in done.stderr


def test_embedded_secrets_are_private_files(tmp_path):
    check(tmp_path, {})
    for name in ("secret_key", "token_key"):
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_text()) >= 50
