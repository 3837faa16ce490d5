"""The playbook again: looking only, with fewer processes, after an interruption, when the certificate ends."""

import pytest

from waiting import wait_until


def unit_state(host, unit):
    shown = host.check_output(f"systemctl show --property ActiveState,UnitFileState {unit}")
    return dict(line.split("=") for line in shown.splitlines())


def test_check_of_a_finished_host_changes_nothing(checked):
    said, changed = checked
    assert changed == 0, said


@pytest.mark.parametrize(
    "role", ["common", "firewall", "redis", "postgresql", "certificate", "nginx", "daphne", "backup"]
)
def test_every_role_has_a_tag_that_works_alone(playbook, role):
    said, changed = playbook("--check", "--tags", role, "-v")
    assert changed == 0, said
    assert f"TASK [{role} : " in said


def test_frontend_lines_close_the_run(checked, domain):
    said, _ = checked
    for line in (
        f"NEXT_PUBLIC_WS_HOST={domain}",
        "NEXT_PUBLIC_WS_PROTOCOL=wss",
        "NEXT_PUBLIC_API_TOKEN=",
        f"NEXT_PUBLIC_API_BASE_URL=https://{domain}",
    ):
        assert line in said.split()


def sentence(said):
    """Without the line breaks that Ansible puts into what it shows."""
    return " ".join(said.split())


def test_a_taken_port_is_refused(host, playbook, instance):
    host.run_expect([0], "systemctl stop nginx.service")
    host.run_expect([0], "systemd-run --unit squatter python3 -m http.server 80")
    try:
        wait_until(lambda: host.socket("tcp://0.0.0.0:80").is_listening, "the squatter")
        said, changed = playbook(succeeds=False)
    finally:
        host.run_expect([0], "systemctl stop squatter.service")
        host.run_expect([0], "systemctl start nginx.service")
    assert f"{instance}: port 80 is taken by python3; stop that, or set nginx_http_port to another port." in sentence(
        said
    )
    assert changed == 0


def test_another_system_is_refused(playbook, instance):
    said, changed = playbook("--extra-vars", '{"preflight_debian_releases": ["11"]}', succeeds=False)
    assert f"{instance}: it runs Debian 1" in sentence(said)
    assert "Salon needs Debian 11." in sentence(said)
    assert changed == 0


@pytest.mark.parametrize(
    "elsewhere",
    ["daphne_redis_url=redis://192.0.2.8:6379", "daphne_database_url=postgresql://salon:known@192.0.2.8/salon"],
)
def test_what_the_processes_could_not_reach_is_refused(playbook, elsewhere):
    said, changed = playbook("--tags", "always", "--extra-vars", elsewhere, succeeds=False)
    assert "write the address into daphne_network_addresses." in sentence(said)
    assert changed == 0


def test_fewer_processes_and_an_interrupted_release(host, playbook, processes, fetch, wait_ready):
    many = max(processes)
    playbook("--tags", "daphne,nginx", "--extra-vars", "daphne_processes=1")
    for kind in ("socket", "service"):
        for number in range(2, many + 1):
            assert unit_state(host, f"daphne@{number}.{kind}") == {
                "ActiveState": "inactive",
                "UnitFileState": "disabled",
            }
        assert unit_state(host, f"daphne@1.{kind}") == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert "daphne-2.sock" not in host.file("/etc/nginx/conf.d/salon.conf").content_string
    assert fetch("/readyz").status == 200

    # As if somebody had removed a part.
    host.run_expect([0], "rm /opt/salon/current/release.json /opt/salon/current/venv/.complete")
    host.run_expect([0], "rm /opt/salon/current/venv/bin/daphne")
    _, changed = playbook("--tags", "daphne,nginx")
    assert changed
    assert host.file("/opt/salon/current/release.json").exists
    assert host.file("/opt/salon/current/venv/bin/daphne").exists
    for number in processes:
        for kind in ("socket", "service"):
            assert unit_state(host, f"daphne@{number}.{kind}") == {"ActiveState": "active", "UnitFileState": "enabled"}
    wait_ready()


def test_a_deploy_of_what_runs_changes_nothing(playbook, host):
    said, changed = playbook(name="deploy")
    assert changed == 0, said
    current = host.check_output("basename $(readlink /opt/salon/current)")
    assert f"runs release {current} already." in sentence(said)


def test_a_rollback_has_to_have_somewhere_to_go(playbook):
    said, changed = playbook(name="rollback", succeeds=False)
    assert changed == 0
    assert "There is no earlier release here that was good" in sentence(said)


def test_certificate_is_renewed_by_the_host(host, playbook, fetch, authority):
    def serial():
        return host.check_output(
            "openssl s_client -connect localhost:443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
        )

    trusted = authority.read_bytes()
    before = serial()
    host.run_expect([0], "salon-certificate renew --force")
    assert serial() != before
    _, changed = playbook("--tags", "certificate")
    assert changed == 0
    assert authority.read_bytes() == trusted
    assert fetch("/healthz").status == 200


@pytest.fixture
def refused(playbook):
    """What the playbook says when it refuses to go on before it changes anything."""

    def refused(*extra):
        given = [argument for each in extra for argument in ("--extra-vars", each)]
        said, changed = playbook("--tags", "always", *given, succeeds=False)
        assert changed == 0
        return " ".join(said.split())

    return refused


def test_a_host_that_serves_something_else_is_not_taken_over(host, refused):
    host.run_expect([0], "mv /etc/salon /etc/salon.away")
    try:
        said = refused()
    finally:
        host.run_expect([0], "mv /etc/salon.away /etc/salon")
    assert "nginx, redis-server, postgresql is installed already" in said


@pytest.fixture
def set_aside(inventory):
    """Take a file of the inventory away for a while."""
    aside = []

    def set_aside(path):
        # Not into the inventory, whose files are read.
        aside.append((path.rename(inventory.parent / f"{path.name}.away"), path))

    yield set_aside
    for away, path in aside:
        away.replace(path)


def test_secrets_are_not_opened_without_their_password(inventory, refused, set_aside):
    file, password = inventory / "secrets.yml", inventory.parent / "vault-password"
    assert [path.stat().st_mode & 0o777 for path in (file, password)] == [0o600, 0o600]
    set_aside(password)
    assert "is encrypted, and there is no vault password; write it from your password manager" in refused()


def test_keys_of_a_living_host_are_taken_over(inventory, playbook, set_aside):
    set_aside(inventory / "secrets.yml")
    # Were one of them another one, this would be refused: see below.
    said, changed = playbook("--tags", "always")
    assert changed == 1, said
    assert "encrypted: taken over secret_key, token_key" in sentence(said)
    assert not (inventory / "secrets").exists()


def test_keys_of_a_living_host_are_not_replaced(refused):
    assert "it runs with a key that the inventory does not know" in refused("daphne_token_key=" + "k" * 64)
