"""The file of an inventory's secrets: how it is made, opened and changed; and that the repository holds none."""

import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]
TODAY, LATER = datetime.date(2026, 3, 1), datetime.date(2026, 3, 16)


def load():
    path = ROOT / "roles/secrets/action_plugins/salon_secrets.py"
    specification = importlib.util.spec_from_file_location("salon_secrets", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["salon_secrets"] = module
    specification.loader.exec_module(module)
    return module


salon_secrets = load()


@pytest.fixture
def given():
    """The vault passwords that Ansible was given."""
    return []


@pytest.fixture
def keeper(tmp_path, given):
    (tmp_path / "inventory").mkdir()

    def keeper(today=TODAY, dry=False, environments=()):
        vault = salon_secrets.Vault(given, tmp_path / "config/salon/vault-password")
        made = salon_secrets.Keeper(tmp_path / "inventory/secrets.yml", vault, today, 15, dry)
        made.changed = made.open(environments)
        return made

    return keeper


@pytest.fixture
def file(tmp_path):
    return tmp_path / "inventory/secrets.yml"


@pytest.fixture
def password_file(tmp_path):
    return tmp_path / "config/salon/vault-password"


def mode(path):
    return oct(path.stat().st_mode & 0o777)


class TestFirstRun:
    def test_it_makes_all_of_them_and_what_opens_them(self, keeper, file, password_file):
        first = keeper()
        assert first.changed
        assert set(first.kept) == set(salon_secrets.NAMES)
        assert len({secret["value"] for secret in first.kept.values()}) == len(salon_secrets.NAMES)
        assert all(len(secret["value"]) == 64 for secret in first.kept.values())
        assert (mode(file), mode(password_file), mode(password_file.parent)) == ("0o600", "0o600", "0o700")
        assert sorted(path.name for path in file.parent.iterdir()) == ["secrets.yml"]
        assert [sentence.split()[0] for sentence in first.sentences] == ["Wrote", "Made"]

    def test_the_second_run_changes_nothing(self, keeper, file):
        first, content = keeper(), file.read_bytes()
        second = keeper()
        assert (second.changed, second.sentences, second.kept) == (False, [], first.kept)
        assert file.read_bytes() == content

    def test_it_is_a_vault_of_ansibles_own(self, keeper, file, password_file):
        kept = keeper().kept
        shown = subprocess.run(
            ["ansible-vault", "view", "--vault-password-file", password_file, file],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert kept["token_key"]["value"] in shown
        for secret in kept.values():
            assert secret["value"] not in file.read_text()

    def test_a_look_writes_nothing(self, keeper, file, password_file):
        looked = keeper(dry=True)
        assert looked.changed
        assert looked.sentences[0].startswith("Would write")
        assert not file.exists()
        assert not password_file.parent.exists()


class TestGivenPassword:
    @pytest.fixture
    def given(self):
        return [("default", VaultSecret(b"from the operator"))]

    def test_it_is_used_and_no_other_is_made(self, keeper, file, given, password_file):
        kept = keeper().kept
        assert kept["redis"]["value"].encode() in VaultLib(given).decrypt(file.read_bytes())
        assert not password_file.exists()

    def test_what_was_encrypted_with_the_kept_one_stays_so(self, keeper, given, file, password_file):
        [operators] = given
        given.clear()
        kept = keeper().kept
        given.append(operators)
        assert keeper().kept == kept
        keeper().apply("accept", "redis")
        given.clear()
        assert "next" in keeper().kept["redis"]


class TestRefusals:
    def refusal(self, keeper):
        with pytest.raises(salon_secrets.MistakeError) as caught:
            keeper()
        return str(caught.value)

    def test_no_password(self, keeper, password_file):
        keeper()
        password_file.unlink()
        said = self.refusal(keeper)
        assert "is encrypted, and there is no vault password" in said
        assert "remove the file: the next run takes the secrets over" in said

    def test_another_password(self, keeper, password_file):
        keeper()
        password_file.write_text("another\n")
        assert "is encrypted with another vault password" in self.refusal(keeper)

    def test_an_empty_password(self, keeper, password_file):
        keeper()
        password_file.write_text("\n")
        assert "is empty" in self.refusal(keeper)

    def test_a_password_that_others_read(self, keeper, password_file):
        keeper()
        password_file.chmod(0o640)
        assert "may be read by others; make its mode 0600." in self.refusal(keeper)

    @pytest.mark.parametrize(
        "text",
        [
            "- a list",
            "{",
            "secret_key: geheim-geheim",
            "other: {value: geheim-geheim-geheim-geheim-geheim-geheim, since: 2026-01-01, old: []}",
            "redis: {value: geheim-short, since: '2026-01-01', old: []}",
            "redis: {value: geheim-geheim-geheim-geheim-geheim-geheim, since: 'one day', old: []}",
            "redis: {since: '2026-01-01', old: []}",
            "redis: {value: 7, since: '2026-01-01', old: []}",
        ],
    )
    def test_a_file_that_is_not_theirs_is_left_as_it_is_and_not_shown(self, keeper, file, text):
        file.write_text(text)
        said = self.refusal(keeper)
        assert "does not hold what the playbooks have written there" in said
        assert "geheim" not in said
        assert file.read_text() == text

    def test_an_unknown_name(self, keeper):
        with pytest.raises(salon_secrets.MistakeError, match="tokenkey is not a secret of Salon; it has secret_key, "):
            keeper().apply("accept", "redis,tokenkey")


class TestTakingOver:
    ENVIRONMENT = (
        f"# a comment\nSALON_SECRET_KEY='{'s' * 64}'\nSALON_TOKEN_KEY='{'t' * 64}'\n"
        f"SALON_TOKEN_OLD_KEYS='{'o' * 32},{'p' * 32}'\nREDIS_URL='redis://salon:{'r' * 40}@10.0.0.2:6379/0'\n"
        "DATABASE_URL='postgresql:///salon?host=/run/postgresql'\n"
    )

    def test_a_living_host_keeps_its_secrets(self, keeper):
        taken = keeper(environments=[self.ENVIRONMENT])
        values = {name: secret["value"] for name, secret in taken.kept.items()}
        assert (values["secret_key"], values["token_key"], values["redis"]) == ("s" * 64, "t" * 64, "r" * 40)
        assert [old["value"] for old in taken.kept["token_key"]["old"]] == ["o" * 32, "p" * 32]
        new = "backup, monitoring, postgresql, postgresql_owner"
        assert f"taken over redis, secret_key, token_key; new {new}." in taken.sentences[0]

    def test_what_the_file_knows_counts_more(self, keeper):
        kept = keeper().kept
        assert keeper(environments=[self.ENVIRONMENT]).kept == kept

    def test_a_weak_one_is_not_taken_over(self, keeper):
        odd = f"DATABASE_URL='postgresql://salon:{'%40' * 40}@10.0.0.2/salon'\n"
        kept = keeper(environments=[f"SALON_SECRET_KEY='short'\nREDIS_URL='redis://:weak@10.0.0.2/0'\n{odd}"]).kept
        assert keeper().kept == kept
        assert len(kept["secret_key"]["value"]) == len(kept["redis"]["value"]) == 64

    def test_what_an_earlier_salon_kept_in_the_clear_is_removed_there(self, keeper, file):
        directory = file.parent / "secrets"
        directory.mkdir()
        (directory / "secret_key.txt").write_text("a" * 64 + "\n")
        (directory / "token_key.txt").write_text("b" * 64 + "\n")
        looked = keeper(dry=True)
        assert sorted(path.name for path in directory.iterdir()) == ["secret_key.txt", "token_key.txt"]
        taken = keeper(environments=[self.ENVIRONMENT])
        assert taken.kept["secret_key"]["value"] == "a" * 64 == looked.kept["secret_key"]["value"]
        assert taken.kept["token_key"]["value"] == "b" * 64
        assert not directory.exists()

    def test_a_file_that_somebody_has_decrypted_is_encrypted_again(self, keeper, file):
        first = keeper()
        file.write_text(salon_secrets.written(first.kept))
        again = keeper()
        assert again.changed
        assert again.kept == first.kept
        assert file.read_text().startswith("$ANSIBLE_VAULT;")


class TestRotation:
    def rotate(self, keeper, names, today=TODAY):
        assert keeper(today).apply("accept", names)
        assert keeper(today).apply("use", names)
        return keeper(today).kept

    def test_the_successor_is_accepted_before_it_is_used(self, keeper):
        before = keeper().kept["token_key"]["value"]
        keeper().apply("accept", "token_key")
        accepted = keeper().kept
        [following] = salon_secrets.exposed(accepted)["token_key"]["beside"]
        assert salon_secrets.exposed(accepted)["token_key"]["value"] == before
        keeper().apply("use", "token_key")
        used = salon_secrets.exposed(keeper().kept)["token_key"]
        assert used == {"value": following, "beside": [before]}

    def test_an_interrupted_one_is_gone_on_with(self, keeper):
        keeper().apply("accept", "secret_key")
        following = keeper().kept["secret_key"]["next"]
        assert not keeper().apply("accept", "secret_key")
        keeper().apply("use", "secret_key")
        assert keeper().kept["secret_key"]["value"] == following

    def test_one_after_the_other_keeps_all_that_may_come_back(self, keeper):
        first = keeper().kept["token_key"]["value"]
        second = self.rotate(keeper, "token_key")["token_key"]["value"]
        kept = self.rotate(keeper, "token_key")["token_key"]
        assert [old["value"] for old in kept["old"]] == [second, first]

    def test_others_stay_as_they_are(self, keeper):
        before = keeper().kept
        after = self.rotate(keeper, "redis, postgresql")
        assert {name: after[name] for name in ("secret_key", "token_key")} == {
            name: before[name] for name in ("secret_key", "token_key")
        }
        assert after["redis"]["old"][0]["value"] == before["redis"]["value"]
        # A role of PostgreSQL has one password.
        assert after["postgresql"]["old"] == []
        assert after["postgresql"]["value"] != before["postgresql"]["value"]

    def test_an_old_one_is_not_forgotten_while_it_is_needed(self, keeper):
        self.rotate(keeper, "token_key")
        with pytest.raises(salon_secrets.MistakeError, match="old token_key may be needed until 2026-03-16"):
            keeper(LATER - datetime.timedelta(days=1)).apply("end", "token_key")
        assert keeper(LATER).apply("end", "token_key")
        assert keeper().kept["token_key"]["old"] == []

    def test_one_that_others_know_is_forgotten_at_once(self, keeper):
        self.rotate(keeper, "token_key")
        assert keeper().apply("end", "token_key", now=True)
        assert keeper().kept["token_key"]["old"] == []

    def test_all_that_is_due_is_forgotten(self, keeper):
        self.rotate(keeper, "all")
        assert keeper().apply("end", "all")
        assert {name for name, secret in keeper().kept.items() if secret["old"]} == {"secret_key", "token_key"}
        assert keeper(LATER).apply("end", "all")
        assert not keeper(LATER).apply("end", "all")

    def test_a_look_changes_nothing(self, keeper, file):
        keeper()
        content = file.read_bytes()
        looked = keeper(dry=True)
        assert looked.apply("use", "all")
        assert file.read_bytes() == content

    def test_how_things_stand_shows_no_secret(self, keeper):
        keeper()
        kept = self.rotate(keeper, "token_key")
        keeper().apply("accept", "redis")
        kept = keeper().kept
        said = list(salon_secrets.state(kept))
        assert said[1] == (
            "token_key (signs tokens): since 2026-03-01; an old one is accepted still, and not needed from "
            "2026-03-16 on: -e rotate_end=token_key."
        )
        assert "run -e rotate=redis again" in said[2]
        for secret in kept.values():
            for value in (secret["value"], *salon_secrets.beside(secret)):
                assert value not in " ".join(said)


# Words that stand where a secret would; each opens nothing.
KNOWN = {
    "a good long passphrase",
    "a little",
    "accept",
    "another long passphrase",
    "end",
    "eyJhbGciOiJIUzI1NiJ9.e30.",
    "known",
    "known-to-the-tests",
    "p%3Fs",
    "p%40s",
    "p?s",
    "p@s",
    "password",
    "s3cret",
    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "salon-demo",
    "secrets_kept",
    "scram-sha-256",
    "secret",
    "secret_key.txt",
    "signs sessions",
    "use",
}


def findings(directory):
    """What the scanner takes for a secret in the files that git keeps there, without what is known."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=directory, capture_output=True, text=True, check=True).stdout
    program = (
        "import json, sys\n"
        "from detect_secrets import SecretsCollection\n"
        "from detect_secrets.settings import default_settings\n"
        "found = SecretsCollection()\n"
        "with default_settings():\n"
        "    for file in sys.stdin.read().split('\\0'):\n"
        "        if file and not file.endswith(('.mo', '.png', '.svg')):\n"
        "            found.scan_file(file)\n"
        "print(json.dumps([[file, one.line_number, one.type, one.secret_value] for file, one in found]))\n"
    )
    scanned = subprocess.run(
        [sys.executable, "-c", program], cwd=directory, input=files, capture_output=True, text=True, check=True
    ).stdout
    return [(*place, kind) for *place, kind, value in json.loads(scanned) if value not in KNOWN]


class TestRepository:
    def test_it_holds_no_secret(self):
        assert findings(ROOT) == []

    def test_one_that_is_committed_would_be_found(self, tmp_path):
        """Some that a hurried operator could leave in an inventory."""
        key = subprocess.run(
            ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True
        ).stdout
        (tmp_path / "ca.key").write_text(key)
        (tmp_path / "all.yml").write_text(f"redis_password: {salon_secrets.made(TODAY)['value']}\n")
        (tmp_path / "salon.env").write_text(
            f"DATABASE_URL='postgresql://salon:{salon_secrets.made(TODAY)['value']}@192.0.2.7/salon'\n"
        )
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
        for command in (["init", "--quiet"], ["add", "."]):
            subprocess.run([shutil.which("git"), *command], cwd=tmp_path, check=True, env=environment)
        assert {file for file, *_ in findings(tmp_path)} == {"all.yml", "ca.key", "salon.env"}

    def test_git_ignores_what_an_earlier_salon_left_in_the_clear(self):
        done = subprocess.run(["git", "check-ignore", "--quiet", "inventories/prod/secrets/token_key.txt"], cwd=ROOT)
        assert done.returncode == 0
