"""The test host that Molecule has made, as it is found from outside."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Instance:
    name: str
    """The name of its container, and of the host in the inventory."""
    inventory: Path
    """The directory with the inventory that it was converged with."""

    @classmethod
    def of_molecule(cls):
        """The host of the run of Molecule that this is a part of, or None outside of one."""
        if file := os.environ.get("MOLECULE_INVENTORY_FILE"):
            return cls(f"salon-{os.environ.get('DEBIAN') or 'trixie'}", Path(file).parent)
        return None

    @cached_property
    def address(self):
        """Where it is reached from here."""
        described = subprocess.run(["docker", "inspect", self.name], capture_output=True, text=True, check=True).stdout
        return next(iter(json.loads(described)[0]["NetworkSettings"]["Networks"].values()))["IPAddress"]

    @cached_property
    def domain(self):
        """The name that it answers to, and its certificate is for."""
        shown = subprocess.run(
            ["ansible-inventory", "--inventory", self.inventory, "--host", self.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return json.loads(shown)["salon_domain"]

    @property
    def url(self):
        return f"https://{self.domain}"

    @property
    def manage_command(self):
        return ["docker", "exec", "--interactive", self.name, "salon"]

    @property
    def authority(self):
        """The certificate of its private authority, as the playbook has brought it here."""
        return self.inventory / "fetched" / f"{self.name}-ca.pem"
