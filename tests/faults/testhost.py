"""The host that faults are tried on: a container, asked and told through Docker."""

import asyncio
import json
import ssl
from pathlib import Path

import msgspec

from faults.events import Stored
from faults.person import Door

NAME = "salon-faults"
DOMAIN = "salon.test"
"""As in the Molecule scenario of that name."""

LONGEST = 150
"""Seconds that a command may take."""

ROOT = Path(__file__).resolve().parents[2]
DELAY = Path(__file__).with_name("delay.py")

TABLE = """
select json_build_object(
    'room', room_id, 'seq', seq, 'uuid', uuid, 'sender', sender_id, 'client_id', client_id, 'content', content,
    'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
from chat_chatmessage join (select key::bigint, value::bigint from json_each_text('{after}')) as after (room, seen)
on room_id = room and seq > seen
order by room_id, seq
"""

HIGHEST = "select json_object_agg(id, last_seq) from chat_chatroom where id = any('{{{rooms}}}')"

VERSIONS = r"""
. /etc/os-release; echo "Debian $(cat /etc/debian_version)"
dpkg-query --show --showformat='${Package} ${source:Upstream-Version}\n' \
    nginx redis-server "postgresql-$(ls /etc/postgresql)" python3
"""


class CommandError(Exception):
    """A command has failed; the message is what it said."""


async def run(*command: str, given: str = "") -> str:
    """What a command on this machine says. Raises `CommandError`."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LONGEST):
            said, complained = await process.communicate(given.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CommandError(f"{' '.join(command)} takes longer than {LONGEST} s") from None
    if process.returncode:
        raise CommandError(f"{' '.join(command)}\nended with {process.returncode}: {complained.decode().strip()}")
    return said.decode()


class Host:
    """What the harness does on the host, and asks of it."""

    def __init__(self, name: str = NAME, domain: str = DOMAIN) -> None:
        self.name = name
        self._domain = domain

    async def shell(self, commands: str, given: str = "") -> str:
        """Run shell commands there, as root; what they say. Raises `CommandError` for the first that fails."""
        return await run("docker", "exec", "--interactive", self.name, "sh", "-ec", commands, given=given)

    async def restart(self) -> None:
        """Boot it anew; returns when all that it starts by itself has been started."""
        await run("docker", "restart", "--time", "60", self.name)
        # A word of the old system, or none yet, is no answer.
        booted = "systemctl is-system-running --wait 2>&1 | grep -Eqx 'running|degraded'"
        await self.shell(f"until {booted}; do sleep 0.1; done")

    async def playbook(self, name: str, extra: str) -> None:
        """Run a playbook against it, from here. Raises `CommandError`."""
        made = Path.home().glob(".ansible/tmp/molecule.*.faults/inventory/secrets.yml")
        inventory = max(made, key=lambda path: path.stat().st_mtime).parent
        playbook = ROOT / f"playbooks/{name}.yml"
        await run("ansible-playbook", str(playbook), "--inventory", str(inventory), "--extra-vars", extra)

    async def door(self) -> Door:
        """How people come in."""
        [described] = json.loads(await run("docker", "inspect", self.name))
        [network] = described["NetworkSettings"]["Networks"].values()
        authority = await self.shell("cat /etc/salon/tls/ca.pem")
        return Door(network["IPAddress"], self._domain, ssl.create_default_context(cadata=authority))

    async def prepare(self) -> None:
        """Bring there what faults need."""
        await self.shell("cat >/etc/salon-faults/delay.py", DELAY.read_text())

    async def stored(self, after: dict[int, int]) -> list[Stored]:
        """The messages of each room after a place."""
        said = await self._query(TABLE.format(after=json.dumps(after)))
        return [msgspec.json.decode(line, type=Stored) for line in said.splitlines()]

    async def highest(self, rooms: list[int]) -> dict[int, int]:
        """The sequence number of each room's newest message."""
        said = await self._query(HIGHEST.format(rooms=",".join(map(str, rooms))))
        return {int(room): seq for room, seq in json.loads(said).items()}

    async def versions(self) -> list[str]:
        """What runs there."""
        return (await self.shell(VERSIONS)).splitlines()

    async def journal(self, since: str) -> str:
        """What its services have said since a moment that `moment` gave."""
        return await self.shell(f"journalctl --no-pager --output short-precise --since '@{since}'")

    async def moment(self) -> str:
        """Now, as `journal` takes it."""
        return (await self.shell("date +%s")).strip()

    async def _query(self, statement: str) -> str:
        return await self.shell("runuser -u postgres -- psql --no-psqlrc -qAtX salon", statement)
