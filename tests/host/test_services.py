"""What the application may do in PostgreSQL and in Redis, and who else comes in there."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

SOCKET = "/run/redis/redis-server.sock"


def as_user(user, command):
    return f"setpriv --reuid {user} --regid {user if user != 'salon-migrate' else 'salon'} --init-groups {command}"


@pytest.fixture
def ask(host):
    """The answer to a statement, by default as the application; None for one that is refused for want of rights."""

    def ask(statement, database="salon", user="salon", role="salon"):
        psql = f"psql --host /run/postgresql --username {role} --no-psqlrc --set ON_ERROR_STOP=1 -qAt {database}"
        done = host.run(f"echo {quoted(statement)} | {as_user(user, psql)}")
        if done.rc == 0:
            return done.stdout.strip()
        refusals = (
            "permission denied",
            "must be owner",
            "pg_hba.conf",
            "Peer authentication failed",
            "must be superuser",
        )
        assert any(refusal in done.stderr for refusal in refusals), done.stderr
        return None

    return ask


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "CREATE EXTENSION dblink",
        "DROP TABLE chat_chatmessage CASCADE",
        "DROP DATABASE salon",
        "TRUNCATE chat_chatmessage CASCADE",
        "ALTER TABLE chat_user ADD mine integer",
        "ALTER TABLE chat_chatroom DISABLE TRIGGER USER",
        "ALTER DATABASE salon SET log_statement = 'all'",
        "SET ROLE salon_owner",
        "SET ROLE postgres",
        "COPY chat_user TO PROGRAM 'cat'",
        "COPY chat_user TO '/tmp/people'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_application_has_no_more_than_the_rows(ask, statement):
    assert ask(f"BEGIN; {statement}" if "DATABASE" not in statement else statement) is None


def test_the_application_owns_nothing(ask):
    assert ask("SELECT count(*) FROM pg_class WHERE relowner = 'salon'::regrole") == "0"
    assert ask("SELECT count(*) FROM pg_database WHERE datdba = 'salon'::regrole") == "0"
    assert ask("SELECT count(*) FROM chat_user WHERE id < 0") == "0"


@pytest.mark.parametrize(
    "given",
    [
        {"database": "postgres"},
        {"database": "template1"},
        {"role": "postgres"},
        {"role": "salon_owner"},
        {"user": "salon-migrate"},
        {"user": "salon-migrate", "role": "postgres"},
        {"user": "redis"},
        {"user": "salon-backup"},
        {"role": "salon_backup"},
        {"user": "www-data", "role": "salon_owner"},
    ],
    ids=str,
)
def test_nobody_comes_in_as_somebody_else_or_elsewhere(ask, given):
    assert ask("SELECT 1", **given) is None


def test_who_backs_up_reads_and_writes_nothing(ask):
    def as_reader(statement):
        return ask(statement, user="salon-backup", role="salon_backup")

    assert as_reader("SELECT count(*) >= 0 FROM chat_user") == "t"
    assert as_reader("SELECT last_value > 0 FROM chat_user_id_seq") == "t"
    for statement in (
        "UPDATE chat_user SET role = 'admin'",
        "INSERT INTO chat_change (room_id) VALUES (0)",
        "DELETE FROM chat_change",
        "TRUNCATE chat_change",
        "SELECT nextval('chat_user_id_seq')",
        "CREATE TABLE mine ()",
        "SELECT rolpassword FROM pg_authid",
    ):
        assert as_reader(f"BEGIN; {statement}") is None


def test_everybody_has_no_rights(ask):
    query = """SELECT count(*) FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl
        WHERE acl.grantee = 0 AND datallowconn"""
    assert ask(query, user="postgres", role="postgres") == "0"


def test_migrations_are_another_role(host, ask, wait_ready):
    """What a migration makes is the application's to read and to write, and nothing else."""
    host.run_expect([0], "salon migrate chat 0002 --verbosity 0")
    host.run_expect([0], "salon migrate --verbosity 0")
    wait_ready()
    assert ask("SELECT tableowner FROM pg_tables WHERE tablename = 'chat_change'") == "salon_owner"
    assert ask("INSERT INTO chat_change (room_id) VALUES (0) RETURNING room_id") == "0"
    assert ask("DELETE FROM chat_change WHERE room_id = 0 RETURNING room_id") == "0"
    assert ask("DROP TABLE chat_change") is None


def test_statements_that_fail_are_not_logged_with_what_they_hold(host, ask):
    with pytest.raises(AssertionError, match="kept-to-itself"):
        ask("SELECT 'kept-to-itself'::integer")
    assert host.run("grep --recursive --text kept-to-itself'::integer' /var/log/postgresql").stdout == ""


def test_a_host_of_before_is_brought_over_while_it_serves(host, ask, playbook, fetch):
    """The application was the owner of everything there."""
    as_superuser = {"user": "postgres", "role": "postgres"}
    ask(
        "DROP OWNED BY salon; REASSIGN OWNED BY salon_owner TO salon; ALTER DATABASE salon OWNER TO salon",
        **as_superuser,
    )
    ask("ALTER DEFAULT PRIVILEGES FOR ROLE salon_owner GRANT ALL ON ROUTINES TO PUBLIC", **as_superuser)
    ask("GRANT CONNECT, TEMPORARY ON DATABASE salon TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC", **as_superuser)
    assert ask("BEGIN; CREATE TABLE mine ()") == ""
    done = Event()

    def use():
        while not done.is_set():
            assert ask("SELECT count(*) FROM chat_user WHERE id < 0") == "0"
            assert fetch("/readyz").status == 200
        return True

    with ThreadPoolExecutor(1) as pool:
        used = pool.submit(use)
        try:
            said, changed = playbook("--tags", "postgresql")
        finally:
            done.set()
        assert used.result()
    assert changed, said
    test_the_application_owns_nothing(ask)
    assert ask("BEGIN; CREATE TABLE mine ()") is None
    assert playbook("--tags", "postgresql")[1] == 0


def redis(host, command, user="salon", name="--user salon --pass any --no-auth-warning"):
    return host.check_output(as_user(user, f"redis-cli -s {SOCKET} {name} {command}"))


def test_the_application_publishes_and_listens_in_redis(host):
    assert redis(host, "ping") == "PONG"
    assert redis(host, "publish salon__group__nobody hello") == "0"


@pytest.mark.parametrize(
    "command",
    [
        "publish other hello",
        "get salon",
        "set salon 1",
        "keys '*'",
        "flushall",
        "config get '*'",
        "config set maxmemory 1",
        "acl list",
        "acl whoami",
        "client list",
        "debug sleep 0",
        "eval 'return 1' 0",
        "info",
        "monitor",
        "module list",
        "psubscribe 'salon*'",
        "replicaof 192.0.2.8 6379",
        "save",
        "script flush",
        "shutdown nosave",
        "subscribe other",
    ],
)
def test_the_application_does_nothing_else_in_redis(host, command):
    assert redis(host, command).startswith(("NOPERM", "ERR DEBUG command not allowed"))


@pytest.mark.parametrize("command", ["ping", "get salon", "config get '*'", "publish salon hello"])
def test_redis_lets_in_nobody_without_a_name(host, command):
    assert redis(host, command, name="").startswith("NOAUTH")


def test_redis_keeps_nothing(host):
    assert host.check_output("find /var/lib/redis -type f") == ""
