import pytest
from django.test import override_settings

from chat import origins


@pytest.fixture
def server():
    with override_settings(
        ALLOWED_HOSTS=["chat.example.org", "172.17.0.2"],
        ALLOWED_ORIGINS=["https://school.example", "http://localhost:3000"],
        EMBEDDED=False,
        HTTPS=True,
    ):
        yield


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("https://school.example", "chat.example.org", True),
        ("http://localhost:3000", "chat.example.org", True),
        ("https://chat.example.org", "chat.example.org", True),
        ("https://chat.example.org", "chat.example.org:443", True),
        ("http://chat.example.org", "chat.example.org", False),
        ("http://chat.example.org:443", "chat.example.org", False),
        ("https://chat.example.org:8443", "chat.example.org:8443", True),
        ("https://172.17.0.2", "172.17.0.2", True),
        ("https://chat.example.org:8443", "chat.example.org", False),
        ("https://school.example.evil", "chat.example.org", False),
        ("http://school.example", "chat.example.org", False),
        ("https://school.example:444", "chat.example.org", False),
        ("http://localhost:3001", "chat.example.org", False),
        # A name that an attacker has pointed at this server is not one of the server's names.
        ("https://rebound.evil", "rebound.evil", False),
        ("null", "chat.example.org", False),
        ("", "", False),
        ("https://", "chat.example.org", False),
        ("https://chat.example.org:port", "chat.example.org", False),
        ("https://[", "chat.example.org", False),
    ],
)
def test_who_may_connect(origin, host, expected):
    assert origins.allowed(origin, host) is expected


def test_embedded_every_port_of_this_machine_may_connect():
    assert origins.allowed("http://localhost:3000", "localhost:8000")
    assert origins.allowed("http://127.0.0.1:5173", "localhost:8000")
    assert origins.allowed("http://[::1]:3000", "localhost:8000")
    assert not origins.allowed("http://localhost.evil.example:3000", "localhost:8000")


def test_embedded_every_port_of_the_host_that_was_asked_for_may_connect():
    with override_settings(ALLOWED_HOSTS=["192.168.1.5"]):
        assert origins.allowed("http://192.168.1.5:3000", "192.168.1.5:8000")
        assert not origins.allowed("http://192.168.1.6:3000", "192.168.1.5:8000")
        assert not origins.allowed("http://rebound.evil:3000", "rebound.evil:8000")
