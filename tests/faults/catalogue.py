"""The faults: what is done to the host, for how long, and how long anybody may see nothing new meanwhile.

Commands are the host's own, and run there as root. A fault begins before the first of them and ends after the last.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from faults.testhost import Host

Act = Callable[[Host], Awaitable[object]]
Bound = Callable[[float], float]


@dataclass(frozen=True)
class Fault:
    """One way in which something dies.

    `title` has a place for `lasts`: seconds between what begins it and what ends it. `short`: the same in the short
    form, which the fault is not a part of without it. `allowed`: the longest silence, in seconds, by the seconds that
    the fault has lasted. `before`: what it needs, done while nobody watches, and undone by `afterwards`.
    """

    name: str
    title: str
    begin: Act
    end: Act | None = None
    lasts: float = 0.0
    short: float | None = None
    allowed: Bound = lambda lasted: lasted + 2
    before: Act | None = None
    afterwards: Act | None = None


def shell(commands: str) -> Act:
    """Run these commands on the host."""
    return lambda host: host.shell(commands)


def in_all(seconds: float) -> Bound:
    """However long it takes."""
    return lambda _: seconds


def after(seconds: float) -> Bound:
    """So much more than the fault itself lasts."""
    return lambda lasted: lasted + seconds


# A fault that touches nothing proves nothing: each of these fails unless it has done something.

REDIS, DATABASE = 6379, 5432
LATE = 10_000
"""Added to a port: where what is delayed goes through."""

POSTGRESQL = 'database=postgresql@$(ls /etc/postgresql)-main.service; systemctl {} "$database"'
TERMINATE = (
    'runuser -u postgres -- psql -qAtXc "select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity'
    " where backend_type = 'client backend' and pid <> pg_backend_pid()\" | grep -qx t"
)
CLOCK = "/etc/salon-faults/clock"
TURNED = (
    'until runuser -u postgres -- psql -qAtXc "select extract(epoch from now()) > $(date +%s) + 3000" | grep -qx t;'
    " do sleep 0.1; done"
)
RESTART_ALL = f"""
systemctl daemon-reload
{POSTGRESQL.format("restart")}
for number in 1 2 3; do systemctl restart daphne@$number.service; done
"""
GO_BY_CLOCK = f"""
install -D -m 644 /etc/salon-faults/daphne.conf /etc/systemd/system/daphne@.service.d/clock.conf
for cluster in /etc/postgresql/*/main; do
  cp $cluster/environment /etc/salon-faults/environment.before
  cp /etc/salon-faults/postgresql.environment $cluster/environment
done
{RESTART_ALL}"""
GO_BY_OWN_CLOCK = f"""
rm -f /etc/systemd/system/daphne@.service.d/clock.conf
for cluster in /etc/postgresql/*/main; do cp /etc/salon-faults/environment.before $cluster/environment; done
{RESTART_ALL}"""
SUBSCRIPTIONS = (
    "redis-cli -s /run/redis/redis-server.sock --user faults --pass any --no-auth-warning"
    " client kill type pubsub | grep -qx '[1-9][0-9]*'"
)
HEAL = "nft delete table inet faults"
SEEN_TO_HEAL = f"nft list table inet faults | grep -Eq 'counter packets [1-9]'; {HEAL}"


def cut(port: int, how: str = "") -> str:
    """Drop packets of a link in both directions."""
    return (
        "nft 'table inet faults { chain cut { type filter hook output priority 0;"
        f" tcp dport {port} {how} counter drop; tcp sport {port} {how} counter drop; }}; }}'"
    )


def lead_through(port: int) -> str:
    """Lead new connections of the application through `delay.py`, which is root's."""
    return (
        "nft 'table inet faults { chain late { type nat hook output priority -100;"
        f" ip daddr 127.0.0.1 tcp dport {port} meta skuid != 0 counter redirect to :{port + LATE}; }}; }}'"
    )


def delay(port: int, end_connections: str) -> str:
    """Let what goes over a link take 200 ms longer in each direction."""
    begin = f"systemd-run --quiet --unit faults-delay python3 /etc/salon-faults/delay.py 0.2 {port + LATE}:{port}"
    listening = f"until ss -Hltn 'sport = :{port + LATE}' | grep -q .; do sleep 0.05; done"
    return "\n".join((begin, listening, lead_through(port), end_connections))


UNDELAY = f"{SEEN_TO_HEAL}; systemctl stop faults-delay.service"

FAULTS = (
    Fault(
        "kill-process",
        "`kill -9` of one process",
        shell("systemctl kill --signal KILL daphne@1.service"),
        short=0,
        allowed=in_all(3),
    ),
    Fault(
        "stop-process",
        "`SIGSTOP` of one process for {:g} s",
        shell("systemctl kill --kill-whom main --signal STOP daphne@2.service"),
        shell("systemctl kill --kill-whom main --signal CONT daphne@2.service || true"),
        lasts=40,
    ),
    Fault(
        "restart-processes",
        "`systemctl restart` of each process in turn",
        shell("for number in 1 2 3; do systemctl restart daphne@$number.service; done"),
        short=0,
        allowed=in_all(3),
    ),
    Fault("restart-redis", "Redis restarted", shell("systemctl restart redis-server.service")),
    Fault(
        "kill-redis",
        "Redis killed for {:g} s",
        shell("systemctl kill --signal KILL redis-server.service; systemctl stop redis-server.service"),
        shell("systemctl start redis-server.service"),
        lasts=30,
        short=5,
    ),
    Fault("end-subscriptions", "Redis' `CLIENT KILL TYPE pubsub`", shell(SUBSCRIPTIONS)),
    Fault("restart-database", "PostgreSQL restarted", shell(POSTGRESQL.format("restart")), short=0),
    Fault(
        "kill-database",
        "PostgreSQL killed for {:g} s",
        shell(f"{POSTGRESQL.format('kill --signal KILL')}; {POSTGRESQL.format('stop')}"),
        shell(POSTGRESQL.format("start")),
        lasts=30,
    ),
    Fault("end-sessions", "PostgreSQL's `pg_terminate_backend` on all", shell(TERMINATE)),
    Fault("reload-nginx", "nginx reloaded", shell("systemctl reload nginx.service")),
    Fault("restart-nginx", "nginx restarted", shell("systemctl restart nginx.service")),
    Fault(
        "cut-redis",
        "the link to Redis cut for {:g} s",
        shell(cut(REDIS)),
        shell(SEEN_TO_HEAL),
        lasts=20,
        short=5,
    ),
    Fault(
        "cut-database",
        "the link to the database cut for {:g} s",
        shell(cut(DATABASE)),
        shell(SEEN_TO_HEAL),
        lasts=20,
        short=5,
    ),
    Fault(
        "lossy-redis",
        "5 % of the packets to and from Redis lost, for {:g} s",
        shell(cut(REDIS, "numgen random mod 100 < 5")),
        shell(SEEN_TO_HEAL),
        lasts=20,
    ),
    Fault(
        "lossy-database",
        "5 % of the packets to and from the database lost, for {:g} s",
        shell(cut(DATABASE, "numgen random mod 100 < 5")),
        shell(SEEN_TO_HEAL),
        lasts=20,
    ),
    Fault(
        "late-redis",
        "200 ms of delay to and from Redis, for {:g} s",
        shell(delay(REDIS, SUBSCRIPTIONS)),
        shell(UNDELAY),
        lasts=20,
    ),
    Fault(
        "late-database",
        "200 ms of delay to and from the database, for {:g} s",
        shell(delay(DATABASE, TERMINATE)),
        shell(UNDELAY),
        lasts=20,
    ),
    Fault(
        "full-disk",
        "the database's disk full for {:g} s",
        shell("cd /var/lib/postgresql; fallocate -l $(df --output=avail -B1 . | tail -1) ballast"),
        shell("rm /var/lib/postgresql/ballast"),
        lasts=20,
    ),
    Fault(
        "turn-clock",
        "the clock of application and database set an hour forwards, and back after {:g} s",
        shell(f"echo +3600 >{CLOCK}; {TURNED}"),
        shell(f"echo +0 >{CLOCK}"),
        lasts=10,
        before=shell(GO_BY_CLOCK),
        afterwards=shell(GO_BY_OWN_CLOCK),
    ),
    Fault("reboot", "the whole host rebooted", lambda host: host.restart(), allowed=after(10)),
)

RESTORE = f"""
{HEAL} 2>/dev/null || true
systemctl stop faults-delay.service 2>/dev/null || true
rm -f /var/lib/postgresql/ballast
echo +0 >{CLOCK}
systemctl kill --kill-whom main --signal CONT 'daphne@*.service' 2>/dev/null || true
systemctl start redis-server.service nginx.service
{POSTGRESQL.format("start")}
for number in 1 2 3; do systemctl start daphne@$number.service; done
"""
"""Undoes whatever a fault that went wrong has left."""
