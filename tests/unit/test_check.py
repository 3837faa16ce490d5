"""What an operator is told of a host: each way of being broken is named, and nothing is said of a host that is well."""

import copy
import json
import socket
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from programs import load

check = load("salon_check", "roles/check/action_plugins/salon_check.py")
host_facts = load("host_facts", "roles/check/files/host_facts.py")

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
GIB = 2**30
LIMITS = {"dns": True, "clock_seconds": 5, "disk_percent": 10, "memory_percent": 10, "updates_days": 3}
TALKED = {"ok": True, "seconds": 0.05, "sentence": ""}
REFUSED = {"ok": False, "seconds": 0.01, "sentence": "the handshake was answered with 403 Forbidden"}

WELL = {
    "now": NOW,
    "clock_off": 0.0,
    "drift": {"changes": [], "error": ""},
    "door": {
        "own": ["192.0.2.7"],
        "names": {"chat.example.org": ["192.0.2.7"]},
        "people": True,
        "origins": {"https://chat.example.org": TALKED, "https://school.example.org": TALKED},
        "foreign": REFUSED,
        "plain": {"status": 301, "location": "https://chat.example.org/", "said": "answered with 301"},
        "tls": "",
    },
    "host": {
        "now": NOW,
        "addresses": ["192.0.2.7", "2001:db8::7"],
        "clock": {"synchronized": True, "is_container": False},
        "disks": [{"place": "/", "total": 40 * GIB, "free": 30 * GIB, "inodes": 1000, "free_inodes": 900}],
        "memory": {"MemTotal": 4 * GIB, "MemAvailable": 3 * GIB, "SwapTotal": 0, "SwapFree": 0},
        "units": {
            "failed": [],
            "ours": {"daphne@1.service": "active", "nginx.service": "active", "salon-backup.timer": "active"},
        },
        "updates": {"security": [], "looked_at": NOW - 3600, "reboot": False},
        "backup": {
            "state": {
                "made_at": "2026-03-02T01:30:00+00:00",
                "bytes": 5_000_000,
                "error": "",
                "warnings": [],
                "elsewhere": {"repository": "rest:https://backup.example.org/"},
            },
            "running": False,
            "warn_hours": 27,
            "elsewhere": True,
        },
        "certificate": {"mode": "acme", "warnings": [], "ends": "2026-05-01T00:00:00+00:00", "days_left": 60.0},
        "conversation": {
            "people": True,
            "sockets": 2,
            "processes": [{"server": f"/run/salon/daphne-{number}.sock", **TALKED} for number in (1, 2)],
        },
        "versions": {
            "debian": "13.1",
            "kernel": "6.12",
            "packages": {"nginx": "1.26.3"},
            "release": "abc-py3.13",
            "others": [],
        },
    },
}


def broken(path, value):
    """A host that is well but for this."""
    facts = copy.deepcopy(WELL)
    at = facts
    *way, last = path
    for step in way:
        at = at[step]
    at[last] = value
    return facts


def bad(facts, **limits):
    return [f"{each.what}: {each.sentence}" for each in check.judge(facts, LIMITS | limits) if each.level == check.BAD]


def test_a_host_that_is_well():
    findings = check.judge(WELL, LIMITS)
    assert [finding for finding in findings if finding.level != check.OK] == []
    assert [finding.what for finding in findings] == [
        *("dns", "certificate", "https", "wss", "wss", "processes", "clock", "disk", "memory", "units", "updates"),
        *("backup", "drift", "versions"),
    ]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["door", "names"], {"chat.example.org": []}, "dns: no name server knows chat.example.org"),
        (
            ["door", "names"],
            {"chat.example.org": ["198.51.100.1"]},
            "dns: chat.example.org leads to 198.51.100.1, and this host is 192.0.2.7, 2001:db8::7.",
        ),
        (["host", "certificate", "warnings"], ["The certificate ends in 3 days."], "certificate: The certificate ends"),
        (["door", "tls"], "SSLCertVerificationError: expired", "certificate: who connects is not shown one"),
        (
            ["door", "plain"],
            {"status": 200, "location": "", "said": "answered with 200"},
            "https: plain http is not sent to https, but answered with 200",
        ),
        (
            ["door", "plain"],
            {"status": 0, "location": "", "said": "ConnectionRefusedError: refused"},
            "https: plain http is not sent to https, but ConnectionRefusedError",
        ),
        (
            ["door", "origins"],
            {"https://school.example.org": REFUSED},
            "wss: a browser at https://school.exa",
        ),
        (["door", "foreign"], TALKED, "wss: a page of anybody's may connect"),
        (
            ["host", "conversation", "processes"],
            [{"server": "/run/salon/daphne-1.sock", **TALKED}, {"server": "/run/salon/daphne-2.sock", **REFUSED}],
            "processes: /run/salon/daphne-2.sock: two people cannot talk there",
        ),
        (["host", "conversation", "sockets"], 0, "processes: no process of the application listens"),
        (["host", "conversation", "sockets"], 3, "processes: only 2 of 3 could be asked"),
        (["host", "conversation", "people"], False, "processes: nobody could be made to talk"),
        (["clock_off"], -40.0, "clock: it is 40 s behind this machine's"),
        (["host", "clock", "synchronized"], False, "clock: nothing keeps it right"),
        (["host", "disks", 0, "free"], GIB, "disk: / has 2 % free (1.1 GB)"),
        (["host", "disks", 0, "free_inodes"], 10, "disk: / has 1 % of its inodes free"),
        (["host", "memory", "MemAvailable"], GIB // 5, "memory: 215 MB of 4.3 GB are free"),
        (["host", "units", "failed"], ["cron.service"], "units: cron.service has failed"),
        (["host", "units", "ours", "daphne@1.service"], "inactive", "units: daphne@1.service is inactive"),
        (["host", "updates", "security"], ["openssl"], "updates: security updates wait for openssl"),
        (["host", "updates", "looked_at"], NOW - 5 * 86400, "updates: nobody has looked for 5 days"),
        (["host", "updates", "reboot"], True, "updates: the host waits to be rebooted"),
        (["host", "backup", "state", "made_at"], "2026-02-27T01:30:00+00:00", "backup: the newest is 3 days old"),
        (
            ["host", "backup", "state", "error"],
            "The disk is full.",
            "backup: the last one has failed: The disk",
        ),
        (["host", "backup", "state"], {}, "backup: there is none yet"),
        (["host", "backup", "warn_hours"], None, "backup: nothing makes backups"),
        (["host", "units", "ours", "salon-backup.timer"], "inactive", "backup: no backup is made by itself"),
        (
            ["host", "backup", "state", "warnings"],
            ["the bytes of 2 files are lost"],
            "backup: in the newest, the byt",
        ),
        (
            ["drift"],
            {"changes": ["Write the files (/etc/salon/salon.env)"], "error": ""},
            "drift: playbooks/site.yml would change 1 things: Write the files (/etc/salon/salon.env).",
        ),
        (
            ["drift"],
            {"changes": [], "error": "chat: no sudo"},
            "drift: playbooks/site.yml cannot be run: chat",
        ),
        (["host", "versions", "others"], ["daphne@2.service"], "versions: daphne@2.service runs another release"),
    ],
)
def test_each_way_of_being_broken_is_named_and_nothing_else(path, value, named):
    [said] = bad(broken(path, value))
    assert said.startswith(named)


def test_a_question_without_an_answer_is_named_and_hides_no_other():
    facts = broken(["host", "disks"], {"error": "OSError: no"})
    assert bad(facts) == ["disk: it could not be looked at: the host did not say what it was asked."]
    assert len(check.judge(facts, LIMITS)) == len(check.judge(WELL, LIMITS))


def test_where_a_proxy_is_in_front_the_name_leads_there():
    facts = broken(["door", "names"], {"chat.example.org": ["198.51.100.1"]})
    assert bad(facts, dns=False) == []


def test_a_backup_that_is_just_made_is_no_failure():
    facts = broken(["host", "backup", "state", "error"], "The last backup was interrupted.")
    facts["host"]["backup"]["running"] = True
    assert bad(facts) == []


def test_backups_on_the_host_only_are_noted():
    findings = check.judge(broken(["host", "backup", "state", "elsewhere"], {}), LIMITS)
    [note] = [finding for finding in findings if finding.level == check.NOTE]
    assert str(note) == "--  backup        10 hours old, 5 MB, on the host only"


def test_what_is_to_be_seen_to_comes_last_in_the_report():
    facts = broken(["clock_off"], 40.0)
    facts["host"]["updates"]["reboot"] = True
    lines = check.report(check.judge(facts, LIMITS), "chat", 3.2)
    assert [line[:2] for line in lines[-4:]] == ["ok", "!!", "!!", "ch"]
    assert lines[-1] == "chat: 2 to be seen to, looked at in 3 s."
    assert check.report(check.judge(WELL, LIMITS), "chat", 3.2)[-1] == "chat: all is well, looked at in 3 s."


@pytest.mark.parametrize(("now", "off"), [(10.5, 0.0), (9.0, -1.0), (13.0, 2.0)])
def test_an_answer_under_way_tells_only_so_much_of_a_clock(now, off):
    assert check.clock_off(now, 10.0, 11.0) == off


class TestDrift:
    def output(self, **outcome):
        task = {"task": {"name": "daphne : Write the files"}, "hosts": {"chat": {"changed": False} | outcome}}
        return "[WARNING]: something\n" + json.dumps({"plays": [{"tasks": [task]}], "stats": {}})

    def test_nothing(self):
        assert check.drift_of(self.output(), 0, "") == {"changes": [], "error": ""}

    def test_a_change_of_one_of_several(self):
        results = [
            {"changed": True, "item": {"path": "etc/salon/salon.env", "mode": "0600"}},
            {"changed": False, "item": {"path": "usr/local/bin/salon", "mode": "0755"}},
        ]
        found = check.drift_of(self.output(changed=True, results=results), 0, "")
        assert found["changes"] == ["daphne : Write the files (/etc/salon/salon.env)"]

    def test_files_that_are_written_together(self):
        found = check.drift_of(self.output(changed=True, paths=["/etc/a", "/etc/b"], notify=["Restart"]), 0, "")
        assert found["changes"] == ["daphne : Write the files (/etc/a, /etc/b)"]

    def test_what_only_tells_handlers_is_no_change(self):
        assert check.drift_of(self.output(changed=True).replace("Write the files", "Tell who reads them"), 0, "") == {
            "changes": [],
            "error": "",
        }

    def test_a_failure(self):
        found = check.drift_of(self.output(failed=True, msg="no sudo"), 2, "")
        assert found["error"] == "chat: daphne : Write the files: no sudo"

    def test_a_run_that_does_not_begin(self):
        assert check.drift_of("", 4, "ERROR! no\ninventory")["error"] == "ERROR! no inventory"
        assert check.drift_of("", 4, "")["error"] == "it ended with 4"


class TestDoor:
    @pytest.fixture
    def server(self):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(301)
                self.send_header("Location", f"https://{self.headers['Host']}/")
                self.end_headers()

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()

    def test_where_plain_http_leads(self, server):
        found = check.plain("127.0.0.1", server.server_port, "chat.example.org", 5)
        assert found == {"status": 301, "location": "https://chat.example.org/", "said": "answered with 301"}

    def test_a_door_that_nobody_opens(self, server):
        # Held, so that nobody else listens there meanwhile.
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            found = check.plain("127.0.0.1", held.getsockname()[1], "chat.example.org", 5)
        assert found["status"] == 0
        assert "refused" in found["said"]

    def test_an_address_leads_to_itself_and_a_strange_name_nowhere(self):
        assert check.addresses_of("127.0.0.1") == ["127.0.0.1"]
        assert check.addresses_of("no-such-name.invalid") == []


def test_a_host_answers_every_question_and_changes_nothing(monkeypatch, capsys):
    """On this machine, where most of it is missing: what is not there must not hide the rest."""
    monkeypatch.setattr(sys, "argv", ["host_facts.py", json.dumps({"backups": "/var/backups/salon"})])
    monkeypatch.setattr(host_facts, "QUESTIONS", (host_facts.disks, host_facts.memory, host_facts.backup))
    host_facts.main()
    found = json.loads(capsys.readouterr().out)
    assert found["disks"][0]["place"] == "/"
    assert found["memory"]["MemTotal"] > 0
    assert found["backup"]["state"] == {}


def test_an_answer_that_cannot_be_had_is_told(monkeypatch, capsys):
    def broken_question(_config):
        raise FileNotFoundError("no such thing")

    monkeypatch.setattr(sys, "argv", ["host_facts.py", json.dumps({"backups": "/x"})])
    monkeypatch.setattr(host_facts, "QUESTIONS", (broken_question, host_facts.memory))
    host_facts.main()
    found = json.loads(capsys.readouterr().out)
    assert found["broken_question"]["error"] == "FileNotFoundError: no such thing"
    assert found["memory"]["MemTotal"] > 0
