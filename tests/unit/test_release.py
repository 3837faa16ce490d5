"""Releases on a host: `salon-release` on a host that is a directory."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name, path):
    """A Python file that no package holds, whatever its name ends with."""
    loader = SourceFileLoader(name, str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


program = load("salon_release_program", "templates/usr/local/sbin/salon-release.j2")
build_release = load("salon_release_build", "roles/daphne/files/build_release.py")

KNOWN = {"chat.0001_initial": None}
RUN = {"id": "a1", "who": "anna on laptop", "machine": "m", "pid": 1, "started": "now"}
OTHER = {**RUN, "id": "b2", "who": "ben on desk"}


class Host(program.Host):
    """A host whose processes are entries in a directory."""

    def __init__(self, root, processes=2):
        super().__init__(root)
        self.broken, self.mute = set(), set()
        self.database = list(KNOWN)
        self.deeds = []
        self._next_pid = 100
        self._pids = {}
        for path in (self.releases, self.run.parent, self.proc):
            path.mkdir(parents=True)
        wants = self.etc / "systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        for number in range(1, processes + 1):
            (wants / f"daphne@{number}.service").touch()

    def add(self, name, migrations=KNOWN, **marks):
        """A release that is here."""
        (self.releases / name / "app").mkdir(parents=True)
        program.write(self.releases / name / "release.json", {"migrations": migrations, "environment": f"e-{name}"})
        (self.environments / f"e-{name}").mkdir(parents=True)
        for kind, when in marks.items():
            program.write(self.releases / name / f".{kind}", {"at": when, "why": "it was slow"})
        return name

    def start(self, number, release):
        self._next_pid += 1
        (self.proc / str(self._next_pid)).mkdir()
        (self.proc / f"{self._next_pid}/cwd").symlink_to(self.releases / release / "app")
        self._pids[number] = self._next_pid

    def runs(self):
        """Which release each process runs."""
        return [self.running(pid) for pid in self.processes().values()]

    def systemctl(self, verb, *arguments, seconds=30):
        number = int(arguments[-1].removeprefix("daphne@").removesuffix(".service"))
        if verb == "show":
            return subprocess.CompletedProcess([], 0, f"{self._pids.get(number, 0)}\n", "")
        assert verb == "restart"
        self.deeds.append((number, self.current()))
        if self.current() in self.broken:
            self._pids[number] = 0
            return subprocess.CompletedProcess([], 1, "", "failed")
        self.start(number, self.current())
        return subprocess.CompletedProcess([], 0, "", "")

    def salon(self, release, *arguments, lowered=False):
        if arguments[0] == "shell":
            return json.dumps(self.database)
        return "No planned migration operations."

    def people(self, release):
        return "{}"

    def talk(self, number, release, people):
        return "the message of the first did not come in time" if release in self.mute else ""

    def journal(self, number):
        return [f"daphne@{number} says goodbye"]


@pytest.fixture
def host(tmp_path):
    """Runs `old` on both processes; `new` is there too."""
    host = Host(tmp_path)
    host.add("old", good="2026-01-01")
    host.add("new")
    host.switch("old")
    for number in (1, 2):
        host.start(number, "old")
    return host


@pytest.fixture
def obey(host):
    """Give a command, as the run `a1` does."""

    def obey(*arguments, run="a1"):
        given = parse(*arguments, *([f"--run={run}"] if run is not None else []))
        return program.obey(host, given)

    host.begin(RUN, "release new", "")
    return obey


def parse(*arguments):
    seen = []
    original, program.obey = program.obey, lambda host, given: seen.append(given) or {}
    try:
        program.main(arguments)
    finally:
        program.obey = original
    return seen[0]


class TestBecomingCurrent:
    def test_one_process_after_the_other_and_good_at_the_end(self, host, obey):
        report = obey("activate", "--id=new")
        assert report == {"ok": True, "before": "old", "restarted": [1, 2]}
        assert host.deeds == [(1, "new"), (2, "new")]
        assert host.runs() == ["new", "new"]
        assert host.mark("new", "good")

    def test_what_runs_already_is_left_alone(self, host, obey):
        obey("activate", "--id=new")
        assert obey("activate", "--id=new")["restarted"] == []

    @pytest.mark.parametrize("fault", ["broken", "mute"])
    def test_what_does_not_come_up_is_taken_back_everywhere(self, host, obey, fault):
        getattr(host, fault).add("new")
        report = obey("activate", "--id=new")
        assert (report["ok"], report["back"], report["trouble"]) == (False, "old", "")
        assert report["journal"] == ["daphne@1 says goodbye"]
        assert host.runs() == ["old", "old"]
        assert host.current() == "old"
        assert "did not come up: daphne@1" in host.mark("new", "bad")["why"]
        assert "Release old is back, and runs everywhere" in program.explained(report)

    def test_the_second_process_takes_the_first_back_too(self, host, obey):
        host.talk = lambda number, release, people: "nothing" if (number, release) == (2, "new") else ""
        assert obey("activate", "--id=new")["sentence"] == "daphne@2: nothing"
        assert host.deeds == [(1, "new"), (2, "new"), (1, "old"), (2, "old")]

    def test_that_the_old_one_does_not_come_up_either_is_said(self, host, obey):
        host.broken |= {"old", "new"}
        report = obey("activate", "--id=new")
        assert "does not come up either: daphne@1" in program.explained(report)

    def test_an_interrupted_run_is_gone_on_with(self, host, obey):
        host.switch("new")
        host.start(1, "new")
        report = obey("activate", "--id=new")
        assert (report["restarted"], report["before"]) == ([2], "old")

    def test_an_interrupted_run_that_cannot_be_gone_on_with_is_taken_back(self, host, obey):
        host.switch("new")
        host.start(1, "new")
        host.broken.add("new")
        assert obey("activate", "--id=new")["back"] == "old"
        assert host.runs() == ["old", "old"]

    def test_the_first_release_of_a_host(self, tmp_path):
        host = Host(tmp_path, processes=0)
        host.add("first")
        host.begin(RUN, "release first", "")
        assert program.obey(host, parse("activate", "--id=first", "--run=a1"))["ok"]
        assert host.current() == "first"
        assert not host.mark("first", "good")

    def test_another_host_could_not_go_along(self, host, obey):
        obey("activate", "--id=new")
        assert obey("back")["changed"]
        assert host.runs() == ["old", "old"]
        assert host.mark("new", "bad")
        assert not host.mark("new", "good")
        assert obey("back") == {"changed": False}

    def test_a_good_try_makes_up_for_a_bad_one(self, host, obey):
        program.write(host.releases / "new/.bad", {"at": "", "why": "the database was away"})
        obey("activate", "--id=new")
        assert host.look("new", "e-new") | {"wheels": [], "holder": None} == {
            "installed": True,
            "environment": False,
            "wheels": [],
            "current": "new",
            "active": True,
            "good": True,
            "bad": "",
            "running": {1: "new", 2: "new"},
            "holder": None,
        }


class TestRestart:
    def test_each_process_is_restarted_under_a_lock_of_its_own(self, host):
        assert program.obey(host, parse("restart"))["restarted"] == [1, 2]
        assert host.holder() is None

    def test_the_others_stay_where_one_does_not_come_up(self, host):
        host.mute.add("old")
        with pytest.raises(program.TroubleError, match=r"daphne@1 did not come up: .* The others go on"):
            program.obey(host, parse("restart"))
        assert host.deeds == [(1, "old")]

    def test_not_into_the_way_of_a_deploy(self, host, obey):
        with pytest.raises(program.LockedError, match="anna on laptop holds the lock, since"):
            obey("restart", run="")


class TestLock:
    def test_one_at_a_time(self, host, obey):
        with pytest.raises(program.LockedError) as refused:
            host.begin(OTHER, "release other", "")
        assert refused.value.holder["id"] == "a1"
        obey("end")
        host.begin(OTHER, "release other", "")

    def test_a_run_that_is_over_is_taken_over_and_does_nothing_more(self, host, obey):
        assert host.begin(OTHER, "release new", "a1") == {"taken_over_from": "anna on laptop"}
        for command in (["activate", "--id=new"], ["migrate", "--id=new"], ["back"]):
            with pytest.raises(program.LockedError, match="ben on desk"):
                obey(*command)
        obey("end")
        assert host.holder()["id"] == "b2"

    def test_another_one_has_been_faster_to_take_over(self, host, obey):
        host.begin(OTHER, "release new", "a1")
        with pytest.raises(program.LockedError):
            host.begin({**RUN, "id": "c3"}, "release new", "a1")

    def test_of_whom_nothing_was_heard_for_long_holds_nothing(self, host, obey):
        long_ago = time.time() - program.LEASE - 1
        os.utime(host.lock_file, (long_ago, long_ago))
        host.begin(OTHER, "release new", "")

    def test_a_restart_that_was_killed_holds_nothing(self, host):
        host.run.mkdir(parents=True)
        program.write(host.lock_file, {"id": "", "pid": 4711, "who": "root", "what": "a restart", "since": "now"})
        assert host.holder() is None

    def test_a_lock_that_is_gone_is_not_worked_without(self, host, obey):
        host.lock_file.unlink()
        with pytest.raises(program.TroubleError, match="not held any more"):
            obey("activate", "--id=new")

    def test_what_still_works_is_waited_for(self, host, obey, monkeypatch):
        monkeypatch.setattr(program, "LONGEST_WORK", 0.2)
        with host.guarded("busy"), pytest.raises(program.TroubleError, match="at work for more than"):
            obey("activate", "--id=new")


class TestGoingBack:
    def test_to_the_last_good_one(self, host, obey):
        host.add("older", good="2025-12-01")
        obey("activate", "--id=new")
        report = obey("rollback")
        assert (report["id"], report["restarted"]) == ("old", [1, 2])
        assert host.mark("new", "bad")["why"] == "it was rolled back to old"
        # And further, not forwards to the bad one.
        assert obey("rollback")["id"] == "older"

    def test_to_a_named_one(self, host, obey):
        host.add("20260101-aa")
        host.add("20260102-bb")
        assert host.target("20260101")["id"] == "20260101-aa"
        with pytest.raises(program.TroubleError, match="2 releases here begin with 2026"):
            host.target("2026")
        with pytest.raises(program.TroubleError, match=r"No release here begin with x; .*\n20260101-aa"):
            host.target("x")
        with pytest.raises(program.TroubleError, match="old is the one that runs"):
            host.target("old")

    def test_nowhere_to_go(self, host):
        with pytest.raises(program.TroubleError, match="no earlier release here that was good"):
            host.target("")

    def test_not_to_what_does_not_come_up(self, host, obey):
        obey("activate", "--id=new")
        host.broken.add("old")
        report = obey("rollback")
        assert (report["ok"], report["back"]) == (False, "new")
        assert host.runs() == ["new", "new"]
        assert not host.mark("new", "bad")

    @pytest.mark.parametrize(
        ("known", "reason"),
        [
            ({}, "has taken away what it uses"),
            ({"chat.0002_without": None}, ""),
        ],
    )
    def test_across_a_migration_that_contracts(self, host, known, reason):
        contracting = {**KNOWN, "chat.0002_without": None, "chat.0003_remove": "chat.0002_without"}
        host.add("former", {**KNOWN, **known}, good="2026-02-01")
        host.add("newest", contracting, good="2026-03-01")
        host.switch("newest")
        host.database = [*contracting, "auth.0099_other"]
        if reason:
            with pytest.raises(program.TroubleError, match=f"0003_remove {reason}.*The way out is forward"):
                host.target("former")
        else:
            assert host.target("former")["id"] == "former"

    def test_across_a_migration_that_nobody_knows(self, host):
        host.add("former", good="2026-02-01")
        host.database.append("chat.0009_lost")
        with pytest.raises(program.TroubleError, match="no release here knows what it does"):
            host.target("former")

    def test_to_one_that_has_noted_nothing(self, host):
        (host.releases / "ancient/app").mkdir(parents=True)
        (host.releases / "ancient/.complete").touch()
        with pytest.raises(program.TroubleError, match="made by an earlier version of the bundle"):
            host.target("ancient")


class TestPlan:
    def test_of_a_release_that_is_not_here_yet(self, host):
        assert host.plan("later", {**KNOWN, "chat.0002_more": None}) == {"pending": ["chat.0002_more"], "refused": ""}

    def test_that_the_code_that_runs_could_not_live_with(self, host):
        refused = host.plan("later", {**KNOWN, "chat.0003_remove": "chat.0002_without"})["refused"]
        assert "takes away what release old, which runs, still uses" in refused
        known = {**KNOWN, "chat.0002_without": None}
        program.write(host.releases / "old/release.json", {"migrations": known, "environment": ""})
        assert host.plan("later", {**known, "chat.0003_remove": "chat.0002_without"})["refused"] == ""

    def test_of_code_that_is_older_than_the_database(self, host):
        host.add("newest", {**KNOWN, "chat.0003_remove": "chat.0002_without"})
        host.database.append("chat.0003_remove")
        assert "Release new is older than the database" in host.plan("new", None)["refused"]


class TestTidying:
    def test_current_and_the_good_one_before_stay_and_the_newest_others(self, host, obey):
        for number in range(1, 8):
            host.add(f"r{number}")
            os.utime(host.releases / f"r{number}", (number, number))
        obey("activate", "--id=new")
        assert sorted(obey("end", "--keep=5")["removed"]) == ["r1", "r2", "r3", "r4"]
        assert sorted(host.all()) == ["new", "old", "r5", "r6", "r7"]
        assert sorted(path.name for path in host.environments.iterdir()) == ["e-new", "e-old", "e-r5", "e-r6", "e-r7"]

    def test_what_runs_is_not_removed(self, host, obey):
        obey("activate", "--id=new")
        host.add("lost")
        host.start(2, "lost")
        obey("end", "--keep=1")
        assert sorted(host.all()) == ["lost", "new", "old"]

    def test_what_is_left_of_interrupted_runs_goes(self, host, obey):
        for path in (host.releases / ".new/app", host.releases / ".old-x", host.environments / ".old-y"):
            path.mkdir(parents=True)
        (host.releases / ".brought.tar.gz").touch()
        host.wheels.mkdir()
        program.write(host.environments / "e-new/.complete", {"wheels": ["used.whl"]})
        for name in ("used.whl", "unused.whl"):
            (host.wheels / name).touch()
        obey("end", "--keep=5")
        assert [path.name for path in host.releases.glob(".*")] == []
        assert [path.name for path in host.environments.glob(".*")] == []
        assert [path.name for path in host.wheels.iterdir()] == ["used.whl"]

    def test_table_says_how_each_is(self, host):
        program.write(host.releases / "new/.bad", {"at": "", "why": "it was slow"})
        assert host.table().splitlines() == ["current   old", "bad       new  it was slow"]


class TestBringing:
    @pytest.fixture
    def archive(self, tmp_path):
        """A release as the controller packs it, with one wheel."""
        source = tmp_path / "source/app"
        (source / "chat").mkdir(parents=True)
        (source / "manage.py").write_text("print()\n")
        wheel = tmp_path / "alpha-1.0-py3-none-any.whl"
        wheel.write_bytes(b"wheel")
        record = {"id": "fresh", "environment": "e1", "wheels": [wheel.name], "migrations": {}}
        path = tmp_path / "brought.tar.gz"
        build_release.write_archive(path, build_release.members(source, record, "alpha==1.0\n", [wheel]))
        return path

    @pytest.fixture
    def commands(self, monkeypatch):
        """What is run, and done by nobody."""
        commands = []
        monkeypatch.setattr(program, "run", lambda command: commands.append([str(word) for word in command]))
        monkeypatch.setattr(program.shutil, "chown", lambda *_: None)
        monkeypatch.setattr(program.os, "nice", lambda _: None)
        return commands

    def made_by(self, host, commands, archive, obey):
        # As venv does it.
        original = program.run

        def run(command):
            original(command)
            if command[1:3] == ["-m", "venv"]:
                command[3].mkdir()

        program.run = run
        try:
            return obey("install", str(archive))
        finally:
            program.run = original

    def test_it_is_there_once_it_is_whole(self, host, obey, archive, commands):
        assert self.made_by(host, commands, archive, obey) == {"id": "fresh"}
        assert (host.releases / "fresh/app/manage.py").is_file()
        assert (host.releases / "fresh/venv").readlink() == host.environments / "e1"
        assert program.read(host.environments / "e1/.complete") == {"wheels": ["alpha-1.0-py3-none-any.whl"]}
        assert not archive.exists()
        assert host.look("fresh", "e1")["wheels"] == ["alpha-1.0-py3-none-any.whl"]
        assert sum("install" in command for command in commands) == 1

    def test_libraries_that_are_there_are_shared(self, host, obey, archive, commands):
        (host.environments / "e1").mkdir()
        (host.environments / "e1/.complete").write_text("{}")
        self.made_by(host, commands, archive, obey)
        assert not any("install" in command for command in commands)

    def test_half_of_an_environment_is_made_anew(self, host, obey, archive, commands):
        (host.environments / "e1/lib").mkdir(parents=True)
        self.made_by(host, commands, archive, obey)
        assert not (host.environments / "e1/lib").exists()

    def test_an_interrupted_one_is_nowhere(self, host, obey, archive, commands, monkeypatch):
        def collect_static(new):
            raise KeyboardInterrupt

        monkeypatch.setattr(host, "collect_static", collect_static)
        with pytest.raises(KeyboardInterrupt):
            self.made_by(host, commands, archive, obey)
        assert not host.look("fresh", "e1")["installed"]
        assert archive.exists()
        monkeypatch.undo()
        monkeypatch.setattr(program, "run", lambda command: None)
        monkeypatch.setattr(program.shutil, "chown", lambda *_: None)
        obey("install", str(archive))
        assert host.look("fresh", "e1")["installed"]

    def test_one_that_a_killed_run_has_made_meanwhile_stays(self, host, obey, archive, commands):
        again = archive.with_name("again.tar.gz")
        again.write_bytes(archive.read_bytes())
        self.made_by(host, commands, archive, obey)
        made = (host.releases / "fresh").stat()
        assert obey("install", str(again)) == {"id": "fresh"}
        assert (host.releases / "fresh").stat().st_ino == made.st_ino
        assert not again.exists()

    def test_what_leads_out_of_it_is_refused(self, host, obey, tmp_path, commands):
        evil = tmp_path / "evil.tar"
        with tarfile.open(evil, "w") as packed:
            member = tarfile.TarInfo("../../evil")
            packed.addfile(member)
        with pytest.raises(tarfile.OutsideDestinationError):
            obey("install", str(evil))
