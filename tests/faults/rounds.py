"""One fault, once: people write, it happens, they go on, and what they noted is checked."""

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path

from faults.catalogue import RESTORE, Fault
from faults.checker import Finding, Kind, Silence, check, longest_silence
from faults.crowd import Crowd, NotInTimeError
from faults.events import Acknowledged, Told, keep
from faults.testhost import CommandError, Host

WELL = 60.0
"""Seconds in which everybody is to be well before a fault."""

SETTLE = 45.0
"""Seconds after a fault in which everybody is to be well again."""

QUIET = 15.0
"""Seconds in which all is to have come once nobody writes any more."""

BEFORE, AFTERWARDS = 1.0, 2.0
"""Seconds for which all is well before a fault, and after it: who falls behind later would show."""


@dataclass
class Round:
    """What came of it. Times are seconds."""

    fault: Fault
    number: int
    lasts: float = 0.0
    """For how long it was meant to last."""
    lasted: float = 0.0
    silence: Silence = field(default_factory=lambda: Silence(0.0))
    acknowledged: int = 0
    errors: int = 0
    """How often somebody was told that something does not work for the moment."""
    findings: list[Finding] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """What was not in time, or could not be done."""
    log: Path | None = None

    @property
    def allowed(self) -> float:
        """The longest silence that there may be."""
        return self.fault.allowed(self.lasted)

    @property
    def is_silent_too_long(self) -> bool:
        return self.silence.seconds > self.allowed

    @property
    def is_good(self) -> bool:
        return not (self.findings or self.trouble or self.is_silent_too_long)

    def count(self, *kinds: Kind) -> int:
        """How many findings of these kinds there are."""
        return sum(finding.kind in kinds for finding in self.findings)

    def line(self) -> str:
        """One line for a person who watches."""
        lost, doubled, disordered = self.count(*LOST), self.count(Kind.DOUBLED), self.count(Kind.DISORDERED)
        others = len(self.findings) - lost - doubled - disordered
        return (
            f"{self.fault.name:18} {self.number}  {'good  ' if self.is_good else 'FAILED'}"
            f"  lasted {self.lasted:5.1f} s, silence {self.silence.seconds:5.1f} s of {self.allowed:5.1f} s,"
            f" {self.acknowledged} acknowledged, {lost} lost, {doubled} doubled, {disordered} out of order,"
            f" {others} other"
        )

    def details(self, most: int = 6) -> list[str]:
        """What was wrong, for who wants to know why."""
        lines = list(self.trouble)
        if self.is_silent_too_long:
            who = f"person {self.silence.person} in room {self.silence.room}"
            lines.append(
                f"SILENT: {who} saw nothing new from {self.silence.since:.1f} on for {self.silence.seconds:.1f} s"
            )
        for kind, found in itertools.groupby(sorted(self.findings, key=lambda each: each.kind), lambda each: each.kind):
            sentences = list(dict.fromkeys(map(str, found)))
            lines += sentences[:most]
            if len(sentences) > most:
                lines.append(f"… and {len(sentences) - most} more of {kind}")
        if lines and self.log:
            lines.append(f"All of it: {self.log} and {self.log.with_suffix('.journal')}")
        return lines


LOST = Kind.LOST, Kind.GAP
"""What counts as lost."""


class Ring:
    """Where rounds are held: the host, and the people on it."""

    def __init__(self, host: Host, crowd: Crowd, logs: Path, restore: str = RESTORE) -> None:
        self._host = host
        self._restore = restore
        self._crowd = crowd
        self._logs = logs

    async def hold(self, fault: Fault, number: int, lasts: float) -> Round:
        """Let it happen, for so many seconds where it ends by a command of its own."""
        if fault.before:
            await fault.before(self._host)
        try:
            return await self._hold(fault, number, lasts)
        finally:
            if fault.afterwards:
                await fault.afterwards(self._host)

    async def _hold(self, fault: Fault, number: int, lasts: float) -> Round:
        crowd, result = self._crowd, Round(fault, number, lasts)
        since = await self._host.moment()
        crowd.begin_diaries()
        crowd.start_writing()
        try:
            await crowd.all_lively(WELL)
            await asyncio.sleep(BEFORE)
            begun = crowd.now
            await self._happen(result)
            result.lasted = crowd.now - begun
            await crowd.all_lively(SETTLE)
            await asyncio.sleep(AFTERWARDS)
        except NotInTimeError as error:
            result.trouble.append(f"LATE: {error}")
        ended = crowd.now
        crowd.stop_writing()
        await self._fall_quiet(result)
        await self._judge(result, begun if result.lasted else ended, ended)
        if not result.is_good and result.log:
            result.log.with_suffix(".journal").write_text(await self._host.journal(since))
        if result.findings or result.trouble:
            await self._begin_anew()
        return result

    async def _happen(self, result: Round) -> None:
        fault = result.fault
        try:
            await fault.begin(self._host)
            if fault.end:
                # A fault that lasts is a wait by its nature.
                await asyncio.sleep(result.lasts)
                await fault.end(self._host)
        except CommandError as error:
            result.trouble.append(f"NOT DONE: {error}")
            await self._host.shell(self._restore)

    async def _fall_quiet(self, result: Round) -> None:
        try:
            await self._crowd.all_answered(QUIET)
            await self._crowd.all_caught_up(await self._host.highest(self._crowd.rooms), QUIET)
        except NotInTimeError as error:
            result.trouble.append(f"LATE: {error}")

    async def _judge(self, result: Round, begun: float, ended: float) -> None:
        diaries = self._crowd.end_diaries()
        began = {room: min(each.began[room] for each in diaries if room in each.began) for room in self._crowd.rooms}
        stored = await self._host.stored(began)
        events = [event for diary in diaries for event in diary.events]
        result.acknowledged = sum(isinstance(event, Acknowledged) for event in events)
        result.errors = sum(isinstance(event, Told) for event in events)
        result.findings = check(diaries, stored)
        result.silence = longest_silence(diaries, begun, ended)
        result.log = self._logs / f"{result.fault.name}-{result.number}.jsonl"
        keep(result.log, diaries, stored)

    async def _begin_anew(self) -> None:
        """What went wrong once is not to be found again in the next round."""
        await self._host.shell(self._restore)
        self._crowd.forget(await self._host.highest(self._crowd.rooms))
        await self._crowd.all_here(WELL)
