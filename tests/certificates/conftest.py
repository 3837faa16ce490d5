"""A host whose certificate comes from here and there, and somebody outside: see molecule/certificates."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import testinfra
from cryptography import x509
from websockets.sync.client import connect

from host.conftest import address as address
from host.conftest import authority as authority
from host.conftest import domain as domain
from host.conftest import host as host
from host.conftest import inventory as inventory
from host.conftest import playbook as playbook
from host.conftest import token as token
from instance import Instance
from trust import trusting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def machine() -> Instance:
    """The host, by the names of the Molecule scenario."""
    return Instance("salon-certificates", Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)


@pytest.fixture(scope="session")
def outside():
    """Testinfra's view of the other one."""
    return testinfra.get_host("docker://salon-outside")


@pytest.fixture(scope="session")
def outside_address(outside) -> str:
    return Instance("salon-outside", Path()).address


class Door:
    """The host's door, for who connects anew each time."""

    def __init__(self, address: str, domain: str) -> None:
        self.address, self.domain = address, domain

    def connect(self, trust: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A link over TLS; without `trust`, to whomever it may be."""
        if trust is None:
            trust = ssl.create_default_context()
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return trust.wrap_socket(socket.create_connection((self.address, 443), 10), server_hostname=self.domain)

    def shown(self) -> x509.Certificate:
        """The certificate that is shown."""
        with self.connect() as link:
            return x509.load_der_x509_certificate(link.getpeercert(binary_form=True))

    def status(self, path: str = "/readyz", trust: ssl.SSLContext | None = None) -> int:
        connection = http.client.HTTPConnection(self.domain, timeout=10)
        connection.sock = self.connect(trust)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def plain(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and `Location` of an answer in plain HTTP."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": self.domain, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers["Location"]
        finally:
            connection.close()

    def talk(self, trust: ssl.SSLContext, token: str) -> None:
        """A WebSocket that is answered."""
        with connect(
            f"wss://{self.domain}/ws/chat/?token={token}",
            sock=socket.create_connection((self.address, 443), 10),
            ssl=trust,
            server_hostname=self.domain,
            proxy=None,
        ) as link:
            link.send(json.dumps({"type": "ping", "data": {}}))
            while json.loads(link.recv(timeout=10))["type"] != "pong":
                pass

    @contextmanager
    def watched(self):
        """Somebody new comes ten times a second; nobody may be sent away."""
        ended, failures, answers = Event(), [], []

        def come() -> None:
            while not ended.wait(0.1):
                try:
                    answers.append(self.status("/healthz"))
                except (OSError, http.client.HTTPException) as error:
                    failures.append((time.strftime("%X"), repr(error)))

        thread = Thread(target=come)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert failures == []
        assert set(answers) == {200}
        assert len(answers) > 10


@pytest.fixture(scope="session")
def door(address, domain) -> Door:
    return Door(address, domain)


ASK = """
import ssl, urllib.request
print(urllib.request.urlopen("https://localhost:15000{}", context=ssl._create_unverified_context()).read().decode())
"""


@pytest.fixture(scope="session")
def asked(outside):
    """What the authority answers to who runs it."""
    return lambda path: outside.check_output("python3 -c %s", ASK.format(path))


@pytest.fixture(scope="session")
def trusts(outside, asked):
    """Those whom users may trust, by name, each as a context."""

    def context(text: str) -> ssl.SSLContext:
        return trusting(cadata=text)

    return {
        "acme": context(asked("/roots/0")),
        "proxy": context(outside.check_output("cat /etc/outside/cert.pem")),
    }


@pytest.fixture(scope="session")
def acme(outside, tmp_path_factory) -> dict[str, object]:
    """The variables of the authority outside."""
    directory = tmp_path_factory.mktemp("acme") / "outside.pem"
    directory.write_text(outside.check_output("cat /etc/outside/cert.pem") + "\n")
    return {
        "certificate_mode": "acme",
        "certificate_acme_directory": "https://outside.salon.test:14000/dir",
        "certificate_acme_directory_authority": str(directory),
        "certificate_acme_eab_kid": "a-school",
        "certificate_acme_eab_hmac_key": "c2Nob29sc2Nob29sc2Nob29sc2Nob29sc2Nob29sc2Nob29s",
        "certificate_acme_tested_from": "salon-outside",
    }


@pytest.fixture(scope="session")
def converge(playbook):
    """Run what concerns the certificate with these variables: what was said, on one line, and how much has changed."""

    def converge(variables: dict[str, object], *, tags: str = "certificate,nginx", succeeds: bool = True):
        said, changed = playbook("--tags", tags, "--extra-vars", json.dumps(variables), succeeds=succeeds)
        return " ".join(said.split()), changed

    return converge


@pytest.fixture(scope="session")
def check(inventory):
    """Run playbooks/check.yml: whether all is well, and what it says, on one line."""

    def check() -> tuple[bool, str]:
        done = subprocess.run(
            ["ansible-playbook", ROOT / "playbooks/check.yml", "--inventory", inventory, "--tags", "certificate"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
            check=False,
        )
        assert re.search(r"changed=0 ", done.stdout), done.stdout + done.stderr
        return done.returncode == 0, " ".join(done.stdout.split())

    return check


@pytest.fixture(scope="session")
def workers(host):
    """The processes of nginx that take connections; a reload replaces them."""

    def workers() -> set[str]:
        return set(host.check_output("cat /proc/$(cat /run/nginx.pid)/task/*/children").split())

    return workers


@pytest.fixture(scope="session")
def leading(outside, address, domain):
    """Let the names lead somewhere for a while, for who is outside: to an address, or nowhere."""

    def lead(to: str | None) -> None:
        # The engine has put the file there: it cannot be replaced.
        outside.check_output(f"sed '/ {domain} /d' /etc/hosts >/tmp/hosts && cat /tmp/hosts >/etc/hosts")
        if to:
            outside.check_output(f"echo '{to} {domain} www.salon.test' >>/etc/hosts")

    @contextmanager
    def leading(to: str | None):
        lead(to)
        try:
            yield
        finally:
            lead(address)

    lead(address)
    return leading
