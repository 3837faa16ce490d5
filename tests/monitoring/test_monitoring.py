"""Everything is seen, and of everything that stops somebody is told."""

import time
from dataclasses import dataclass

import managed
import pytest
import yaml

from waiting import wait_until

TOLD_WITHIN = 90
OWN = [declared for declared in managed.files() if declared.role in managed.WATCHING]
PROCESS = "daphne@1"


@dataclass(frozen=True)
class Fault:
    """What is done to the host, and what Alertmanager then tells."""

    alert: tuple[str, ...]
    do: str
    undo: str
    within: float = TOLD_WITHIN
    is_told: bool = True
    """False: Prometheus sees it, and it is not told because its cause is, or cannot be."""


def note(sentence: str) -> None:
    """For who wants to know how long it took."""
    (managed.ROOT / "build").mkdir(exist_ok=True)
    with (managed.ROOT / "build/monitoring.log").open("a") as opened:
        opened.write(f"{sentence}\n")


def stop(unit: str, *alert: str) -> Fault:
    return Fault(alert, f"systemctl stop {unit}", f"systemctl start {unit}")


SHORT_CERTIFICATE = """
cp -p /etc/salon/tls/salon.pem /root/salon.pem
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 5 -subj /CN=salon.test \
    -addext subjectAltName=DNS:salon.test -keyout /root/k -out /root/c 2>/dev/null
cat /root/c /root/k >/etc/salon/tls/salon.pem
systemctl reload nginx; sleep 1; systemctl start salon-ages
"""
HELD_UP = """
systemd-run --unit held-up bash -c 'while :; do pid=$(systemctl show -P MainPID daphne@2)
kill -STOP $pid; sleep 1; kill -CONT $pid; sleep 0.2; done'
"""
ASKERS = """
systemd-run --unit askers bash -c 'while :; do
curl -sk -o /dev/null https://salon.test/readyz --connect-to ::127.0.0.1; sleep 0.2; done'
"""
BROKEN_RULES = """
cp -p /etc/prometheus/salon-alerts.yml /root; echo : >/etc/prometheus/salon-alerts.yml; systemctl reload prometheus
"""

CERTIFICATE_AGAIN = """
mv /root/salon.pem /etc/salon/tls/salon.pem; systemctl reload nginx; sleep 1; systemctl start salon-ages
"""
LET_GO = "systemctl stop held-up; kill -CONT $(systemctl show -P MainPID daphne@2)"

ROUNDS = {
    "services": [
        # Its socket too: systemd starts a process again as soon as somebody asks for it.
        Fault(
            ("ProcessDown", PROCESS),
            f"systemctl stop {PROCESS}.socket {PROCESS}",
            f"systemctl start {PROCESS}.socket {PROCESS}",
        ),
        stop("redis-server", "RedisDown"),
        stop("nginx", "NginxDown"),
        stop("prometheus-node-exporter", "ExporterDown", "node"),
        stop("prometheus-postgres-exporter", "ExporterDown", "postgres"),
    ],
    "the database, and what else fails": [
        # The last to be brought back: a backup needs the database.
        Fault(
            ("BackupFailed", "salon-backup.service"),
            "chmod 000 /var/backups/salon; systemctl start salon-backup || true",
            "chmod 700 /var/backups/salon; systemctl start salon-backup",
        ),
        stop("postgresql@$(ls /etc/postgresql)-main", "DatabaseDown"),
        stop("prometheus-nginx-exporter", "ExporterDown", "nginx"),
        stop("prometheus-redis-exporter", "ExporterDown", "redis"),
        Fault(("CertificateEnds",), SHORT_CERTIFICATE, CERTIFICATE_AGAIN),
        Fault(
            ("UnitFailed", "salon-broken.service"),
            "systemd-run --unit salon-broken false",
            "systemctl reset-failed salon-broken",
        ),
        Fault(
            ("RulesBroken",),
            BROKEN_RULES,
            "cp -p /root/salon-alerts.yml /etc/prometheus; systemctl reload prometheus",
        ),
    ],
    "too much to do": [
        Fault(("EventLoopLag", "daphne@2"), HELD_UP, LET_GO, within=240),
        # Its own cause is told.
        stop("postgresql@$(ls /etc/postgresql)-main", "DatabaseDown"),
        Fault(("ErrorRate",), ASKERS, "systemctl stop askers", within=240, is_told=False),
    ],
    "the host": [stop("salon-exporters", "HostDown")],
}


class TestSight:
    def test_every_target_is_up(self, watched, well):
        targets = watched.prometheus("targets?state=active")["activeTargets"]
        processes = int(watched.shell("nproc"))
        seen = sorted((each["labels"]["job"], each["labels"]["instance"], each["health"]) for each in targets)
        name = watched.name
        assert seen == sorted(
            [(job, name, "up") for job in ("alertmanager", "nginx", "node", "postgres", "prometheus", "redis")]
            + [("salon", f"{name} daphne@{number + 1}", "up") for number in range(processes)]
        )

    def test_every_rule_is_loaded_and_can_be_worked_out(self, watched, well):
        written = yaml.safe_load(watched.shell("cat /etc/prometheus/salon-alerts.yml"))
        rules = [rule for group in watched.prometheus("rules")["groups"] for rule in group["rules"]]
        assert sorted(rule["name"] for rule in rules) == sorted(
            rule["alert"] for group in written["groups"] for rule in group["rules"]
        )
        assert {rule["health"] for rule in rules} == {"ok"}

    @pytest.mark.parametrize(
        "expression",
        [
            "nginx_up == 1",
            "redis_up == 1",
            "pg_up == 1",
            "salon_service_up",
            "node_systemd_unit_state",
            "salon_certificate_end_timestamp_seconds > time()",
            "salon_backup_timestamp_seconds > 0",
            "node_filesystem_avail_bytes",
            "node_timex_sync_status",
            "pg_stat_database_xact_commit{datname='salon'}",
        ],
    )
    def test_each_exporter_sees_what_it_is_there_for(self, watched, well, expression):
        assert watched.query(expression)

    def test_a_sign_of_life_is_given(self, watched, well):
        wait_until(lambda: ("Heartbeat",) in watched.told(well, "firing"), "the next sign of life", 90)


class TestDoor:
    ASK = "curl -s -o /dev/null -w '%{http_code}' --cacert /etc/salon/exporters/door.pem --connect-to ::127.0.0.1:9443 https://salon-exporters"

    def test_it_opens_for_who_knows_the_secret(self, watched):
        assert watched.shell(f"{self.ASK}/node") == "401"
        assert watched.shell(f"{self.ASK}/node -H 'Authorization: Bearer {'x' * 64}'") == "401"
        assert watched.shell(f'{self.ASK}/node -H "Authorization: Bearer $(cat /etc/prometheus/salon-secret)"') == "200"

    def test_nothing_of_it_listens_to_the_network(self, watched):
        listening = watched.shell("ss -Hltn | awk '{print $4}'").splitlines()
        ports = {8088, 9090, 9093, 9100, 9113, 9121, 9187, 9443}
        assert {each for each in listening if int(each.rpartition(":")[2]) in ports} == {
            f"127.0.0.1:{port}" for port in ports
        }

    def test_the_exporter_of_redis_sees_numbers_only(self, watched):
        refused = (
            ". /etc/default/prometheus-redis-exporter; redis-cli -s /run/redis/redis-server.sock --no-auth-warning "
            '--user salon_monitoring --pass "$REDIS_PASSWORD"'
        )
        assert "redis_version" in watched.shell(f"{refused} info server")
        for command in ("publish salon x", "client list", "config get '*'", "keys '*'", "acl list", "monitor"):
            assert "NOPERM" in watched.shell(f"{refused} {command}")

    def test_the_exporter_of_postgresql_reads_no_message(self, watched):
        ask = "runuser -u prometheus -- psql -h /run/postgresql -U salon_monitoring salon -At 2>&1 || true"
        assert watched.shell(ask, given="SELECT count(*) > 0 FROM pg_stat_activity") == "t"
        for table in ("chat_chatmessage", "chat_user"):
            assert "permission denied" in watched.shell(ask, given=f"TABLE public.{table}")


class TestHost:
    @pytest.mark.parametrize("declared", OWN, ids=lambda declared: declared.path)
    def test_file(self, watched, declared):
        shown = watched.shell(f"stat --format '%U %G %a' {declared.path}")
        assert shown == f"{declared.owner} {declared.group} {declared.mode:o}"

    @pytest.mark.parametrize(
        "unit",
        [
            "prometheus",
            "prometheus-alertmanager",
            "prometheus-node-exporter",
            "prometheus-nginx-exporter",
            "prometheus-redis-exporter",
            "prometheus-postgres-exporter",
            "salon-exporters",
            "salon-ages",
        ],
    )
    def test_sandbox(self, watched, unit):
        watched.shell(f"systemd-analyze security --no-pager --threshold=29 {unit}.service")

    def test_nothing_has_failed(self, watched):
        assert watched.shell("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.parametrize("round_name", ROUNDS)
def test_of_what_stops_somebody_is_told(watched, well, round_name):
    faults = ROUNDS[round_name]
    began = {}
    for fault in faults:
        began[fault.alert] = time.time()
        watched.shell(fault.do)
    try:
        for fault in faults:
            since = began[fault.alert]

            def seen(fault=fault, since=since):
                return fault.alert in (watched.told(since, "firing") if fault.is_told else watched.firing())

            wait_until(seen, f"{fault.alert} to be told", since + fault.within - time.time() + 5)
            at = watched.told(since, "firing").get(fault.alert, time.time())
            note(f"{' '.join(fault.alert)}: told after {at - since:.0f} s")
            assert at - since <= fault.within
    finally:
        ended = time.time()
        for fault in reversed(faults):
            watched.shell(fault.undo)
    for fault in faults:
        if fault.is_told:
            wait_until(
                lambda fault=fault: fault.alert in watched.told(ended, "resolved"), f"the end of {fault.alert}", 240
            )
            note(f"{' '.join(fault.alert)}: over after {watched.told(ended, 'resolved')[fault.alert] - ended:.0f} s")
