"""The certificate's ways, one after the other on one living host: what each needs, and from each to the next."""

import asyncio
import json
import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from faults import population, testhost
from faults.checker import check as judge
from faults.crowd import Crowd
from faults.events import Closed
from faults.person import Door as PersonsDoor
from trust import trusting
from waiting import wait_until

SHUTDOWN = 15.0
"""`worker_shutdown_timeout` in the scenario, in seconds."""

PAIR = "/etc/salon/tls/salon.pem"


def renewed(door, before, seconds=60):
    """Wait until another certificate is shown, and return it."""
    return wait_until(
        lambda: (now := door.shown()).serial_number != before.serial_number and now, "another certificate", seconds
    )


@pytest.fixture
def due(host):
    """It is time for another certificate, by the host's own configuration."""
    config = "/etc/salon/certificate.json"
    before = host.check_output(f"cat {config}")
    host.check_output(f'sed -i \'s/"renew_percent": 33/"renew_percent": 100/\' {config}')
    yield
    host.check_output(f"echo '{before}' >{config}")


@pytest.fixture
def soon(host):
    """The timer elapses in a moment, once."""
    drop_in = "/run/systemd/system/salon-certificate.timer.d"

    def soon():
        host.check_output(
            f"mkdir -p {drop_in} && printf '[Timer]\\nOnActiveSec=1s\\nAccuracySec=100ms\\nRandomizedDelaySec=0\\n'"
            f" >{drop_in}/soon.conf && systemctl daemon-reload && systemctl restart salon-certificate.timer"
        )

    yield soon
    host.check_output(f"rm -rf {drop_in} && systemctl daemon-reload && systemctl restart salon-certificate.timer")


async def wait_for(condition, seconds):
    """As `wait_until`, while people go on writing."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def run_by_timer(host):
    """How often the timer has let the service run to its end."""
    return int(host.check_output("journalctl -u salon-certificate --output cat | grep -c '^Finished ' || true"))


class TestSelfsigned:
    def test_it_stands_and_is_renewed_by_the_timer(self, host, door, authority, soon, due, workers):
        trust = trusting(cafile=str(authority))
        assert door.status(trust=trust) == 200
        before, old = door.shown(), workers()
        soon()
        renewed(door, before)
        assert door.status(trust=trust) == 200
        assert workers() != old
        assert host.file(PAIR).mode == 0o600

    def test_nothing_is_reloaded_when_it_is_not_time(self, host, door, soon, workers):
        before, old, runs = door.shown(), workers(), run_by_timer(host)
        soon()
        wait_until(lambda: run_by_timer(host) > runs, "the timer's run")
        assert door.shown() == before
        assert workers() == old

    def test_the_timer_is_there_after_a_boot(self, host):
        assert host.check_output("systemctl is-enabled salon-certificate.timer") == "enabled"
        assert "salon-certificate" in host.check_output("systemctl list-timers salon-certificate.timer")

    def test_its_sandbox(self, host):
        judged = host.run("systemd-analyze security --no-pager --threshold=30 salon-certificate.service")
        assert judged.rc == 0, judged.stdout

    def test_a_check_says_that_all_is_well(self, check):
        well, said = check()
        assert well, said
        assert "the certificate ends on 20" in said


class TestAcme:
    """The authority refuses, and then gives."""

    @pytest.fixture
    def refused(self, converge, door, acme, leading):
        """What the playbook says when there is no certificate; the host goes on as before, all the time."""

        def refused(**variables):
            before = door.shown()
            with door.watched():
                said, _ = converge(acme | variables, succeeds=False)
            assert door.shown() == before
            return said

        return refused

    def test_a_name_that_is_nowhere(self, refused, leading):
        with leading(None):
            assert "chat.salon.test has no address in the DNS" in refused()

    def test_a_name_that_leads_elsewhere(self, refused, leading, outside_address):
        with leading(outside_address):
            said = refused()
        for name in ("chat.salon.test", "www.salon.test"):
            assert f"{name} leads to {outside_address}, and it is not this host that answers there (status 404)" in said
        assert "Nothing was ordered" in said

    def test_a_port_that_is_blocked(self, refused, host, address, outside_address):
        host.check_output("ip route add blackhole %s/32", outside_address)
        try:
            said = refused()
        finally:
            host.check_output("ip route del blackhole %s/32", outside_address)
        assert f"nothing answers for chat.salon.test at port 80 of {address} (" in said
        assert "open port 80 to the whole world" in said

    def test_a_rate_limit(self, refused):
        said = refused(certificate_acme_directory="https://outside.salon.test:14001/dir")
        assert "its rate limit is reached (" in said
        assert "retry after 2031-01-01" in said
        assert "The host goes on with the one that it has, until 20" in said

    def test_an_account_that_the_authority_does_not_know(self, refused):
        said = refused(certificate_acme_eab_kid="", certificate_acme_eab_hmac_key="")
        assert "set certificate_acme_eab_kid and certificate_acme_eab_hmac_key" in said

    def test_a_directory_for_which_nobody_vouches(self, refused):
        assert "set certificate_acme_directory_authority" in refused(certificate_acme_directory_authority="")

    def test_a_check_warns_that_there_is_none_yet(self, check):
        well, said = check()
        assert not well
        assert "The authority has not given a certificate yet" in said

    def test_the_first_one(self, leading, converge, acme, door, trusts, token, host):
        with door.watched():
            _, changed = converge(acme)
        assert changed
        door.talk(trusts["acme"], token)
        assert host.file(PAIR).mode == 0o600
        assert host.run("grep -rl c2Nob29sc2Nob29sc2Nob29sc2Nob29sc2Nob29sc2Nob29s"
                        " /etc /var/lib /var/log").stdout.split() == ["/etc/salon/certbot.ini"]  # fmt: skip
        assert host.file("/etc/salon/certbot.ini").mode == 0o600

    def test_a_second_run_changes_nothing(self, converge, acme, door, workers):
        before, old = door.shown(), workers()
        said, changed = converge(acme)
        assert changed == 0, said
        assert (door.shown(), workers()) == (before, old)

    def test_the_timer_renews_it(self, door, soon, due, trusts, workers):
        before, old = door.shown(), workers()
        soon()
        renewed(door, before)
        assert door.status(trust=trusts["acme"]) == 200
        assert workers() != old

    def test_nothing_is_reloaded_when_it_is_not_time(self, host, door, soon, workers):
        before, old, runs = door.shown(), workers(), run_by_timer(host)
        soon()
        wait_until(lambda: run_by_timer(host) > runs, "the timer's run")
        assert (door.shown(), workers()) == (before, old)

    def test_revoked_and_reissued(self, host, asked, door, trusts):
        def status(certificate):
            return json.loads(asked(f"/cert-status-by-serial/{certificate.serial_number:x}"))["Status"]

        before = door.shown()
        assert status(before) == "Valid"
        with door.watched():
            said = host.check_output("salon-certificate renew --revoke")
        assert "The authority has revoked the one before." in said
        after = door.shown()
        assert after.public_key() != before.public_key()
        assert (status(before), status(after)) == ("Revoked", "Valid")
        assert door.status(trust=trusts["acme"]) == 200

    def test_a_renewal_that_is_refused_leaves_what_is_there(self, host, door, leading, due):
        before = door.shown()
        with leading(None):
            failed = host.run("systemctl start salon-certificate.service")
        assert failed.rc != 0
        journal = host.check_output("journalctl -u salon-certificate --output cat -n 20")
        assert "chat.salon.test: the authority" in journal
        assert door.shown() == before
        host.check_output("systemctl reset-failed salon-certificate.service")

    async def test_a_renewal_under_load(self, door, trusts):
        """Nobody is closed before the time of the old workers is over, and nobody misses a message."""
        host = testhost.Host("salon-certificates", door.domain)
        seats = population.seats(await host.shell("salon shell --verbosity 0", population.script()))
        people = PersonsDoor(door.address, door.domain, trusts["acme"])
        async with Crowd(seats, people, random.randrange(2**32)) as crowd:
            await crowd.all_here(60)
            crowd.begin_diaries()
            crowd.start_writing()
            await crowd.all_lively(60)
            before, begun = door.shown(), crowd.now
            assert "A new certificate" in await host.shell("salon-certificate renew --force")
            assert door.shown() != before

            def closed():
                return [event.at for each in crowd.people for event in each.diary.events if isinstance(event, Closed)]

            await wait_for(lambda: len(closed()) >= len(seats), SHUTDOWN + 30)
            await crowd.all_lively(60)
            crowd.stop_writing()
            await crowd.all_answered(30)
            highest = await host.highest(crowd.rooms)
            await crowd.all_caught_up(highest, 30)
            times, diaries = closed(), crowd.end_diaries()
        assert min(times) - begun >= SHUTDOWN
        began = {room: min(each.began[room] for each in diaries if room in each.began) for room in crowd.rooms}
        stored = await host.stored(began)
        assert len(stored) > len(seats) * SHUTDOWN / 2
        assert judge(diaries, stored) == []

    def test_a_check_says_that_all_is_well(self, check):
        well, said = check()
        assert well, said


def signed(name, key, issuer=None, signer=None, *, names=(), days=90.0, authority=False):
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((signer or key).public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    return builder.sign(signer or key, hashes.SHA256())


class TestProvided:
    @pytest.fixture(scope="class")
    @classmethod
    def brought(cls, tmp_path_factory):
        """Files of an authority, as an operator has them: the variables, with what is given being otherwise."""
        directory = tmp_path_factory.mktemp("provided")
        root_key, middle_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = signed("The school's root", root_key, authority=True)
        middle = signed("The school's middle", middle_key, root, root_key, authority=True)

        def pem(*certificates):
            return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)

        def brought(*, names=("chat.salon.test", "www.salon.test"), days=60.0, whole=True, mixed=False):
            key = ec.generate_private_key(ec.SECP256R1())
            leaf = signed("chat", key, middle, middle_key, names=names, days=days)
            kept = ec.generate_private_key(ec.SECP256R1()) if mixed else key
            (directory / "key.pem").write_bytes(
                kept.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            (directory / "chain.pem").write_bytes(pem(leaf, middle) if whole else pem(leaf))
            (directory / "root.pem").write_bytes(pem(root))
            return {
                "certificate_mode": "provided",
                "certificate_provided_chain": str(directory / "chain.pem"),
                "certificate_provided_key": str(directory / "key.pem"),
                "certificate_provided_authority": str(directory / "root.pem"),
            }

        brought.trust = trusting(cadata=pem(root).decode())
        return brought

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"mixed": True}, "do not belong together"),
            ({"days": -1.0}, "has ended on"),
            ({"names": ["chat.salon.test"]}, "does not cover www.salon.test"),
            ({"whole": False}, "certificate_provided_chain is not complete"),
        ],
    )
    def test_what_would_not_do_is_refused_before_anything_changes(self, converge, brought, wrong, said, door):
        before = door.shown()
        answer, changed = converge(brought(**wrong), succeeds=False)
        assert said in answer
        assert changed == 0
        assert door.shown() == before

    def test_from_acme(self, converge, brought, door, token, host):
        files = brought()
        with door.watched():
            converge(files)
        door.talk(brought.trust, token)
        assert host.file(PAIR).mode == 0o600
        said, changed = converge(files)
        assert changed == 0, said
        assert "PRIVATE KEY" not in said

    def test_its_end_is_warned_of(self, converge, brought, door, check, host):
        with door.watched():
            said, _ = converge(brought(days=5.5))
        assert "PRIVATE KEY" not in said
        well, said = check()
        assert not well
        assert "The certificate ends on" in said
        assert "in 5 days: bring another one" in said
        # The timer's run says so too, to who looks at the units.
        assert host.run("systemctl start salon-certificate.service").rc != 0
        converge(brought())
        assert check()[0]
        assert host.run("systemctl start salon-certificate.service").rc == 0


class TestExternal:
    @pytest.fixture(scope="class")
    @classmethod
    def behind(cls, outside_address):
        return {"certificate_mode": "external", "nginx_trusted_proxies": [outside_address]}

    def test_a_proxy_has_to_be_named(self, converge, behind):
        said, changed = converge(behind | {"nginx_trusted_proxies": []}, succeeds=False)
        assert "certificate_mode external needs nginx_trusted_proxies" in said
        assert changed == 0

    def test_through_the_proxy(self, converge, behind, outside_address, domain, trusts, token, host, door):
        converge(behind)
        front = type(door)(outside_address, domain)
        assert front.status(trust=trusts["proxy"]) == 200
        front.talk(trusts["proxy"], token)
        assert "443" not in {line.split()[3].rpartition(":")[2] for line in host.check_output("ss -Hlnt").splitlines()}
        said, changed = converge(behind)
        assert changed == 0, said

    def test_who_comes_past_the_proxy_is_sent_there(self, door, domain):
        for headers in (
            {},
            {"X-Forwarded-Proto": "https"},
            {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"},
        ):
            assert door.plain("/chats/rooms/", **headers) == (308, f"https://{domain}/chats/rooms/")

    def test_who_came_to_the_proxy_is_known(self, host, outside_address):
        """Her address stands in the log, and not the proxy's."""
        here = host.check_output("ip -4 route show default").split()[2]
        lines = host.check_output("grep -F /ws/chat/ /var/log/nginx/access.log | tail -n 1")
        assert here in lines
        assert outside_address not in lines

    def test_nothing_is_renewed(self, host, check):
        assert host.run("systemctl is-active salon-certificate.timer").stdout.strip() == "inactive"
        well, said = check()
        assert well, said
        assert "TLS ends elsewhere" in said


class TestBack:
    """From any way to any other."""

    def test_from_external_to_selfsigned(self, converge, door, authority, token, host):
        converge({"certificate_mode": "selfsigned"})
        trust = trusting(cafile=str(authority))
        door.talk(trust, token)
        assert host.run("systemctl is-active salon-certificate.timer").stdout.strip() == "active"
        said, changed = converge({"certificate_mode": "selfsigned"})
        assert changed == 0, said

    def test_from_selfsigned_to_acme_and_back(self, leading, converge, acme, door, authority, trusts):
        with door.watched():
            converge(acme)
            assert door.status(trust=trusts["acme"]) == 200
            converge({"certificate_mode": "selfsigned"})
        assert door.status(trust=trusting(cafile=str(authority))) == 200

    def test_the_private_authority_was_the_same_all_the_time(self, host, authority):
        assert host.check_output("cat /etc/salon/tls/ca.pem") == authority.read_text().strip()

    def test_no_unit_has_failed(self, host):
        assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
