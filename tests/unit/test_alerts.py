"""What Prometheus makes of numbers: every alert, by what fires it and by what does not, as promtool works it out."""

import hashlib
import re
import subprocess
from dataclasses import dataclass

import pytest
import test_bundle
import yaml

render = test_bundle.TestTemplates().render

DAY = 86_400
EVERYTHING_UP = {f'up{{job="{job}", host="chat"}}': "1x40" for job in ("node", "nginx", "redis", "postgres", "salon")}
MACHINE = {
    'node_memory_MemTotal_bytes{host="chat"}': "1000x40",
    'node_filesystem_size_bytes{host="chat", mountpoint="/", fstype="ext4"}': "1000x40",
    'node_filesystem_readonly{host="chat", mountpoint="/", fstype="ext4"}': "0x40",
}


@dataclass(frozen=True)
class Case:
    """Series, with what they are from one look to the next, every ten seconds."""

    alert: str
    series: dict[str, str]
    fires: dict[str, str] | None
    """The labels that tell which one it is; None: it does not fire."""
    at: str = "5m"

    def document(self) -> dict:
        labels = {"alertname": self.alert, "alertstate": "firing", **(self.fires or {})}
        shown = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        return {
            "interval": "10s",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'ALERTS{{alertname="{self.alert}", alertstate="firing"}}',
                    "eval_time": self.at,
                    "exp_samples": [{"labels": f"ALERTS{{{shown}}}", "value": 1}] if self.fires else [],
                }
            ],
        }


def down(job: str) -> dict[str, str]:
    return EVERYTHING_UP | {f'up{{job="{job}", host="chat"}}': "1x5 0x35"}


def histogram(name: str, within: float, labels: str = "") -> dict[str, str]:
    """A hundred a look, all of them within these seconds."""
    bounds = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
    return {
        f'{name}_bucket{{host="chat", le="{bound or "+Inf"}"{labels}}}': "0+100x40" if bound >= within else "0x40"
        for bound in bounds
    } | {f'{name}_bucket{{host="chat", le="+Inf"{labels}}}': "0+100x40"}


CHAT = {"host": "chat"}
CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}
NOTHING_UP = dict.fromkeys(EVERYTHING_UP, "1x5 0x35")
ONE_PROCESS = {'up{job="salon", host="chat", process="daphne@1"}': "1x5 0x35"}
UNIT = 'node_systemd_unit_state{host="chat", name="%s", state="failed"}'
REQUESTS = 'salon_http_requests_total{host="chat", status="%s"}'
ERRORS = 'salon_errors_sent_total{host="chat", code="%s"}'
# As a process begins: with what there has been nothing of yet.
EVENTS = {
    'salon_events_received_total{host="chat", type="message"}': "0+100x40",
    'salon_handshakes_total{host="chat", outcome="opened"}': "0+1x40",
    'salon_handshakes_total{host="chat", outcome="failed"}': "0x40",
    REQUESTS % "200": "0x40",
    REQUESTS % "500": "0x40",
    ERRORS % "unavailable": "0x40",
}

CASES = [
    Case("HostDown", NOTHING_UP, CHAT | CRITICAL),
    Case("HostDown", down("node"), None),
    # A look that fails once is none.
    Case("HostDown", dict.fromkeys(EVERYTHING_UP, "1x10 0 0 1x28"), None, at="2m"),
    Case("ProcessDown", EVERYTHING_UP | ONE_PROCESS, CHAT | CRITICAL | {"job": "salon", "process": "daphne@1"}),
    # Of a host that is down, its processes are not told one by one.
    Case("ProcessDown", NOTHING_UP, None),
    Case("ProcessDown", EVERYTHING_UP, None),
    Case("NginxDown", {'nginx_up{host="chat"}': "1x5 0x35"}, CHAT | CRITICAL),
    Case("NginxDown", {'nginx_up{host="chat"}': "1x40"}, None),
    Case("RedisDown", {'redis_up{host="chat"}': "1x5 0x35"}, CHAT | CRITICAL),
    Case("RedisDown", {'redis_up{host="chat"}': "1x40"}, None),
    Case("DatabaseDown", {'pg_up{host="chat"}': "1x5 0x35"}, CHAT | CRITICAL),
    Case("DatabaseDown", {'pg_up{host="chat"}': "1x40"}, None),
    Case(
        "ServiceAway",
        {
            'salon_service_up{host="chat", process="daphne@1", service="storage"}': "1x5 0x35",
            'salon_service_up{host="chat", process="daphne@2", service="storage"}': "1x40",
        },
        CHAT | CRITICAL | {"service": "storage"},
    ),
    Case("ServiceAway", {'salon_service_up{host="chat", service="storage"}': "1x40"}, None),
    Case("ExporterDown", down("redis"), CHAT | WARNING | {"job": "redis"}),
    Case("ExporterDown", NOTHING_UP, None),
    Case("ExporterDown", EVERYTHING_UP, None),
    Case(
        "UnitFailed",
        {UNIT % "nginx.service": "0x5 1x35"},
        CHAT | WARNING | {"name": "nginx.service", "state": "failed"},
    ),
    Case("UnitFailed", {UNIT % "nginx.service": "0x40"}, None),
    Case("UnitFailed", {UNIT % "salon-backup.service": "0x5 1x35"}, None),
    Case("ErrorRate", EVENTS | {REQUESTS % "500": "0+10x40", REQUESTS % "200": "0+1x40"}, CHAT | CRITICAL),
    Case("ErrorRate", EVENTS | {ERRORS % "unavailable": "0+10x40"}, CHAT | CRITICAL),
    Case("ErrorRate", EVENTS | {REQUESTS % "500": "0+4x40", REQUESTS % "200": "0+100x40"}, None),
    # Refusals are the client's business.
    Case("ErrorRate", EVENTS | {REQUESTS % "500": "0x40", REQUESTS % "404": "0+1000x40"}, None),
    Case("DeliverySlow", histogram("salon_message_delivery_seconds", 2.5), CHAT | WARNING),
    Case("DeliverySlow", histogram("salon_message_delivery_seconds", 1.0), None),
    Case(
        "EventLoopLag",
        histogram("salon_event_loop_lag_seconds", 0.5, ', process="daphne@2"'),
        CHAT | WARNING | {"process": "daphne@2"},
    ),
    Case("EventLoopLag", histogram("salon_event_loop_lag_seconds", 0.25, ', process="daphne@2"'), None),
    Case("MessageGaps", {'salon_gaps_filled_total{host="chat"}': "0+2x40"}, CHAT | WARNING),
    Case("MessageGaps", {'salon_gaps_filled_total{host="chat"}': "0+1x40"}, None),
    Case(
        "DiskFull",
        MACHINE | {'node_filesystem_avail_bytes{host="chat", mountpoint="/", fstype="ext4"}': "99x40"},
        CHAT | CRITICAL | {"mountpoint": "/", "fstype": "ext4"},
    ),
    Case(
        "DiskFull",
        MACHINE | {'node_filesystem_avail_bytes{host="chat", mountpoint="/", fstype="ext4"}': "101x40"},
        None,
    ),
    Case("MemoryLow", MACHINE | {'node_memory_MemAvailable_bytes{host="chat"}': "99x40"}, CHAT | WARNING),
    Case("MemoryLow", MACHINE | {'node_memory_MemAvailable_bytes{host="chat"}': "101x40"}, None),
    # Six seconds ahead of who asks.
    Case("ClockWrong", {'node_time_seconds{host="chat"}': "6+10x100"}, CHAT | WARNING, at="15m"),
    Case("ClockWrong", {'node_time_seconds{host="chat"}': "1+10x100"}, None, at="15m"),
    Case(
        "ClockWrong",
        {
            'node_timex_sync_status{host="chat"}': "0x100",
            'node_timex_maxerror_seconds{host="chat"}': "16x100",
        },
        CHAT | WARNING,
        at="15m",
    ),
    Case(
        "CertificateEnds", {'salon_certificate_end_timestamp_seconds{host="chat"}': f"{14 * DAY}x40"}, CHAT | CRITICAL
    ),
    Case("CertificateEnds", {'salon_certificate_end_timestamp_seconds{host="chat"}': f"{15 * DAY}x40"}, None),
    Case("BackupOld", {'salon_backup_timestamp_seconds{host="chat"}': f"{-26 * 3600}x40"}, CHAT | CRITICAL),
    Case("BackupOld", {'salon_backup_timestamp_seconds{host="chat"}': f"{-25 * 3600}x40"}, None),
    Case(
        "BackupFailed",
        {UNIT % "salon-backup.service": "0x5 1x35"},
        CHAT | CRITICAL | {"name": "salon-backup.service", "state": "failed"},
    ),
    Case("BackupFailed", {UNIT % "nginx.service": "0x5 1x35"}, None),
    Case(
        "AgesUnknown",
        {'node_textfile_mtime_seconds{host="chat", file="/var/lib/salon-exporters/salon.prom"}': "0x100"},
        CHAT | WARNING | {"file": "/var/lib/salon-exporters/salon.prom"},
        at="15m",
    ),
    Case(
        "AgesUnknown",
        {'node_textfile_mtime_seconds{host="chat", file="/var/lib/salon-exporters/salon.prom"}': "0+10x100"},
        None,
        at="15m",
    ),
    Case("RulesBroken", {'prometheus_config_last_reload_successful{host="chat"}': "1x5 0x35"}, CHAT | WARNING),
    Case("RulesBroken", {'prometheus_config_last_reload_successful{host="chat"}': "1x40"}, None),
    Case("NotTold", {'alertmanager_notifications_failed_total{host="chat"}': "0+1x40"}, CHAT | CRITICAL),
    Case("NotTold", {'alertmanager_notifications_failed_total{host="chat"}': "5x40"}, None),
    Case("Heartbeat", {}, {"severity": "none"}),
]


@pytest.fixture(scope="module")
def rules() -> str:
    return render("etc/prometheus/salon-alerts.yml")


def alerts(rules: str) -> list[dict]:
    return [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_fires_for_its_cause_and_for_nothing_else(rules, tmp_path):
    (tmp_path / "alerts.yml").write_text(rules)
    document = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "10s",
        "tests": [case.document() for case in CASES],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", tmp_path / "test.yml")


def test_of_each_it_is_tested_that_it_fires_and_that_it_does_not(rules):
    names = {rule["alert"] for rule in alerts(rules)}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names - {"Heartbeat"}


def test_each_says_what_it_means_and_leads_to_what_to_do(rules):
    page = (test_bundle.ROOT / "docs/monitoring.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^#{2,3} (\w+)$", page, re.MULTILINE)}
    for rule in alerts(rules):
        told = rule["annotations"]
        assert told["summary"]
        assert told["description"]
        page_path, _, heading = told["runbook_url"].partition("#")
        assert (test_bundle.ROOT / page_path).is_file()
        assert heading in headings, rule["alert"]


def test_what_is_given_to_prometheus_is_sound(rules, tmp_path):
    configuration = render("etc/prometheus/prometheus.yml")
    (tmp_path / "salon-alerts.yml").write_text(rules)
    for name in ("salon-secret", "salon-doors.pem"):
        (tmp_path / name).write_text(render(f"etc/prometheus/{name}"))
    (tmp_path / "prometheus.yml").write_text(configuration.replace("/etc/prometheus", str(tmp_path)))
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_each_process_is_asked_by_itself():
    jobs = yaml.safe_load(render("etc/prometheus/prometheus.yml"))["scrape_configs"]
    salon = next(job for job in jobs if job["job_name"] == "salon")
    assert [each["labels"]["__metrics_path__"] for each in salon["static_configs"]] == [
        "/salon/1",
        "/salon/2",
        "/salon/3",
    ]
    # Whatever leaves the host is encrypted and known by its certificate.
    for job in jobs:
        if job["job_name"] not in ("prometheus", "alertmanager"):
            assert job["scheme"] == "https"
            assert job["tls_config"]["ca_file"] == "/etc/prometheus/salon-doors.pem"
            assert job["authorization"]["credentials_file"] == "/etc/prometheus/salon-secret"


class TestAlertmanager:
    def configuration(self, **given) -> dict:
        return yaml.safe_load(render("etc/prometheus/alertmanager.yml", **given))

    def test_mail(self):
        given = {
            "monitoring_mail_to": ["a@example.org", "b@example.org"],
            "monitoring_smtp_server": "mail.example.org:587",
        }
        awkward = 'it\'s "quoted": #1'
        told = self.configuration(**given, monitoring_smtp_user="salon", monitoring_smtp_password=awkward)
        assert told["global"]["smtp_auth_password"] == awkward
        assert told["global"]["smtp_require_tls"] is True
        [team, heartbeat] = told["receivers"]
        assert [each["to"] for each in team["email_configs"]] == ["a@example.org", "b@example.org"]
        assert heartbeat == {"name": "heartbeat"}
        assert "smtp_auth_username" not in self.configuration(**given)["global"]

    def test_webhook_and_heartbeat(self):
        told = self.configuration(
            monitoring_webhooks=["https://hooks.example.org/a"], monitoring_heartbeat="https://beats.example.org/b"
        )
        [team, heartbeat] = told["receivers"]
        assert team["webhook_configs"] == [{"url": "https://hooks.example.org/a", "send_resolved": True}]
        assert heartbeat["webhook_configs"] == [{"url": "https://beats.example.org/b", "send_resolved": False}]
        assert "global" not in told


class TestDoor:
    def test_on_the_loopback_where_who_looks_is_on_the_same_host(self):
        assert "listen 127.0.0.1:9443 ssl;" in render("etc/salon/exporters/nginx.conf")

    def test_elsewhere_the_firewall_lets_only_hosts_of_the_inventory_in(self):
        given = {"preflight_watched_from_elsewhere": True, "firewall_peers": ["192.0.2.8"]}
        assert "listen 0.0.0.0:9443 ssl;" in render("etc/salon/exporters/nginx.conf", **given)
        rules = render("etc/nftables.conf", **given)
        assert "ip saddr { 192.0.2.8 } tcp dport { 9443 } accept" in rules
        assert "9443" not in render("etc/nftables.conf")

    def test_a_host_has_only_what_it_runs(self):
        door = render("etc/salon/exporters/nginx.conf", preflight_watched_kinds=["node"])
        assert re.findall(r"location = (/\w+) ", door) == ["/node"]

    def test_old_and_new_open_it_while_the_secret_is_replaced(self):
        door = render("etc/salon/exporters/nginx.conf", exporters_secrets=["n" * 64, "o" * 64])
        assert re.findall(r'"Bearer (\w+)" 1;', door) == ["n" * 64, "o" * 64]

    @pytest.mark.parametrize(
        ("path", "sign"),
        [
            ("etc/redis/redis.conf", "user salon_monitoring on"),
            ("etc/salon/pg_hba.conf", "salon_monitoring"),
            ("etc/salon/pg_ident.conf", "salon_monitoring"),
            ("etc/nginx/conf.d/salon.conf", "stub_status"),
        ],
    )
    def test_nothing_of_it_is_on_a_host_that_nobody_watches(self, path, sign):
        assert sign not in render(path)
        assert sign in render(path, preflight_watched=True)


class TestRoles:
    """A role is given what is its own, and what the inventory and the first plays say."""

    @pytest.mark.parametrize(
        "declared",
        [each for each in test_bundle.managed.files() if each.role in test_bundle.managed.WATCHING],
        ids=lambda declared: declared.path,
    )
    def test_it_needs_nothing_of_another_role(self, declared, monkeypatch):
        monkeypatch.setattr(test_bundle, "SERVING_ROLES", [test_bundle.ROOT / "roles" / declared.role])
        kinds = ["node", "nginx", "redis", "postgres", "salon"]
        assert render(declared.path.lstrip("/"), preflight_watched=True, preflight_watched_kinds=kinds)

    def test_they_agree_on_what_both_need(self):
        given = {"preflight_watched": True}
        redis, exporter = (
            render(path, **given) for path in ("etc/redis/redis.conf", "etc/default/prometheus-redis-exporter")
        )
        password = re.search(r"PASSWORD='(\w+)'", exporter)[1]
        assert f"user salon_monitoring on #{hashlib.sha256(password.encode()).hexdigest()} " in redis
        assert "--redis.user=salon_monitoring" in exporter
        assert re.search(r"unixsocket (\S+)", redis)[1] == re.search(r"unix://(\S+)", exporter)[1]
        place = re.search(r"host=\S+ user=(\w+) dbname=(\w+)", render("etc/default/prometheus-postgres-exporter"))
        assert f"local   {place[2]}   {place[1]}  peer map=salon" in render("etc/salon/pg_hba.conf", **given)
        assert re.search(r"salon +prometheus +(\w+)", render("etc/salon/pg_ident.conf", **given))[1] == place[1]
        port = re.search(
            r"scrape-uri=http://127.0.0.1:(\d+)/", render("etc/default/prometheus-nginx-exporter", **given)
        )[1]
        assert f"listen 127.0.0.1:{port};" in render("etc/nginx/conf.d/salon.conf", **given)
        door = render("etc/systemd/system/salon-exporters.service", preflight_watched_kinds=["node", "salon"])
        assert (
            f"SupplementaryGroups={re.search('SocketGroup=(.+)', render('etc/systemd/system/daphne@.socket'))[1]}"
            in door
        )
