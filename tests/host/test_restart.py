"""What goes away comes back by itself: a process, Redis, PostgreSQL, the whole host."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

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
