"""Certificates without a host: what is brought along is checked, and the host's own program makes and judges them."""

import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).resolve().parents[2]


def load(name, path):
    """A Python file that no package holds, whatever its name ends with."""
    loader = SourceFileLoader(name, str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


program = load("salon_certificate_program", "templates/usr/local/sbin/salon-certificate.j2")
rules = load("salon_certificate_rules", "roles/certificate/filter_plugins/salon_certificate.py")
probe = load("salon_certificate_probe", "roles/certificate/files/probe.py")

NAME = "chat.example.org"
# In one place: what looks for secrets in the repository takes the whole line for one.
OF_A_KEY = "PRIVATE KEY"
DAY = timedelta(days=1)


class Signer:
    """An authority, a root or below another one."""

    def __init__(self, name, above=None, *, begins=-DAY, ends=1000 * DAY):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.above = above or self
        self.name = name
        self.certificate = self.above.sign(name, self.key, begins=begins, ends=ends, authority=True)

    def sign(self, name, key, *, names=(), begins=-DAY, ends=90 * DAY, authority=False, usage=None):
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            general = list(map(program.general_name, names))
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(*certificates):
    return b"".join(map(program.pem, certificates)).decode()


def key_pem(key, secret=None):
    protection = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection).decode()


@pytest.fixture(scope="module")
def root():
    return Signer("Root")


@pytest.fixture(scope="module")
def middle(root):
    return Signer("Middle", root)


SETTINGS = {
    "mode": "selfsigned",
    "days": 397,
    "authority_days": 3650,
    "renew_percent": 33,
    "eab_kid": "",
    "has_eab_key": False,
    "directory_authority": "",
    "provided_chain": "",
    "provided_key": "",
    "provided_authority": "",
}


class TestSettings:
    @pytest.mark.parametrize("mode", ["selfsigned", "acme", "external"])
    def test_nothing_more_is_needed(self, mode):
        assert rules.settings_mistakes(SETTINGS | {"mode": mode}, [NAME], []) == []

    @pytest.mark.parametrize(
        ("given", "names", "addresses", "said"),
        [
            ({"mode": "acme"}, [NAME, "192.0.2.7"], ["192.0.2.7"], "192.0.2.7 is an address"),
            ({"mode": "acme"}, ["chat"], [], "names that the whole world knows, and chat is not one"),
            ({"mode": "acme", "eab_kid": "kid"}, [NAME], [], "come together"),
            ({"mode": "acme", "has_eab_key": True}, [NAME], [], "come together"),
            ({"mode": "acme", "directory_authority": "/nowhere"}, [NAME], [], "there is no file /nowhere"),
            ({"renew_percent": 0}, [NAME], [], "from 1 to 99"),
            ({"renew_percent": 100}, [NAME], [], "from 1 to 99"),
            ({"authority_days": 397}, [NAME], [], "must be more than certificate_days"),
            ({"mode": "provided", "provided_key": str(Path(__file__))}, [NAME], [], "needs certificate_provided_chain"),
            ({"mode": "provided", "provided_chain": str(Path(__file__))}, [NAME], [], "needs certificate_provided_key"),
            (
                {"mode": "provided", "provided_chain": "/nowhere", "provided_key": str(Path(__file__))},
                [NAME],
                [],
                "certificate_provided_chain: there is no file /nowhere on the controller",
            ),
        ],
    )
    def test_what_does_not_fit(self, given, names, addresses, said):
        [sentence] = rules.settings_mistakes(SETTINGS | given, names, addresses)
        assert said in sentence
        assert sentence.endswith(".")


class TestProvided:
    """What an operator brings along."""

    @pytest.fixture
    def mistakes(self, root, middle):
        """The mistakes of files that are good but for what is given."""

        def mistakes(*, key=None, chain=None, names=(NAME,), asked=(NAME,), trusted=root, signer=middle, **signed):
            own = key or ec.generate_private_key(ec.SECP256R1())
            leaf = signer.sign(NAME, own, names=names, **signed)
            text = pem(leaf, middle.certificate) if chain is None else chain(leaf)
            return rules.provided_mistakes(
                {"key": key_pem(own), "chain": text}, list(asked), trusted and pem(trusted.certificate)
            )

        return mistakes

    @pytest.mark.parametrize(
        ("names", "asked"),
        [
            ([NAME], [NAME]),
            (["CHAT.example.org"], [NAME]),
            (["*.example.org"], [NAME, "www.example.org"]),
            ([NAME, "192.0.2.7", "2001:db8::7"], [NAME, "192.0.2.7", "2001:DB8:0::7"]),
        ],
    )
    def test_good_ones(self, mistakes, names, asked):
        assert mistakes(names=names, asked=asked) == []

    def test_a_chain_may_hold_the_root_too(self, mistakes, root, middle):
        assert mistakes(chain=lambda leaf: pem(leaf, middle.certificate, root.certificate)) == []

    def test_an_rsa_key(self, mistakes):
        assert mistakes(key=rsa.generate_private_key(65537, 2048)) == []

    def test_the_key_of_another(self, mistakes, middle):
        other = middle.sign(NAME, ec.generate_private_key(ec.SECP256R1()), names=[NAME])
        [sentence] = mistakes(chain=lambda _: pem(other, middle.certificate))
        assert sentence.startswith(
            "certificate_provided_key and certificate_provided_chain do not belong together: the key is not that of"
            f" the first certificate, CN={NAME}"
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "holds no key"),
            (f"-----BEGIN {OF_A_KEY}-----\nAAAA\n-----END {OF_A_KEY}-----\n", "holds no key"),
            (key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "wants a passphrase"),
        ],
    )
    def test_what_is_no_key(self, text, said, root, middle):
        leaf = middle.sign(NAME, ec.generate_private_key(ec.SECP256R1()), names=[NAME])
        files = {"key": text, "chain": pem(leaf, middle.certificate)}
        [sentence] = rules.provided_mistakes(files, [NAME], pem(root.certificate))
        assert said in sentence

    @pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())])
    def test_a_key_that_browsers_do_not_take(self, mistakes, key):
        [sentence] = mistakes(key=key)
        assert "of a kind that browsers do not take" in sentence

    def test_a_key_that_is_too_small(self, mistakes):
        [sentence] = mistakes(key=rsa.generate_private_key(65537, 1024))  # noqa: S505
        assert "1024 bits" in sentence

    @pytest.mark.parametrize(
        ("times", "said"),
        [
            ({"begins": -10 * DAY, "ends": -DAY}, f"CN={NAME} has ended on "),
            ({"begins": DAY, "ends": 10 * DAY}, f"CN={NAME} counts only from "),
        ],
    )
    def test_not_of_this_time(self, mistakes, times, said):
        [sentence] = mistakes(**times)
        assert said in sentence

    def test_an_intermediate_one_that_has_ended(self, mistakes, root):
        old = Signer("Old", root, begins=-10 * DAY, ends=-DAY)
        [sentence] = mistakes(signer=old, chain=lambda leaf: pem(leaf, old.certificate))
        assert "CN=Old has ended on " in sentence

    @pytest.mark.parametrize(
        ("names", "asked", "missing"),
        [
            (["www.example.org"], [NAME], NAME),
            ([NAME], [NAME, "www.example.org", "192.0.2.7"], "www.example.org, 192.0.2.7"),
            (["*.example.org"], ["a.b.example.org"], "a.b.example.org"),
            ([], [NAME], NAME),
        ],
    )
    def test_a_name_that_is_not_covered(self, mistakes, names, asked, missing):
        [sentence] = mistakes(names=names, asked=asked)
        assert f"does not cover {missing}: " in sentence

    def test_one_for_clients(self, mistakes):
        [sentence] = mistakes(usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        assert "is not for a server" in sentence

    def test_a_chain_without_its_middle(self, mistakes):
        [sentence] = mistakes(chain=pem)
        assert "is not complete: certificate_provided_authority has not signed its last certificate" in sentence
        assert "CN=Middle" in sentence

    def test_a_chain_of_nobody_whom_the_controller_trusts(self, mistakes):
        [sentence] = mistakes(trusted=None)
        assert "is not complete: nobody whom the controller trusts has signed" in sentence
        assert "add the certificate of CN=Root" in sentence

    def test_one_that_is_signed_by_itself(self, mistakes):
        alone = Signer(NAME)
        key = alone.key
        own = alone.sign(NAME, key, names=[NAME])
        files = {"key": key_pem(key), "chain": pem(own)}
        [sentence] = rules.provided_mistakes(files, [NAME])
        assert "signed by itself" in sentence
        assert rules.provided_mistakes(files, [NAME], pem(own)) == []

    def test_a_chain_in_the_wrong_order(self, mistakes, root, middle):
        [sentence] = mistakes(chain=lambda leaf: pem(leaf, root.certificate, middle.certificate))
        assert "not in order: its certificate 2, CN=Root, has not signed the one before" in sentence

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("nothing", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        ],
    )
    def test_what_is_no_chain(self, mistakes, text, said):
        [sentence] = mistakes(chain=lambda _: text)
        assert said in sentence

    def test_the_controller_knows_public_authorities(self):
        assert len(rules.public_authorities()) > 50


class TestProbe:
    @pytest.fixture
    def door(self, monkeypatch):
        """A host that answers every request with a status and a text."""

        class Handler(BaseHTTPRequestHandler):
            status, text = 200, "mark"

            def do_GET(self):
                assert (self.path, self.headers["Host"]) == ("/.well-known/acme-challenge/salon-host", "localhost")
                self.send_response(self.status)
                self.end_headers()
                self.wfile.write(self.text.encode() + b"\n")

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setattr(probe, "PORT", server.server_port)
            monkeypatch.setattr(probe, "addresses", lambda _: ["127.0.0.1"])
            yield Handler
            server.shutdown()

    def test_the_host_itself(self, door):
        assert probe.look("mark", ["localhost"]) == ([], [])

    @pytest.mark.parametrize(("status", "text"), [(200, "another"), (404, "mark"), (308, "")])
    def test_somebody_else(self, door, status, text):
        door.status, door.text = status, text
        [sentence], _ = probe.look("mark", ["localhost"])
        assert sentence == (
            f"localhost leads to 127.0.0.1, and it is not this host that answers there (status {status}): correct the"
            " name's A and AAAA records in the DNS."
        )

    def test_every_address_counts(self, door, monkeypatch):
        monkeypatch.setattr(probe, "addresses", lambda _: ["127.0.0.1", "127.0.0.2"])
        [sentence], _ = probe.look("mark", ["localhost"])
        assert f"nothing answers for localhost at port {probe.PORT} of 127.0.0.2 (" in sentence

    def test_an_address_without_a_way_to_it_is_told_and_no_mistake(self, door, monkeypatch):
        """As there is none to one of IPv6 on a machine that has only the other kind."""
        monkeypatch.setattr(probe, "addresses", lambda _: ["127.0.0.1", "240.0.0.1"])
        monkeypatch.setattr(probe, "has_way", lambda address: address != "240.0.0.1")
        assert probe.look("mark", ["localhost"]) == (
            [],
            ["localhost was not tried at 240.0.0.1, to which there is no way from here."],
        )
        monkeypatch.setattr(probe, "addresses", lambda _: ["240.0.0.1"])
        [sentence], untried = probe.look("mark", ["localhost"])
        assert sentence.startswith("localhost leads to 240.0.0.1, and there is no way to it from here: name a host")
        assert untried == []

    def test_which_ways_there_are(self):
        assert probe.has_way("127.0.0.1")
        # Nobody has a way to where nothing but a link begins, without saying which.
        assert not probe.has_way("fe80::1")

    def test_a_name_that_is_nowhere(self):
        [sentence], _ = probe.look("mark", ["nowhere.invalid"])
        assert sentence.startswith("nowhere.invalid has no address in the DNS (")


# Of Debian 12's certbot, which fails over the authority's refusal.
LOG = """  File "/usr/lib/python3/dist-packages/acme/client.py", line 575, in _check_response
    raise messages.Error.from_json(jobj)
acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many requests of a given type :: too many

During handling of the above exception, another exception occurred:
AttributeError: can't set attribute
"""

# What certbot says, as seen with an authority that answers so.
REFUSED = """Saving debug log to /var/lib/salon-certificate/log/letsencrypt.log
Requesting a certificate for {name}

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: {name}
  Type:   {kind}
  Detail: {detail}

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org."""


class TestExplain:
    DIRECTORY = "https://ca.example.org/directory"

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            ("dns", "finds no address"),
            ("connection", "cannot reach its port 80"),
            ("unauthorized", "somebody else than this host"),
            ("caa", "CAA record"),
            ("novel", "the authority refuses it"),
        ],
    )
    def test_a_name_that_cannot_be_checked(self, kind, said):
        sentence = program.explain(REFUSED.format(name=NAME, kind=kind, detail="some detail"), self.DIRECTORY)
        assert sentence.startswith(
            f"{NAME}: the authority" if kind != "unauthorized" and kind != "caa" else f"{NAME}: "
        )
        assert said in sentence
        assert sentence.endswith("(some detail).")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "An unexpected error occurred:\nThere were too many requests of a given type :: Error creating new"
                " order :: too many certificates already issued\nAsk for help or search for solutions",
                "its rate limit is reached (There were too many requests of a given type :: Error creating new order ::"
                " too many certificates already issued)",
            ),
            (
                "Unable to register an account with ACME server. Server requires external account binding. Please use"
                " --eab-kid and --eab-hmac-key.",
                "set certificate_acme_eab_kid and certificate_acme_eab_hmac_key",
            ),
            ("requests.exceptions.SSLError: CERTIFICATE_VERIFY_FAILED", "certificate_acme_directory_authority"),
            (
                "An unexpected error occurred:\nRequesting ca/dir: Connection refused",
                "cannot be reached from this host",
            ),
            ("An unexpected error occurred:\nthe moon is full", "has given no certificate: the moon is full"),
        ],
    )
    def test_an_authority_that_gives_none(self, text, said):
        assert said in program.explain(f"Saving debug log to /var/log/x.log\n{text}", self.DIRECTORY)

    def test_an_answer_that_stands_in_the_log_only(self):
        sentence = program.explain("An unexpected error occurred:\ncan't set attribute", self.DIRECTORY, LOG)
        assert "its rate limit is reached (rateLimited :: There were too many requests of a given type" in sentence


CONFIG = {
    "mode": "selfsigned",
    "names": [NAME, "192.0.2.7"],
    "days": 397,
    "authority_days": 3650,
    "renew_percent": 33,
    "warn_days": 14,
    "port": 443,
    "reloads": [],
    "directory": "https://ca.example.org/directory",
}


class TestProgram:
    """What the host runs, with a certbot that obeys."""

    @pytest.fixture
    def host(self, tmp_path):
        """The program on a host with this configuration."""
        for path in ("etc/salon/tls", "var/lib/salon-certificate"):
            (tmp_path / path).mkdir(parents=True)

        def host(**config):
            (tmp_path / "etc/salon/certificate.json").write_text(json.dumps(CONFIG | config))
            return program.Host(tmp_path)

        return host

    @pytest.fixture
    def certbot(self, root, middle, monkeypatch):
        """Signs what it is asked for; a list of what it was told."""
        told = []

        def certbot(_, command, *arguments):
            told.append(command)
            if certbot.refuses:
                raise program.TroubleError(certbot.refuses)
            given = dict(each.lstrip("-").split("=") for each in arguments if "=" in each)
            if command == "certonly":
                request = x509.load_pem_x509_csr(Path(given["csr"]).read_bytes())
                names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                asked = certbot.names or [str(name.value) for name in names]

                class Key:
                    public_key = staticmethod(request.public_key)

                leaf = middle.sign(asked[0], certbot.key or Key, names=asked, begins=certbot.begins, ends=certbot.ends)
                Path(given["fullchain-path"]).write_text(pem(leaf, middle.certificate))

        certbot.refuses, certbot.names, certbot.key, certbot.told = "", [], None, told
        certbot.begins, certbot.ends = -DAY, 90 * DAY
        monkeypatch.setattr(program.Host, "certbot", certbot)
        return certbot

    def renew(self, host, **given):
        return host.renew(**{"force": False, "revoke": False} | given)

    def test_a_private_authority_signs_for_every_name(self, host):
        one = host()
        assert self.renew(one).startswith("A new certificate, since there is none; it ends on ")
        pair, [authority] = one.pair(), program.load_chain(one.authority_file.read_bytes())
        pair.leaf.verify_directly_issued_by(authority)
        assert program.names_of(pair.leaf) == {NAME, "192.0.2.7"}
        assert pair.life() <= 398 * DAY
        for path in (one.pair_file, one.authority_key_file):
            assert path.stat().st_mode & 0o777 == 0o600
        assert self.renew(one) == ""
        assert one.check()["warnings"] == []

    @pytest.mark.parametrize(
        ("config", "why"),
        [
            ({"names": [NAME, "www.example.org"]}, "the names have changed"),
            ({"names": [NAME]}, "the names have changed"),
            ({"renew_percent": 99.999}, "it ends on "),
        ],
    )
    def test_a_new_one_in_time_by_the_same_authority(self, host, config, why):
        self.renew(host())
        authority, before = host().authority_file.read_bytes(), host().pair()
        changed = host(**config)
        assert why in changed.why()
        assert self.renew(changed)
        after = changed.pair()
        assert changed.authority_file.read_bytes() == authority
        assert after.leaf.serial_number != before.leaf.serial_number
        assert program.private_pem(after.key) != program.private_pem(before.key)
        assert program.names_of(after.leaf) == set(changed.names)

    def test_an_authority_that_ends_is_followed_by_one_that_who_trusts_it_trusts(self, host):
        self.renew(host(days=10, authority_days=20))
        [old] = program.load_chain(host().authority_file.read_bytes())
        late = host(days=30, authority_days=3650)
        assert "the private authority is new" in self.renew(late)
        [new] = program.load_chain(late.authority_file.read_bytes())
        assert program.end(new) > program.end(old) + 3000 * DAY
        for authority in (old, new):
            late.pair().leaf.verify_directly_issued_by(authority)
        assert self.renew(late) == ""

    def test_a_pair_that_does_not_belong_together_is_not_kept(self, host):
        one = host()
        self.renew(one)
        broken = key_pem(ec.generate_private_key(ec.SECP256R1())) + pem(one.pair().leaf)
        one.pair_file.write_text(broken)
        assert "do not belong together" in one.check()["warnings"][0]
        assert self.renew(one)
        assert one.pair()

    def test_a_placeholder_stands_until_the_order(self, host, certbot):
        one = host(mode="acme", names=[NAME])
        assert one.placeholder()
        assert one.placeholder() == ""
        assert "has not given a certificate yet" in one.check()["warnings"][0]
        assert self.renew(one)
        assert one.check()["warnings"] == []
        assert one.pair().leaf.issuer.rfc4514_string() == "CN=Middle"
        assert len(one.pair().chain) == 2
        assert self.renew(one) == ""
        assert certbot.told == ["certonly"]

    def test_what_is_there_is_better_than_a_placeholder(self, host):
        self.renew(host())
        before = host().pair_file.read_bytes()
        assert host(mode="acme").placeholder() == ""
        assert host().pair_file.read_bytes() == before

    def test_an_order_for_other_names_stays_until_the_next(self, host, certbot):
        self.renew(host(mode="acme", names=[NAME]))
        before = host().pair_file.read_bytes()
        more = host(mode="acme", names=[NAME, "www.example.org"])
        assert more.placeholder() == ""
        assert more.pair_file.read_bytes() == before
        assert "the names have changed" in self.renew(more)
        assert more.check()["warnings"] == []

    def test_a_name_that_the_authority_adds_is_no_reason_to_order_again(self, host, certbot):
        certbot.names = [NAME, "www.example.org"]
        one = host(mode="acme", names=[NAME])
        assert self.renew(one)
        assert self.renew(one) == ""

    def test_another_directory_is_asked_anew(self, host, certbot):
        self.renew(host(mode="acme"))
        other = host(mode="acme", directory="https://other.example.org/directory")
        assert "not of the authority's" in self.renew(other)
        assert self.renew(other) == ""

    def test_a_refusal_leaves_what_is_there(self, host, certbot):
        one = host(mode="acme")
        one.placeholder()
        before = one.pair_file.read_bytes()
        certbot.refuses = "Not today."
        with pytest.raises(program.TroubleError, match=r"Not today\. The host goes on with the one that it has, until"):
            self.renew(one)
        assert one.pair_file.read_bytes() == before
        assert list(one.state.iterdir()) == []

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"names": ["another.example.org"]}, "does not cover chat.example.org"),
            ({"key": ec.generate_private_key(ec.SECP256R1())}, "for another key"),
            ({"ends": -DAY / 2}, "see to the clock"),
        ],
    )
    def test_what_an_authority_gives_is_looked_at(self, host, certbot, given, said):
        one = host(mode="acme", names=[NAME])
        one.placeholder()
        before = one.pair_file.read_bytes()
        for name, value in given.items():
            setattr(certbot, name, value)
        with pytest.raises(program.TroubleError, match=said):
            self.renew(one)
        assert one.pair_file.read_bytes() == before

    @pytest.mark.parametrize(
        ("gone", "left", "due"), [(59, 31, False), (61, 29, True), (3.9, 2.1, False), (4.1, 1.9, True)]
    )
    def test_it_is_renewed_by_its_share_of_life(self, host, certbot, gone, left, due):
        certbot.begins, certbot.ends = -gone * DAY, left * DAY
        one = host(mode="acme")
        self.renew(one)
        assert one.why().startswith("it ends on ") == due

    def test_an_order_on_request_and_the_one_before_taken_back(self, host, certbot):
        one = host(mode="acme")
        self.renew(one)
        before = one.pair().leaf.serial_number
        assert self.renew(one, revoke=True).endswith("The authority has revoked the one before.")
        assert one.pair().leaf.serial_number != before
        assert certbot.told == ["certonly", "certonly", "revoke"]

    @pytest.mark.parametrize("mode", ["provided", "external"])
    def test_what_does_not_come_from_the_host_is_not_renewed_by_it(self, host, mode):
        one = host(mode=mode)
        assert self.renew(one) == ""
        with pytest.raises(program.TroubleError, match=f"In the mode {mode}"):
            self.renew(one, force=True)

    @pytest.mark.parametrize(
        ("ends", "warning"), [(15, None), (13, "in 12 days"), (0.5, "in 0 days"), (-0.5, "has ended")]
    )
    def test_the_end_of_what_was_brought_along_is_warned_of(self, host, root, ends, warning):
        one, key = host(mode="provided", names=[NAME]), ec.generate_private_key(ec.SECP256R1())
        one.pair_file.write_text(key_pem(key) + pem(root.sign(NAME, key, names=[NAME], ends=ends * DAY)))
        warnings = one.check()["warnings"]
        assert [warning in sentence for sentence in warnings] == [True] * bool(warning)
        for sentence in warnings:
            assert "bring another one by certificate_provided_chain" in sentence

    def test_a_reload_is_over_when_nobody_is_shown_the_old_one_any_more(self, host, monkeypatch):
        one = host(reloads=["nginx.service"])
        self.renew(one)
        new = program.pem(one.pair().leaf)
        # As nginx does it: the new workers are there before the old ones have gone.
        answers = [b"old", new, b"old", new, new, None, *[new] * program.LOOKS]
        monkeypatch.setattr(program.Host, "is_active", lambda *_: True)
        monkeypatch.setattr(program.Host, "shown", lambda _: answers.pop(0))
        monkeypatch.setattr(program.subprocess, "run", lambda *_, **__: None)
        monkeypatch.setattr(program.time, "sleep", lambda _: None)
        assert one.reload() == "Reloaded nginx.service."
        assert answers == []

    def test_a_warning_is_an_exit_status(self, host, tmp_path, capsys):
        host(mode="provided")
        assert program.main(["check"], tmp_path) == 1
        assert "run the playbook" in capsys.readouterr().out
        host(mode="external")
        assert program.main(["check"], tmp_path) == 0
        host()
        assert program.main(["renew", "--json", "--no-reload"], tmp_path) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["changed"]
        assert program.main(["renew"], tmp_path) == 0
        assert capsys.readouterr().out == "There is nothing to do.\n"
        assert program.main(["check", "--json"], tmp_path) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["days_left"] > 390
        assert "PRIVATE" not in json.dumps(report)
