"""The host that is looked at, and the host that looks: containers, asked through Docker."""

import json
import os
import ssl
import subprocess
from functools import cached_property
from pathlib import Path

from trust import trusting

DOMAIN = "salon.test"
"""As in the Molecule scenario."""
SCANNERS = Path(__file__).resolve().parents[2] / ".venv-scanners/bin"
"""Where the scanners are that run on this machine."""


def run(*command: str, given: str = "", seconds: float = 580, succeeds: bool = True) -> str:
    """What a command on this machine prints."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if succeeds and done.returncode:
        raise RuntimeError(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Place:
    """A container."""

    def __init__(self, name: str) -> None:
        self.name = name

    def shell(self, commands: str, given: str = "", *, succeeds: bool = True) -> str:
        """Run shell commands there, as root; what they print."""
        return run("docker", "exec", "--interactive", self.name, "sh", "-ec", commands, given=given, succeeds=succeeds)

    def versions(self, *packages: str) -> list[str]:
        """Packages of Debian with their versions."""
        form = "${Package} ${source:Upstream-Version}\\n"
        return self.shell(f"dpkg-query --show --showformat='{form}' {' '.join(packages)}").splitlines()

    @cached_property
    def address(self) -> str:
        """Where it is."""
        [described] = json.loads(run("docker", "inspect", self.name))
        return next(iter(described["NetworkSettings"]["Networks"].values()))["IPAddress"]


class Host(Place):
    """The finished host."""

    def __init__(self) -> None:
        super().__init__(f"salon-{os.environ.get('DEBIAN') or 'trixie'}")

    @cached_property
    def authority(self) -> str:
        """The certificate of its private authority."""
        return self.shell("cat /etc/salon/tls/ca.pem")

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """Trusts that authority and nobody else."""
        return trusting(cadata=self.authority)


class Scanner(Place):
    """Debian 13 with the scanners, which finds the host by its name and trusts nobody in particular."""

    def __init__(self, host: Host) -> None:
        super().__init__("salon-scanner")
        self.shell(f"cat >/ca.pem; echo '{host.address} {DOMAIN}' >>/etc/hosts", host.authority)
