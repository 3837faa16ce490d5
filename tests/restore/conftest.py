"""Two hosts, each with an inventory of its own, as an operator has who moves to a new host: see molecule/restore."""

import asyncio
import http.client
import json
import os
import re
import socket
import subprocess
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from managed import ROOT

from faults import population
from faults.crowd import Crowd
from faults.testhost import Host
from instance import Instance
from trust import trusting

DOMAIN = "salon.test"
STORE = "/srv/store/salon"


@dataclass(frozen=True)
class Place:
    """A host, and the inventory that it is reached with."""

    name: str
    inventory: Path

    @property
    def address(self) -> str:
        return Instance(self.name, self.inventory).address

    def shell(self, commands: str, **options: object) -> str:
        """What shell commands there say, as root; they must succeed."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.name, "bash", "-ec", commands],
            **{"capture_output": True, "text": True, "check": False} | options,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout!r}{done.stderr!r}"
        return done.stdout.strip()

    def playbook(
        self, name: str, *arguments: str, succeeds: bool | None = True, around: Sequence[str] = ()
    ) -> tuple[str, int]:
        """Run a playbook as an operator would; what it said, on one line, and how many tasks changed something.

        `around` is a command that runs it; whether it succeeds is not looked at where `succeeds` is None.
        """
        done = subprocess.run(
            [*around, "ansible-playbook", ROOT / f"playbooks/{name}.yml", "--inventory", self.inventory, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
            check=False,
        )
        assert succeeds in (None, done.returncode == 0), done.stdout + done.stderr
        return " ".join(done.stdout.split()), sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A host by its name, with an inventory: the same secrets are in all of them."""
    beside = tmp_path_factory.mktemp("operator")

    def place(name: str, **variables: object) -> Place:
        inventory = beside / name
        (inventory / "group_vars").mkdir(parents=True)
        host = {"hosts": {name: {}}}
        hosts = {"all": {**host, "children": dict.fromkeys(("proxy", "app", "redis", "database"), host)}}
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        given = {
            "ansible_connection": "community.docker.docker",
            "ansible_user": "root",
            "salon_domain": DOMAIN,
            "salon_alt_names": [],
            "salon_frontend_origins": ["https://frontend.test"],
            "certificate_mode": "selfsigned",
            # What is being worked on is tested too.
            "daphne_uncommitted": True,
            "secrets_file": str(beside / "secrets.yml"),
            "secrets_password_file": str(beside / "vault-password"),
            "backup_restic_repository": STORE,
        }
        (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(given | variables))
        return Place(name, inventory)

    return place


PICTURE = bytes(range(256)) * 4096

COUNT = """
import json
from chat.models import *
# The two who see whether a host works talk on every one.
said = ChatMessage.objects.exclude(sender__subject__startswith="salon-probe-")
print(json.dumps([User.objects.count(), ChatRoom.objects.count(), said.count(), Attachment.objects.count()]))
"""


class Person:
    """Somebody who calls the HTTP API of a host, and trusts one authority."""

    def __init__(self, place, token, authority):
        self.place, self.token = place, token
        self.trust = trusting(cadata=authority)

    def call(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(DOMAIN, timeout=30)
        plain = socket.create_connection((self.place.address, 443), timeout=30)
        try:
            connection.sock = self.trust.wrap_socket(plain, server_hostname=DOMAIN)
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
            plain.close()

    def send_file(self, room, content):
        """Send a message with a file; returns the path that the file has."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="chat_room_id"\r\n\r\n{room}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\n\r\n'.encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        kind = f"multipart/form-data; boundary={boundary}"
        status, answer = self.call("POST", "/chats/messages/create/", b"".join(parts), **{"Content-Type": kind})
        assert status == 201, answer
        return re.sub(r"^https://[^/]+", "", json.loads(answer)["attachment_url"])


@pytest.fixture(scope="session")
def hosts(place):
    """The old host and the new one, made at once."""
    old, new = place("salon-old"), place("salon-new")
    # What an earlier run has left there was for other secrets; and the two hosts' users have other numbers.
    old.shell(f"rm -rf {STORE} && install -d -m 0777 {STORE}")
    # The first one makes the secrets.
    old.playbook("site", "--tags", "always")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda host: host.playbook("site"), (old, new)))
    return old, new


@pytest.fixture(scope="session")
def old(hosts):
    return hosts[0]


@pytest.fixture(scope="session")
def new(hosts):
    """A bare host of another Debian, made ready."""
    return hosts[1]


@pytest.fixture(scope="session")
def life(old):
    """What happened on the old host: who was there, what they noted, and what was backed up."""

    async def live():
        host = Host(old.name, DOMAIN)
        places = population.SCRIPT.format(places="[[0, 1], [0], [1]]", rooms=2)
        seats = population.seats(await host.shell("salon shell --verbosity 0", places))
        # Before they begin to note what they see.
        picture = await asyncio.to_thread(Person(old, seats[0].token, authority).send_file, seats[0].rooms[0], PICTURE)
        async with Crowd(seats, await host.door(), seed=1) as crowd:
            crowd.begin_diaries()
            crowd.start_writing()
            await crowd.all_lively(30)
            # One while they write, which is of one moment all the same, and one of all that they wrote.
            await asyncio.to_thread(old.playbook, "backup")
            crowd.stop_writing()
            await crowd.all_answered(15)
            await crowd.all_caught_up(await host.highest(crowd.rooms), 15)
            diaries = crowd.end_diaries()
        return seats, diaries, picture

    authority = old.shell("cat /etc/salon/tls/ca.pem")
    seats, diaries, picture = asyncio.run(live())
    counted = old.shell("salon shell --verbosity 0", input=COUNT)
    old.playbook("backup")
    return SimpleNamespace(
        seats=seats,
        diaries=diaries,
        authority=authority,
        picture=picture,
        counted=counted.splitlines()[-1],
        id=json.loads(old.shell("salon-backup state"))["id"],
    )


@pytest.fixture(scope="session")
def restored(new, life):
    said, _ = new.playbook("restore", "--extra-vars", f"restore_confirm={DOMAIN} restore_from=restic")
    return said
