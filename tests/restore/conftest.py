"""Two hosts, each with an inventory of its own, as an operator has who moves to a new host: see molecule/restore."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from managed import ROOT

from instance import Instance

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
            "secrets_file": str(beside / "secrets.yml"),
            "secrets_password_file": str(beside / "vault-password"),
            "backup_restic_repository": STORE,
        }
        (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(given | variables))
        return Place(name, inventory)

    return place
