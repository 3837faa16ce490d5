"""A test host, seen from inside (`host`) and from outside (`address`, `domain`, `authority`, `fetch`)."""

import http.client
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from managed import ROOT

from instance import Instance
from trust import trusting
from waiting import wait_until


def pytest_collection_modifyitems(items):
    """The logs are looked through when all others have left their traces there."""
    items.sort(key=lambda item: item.path.name == "test_secrets.py")


@pytest.fixture(scope="session")
def machine() -> Instance:
    """Where the host is and what it is called."""
    return Instance.of_molecule()


@pytest.fixture(scope="session")
def instance(machine) -> str:
    """The name of the container."""
    return machine.name


@pytest.fixture(scope="session")
def inventory(machine) -> Path:
    """The directory with the inventory that the host was converged with."""
    return machine.inventory


@pytest.fixture(scope="session")
def host(machine):
    """Testinfra's view from inside."""
    return testinfra.get_host(f"docker://{machine.name}")


@pytest.fixture(scope="session")
def address(machine) -> str:
    """Where the host is reached from here."""
    return machine.address


@pytest.fixture(scope="session")
def domain(machine) -> str:
    """The name that the host answers to, and its certificate is for."""
    return machine.domain


@pytest.fixture(scope="session")
def authority(machine) -> Path:
    """The certificate of the private authority, as the playbook has brought it here."""
    return machine.authority


@pytest.fixture(scope="session")
def trust(authority) -> ssl.SSLContext:
    """Trusts that authority and nobody else."""
    return trusting(cafile=str(authority))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str


@pytest.fixture(scope="session")
def fetch(address, domain, trust) -> Callable[..., Answer]:
    """One HTTP request to the host, over HTTPS unless `tls=False`; `name` is who it believes to talk to.

    With a `body`, even an empty one, it is a POST.
    """

    def fetch(
        path: str,
        *,
        name: str = domain,
        tls: bool = True,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(name, timeout=10)
        connection.sock = socket.create_connection((address, 443 if tls else 80), timeout=10)
        if tls:
            connection.sock = trust.wrap_socket(connection.sock, server_hostname=name)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, headers={"Host": name, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    return fetch


@pytest.fixture(scope="session")
def wait_ready(fetch) -> Callable[..., None]:
    """Wait until the whole of it answers again."""

    def wait_ready(seconds: float = 60) -> None:
        wait_until(lambda: fetch("/readyz").status == 200, "/readyz", seconds)

    return wait_ready


@pytest.fixture(scope="session")
def playbook(inventory) -> Callable[..., tuple[str, int]]:
    """Run a playbook as an operator would; returns what it said and how many tasks changed something."""

    def playbook(*arguments: str, name: str = "site", succeeds: bool = True) -> tuple[str, int]:
        done = subprocess.run(
            ["ansible-playbook", ROOT / f"playbooks/{name}.yml", "--inventory", inventory, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
            check=False,
        )
        assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
        return done.stdout, sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))

    return playbook


@pytest.fixture(scope="session")
def checked(playbook) -> tuple[str, int]:
    """What a look at the finished host says, as talkative as Ansible is, and how much it would change."""
    return playbook("--check", "--diff", "-vvv")


@pytest.fixture(scope="session")
def processes(host) -> range:
    """The numbers of the application's processes: one for each core."""
    return range(1, int(host.check_output("nproc")) + 1)


@pytest.fixture(scope="session")
def token(host) -> str:
    """A token of a user of ours."""
    host.run_expect([0, 1], "salon create_user witness --role student")
    return host.check_output("salon create_token witness")
