"""What goes away comes back by itself: a process, Redis, PostgreSQL, the whole host."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from test_network import dial
from websockets.exceptions import ConnectionClosed

from waiting import wait_until


def main_pid(host, unit):
    return int(host.check_output(f"systemctl show --property MainPID --value {unit}"))


def test_a_killed_process_comes_back(host, fetch, wait_ready):
    before = main_pid(host, "daphne@1.service")
    host.run_expect([0], f"kill -KILL {before}")
    # Its socket is held meanwhile: nobody is refused.
    assert fetch("/healthz").status == 200
    wait_until(lambda: main_pid(host, "daphne@1.service") not in (0, before), "a new process")
    wait_ready()


def test_nobody_is_refused_while_the_processes_restart(host, processes, fetch):
    """One after the other, as the playbook does it; systemd holds the sockets meanwhile."""
    one_by_one = " && ".join(f"systemctl restart daphne@{number}.service" for number in processes)
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(host.run, one_by_one)
        answers = {fetch("/healthz").status}
        while not restart.done():
            answers.add(fetch("/healthz").status)
    assert restart.result().rc == 0
    assert answers == {200}
    for number in processes:
        assert host.service(f"daphne@{number}.socket").is_running


def ask(client):
    """Have an answer from the server."""
    client.send(json.dumps({"type": "ping", "data": {}, "timestamp": "2024-01-15T10:00:00Z"}))
    while json.loads(client.recv(timeout=10))["type"] != "pong":
        pass


def test_who_is_connected_to_a_process_that_restarts_is_told_so_and_is_back(host, address, domain, trust, token):
    """nginx has spread them over the processes: those of the others notice nothing."""
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(address, domain, trust, f"?token={token}")) for _ in range(16)]
        for client in clients:
            ask(client)
        codes = []
        host.run_expect([0], "systemctl restart daphne@1.service")
        for client in clients:
            try:
                ask(client)
            except ConnectionClosed as closed:
                codes.append(closed.rcvd.code if closed.rcvd else 1006)
        assert codes
        assert set(codes) == {1012}
        assert len(codes) < len(clients) or host.check_output("nproc") == "1"
        for _ in codes:
            ask(stack.enter_context(dial(address, domain, trust, f"?token={token}")))


@pytest.fixture
def watched(host):
    """The first process, which has two seconds for a sign of life."""
    drop_in = "/run/systemd/system/daphne@1.service.d"
    host.check_output(f"mkdir --parents {drop_in} && printf '[Service]\\nWatchdogSec=2s\\n' > {drop_in}/watchdog.conf")
    host.check_output("systemctl daemon-reload && systemctl restart daphne@1.service")
    yield "daphne@1.service"
    host.check_output(f"rm --recursive {drop_in}")
    host.check_output("systemctl daemon-reload && systemctl restart daphne@1.service")


def test_a_process_that_hangs_is_started_anew_and_has_said_where_it_hung(host, watched, fetch, wait_ready):
    before = main_pid(host, watched)
    host.run_expect([0], f"kill -STOP {before}")
    assert fetch("/healthz").status == 200
    wait_until(lambda: main_pid(host, watched) not in (0, before), "a new process")
    assert "Fatal Python error: Aborted" in host.check_output(f"journalctl _PID={before} --output cat")
    assert host.check_output(f"systemctl show --property LimitCORE --value {watched}") == "0"
    wait_ready()


def test_redis_restarts(host, processes, wait_ready):
    before = {number: main_pid(host, f"daphne@{number}.service") for number in processes}
    host.run_expect([0], "systemctl restart redis-server.service")
    wait_ready()
    assert {number: main_pid(host, f"daphne@{number}.service") for number in processes} == before


def test_postgresql_restarts(host, processes, wait_ready):
    before = {number: main_pid(host, f"daphne@{number}.service") for number in processes}
    host.run_expect([0], "systemctl restart postgresql.service")
    wait_ready()
    assert {number: main_pid(host, f"daphne@{number}.service") for number in processes} == before


def test_a_killed_database_comes_back(host, wait_ready):
    unit = f"postgresql@{host.check_output('ls /etc/postgresql')}-main.service"
    before = main_pid(host, unit)
    host.run_expect([0], f"systemctl kill --signal KILL {unit}")
    wait_until(lambda: main_pid(host, unit) not in (0, before), "a new PostgreSQL")
    wait_ready()


def test_host_reboots(host, instance, processes, wait_ready):
    def booted():
        return host.run("systemctl is-system-running").stdout.strip() == "running"

    def since():
        return host.check_output("systemctl show --property UserspaceTimestampMonotonic --value")

    before = since()
    subprocess.run(["docker", "restart", "--time", "60", instance], check=True, capture_output=True)
    wait_until(booted, "a boot without a failed unit", 90)
    wait_ready()
    assert since() != before
    for number in processes:
        assert host.service(f"daphne@{number}.service").is_running
