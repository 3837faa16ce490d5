"""The Ansible bundle without a host: its shape, its inventories, its checks, its templates, its releases."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from redis.asyncio import ConnectionPool

from salon import redis_url

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
SERVING_ROLES = [role for role in ROLES if role.name not in ("preflight", "secrets", "check")]


def load(name, path):
    """A Python file that no package holds."""
    specification = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


managed = load("managed", "tests/host/managed.py")
build_release = load("build_release", "roles/daphne/files/build_release.py")
salon_redis = load("salon_redis", "roles/daphne/filter_plugins/salon_redis.py")
salon_inventory = load("salon_inventory", "roles/preflight/filter_plugins/salon_inventory.py")


GOOD_HOSTS = """
    all:
      hosts:
        chat:
          ansible_host: 192.0.2.7
      children:
        proxy: {hosts: {chat: }}
        app: {hosts: {chat: }}
        redis: {hosts: {chat: }}
        database: {hosts: {chat: }}
"""
GOOD_VARIABLES = {
    "salon_domain": "chat.example.org",
    "salon_alt_names": [],
    "salon_frontend_origins": ["https://school.example.org"],
    "certificate_mode": "selfsigned",
}
GOOD_GROUPS = {"all": ["chat"], "proxy": ["chat"], "app": ["chat"], "redis": ["chat"], "database": ["chat"]}


SECRETS = {
    name: {"value": name[0] * 64, "beside": []}
    for name in ("secret_key", "token_key", "redis", "postgresql", "postgresql_owner", "monitoring", "backup")
}

DOOR = {
    "address": "127.0.0.1",
    "port": 9443,
    "kinds": ["node", "nginx", "redis", "postgres", "salon"],
    "processes": 3,
    "certificate": "-----BEGIN CERTIFICATE-----\nchat\n-----END CERTIFICATE-----\n",
}
WATCHED_HOSTS = {"chat": {"exporters_door": DOOR}, "lonely": {}}

FACTS = {
    "distribution_major_version": "13",
    "processor_vcpus": 3,
    "memtotal_mb": 8000,
    "all_ipv6_addresses": [],
    "machine_id": "0" * 32,
}


def read(path):
    return yaml.safe_load(path.read_text())


def by_name(role):
    return role.name


class TestShape:
    def test_every_template_belongs_to_exactly_one_role(self):
        assert sorted(file.path for file in managed.files()) == sorted(managed.templates())

    @pytest.mark.parametrize("role", ROLES, ids=by_name)
    def test_every_default_is_described_and_the_other_way_round(self, role):
        described = {}
        for entry_point in read(role / "meta/argument_specs.yml")["argument_specs"].values():
            described.update(entry_point["options"])
        own = {name: option for name, option in described.items() if not name.startswith("salon_")}
        assert set(own) == set(read(role / "defaults/main.yml"))
        for option in described.values():
            assert option["type"]
            assert option["description"].endswith(".") or option["description"].endswith("[].")

    @pytest.mark.parametrize("role", ROLES, ids=by_name)
    def test_a_sentence_stands_above_each_default(self, role):
        lines = (role / "defaults/main.yml").read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"\w+:", line):
                assert re.match(r"# .+\.$", lines[number - 1]), line

    @pytest.mark.parametrize("role", ROLES, ids=by_name)
    def test_every_variable_carries_its_roles_name(self, role):
        for file in ("defaults/main.yml", "vars/main.yml"):
            if (role / file).exists():
                for name in read(role / file):
                    assert name.startswith(f"{role.name}_")

    @pytest.mark.parametrize("role", ROLES, ids=by_name)
    def test_main_only_includes(self, role):
        for task in read(role / "tasks/main.yml"):
            assert {"ansible.builtin.import_tasks", "ansible.builtin.meta"} & set(task)

    @pytest.mark.parametrize("role", ROLES, ids=by_name)
    def test_no_role_knows_a_group(self, role):
        for path in role.rglob("*.yml"):
            assert not re.search(r"\bgroups\[|\bgroup_names\b|\bgroups\.", path.read_text()), path

    def test_shared_variables_are_described(self):
        shared = read(ROOT / "roles/preflight/meta/argument_specs.yml")["argument_specs"]["inventory"]["options"]
        for role in ROLES:
            for path in [*role.rglob("*.yml"), *(ROOT / "templates").rglob("*.j2")]:
                for name in re.findall(r"\bsalon_(?:domain|alt|frontend|inventory_version)\w*", path.read_text()):
                    assert name in shared, path

    def test_site_runs_every_role_under_its_own_tag(self):
        plays = read(ROOT / "playbooks/site.yml")
        tags = {role["role"]: role.get("tags") for play in plays for role in play.get("roles", [])}
        for role in SERVING_ROLES:
            assert tags[role.name] == [role.name]

    def test_two_roles_agree_on_what_both_need(self):
        nginx, daphne = (read(ROOT / f"roles/{name}/defaults/main.yml") for name in ("nginx", "daphne"))
        assert f"default({nginx['nginx_https_port']})" in daphne["daphne_public_port"]
        state = read(ROOT / "roles/daphne/vars/main.yml")["daphne_state"]
        assert nginx["nginx_files_root"] == f"{state}/files"
        own = daphne["daphne_processes"].strip("{ }")
        assert f"default({own})" in nginx["nginx_upstream_processes"]

    def test_linter_is_not_told_to_look_away(self):
        assert not {"skip_list", "warn_list", "mock_modules"} & set(read(ROOT / ".ansible-lint"))
        for directory in ("roles", "playbooks", "inventories", "molecule"):
            for path in (ROOT / directory).rglob("*.yml"):
                assert "noqa" not in path.read_text(), path


class TestInventory:
    """What `site.yml` says about an inventory before it asks any host."""

    @pytest.fixture
    def mistakes(self, tmp_path):
        """The mistakes of a good inventory with some variables set, or left out (None), or given by --extra-vars."""

        def mistakes(extra=(), groups=GOOD_GROUPS, hosts=GOOD_HOSTS, text=None, **variables):
            wanted = {name: value for name, value in (GOOD_VARIABLES | variables).items() if value is not None}
            (tmp_path / "group_vars").mkdir(exist_ok=True)
            (tmp_path / "hosts.yml").write_text(hosts)
            (tmp_path / "group_vars/all.yml").write_text(text or yaml.safe_dump(wanted, sort_keys=False))
            visible = {"chat": {"ansible_host": "192.0.2.7", **wanted, **dict(extra)}}
            return salon_inventory.find_mistakes(
                [tmp_path], visible, groups, ROOT / "roles", dict(extra), bases=[tmp_path]
            )

        return mistakes

    def test_a_good_one_has_none(self, mistakes):
        assert mistakes() == []

    def test_a_placeholder(self, mistakes):
        assert mistakes(salon_domain="CHANGE-ME.example.org") == [
            "group_vars/all.yml:1: salon_domain is still a placeholder (CHANGE-ME.example.org);"
            " write the name that your users will type."
        ]

    def test_a_placeholder_inside_a_list(self, mistakes):
        [sentence] = mistakes(salon_frontend_origins=["https://a.example", "https://CHANGE-ME.example"])
        assert sentence.startswith("group_vars/all.yml:5: salon_frontend_origins is still a placeholder")

    def test_a_placeholder_of_a_host(self, mistakes):
        found = mistakes(hosts=GOOD_HOSTS.replace("192.0.2.7", "CHANGE-ME").replace("chat:\n", "CHANGE-ME:\n"))
        assert [sentence.partition(";")[0] for sentence in found] == [
            "hosts.yml:4: a host is still called CHANGE-ME",
            "hosts.yml:5: ansible_host is still a placeholder (CHANGE-ME)",
        ]

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("nginx_prot", "nginx_http_port"),
            ("nginx_htps_port", "nginx_https_port"),
            ("salon_domian", "salon_domain"),
            ("slon_domain", "salon_domain"),
            ("certificate_mod", "certificate_mode"),
            ("dapne_processes", "daphne_processes"),
            ("redis_max_memory", "redis_maxmemory"),
            # Known inside the role, where an inventory cannot reach.
            ("nginx_port_suffix", "nginx_http_port"),
        ],
    )
    def test_a_misspelt_variable(self, mistakes, name, meant):
        assert mistakes(**{name: "1"}) == [
            f"group_vars/all.yml:6: {name} is not a variable of Salon; did you mean {meant}?"
        ]

    def test_a_misspelt_variable_on_the_command_line(self, mistakes):
        assert mistakes(extra={"nginx_prot": "8080"}.items()) == [
            "the command line: nginx_prot is not a variable of Salon; did you mean nginx_http_port?"
        ]

    def test_a_variable_of_an_earlier_salon_is_named_with_what_it_has_become(self, mistakes):
        [sentence] = mistakes(certificate_renew_days=30)
        assert sentence == (
            "group_vars/all.yml:6: certificate_renew_days is now certificate_renew_percent, a share of the"
            " certificate's life; leave it out, or write that."
        )

    def test_who_watches_may_be_a_host_of_its_own_and_is_one(self, mistakes):
        assert mistakes(groups=GOOD_GROUPS | {"monitoring": ["chat"]}) == []
        assert mistakes(groups=GOOD_GROUPS | {"monitoring": ["eye"]}) == []
        [sentence] = mistakes(groups=GOOD_GROUPS | {"monitoring": ["eye", "ear"]})
        assert sentence == "hosts.yml: the group monitoring names several hosts (ear, eye); it takes one, or none."

    @pytest.mark.parametrize(
        ("watching", "host", "kinds", "from_elsewhere"),
        [
            ([], "chat", [], False),
            (["chat"], "chat", ["node", "nginx", "redis", "postgres", "salon"], False),
            (["eye"], "chat", ["node", "nginx", "redis", "postgres", "salon"], True),
            (["eye"], "eye", ["node"], False),
            (["eye"], "stranger", [], True),
        ],
    )
    def test_what_of_a_host_is_watched(self, watching, host, kinds, from_elsewhere):
        seen = salon_inventory.salon_watched(GOOD_GROUPS | {"monitoring": watching}, host)
        assert seen == {"kinds": kinds, "from_elsewhere": from_elsewhere}

    def test_no_variable_of_today_counts_as_one_of_before(self):
        assert not set(salon_inventory.FORMER) & set(salon_inventory.read_specifications(ROOT / "roles"))

    def test_an_inventory_of_before_is_told_each_step(self, mistakes, monkeypatch):
        monkeypatch.setattr(salon_inventory, "INVENTORY_VERSION", 3)
        monkeypatch.setattr(salon_inventory, "STEPS", {2: "Do this.", 3: "Do that."})
        first, second = (
            "Do this. Then write salon_inventory_version: 2",
            "Do that. Then write salon_inventory_version: 3",
        )
        assert mistakes() == [f"group_vars/all.yml: {said} (docs/upgrading.md)." for said in (second, first)]
        assert mistakes(salon_inventory_version=2) == [f"group_vars/all.yml:6: {second} (docs/upgrading.md)."]
        assert mistakes(salon_inventory_version=3) == []

    def test_an_inventory_of_a_newer_salon_is_refused(self, mistakes):
        [sentence] = mistakes(salon_inventory_version=salon_inventory.INVENTORY_VERSION + 1)
        assert "the inventory was written for a newer one; bring that here" in sentence

    def test_every_step_is_described(self):
        assert sorted(salon_inventory.STEPS) == list(range(2, salon_inventory.INVENTORY_VERSION + 1))

    @pytest.mark.parametrize("name", ["ansible_port", "school_name", "domain", "archive_window"])
    def test_variables_of_others_are_theirs(self, mistakes, name):
        assert mistakes(**{name: "1"}) == []

    @pytest.mark.parametrize("name", ["salon_domain", "salon_frontend_origins", "salon_alt_names"])
    def test_a_missing_variable(self, mistakes, name):
        [sentence] = mistakes(**{name: None})
        assert sentence.startswith(f"group_vars/all.yml: {name} is missing; write ")

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("nginx_http_port", "web", "is a whole number"),
            ("nginx_ipv6", "perhaps", "is true or false"),
            ("salon_alt_names", "a,b", "is a list"),
            ("certificate_mode", "letsencrypt", "is one of: selfsigned, acme, provided, external"),
            ("certificate_acme_directory", "http://ca.example.org/dir", "is the address of an ACME directory"),
            ("certificate_acme_email", "a@example.org, b@example.org", "is one address"),
            ("certificate_acme_eab_kid", "a b", "is a name without spaces"),
            ("certificate_acme_eab_hmac_key", "a b", "is a key in base64url"),
            ("certificate_acme_staging", "perhaps", "is true or false"),
            ("certificate_provided_chain", "tls/chain.pem", "is a whole path on the controller"),
            ("certificate_provided_key", "tls/key.pem", "is a whole path on the controller"),
            ("certificate_warn_days", "soon", "is a whole number"),
            ("nginx_trusted_proxies", "10.0.0.0/8", "is a list"),
            ("nginx_trusted_proxies", ["proxy.example.org"], "holds addresses and networks"),
            ("salon_domain", "https://chat.example.org", "is a bare name"),
            ("salon_domain", "chat.example.org/x", "is a bare name"),
            ("salon_domain", "chat.example.org'", "is a bare name"),
            ("salon_frontend_origins", ["school.example.org"], "holds origins like"),
            ("salon_frontend_origins", ["https://school.example.org/"], "holds origins like"),
            # The application refuses it too: a browser would never send it.
            ("salon_frontend_origins", ["https://School.example.org"], "holds origins like"),
            ("salon_alt_names", ["a b"], "holds bare names"),
            ("nginx_tls_profile", "old", "is one of: intermediate, modern"),
            # That would be everybody.
            ("nginx_trusted_proxies", ["0.0.0.0/0"], "holds addresses and networks"),
            ("nginx_exempt_networks", "192.0.2.0/24", "is a list"),
            ("redis_password", "p@ss word", "has letters, digits"),
            ("postgresql_password", "p@ss word", "has letters, digits"),
            ("daphne_network_addresses", "192.0.2.8", "is a list"),
            ("daphne_token_key", "short", "has at least 50"),
            ("daphne_token_old_keys", ["short"], "holds keys of at least 32"),
            ("daphne_token_old_keys", "o" * 32, "is a list"),
            ("daphne_token_key_files", ["school.pem"], "holds paths on the host"),
            ("daphne_token_key_files", ["/etc/salon/a.pem,/etc/salon/b.pem"], "holds paths on the host"),
            ("daphne_token_issuer", "the school's", "is what a token's `iss` says"),
            ("daphne_token_audience", "salon$1", "is what a token's `aud` says"),
            ("daphne_token_creates_people", "perhaps", "is true or false"),
            ("daphne_admin_networks", ["office.example.org"], "holds addresses and networks"),
            ("common_reboot_time", 210, "is a time of the day in quotes"),
            ("common_reboot_time", "25:00", "is a time of the day in quotes"),
            ("firewall_ssh_networks", ["school.example.org"], "holds addresses and networks"),
            ("firewall_peers", ["192.0.2.0/24; accept"], "holds addresses and networks"),
            ("postgresql_networks", ["all"], "holds addresses and networks"),
            ("postgresql_writable_paths", ["srv/wal"], "holds directories on the host"),
            ("monitoring_mail_to", "you@example.org", "is a list"),
            ("monitoring_mail_to", ["a@example.org, b@example.org"], "holds addresses like you@example.org"),
            ("monitoring_mail_from", "salon", "is one address"),
            ("monitoring_smtp_server", "mail.example.org", "is a mail server with its port"),
            ("monitoring_webhooks", ["hooks.example.org/a"], "holds addresses like https://"),
            ("monitoring_heartbeat", "beats.example.org", "is an address like https://"),
            ("monitoring_interval", "10", "is a span of time"),
            ("monitoring_retention_size", "2", "is a size like 2GB"),
            ("monitoring_slow_delivery", "soon", "is a number"),
            ("exporters_kinds", "node", "is a list"),
        ],
    )
    def test_a_wrong_value(self, mistakes, name, value, said):
        [sentence] = mistakes(**{name: value})
        assert re.match(rf"group_vars/all.yml:\d+: {name} {said}", sentence)
        assert sentence.endswith(".")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("salon_domain", "192.0.2.7"),
            ("salon_alt_names", ["192.0.2.7", "2001:db8::7", "www.example.org"]),
            ("salon_frontend_origins", ["http://localhost:3000", "https://[2001:db8::7]:8443"]),
            ("nginx_https_port", "8443"),
            ("nginx_ipv6", "no"),
            ("nginx_trusted_proxies", ["192.0.2.7", "192.0.2.0/24", "2001:db8::7", "2001:db8::/32"]),
            ("certificate_acme_email", ""),
            ("certificate_acme_directory", "https://ca.example.org:14000/dir"),
            ("certificate_provided_chain", "/srv/tls/chain.pem"),
            ("daphne_token_old_keys", ["o" * 32, "p" * 64]),
            ("daphne_token_key_files", ["/etc/salon/school.pem", "/srv/keys/jwks.json"]),
            ("daphne_token_issuer", "https://login.example.org/realms/school?x=1"),
            ("daphne_token_audience", ""),
            ("daphne_admin_networks", ["192.0.2.0/24", "2001:db8::7"]),
            ("common_reboot_time", "04:15"),
            ("firewall_ssh_networks", ["192.0.2.0/24", "192.0.2.7", "2001:db8::/32"]),
            ("monitoring_mail_to", ["you@example.org"]),
            ("monitoring_smtp_server", "[2001:db8::7]:25"),
            ("monitoring_slow_delivery", 0.5),
            ("monitoring_repeat", "1h30m"),
        ],
    )
    def test_a_right_value(self, mistakes, name, value):
        assert mistakes(**{name: value}) == []

    @pytest.mark.parametrize(
        "given",
        [
            {"daphne_token_key": "a little"},
            {"daphne_token_old_keys": ["a little"]},
            {"redis_password": "a little"},
            {"certificate_acme_eab_hmac_key": "a little"},
            {"postgresql_password": "a little"},
            {"postgresql_owner_password": "a little"},
            {"redis_users": "a little"},
        ],
    )
    def test_secrets_are_not_shown(self, mistakes, given):
        [sentence] = mistakes(**given)
        assert "little" not in sentence

    def test_all_mistakes_at_once_in_the_order_of_lines(self, mistakes):
        found = mistakes(salon_domain="CHANGE-ME", nginx_prot=1, certificate_mode="letsencrypt")
        assert [sentence.split()[:2] for sentence in found] == [
            ["group_vars/all.yml:1:", "salon_domain"],
            ["group_vars/all.yml:5:", "certificate_mode"],
            ["group_vars/all.yml:6:", "nginx_prot"],
        ]

    def test_groups_on_several_hosts(self, mistakes):
        [sentence] = mistakes(groups=GOOD_GROUPS | {"redis": ["other"]})
        assert sentence.startswith("hosts.yml: the groups proxy, app, redis, database name several hosts (chat, other)")

    def test_an_empty_group(self, mistakes):
        [sentence] = mistakes(groups=GOOD_GROUPS | {"redis": []})
        assert sentence.startswith("hosts.yml: the group redis has no host")

    def test_a_vault_is_not_read_as_text(self, mistakes):
        [sentence] = mistakes(text="$ANSIBLE_VAULT;1.1;AES256\n616263\n", nginx_prot=1)
        assert sentence.endswith("nginx_prot is not a variable of Salon; did you mean nginx_http_port?")

    @pytest.mark.parametrize("name", ["prod", "staging"])
    def test_the_committed_ones_want_nothing_but_their_placeholders(self, name):
        done = subprocess.run(
            ["ansible-playbook", "playbooks/site.yml", "--inventory", f"inventories/{name}"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            check=False,
        )
        assert done.returncode != 0
        lines = done.stdout.partition("FAILED: ")[2].partition("\n\n")[0].splitlines()
        assert {line.split()[1] for line in lines} == {
            "ansible_host",
            "ansible_user",
            "salon_domain",
            "salon_frontend_origins",
        }
        for line in lines:
            assert re.match(
                rf"inventories/{name}/[\w./]+\.yml:\d+: \w+ is still a placeholder \(.*\); write .*\.$", line
            )
        assert "changed=0" in done.stdout
        # One play, and no host was asked for its facts.
        assert done.stdout.count(" …\n") == 1
        assert "Ask the host" not in done.stdout

    def test_an_address_can_be_made_with_a_secret(self, tmp_path):
        """The secrets are opened after the check of the inventory, and before any host is asked for them."""
        shutil.copytree(ROOT / "inventories/prod", tmp_path / "prod")
        nowhere = GOOD_HOSTS.replace("ansible_host: 192.0.2.7", "ansible_host: 127.0.0.1\n          ansible_port: 1")
        (tmp_path / "prod/hosts.yml").write_text(nowhere)
        variables = GOOD_VARIABLES | {"daphne_redis_url": "redis://:{{ secrets_kept.redis.value }}@192.0.2.8/0"}
        (tmp_path / "prod/group_vars/all.yml").write_text(yaml.safe_dump(variables))
        done = subprocess.run(
            ["ansible-playbook", "playbooks/site.yml", "--inventory", tmp_path / "prod"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            check=False,
        )
        assert "TASK [preflight : Ask the host what it is]" in done.stdout, done.stdout + done.stderr
        assert "refers to a variable that is not set" not in done.stdout

    def test_filled_in_they_are_good(self):
        for name in ("prod", "staging"):
            source = ROOT / "inventories" / name
            variables = yaml.safe_load((source / "group_vars/all.yml").read_text().replace("CHANGE-ME", "chat"))
            found = salon_inventory.find_mistakes(
                [source], {"chat": variables}, GOOD_GROUPS, ROOT / "roles", {}, [source]
            )
            assert all("placeholder" in sentence for sentence in found)


# Every setting of tokens that others sign.
TOKENS = {
    "daphne_token_old_keys": ["o" * 32, "p" * 32],
    "daphne_token_key_files": ["/etc/salon/a.pem", "/etc/salon/b.json"],
    "daphne_token_issuer": "https://login.example.org",
    "daphne_token_audience": "salon",
    "daphne_token_creates_people": False,
}


class TestNewInventory:
    """What playbooks/new.yml writes is what lies in inventories/, filled in."""

    def render(self, name, **given):
        place = ROOT / "playbooks/templates/inventory" / f"{name}.j2"
        variables = {"new_email": "", "preflight_inventory_version": salon_inventory.INVENTORY_VERSION} | given
        return Templar(DataLoader(), variables=variables).template(trust_as_template(place.read_text()))

    @pytest.mark.parametrize(
        ("name", "alias", "domain"),
        [("prod", "chat", "CHANGE-ME.example.org"), ("staging", "chat-staging", "CHANGE-ME.staging.example.org")],
    )
    def test_the_two_that_lie_there(self, name, alias, domain):
        hosts = self.render("hosts.yml", new_alias=alias, new_host="CHANGE-ME", new_user="CHANGE-ME")
        assert hosts.strip() == (ROOT / f"inventories/{name}/hosts.yml").read_text().strip()
        variables = self.render("all.yml", new_domain=domain, new_origin=f"https://{domain}")
        assert variables.strip() == (ROOT / f"inventories/{name}/group_vars/all.yml").read_text().strip()

    def test_an_email_address_asks_lets_encrypt(self):
        rendered = yaml.safe_load(
            self.render("all.yml", new_domain="chat.example.org", new_origin="", new_email="me@example.org")
        )
        assert (rendered["certificate_mode"], rendered["certificate_acme_email"]) == ("acme", "me@example.org")
        assert rendered["salon_frontend_origins"] == []


class TestTemplates:
    """Through Ansible's own templar, without a host."""

    def render(self, path, release="13", **given):
        loader = DataLoader()
        variables = {
            "ansible_facts": FACTS | {"distribution_major_version": release},
            "ansible_managed": "Ansible managed",
            "inventory_hostname": "chat",
            "salon_domain": "chat.example.org",
            "salon_alt_names": ["192.0.2.7"],
            "salon_frontend_origins": ["https://a.example", "https://b.example"],
            "secrets_kept": SECRETS,
            "hostvars": WATCHED_HOSTS,
        }
        for role in SERVING_ROLES:
            for file in ("defaults/main.yml", "vars/main.yml"):
                if (role / file).exists():
                    loaded = loader.load_from_file(str(role / file), trusted_as_template=True)
                    variables = loaded | variables
        template = (ROOT / "templates" / f"{path}.j2").read_text()
        return Templar(loader, variables=variables | given).template(trust_as_template(template))

    @pytest.mark.parametrize("file", managed.templates())
    def test_all_render(self, file):
        # Prometheus has templates of its own, of what it knows by itself.
        rendered = re.sub(r"\{\{ (\$|\.|if |end )[^{}]*\}\}", "", self.render(file.lstrip("/")))
        assert "{{" not in rendered
        assert "{%" not in rendered

    def test_a_backup_has_a_network_only_where_it_goes_elsewhere(self):
        unit = "etc/systemd/system/salon-backup.service"
        for repository, paths in (("", ""), ("/srv/store", " -/srv/store"), ("local:/srv/store", " -/srv/store")):
            here = self.render(unit, backup_restic_repository=repository).splitlines()
            assert {"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"} < set(here)
            assert f"ReadWritePaths=/var/backups/salon -/var/backups/salon-wal{paths}" in here
        elsewhere = self.render(unit, backup_restic_repository="rest:https://backup.example.org/salon").splitlines()
        assert "PrivateNetwork=yes" not in elsewhere
        assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in elsewhere

    def test_a_backup_has_what_is_secret_on_the_host(self):
        given = {"daphne_token_key_files": ["/etc/salon/school.pem"]}
        rendered = self.render("etc/systemd/system/salon-backup.service", **given).splitlines()
        assert [line for line in rendered if line.startswith("LoadCredential=")] == [
            "LoadCredential=backup.json:/etc/salon/backup.json",
            "LoadCredential=secrets.yml:/etc/salon/secrets.yml",
            "LoadCredential=salon.env:/etc/salon/salon.env",
            "LoadCredential=tls:/etc/salon/tls",
            "LoadCredential=token_school.pem:/etc/salon/school.pem",
        ]

    def test_what_a_backup_is_told_is_what_the_program_reads(self):
        told = json.loads(self.render("etc/salon/backup.json", backup_keep_days="3", backup_keep_free=5))
        assert told["keep"] == {"days": 3, "weeks": 4, "months": 12}
        assert told["keep_free"] == 5_000_000
        assert told["key"] == "b" * 64
        assert told["wal"] is False
        assert told["restic"] == {"repository": "", "environment": {}, "options": [], "append_only": False}
        assert told["commands"] == {"failure": "", "success": ""}

    def test_success_is_told_only_where_somebody_wants_to_know(self):
        unit = "etc/systemd/system/salon-backup.service"
        assert "OnSuccess" not in self.render(unit)
        assert "OnFailure=salon-backup-tell@failure.service" in self.render(unit)
        assert "OnSuccess=salon-backup-tell@success.service" in self.render(unit, backup_success_command="true")

    def test_postgresqls_log_is_put_aside_only_where_that_is_wanted(self):
        configuration, unit = "etc/salon/postgresql.conf", "etc/systemd/system/postgresql@.service.d/salon.conf"
        assert "archive_mode" not in self.render(configuration)
        assert "salon-wal" not in self.render(unit)
        assert "archive_mode = on" in self.render(configuration, postgresql_wal=True).splitlines()
        assert "/run/postgresql /var/backups/salon-wal" in self.render(unit, postgresql_wal=True)

    def test_http2_on_either_nginx(self):
        site = "etc/nginx/conf.d/salon.conf"
        assert "http2 on;" in self.render(site, "13")
        assert "listen 443 ssl;" in self.render(site, "13")
        assert "http2 on;" not in self.render(site, "12")
        assert "listen 443 ssl http2;" in self.render(site, "12")
        assert "MLKEM" not in self.render(site, "12")

    def test_another_port_stands_in_every_address(self):
        site = self.render("etc/nginx/conf.d/salon.conf", nginx_https_port=8443)
        assert "return 308 https://$host:8443$request_uri;" in site
        assert "SALON_PUBLIC_URL='https://chat.example.org:8443'" in self.render(
            "etc/salon/salon.env", nginx_https_port=8443
        )
        assert "SALON_PUBLIC_URL='https://chat.example.org'\n" in self.render("etc/salon/salon.env")

    def test_an_ipv6_address_stands_in_brackets_as_in_a_host_header(self):
        given = {"salon_alt_names": ["2001:db8::7", "www.example.org"]}
        site = self.render("etc/nginx/conf.d/salon.conf", **given)
        assert site.count("server_name chat.example.org [2001:db8::7] www.example.org;") == 2
        assert "SALON_ALLOWED_HOSTS='[2001:db8::7],www.example.org'" in self.render("etc/salon/salon.env", **given)

    def test_an_authority_finds_what_it_asks_for_whatever_the_mode(self):
        for mode in ("selfsigned", "acme", "provided"):
            site = self.render("etc/nginx/conf.d/salon.conf", certificate_mode=mode)
            assert site.count("location ^~ /.well-known/acme-challenge/ {\n        root /var/lib/salon-acme;") == 1

    def test_behind_a_proxy_only_the_proxy_is_believed(self):
        given = {
            "certificate_mode": "external",
            "nginx_trusted_proxies": ["192.0.2.10", "10.0.0.0/24", "2001:db8::/64"],
        }
        site = self.render("etc/nginx/conf.d/salon.conf", **given)
        assert "ssl" not in site
        assert ":443" not in site
        for network in given["nginx_trusted_proxies"]:
            assert f"\n    {network} 1;\n" in site
            assert f"\nset_real_ip_from {network};\n" in site
        assert "$remote_addr;\n    proxy_set_header X-Forwarded-Proto https;" in site
        assert "set_real_ip_from" not in self.render("etc/nginx/conf.d/salon.conf")

    @pytest.mark.parametrize(
        ("given", "directory"),
        [
            ({}, "https://acme-v02.api.letsencrypt.org/directory"),
            ({"certificate_acme_staging": True}, "https://acme-staging-v02.api.letsencrypt.org/directory"),
            ({"certificate_acme_directory": "https://ca.example.org/dir"}, "https://ca.example.org/dir"),
        ],
    )
    def test_the_authority_that_is_asked(self, given, directory):
        lines = self.render("etc/salon/certbot.ini", **given).splitlines()
        assert f"server = {directory}" in lines
        assert "register-unsafely-without-email = true" in lines
        assert not [line for line in lines if line.startswith(("eab", "email"))]
        configuration = json.loads(self.render("etc/salon/certificate.json", **given))
        assert configuration["directory"] == directory
        assert configuration["names"] == ["chat.example.org", "192.0.2.7"]

    def test_an_account_of_the_authority_s(self):
        given = {
            "certificate_acme_eab_kid": "kid",
            "certificate_acme_eab_hmac_key": "key",
            "certificate_acme_email": "a@b",
        }
        lines = self.render("etc/salon/certbot.ini", **given).splitlines()
        assert {"eab-kid = kid", "eab-hmac-key = key", "email = a@b"} < set(lines)
        assert "key" not in json.loads(self.render("etc/salon/certificate.json", **given)).values()

    def test_one_upstream_for_each_process(self):
        assert self.render("etc/nginx/conf.d/salon.conf").count("server unix:") == 3
        assert self.render("etc/nginx/conf.d/salon.conf", daphne_processes=5).count("server unix:") == 5

    @pytest.mark.parametrize("given", [{}, TOKENS])
    def test_settings_read_alike_by_systemd_and_the_shell(self, given):
        for line in self.render("etc/salon/salon.env", **given).splitlines():
            assert re.fullmatch(r"#.*|[A-Z_]+='[^'\\$`]*'", line), line

    def test_the_admin_can_be_limited_to_networks(self):
        assert "SALON_ADMIN_NETWORKS" not in self.render("etc/salon/salon.env")
        rendered = self.render("etc/salon/salon.env", daphne_admin_networks=["192.0.2.0/24", "2001:db8::7"])
        assert "SALON_ADMIN_NETWORKS='192.0.2.0/24,2001:db8::7'\n" in rendered

    def test_settings_of_tokens_stand_there_where_they_are_set(self):
        assert re.findall(r"SALON_TOKEN_\w+", self.render("etc/salon/salon.env")) == ["SALON_TOKEN_KEY"]
        rendered = self.render("etc/salon/salon.env", **TOKENS)
        for line in (
            f"SALON_TOKEN_OLD_KEYS='{'o' * 32},{'p' * 32}'",
            "SALON_TOKEN_KEY_FILES='/etc/salon/a.pem,/etc/salon/b.json'",
            "SALON_TOKEN_ISSUER='https://login.example.org'",
            "SALON_TOKEN_AUDIENCE='salon'",
            "SALON_TOKEN_CREATES_PEOPLE='off'",
        ):
            assert line in rendered.splitlines()

    def test_a_process_has_no_network_unless_it_is_given_addresses(self):
        unit = "etc/systemd/system/daphne@.service"
        alone = self.render(unit).splitlines()
        assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"} < set(alone)
        assert not [line for line in alone if line.startswith("IPAddressAllow")]
        linked = self.render(unit, daphne_network_addresses=["localhost", "192.0.2.8"]).splitlines()
        assert {"IPAddressDeny=any", "IPAddressAllow=localhost 192.0.2.8"} < set(linked)
        assert "PrivateNetwork=yes" not in linked

    def test_what_postgresql_starts_gets_out_where_the_operator_wants_it(self):
        def sandbox(**given):
            return set(self.render("etc/systemd/system/postgresql@.service.d/salon.conf", **given).splitlines())

        alone = {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"}
        linked = {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
        assert alone <= sandbox()
        assert linked | {"IPAddressDeny=any"} <= sandbox(postgresql_addresses=["*"])
        for given in ({}, {"postgresql_addresses": ["*"]}):
            lifted = sandbox(postgresql_programs_networked=True, postgresql_writable_paths=["/srv/wal"], **given)
            assert linked <= lifted
            assert not [line for line in lifted if line.startswith(("PrivateNetwork", "IPAddress"))]
            [writable] = [line for line in lifted if line.startswith("ReadWritePaths=")]
            assert writable.endswith(" -/run/postgresql /srv/wal")

    def test_redis_and_postgresql_have_no_port_unless_they_are_given_one(self):
        redis, postgresql = "etc/redis/redis.conf", "etc/salon/postgresql.conf"
        assert "port 0" in self.render(redis).splitlines()
        given = {"redis_port": 6379, "redis_password": "known"}
        opened = self.render(redis, **given).splitlines()
        assert {"bind 127.0.0.1", "port 6379"} < set(opened)
        assert "listen_addresses = ''" in self.render(postgresql).splitlines()
        opened = self.render(postgresql, postgresql_addresses=["127.0.0.1", "::1"]).splitlines()
        assert "listen_addresses = '127.0.0.1,::1'" in opened

    def test_redis_lets_in_the_application_only_and_for_what_it_does(self):
        [rights] = re.findall(r"^    (resetkeys .+)$", redis_url.__doc__, re.MULTILINE)
        assert [line for line in self.render("etc/redis/redis.conf").splitlines() if line.startswith("user ")] == [
            "user default off",
            f"user salon on nopass {rights}",
        ]
        given = {"redis_password": "known", "redis_users": ["watcher on nopass +ping"]}
        known = self.render("etc/redis/redis.conf", **given)
        assert "user default off" in known.splitlines()
        assert f"user salon on #{hashlib.sha256(b'known').hexdigest()} {rights}" in known.splitlines()
        two = self.render("etc/redis/redis.conf", **given, redis_other_passwords=["next"])
        hashes = " ".join(f"#{hashlib.sha256(each).hexdigest()}" for each in (b"known", b"next"))
        assert f"user salon on {hashes} {rights}" in two.splitlines()
        assert "user watcher on nopass +ping" in known.splitlines()
        assert "known" not in known.split()
        # On a host of an earlier Salon, until its processes have been restarted.
        for password, opened in (("", "nopass"), ("known", f"#{hashlib.sha256(b'known').hexdigest()}")):
            rendered = self.render("etc/redis/redis.conf", redis_nameless=True, redis_password=password)
            assert f"user default on {opened} ~* &* +@all" in rendered.splitlines()
            assert "user default off" not in rendered

    @pytest.mark.parametrize(
        "url",
        [
            "unix:///run/redis/redis-server.sock",
            "unix://:secret@/run/redis/redis-server.sock?db=1",
            "redis://:secret@127.0.0.1:6379/0",
            "redis://localhost",
            "redis://default:secret@Chat.example.org",
            "rediss://:secret@[2001:db8::7]/0",
        ],
    )
    def test_an_address_that_our_redis_does_not_take_is_refused(self, url):
        here = ["chat.example.org", "2001:db8::7"]
        said = salon_redis.salon_redis_mistake(url, "/run/redis/redis-server.sock", 6379, here)
        assert "this host's Redis lets in nobody but salon: write " in said
        assert "secret" not in said
        [wanted] = re.findall(r"write (\S+), with", said)
        assert salon_redis.salon_redis_mistake(wanted, "/run/redis/redis-server.sock", 6379, here) == ""

    @pytest.mark.parametrize(
        ("url", "port"),
        [
            ("unix://salon:@/run/redis/redis-server.sock", 0),
            ("unix:///run/another.sock", 0),
            ("redis://:secret@192.0.2.8:6379/0", 6379),
            # Ours has no port, or another one.
            ("redis://:secret@127.0.0.1:6379/0", 0),
            ("redis://:secret@127.0.0.1:6380/0", 6379),
            ("redis+sentinel://:secret@a:26379,b:26379/master/0", 6379),
            ("redis://[", 6379),
        ],
    )
    def test_other_addresses_of_redis_are_the_operators(self, url, port):
        assert salon_redis.salon_redis_mistake(url, "/run/redis/redis-server.sock", port, ["chat"]) == ""

    def test_the_application_gives_its_name_to_redis(self):
        for password in ("", "kn.own~"):
            rendered = self.render("etc/salon/salon.env", redis_password=password)
            [url] = re.findall(r"^REDIS_URL='(.+)'$", rendered, re.MULTILINE)
            connection = ConnectionPool.from_url(redis_url.host(url)["address"]).connection_kwargs
            assert (connection["path"], connection["username"]) == ("/run/redis/redis-server.sock", "salon")
            assert (connection.get("password") or "") == password

    def test_postgresql_asks_the_kernel_or_for_a_password(self):
        def lines(**given):
            rendered = self.render("etc/salon/pg_hba.conf", **given).splitlines()
            return [line.split() for line in rendered if line and not line.startswith("#")]

        socket = [
            ["local", "all", "postgres", "peer"],
            ["local", "salon", "salon", "peer"],
            ["local", "salon", "salon_owner", "peer", "map=salon"],
            ["local", "salon", "salon_backup", "peer", "map=salon"],
        ]
        keeps_log = ["local", "replication", "salon_backup", "peer", "map=salon"]
        assert lines(postgresql_wal=True) == [*socket, keeps_log]
        assert lines() == socket
        networks = {"postgresql_networks": ["127.0.0.1/32", "::1/128", "192.0.2.0/24"]}
        assert lines(postgresql_addresses=["*"], **networks) == [
            *socket,
            ["host", "salon", "salon,salon_owner", "127.0.0.1/32", "scram-sha-256"],
            ["host", "salon", "salon,salon_owner", "::1/128", "scram-sha-256"],
            ["hostssl", "salon", "salon,salon_owner", "192.0.2.0/24", "scram-sha-256"],
        ]

    def test_postgresql_lets_in_whom_the_operator_names(self):
        given = ["local all auditor peer"]
        assert self.render("etc/salon/pg_hba.conf", postgresql_hba_lines=given).rstrip().splitlines()[-1:] == given

    def test_ssh_passes_on_what_the_operator_wants(self):
        name = "etc/ssh/sshd_config.d/00-salon.conf"
        assert "AllowTcpForwarding no" in self.render(name, common_ssh_without_passwords=True).splitlines()
        wanted = self.render(name, common_ssh_without_passwords=True, common_ssh_forwarding=True)
        assert "AllowTcpForwarding yes" in wanted.splitlines()

    def test_no_process_knows_how_to_come_in_as_the_owner_of_the_database(self):
        assert "salon_owner" not in self.render("etc/salon/salon.env")
        assert "salon_owner" in self.render("etc/salon/migrate.env")

    def accepted(self, **given):
        """What the firewall lets in, but for what networks need."""
        rendered = self.render("etc/nftables.conf", **given)
        return [line.strip() for line in rendered.splitlines() if re.search(r"tcp dport .* accept", line)]

    def test_firewall_opens_ssh_and_nginx(self):
        assert self.accepted() == ["tcp dport { 22 } accept", "tcp dport { 80, 443 } accept"]
        assert self.accepted(nginx_https_port=8443)[1] == "tcp dport { 80, 8443 } accept"

    def test_firewall_lets_in_what_else_runs_there(self):
        rendered = self.render("etc/nftables.conf", firewall_extra_rules=["udp dport 51820 accept"])
        assert re.search(r"chain input {[^}]*(?:{[^}]*}[^}]*)*\n\t\tudp dport 51820 accept\n\t}", rendered)
        assert "hook forward" in rendered
        assert "hook forward" not in self.render("etc/nftables.conf", firewall_forwards=True)

    def test_firewall_opens_ssh_to_networks_of_both_kinds(self):
        assert self.accepted(firewall_ssh_networks=["192.0.2.0/24", "2001:db8::/32"])[:2] == [
            "ip saddr { 192.0.2.0/24 } tcp dport { 22 } accept",
            "ip6 saddr { 2001:db8::/32 } tcp dport { 22 } accept",
        ]
        # With networks of one kind only, nobody of the other comes in.
        [ssh, _] = self.accepted(firewall_ssh_networks=["192.0.2.0/24"])
        assert ssh == "ip saddr { 192.0.2.0/24 } tcp dport { 22 } accept"

    def test_firewall_opens_services_to_the_hosts_of_the_inventory(self):
        facts = {"all_ipv4_addresses": ["192.0.2.8"], "all_ipv6_addresses": ["2001:db8::8", "fe80::8"]}
        given = {
            "inventory_hostname": "chat",
            "hostvars": {"chat": {"ansible_facts": {}}, "other": {"ansible_facts": facts}},
        }
        assert self.accepted(**given) == self.accepted()
        assert self.accepted(redis_port=6379, postgresql_addresses=["*"], **given)[2:] == [
            "ip saddr { 192.0.2.8 } tcp dport { 6379, 5432 } accept",
            "ip6 saddr { 2001:db8::8 } tcp dport { 6379, 5432 } accept",
        ]
        assert self.accepted(redis_port=6379, firewall_peers=["192.0.2.0/24"])[2:] == [
            "ip saddr { 192.0.2.0/24 } tcp dport { 6379 } accept"
        ]

    @pytest.mark.parametrize("without", [False, True])
    def test_sshd_takes_passwords_while_the_operator_may_need_one(self, without):
        rendered = self.render("etc/ssh/sshd_config.d/00-salon.conf", common_ssh_without_passwords=without)
        for line in (
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
        ):
            assert (line in rendered.splitlines()) == without

    def test_no_template_logs_what_a_token_may_be_in(self):
        """What nginx makes of the templates is tried in tests/integration/test_proxy.py."""
        for name in ("etc/nginx/nginx.conf", "etc/nginx/conf.d/salon.conf"):
            rendered = self.render(name)
            assert not re.search(
                r"log_format[^;]*\$(request|args|query_string|request_uri|uri|http_cookie|http_referer)\b", rendered
            )
            # Of requests nothing below the level of a memory at its end; of connections what is above.
            levels = re.findall(r"^ +error_log \S+ (\w+);", rendered, re.MULTILINE)
            assert set(levels) <= {"emerg", "alert"}
        assert "error_log /var/log/nginx/error.log emerg;" in self.render("etc/nginx/nginx.conf")

    def test_numbers_of_nginx_are_variables(self):
        site = self.render(
            "etc/nginx/conf.d/salon.conf",
            nginx_connections_per_address=11,
            nginx_handshakes_per_second=12,
            nginx_handshakes_burst=13,
            nginx_requests_per_second=14,
            nginx_requests_burst=15,
            nginx_exempt_networks=["192.0.2.0/24"],
        )
        for line in (
            "limit_conn salon_connections 11;",
            "zone=salon_handshakes:10m rate=12r/s;",
            "limit_req zone=salon_handshakes burst=13 nodelay;",
            "zone=salon_requests:10m rate=14r/s;",
            "limit_req zone=salon_requests burst=15 nodelay;",
            "    192.0.2.0/24 1;",
        ):
            assert line in site


class TestRelease:
    LOCK = (
        "# made by a tool\n"
        "alpha==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab\n    # via salon\n"
        "old==1.0 ; python_full_version < '3.11.3' \\\n    --hash=sha256:bb\n"
        "new==1.0 ; python_version >= '3.13' \\\n    --hash=sha256:cc\n"
        "windows==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
        "pypy==1.0 ; platform_python_implementation != 'CPython' \\\n    --hash=sha256:ee\n"
    )

    @pytest.fixture
    def source(self, tmp_path):
        """An application in a repository of its own, committed."""
        source = tmp_path / "app"
        (source / "chat").mkdir(parents=True)
        (source / "manage.py").write_text("print()\n")
        (source / "chat/models.py").write_text("x = 1\n")
        (source / "requirements.txt").write_text(self.LOCK)
        self.git(source, "init", "--quiet")
        self.commit(source)
        return source

    def git(self, source, *arguments):
        # Nothing of who runs the tests counts.
        environment = {"PATH": os.environ["PATH"], "HOME": str(source), "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": "Anna", f"GIT_{role}_EMAIL": "anna@example.org"}
            environment[f"GIT_{role}_DATE"] = "2026-03-01T12:30:05+01:00"
        done = subprocess.run(
            ["git", "-C", source, *arguments], capture_output=True, text=True, check=True, env=environment
        )
        return done.stdout.strip()

    def commit(self, source):
        self.git(source, "add", "--all")
        self.git(source, "commit", "--quiet", "--message", "Say it")

    @pytest.fixture
    def build(self, source, tmp_path, monkeypatch):
        """Builds with wheels from nowhere."""
        fetched = []

        def fetch_wheels(requirements, python, machine, cache):
            wheels = cache / f"{python}-{machine}"
            wheels.mkdir(parents=True, exist_ok=True)
            for name in ("alpha", "beta"):
                (wheels / f"{name}-1.0-py3-none-any.whl").write_bytes(b"wheel")
            fetched.append((python, machine, requirements))
            return wheels

        monkeypatch.setattr(build_release, "fetch_wheels", fetch_wheels)

        def build(output="build", python="3.13", may_be_changed=False):
            return build_release.Build(source, tmp_path / output, python, "x86_64", may_be_changed)

        build.fetched = fetched
        return build

    @pytest.fixture
    def pack(self, build):
        def pack(*has_wheels, has_environment=False, **about):
            return build(**about).pack(has_environment=has_environment, has_wheels=has_wheels)

        return pack

    def names(self, packed):
        with tarfile.open(packed["archive"]) as archive:
            return archive.getnames()

    @pytest.mark.parametrize(("python", "names"), [("3.11", ["alpha", "old"]), ("3.13", ["alpha", "new"])])
    def test_requirements_are_those_of_the_host(self, python, names):
        lines = build_release.requirements_for(self.LOCK, python, "x86_64")
        assert re.findall(r"^(\w+)==1.0", lines, re.MULTILINE) == names
        assert "--hash=sha256:aa \\\n    --hash=sha256:ab" in lines
        assert ";" not in lines

    @pytest.mark.parametrize("line", ["alpha==1.0", "alpha>=1.0 --hash=sha256:aa", "alpha"])
    def test_what_is_not_pinned_is_refused(self, line):
        with pytest.raises(build_release.BuildError, match="is not pinned with its hashes"):
            build_release.requirements_for(line, "3.13", "x86_64")

    def test_the_real_requirements_are_all_pinned(self):
        for python in ("3.11", "3.13"):
            assert "django==" in build_release.requirements_for(
                (ROOT / "app/requirements.txt").read_text(), python, "x86_64"
            )

    def test_a_release_says_when_and_what(self, build, source):
        release = build().identify()
        commit = self.git(source, "rev-parse", "HEAD")
        assert release["id"] == f"20260301-113005-{commit[:10]}-py3.13"
        assert (release["commit"], release["subject"], release["changed"]) == (commit, "Say it", [])

    def test_a_commit_that_leaves_the_application_alone_is_no_release(self, build, source):
        before = build().identify()["id"]
        (source.parent / "app/.gitignore").write_text("*.pyc\n")
        self.commit(source)
        (source / "README.pyc").write_text("noise")
        after = build().identify()["id"]
        self.git(source, "rm", "--quiet", ".gitignore")
        assert after.rpartition("-")[2] == before.rpartition("-")[2]

    @pytest.mark.parametrize("path", ["chat/models.py", "chat/new.py"])
    def test_what_no_commit_holds_is_refused_unless_that_is_allowed(self, build, source, path):
        (source / path).write_text("x = 2\n")
        with pytest.raises(build_release.BuildError, match=rf"changes that are in no commit: .*{path}\. Commit that"):
            build().identify()
        first = build(may_be_changed=True).identify()
        assert len(first["changed"]) == 1
        (source / path).write_text("x = 3\n")
        assert build(may_be_changed=True).identify()["id"] != first["id"]

    def test_what_is_in_no_repository_is_refused_unless_that_is_allowed(self, build, source):
        shutil.rmtree(source / ".git")
        with pytest.raises(build_release.BuildError, match="in no git repository"):
            build().identify()
        assert "-uncommitted-" in build(may_be_changed=True).identify()["id"]

    def test_a_file_that_is_gone_and_not_committed_is_no_part(self, pack, source):
        (source / "manage.py").unlink()
        assert "app/manage.py" not in self.names(pack(may_be_changed=True))

    def test_the_same_content_is_packed_once(self, pack):
        first, second = pack(), pack()
        assert first["built"]
        assert second == first | {"built": False}

    def test_the_same_content_gives_the_same_bytes(self, pack, source):
        first = Path(pack(output="one")["archive"]).read_bytes()
        os.utime(source / "manage.py", (1, 1))
        assert Path(pack(output="two")["archive"]).read_bytes() == first

    def test_each_python_has_its_own(self, build):
        one, other = build(python="3.11").identify(), build(python="3.13").identify()
        assert one["id"] != other["id"]
        assert one["environment"] != other["environment"]

    @pytest.mark.parametrize("path", ["chat/__pycache__/models.cpython-313.pyc", ".models.py.swp", "chat/models.py~"])
    def test_what_is_left_lying_about_does_not_count(self, source, path):
        before = build_release.content_digest(source)
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text("noise")
        assert build_release.content_digest(source) == before

    def test_content_name_and_mode_count(self, source):
        seen = {build_release.content_digest(source)}
        (source / "chat/models.py").write_text("x = 2\n")
        seen.add(build_release.content_digest(source))
        (source / "chat/models.py").rename(source / "chat/people.py")
        seen.add(build_release.content_digest(source))
        (source / "manage.py").chmod(0o755)
        seen.add(build_release.content_digest(source))
        assert len(seen) == 4

    def test_archive_holds_code_requirements_and_the_wheels_that_the_host_lacks(self, pack):
        code = ["app", "app/chat", "app/chat/models.py", "app/manage.py", "app/requirements.txt", "requirements.txt"]
        wheels = ["wheels/alpha-1.0-py3-none-any.whl", "wheels/beta-1.0-py3-none-any.whl"]
        assert self.names(pack()) == [*code, *wheels, "release.json"]
        assert self.names(pack("alpha-1.0-py3-none-any.whl")) == [*code, wheels[1], "release.json"]

    def test_a_host_with_these_libraries_needs_no_wheels(self, pack, build):
        assert not [name for name in self.names(pack(has_environment=True)) if name.startswith("wheels")]
        assert build.fetched == []

    def test_an_interrupted_build_leaves_nothing_that_looks_finished(self, pack, tmp_path, monkeypatch):
        def members(*_):
            yield "app/manage.py", 0o644, b""
            raise KeyboardInterrupt

        monkeypatch.setattr(build_release, "members", members)
        with pytest.raises(KeyboardInterrupt):
            pack()
        assert [path for path in (tmp_path / "build").rglob("*") if path.is_file() and path.suffix != ".whl"] == []

    def test_a_symbolic_link_is_refused(self, source):
        (source / "link.py").symlink_to("manage.py")
        with pytest.raises(build_release.BuildError, match="symbolic link"):
            build_release.content_digest(source)

    def test_migrations_are_noted_with_those_that_contract(self, source):
        (source / "chat/migrations").mkdir()
        text = "class Migration:\n    {}\n"
        (source / "chat/migrations/0001_initial.py").write_text(text.format("operations = []"))
        (source / "chat/migrations/0002_remove.py").write_text(text.format('contract_after = "0001_initial"'))
        assert build_release.migrations(source) == {
            "chat.0001_initial": None,
            "chat.0002_remove": "chat.0001_initial",
        }
        (source / "chat/migrations/0002_remove.py").write_text(text.format("contract_after = NAME"))
        with pytest.raises(build_release.BuildError, match="contract_after is not a plain text"):
            build_release.migrations(source)

    def test_the_real_migrations_are_read(self):
        assert "chat.0001_initial" in build_release.migrations(ROOT / "app")


class TestRunOfAnsible:
    """Whether the run that holds a host's lock is over."""

    @pytest.fixture
    def sleeper(self):
        process = subprocess.Popen(["sleep", "60"])
        yield process
        process.kill()
        process.wait()

    def run_of(self, process):
        return build_release.this_run() | {"pid": process.pid, "started": build_release._started(process.pid)}

    def test_one_that_runs_is_not_over(self, sleeper):
        assert not build_release.is_gone(self.run_of(sleeper))

    def test_one_that_was_killed_is_over(self, sleeper):
        run = self.run_of(sleeper)
        sleeper.kill()
        sleeper.wait()
        assert build_release.is_gone(run)

    def test_another_process_with_its_number_is_not_it(self, sleeper):
        assert build_release.is_gone(self.run_of(sleeper) | {"started": "1"})

    def test_of_one_on_another_machine_nobody_knows(self, sleeper):
        assert not build_release.is_gone(self.run_of(sleeper) | {"started": "1", "machine": "another"})

    def test_it_is_ansible_and_not_its_child(self, tmp_path):
        script = tmp_path / "ansible-playbook"
        program = ROOT / "roles/daphne/files/build_release.py"
        # As Ansible does it: a worker of the same name, and a shell below it.
        script.write_text(
            "import os, subprocess, sys\n"
            "print(os.getpid(), flush=True)\n"
            "if not os.fork():\n"
            f"    subprocess.run(['sh', '-c', '{sys.executable} {program} run; :'])\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        pid, said = done.stdout.splitlines()
        assert json.loads(said)["pid"] == int(pid)


class TestSystemPackages:
    SCRIPT = ROOT / "tests/system-packages"

    @pytest.fixture
    def run(self, tmp_path):
        """Runs the script on a machine that has nothing but a few tools."""
        for tool in ("sort", "env"):
            (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")

        def run(*names):
            return subprocess.run(
                ["/bin/bash", self.SCRIPT, *names],
                capture_output=True,
                text=True,
                env={"PATH": str(tmp_path), "NO_INSTALL": "1"},
                check=False,
            )

        return run

    def test_it_names_the_one_line_that_installs(self, run):
        done = run("redis", "image")
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr == (
            "tests/system-packages: packages are missing; this installs them:"
            " sudo apt-get install --yes --no-install-recommends mmdebstrap redis-server\n"
        )

    def test_it_is_quiet_when_nothing_is_missing(self, run, tmp_path):
        (tmp_path / "redis-server").write_text("#!/bin/sh\n")
        (tmp_path / "redis-server").chmod(0o755)
        done = run("redis")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_it_knows_its_names(self, run):
        assert run("radis").returncode == 2
