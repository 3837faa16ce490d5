"""The environment is checked when the server starts, and what is wrong with it is said in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from signing import Signer

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
        ({"SALON_ADMIN_NETWORKS": "192.0.2.0/24,office"}, "SALON_ADMIN_NETWORKS has 'office'; it holds addresses"),
        ({"SALON_ACCEL_LOCATION": "_files"}, "SALON_ACCEL_LOCATION is '_files'; it looks like /_files/."),
        ({"SALON_PUBLIC_URL": "chat.example.org"}, "SALON_PUBLIC_URL is 'chat.example.org'"),
        ({"SALON_TOKEN_KEY": "ssh-ed25519 " + "A" * 60}, "is no secret; write it to a file"),
        ({"SALON_TOKEN_OLD_KEYS": "o" * 32 + ", short"}, "SALON_TOKEN_OLD_KEYS has a key of 5 characters"),
        ({"SALON_SECRET_OLD_KEYS": "o" * 32 + ", short"}, "SALON_SECRET_OLD_KEYS has a key of 5 characters"),
        ({"SALON_TOKEN_KEY_FILES": "/absent.pem"}, "SALON_TOKEN_KEY_FILES: /absent.pem cannot be read"),
        ({"SALON_TOKEN_LEEWAY": "ten"}, "SALON_TOKEN_LEEWAY is 'ten'; it is a number of seconds from 0 to 300"),
        ({"SALON_TOKEN_LEEWAY": "-1"}, "SALON_TOKEN_LEEWAY is '-1'"),
        ({"SALON_TOKEN_LEEWAY": "301"}, "SALON_TOKEN_LEEWAY is '301'"),
        ({"SALON_TOKEN_LEEWAY": "nan"}, "SALON_TOKEN_LEEWAY is 'nan'"),
        ({"REDIS_URL": ""}, "REDIS_URL does not begin with one of unix://, redis://"),
        ({"REDIS_URL": "redis://host:port"}, "REDIS_URL has a host whose port is not a number from 1 to 65535"),
        ({"SALON_LOG_LEVEL": "loud"}, "SALON_LOG_LEVEL is 'loud'; it is one of INFO, DEBUG, WARNING, ERROR."),
        ({"SALON_LOG_FORMAT": "xml"}, "SALON_LOG_FORMAT is 'xml'; it is one of auto, json, text."),
        ({"SALON_METRICS_TOKEN": "short"}, "SALON_METRICS_TOKEN has 5 characters; give it at least 32."),
        ({"SALON_METRICS_NETWORKS": "office"}, "SALON_METRICS_NETWORKS has 'office'; it holds addresses"),
        ({"SENTRY_DSN": "sentry.example"}, "SENTRY_DSN is not like https://KEY@sentry.example/1"),
        ({"SENTRY_DSN": "https://k@s.example/1", "SENTRY_TRACES_SAMPLE_RATE": "2"}, "it is a number from 0 to 1"),
        ({"SALON_TOKEN_CREATES_PEOPLE": "perhaps"}, "SALON_TOKEN_CREATES_PEOPLE is 'perhaps'; it is on or off"),
    ],
)
def test_a_mistake_is_named(tmp_path, change, clue):
    done = check(tmp_path, {**DEPLOYED, **change})
    assert done.returncode != 0
    assert done.stderr.startswith("Salon cannot start: ")
    assert done.stderr.count("\n") == 1
    assert clue in done.stderr


def test_all_that_is_set_for_tokens(tmp_path):
    key = tmp_path / "key.pem"
    key.write_text(Signer.ed25519().public_pem)
    done = check(
        tmp_path,
        {
            **DEPLOYED,
            "SALON_TOKEN_OLD_KEYS": f"{'a' * 32}, {'b' * 32}",
            "SALON_TOKEN_KEY_FILES": f"{key},{key}",
            "SALON_TOKEN_ISSUER": "https://login.example.org",
            "SALON_TOKEN_AUDIENCE": "salon",
            "SALON_TOKEN_LEEWAY": "0.5",
            "SALON_TOKEN_REQUIRED_CLAIMS": "iat, role",
            "SALON_TOKEN_CREATES_PEOPLE": "off",
        },
    )
    assert done.returncode == 0, done.stderr


def test_a_server_does_not_start_with_a_private_key(tmp_path):
    """As a host runs it, not only as a command."""
    key = tmp_path / "key.pem"
    key.write_text(Signer.ed25519().private_pem)
    done = subprocess.run(
        [sys.executable, "-m", "salon.server", "--port", "0", "salon.asgi:application"],
        env={**os.environ, **DEPLOYED, "SALON_DATA_DIR": str(tmp_path), "SALON_TOKEN_KEY_FILES": str(key)},
        cwd=MANAGE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Salon cannot start: SALON_TOKEN_KEY_FILES: {key} holds a private key")
    assert done.stderr.count("\n") == 1


def test_embedded_secrets_are_private_files(tmp_path):
    check(tmp_path, {})
    for name in ("secret_key", "token_key"):
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_text()) >= 50
