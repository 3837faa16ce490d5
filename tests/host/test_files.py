"""Every file of templates/ is on the host as its role has declared it."""

import managed
import pytest


def test_every_template_is_declared_by_exactly_one_role():
    assert sorted(file.path for file in managed.files()) == sorted(managed.templates())


@pytest.mark.parametrize("declared", managed.files(unwatched=True), ids=lambda declared: declared.path)
def test_file(host, declared):
    file = host.file(declared.path)
    if declared.where and not host.file(declared.where).exists:
        assert not file.exists
        return
    assert file.is_file
    assert (file.user, file.group, oct(file.mode)) == (declared.owner, declared.group, oct(declared.mode))


@pytest.mark.parametrize(
    "declared", managed.directories(unwatched=True), ids=lambda declared: f"{declared.role}:{declared.path}"
)
def test_directory(host, declared):
    directory = host.file(declared.path)
    assert directory.is_directory
    assert (directory.user, directory.group, oct(directory.mode)) == (
        declared.owner,
        declared.group,
        oct(declared.mode),
    )


@pytest.mark.parametrize(
    "path",
    [
        "/etc/salon/salon.env",
        "/etc/salon/migrate.env",
        "/etc/salon/backup.json",
        "/etc/salon/tls/ca.key",
        "/etc/salon/tls/salon.pem",
    ],
)
@pytest.mark.parametrize("user", ["salon", "salon-migrate", "salon-backup", "www-data", "nobody"])
def test_secrets_are_roots(host, path, user):
    assert host.run(f"setpriv --reuid {user} --regid nogroup --clear-groups cat {path}").rc != 0


def test_release_cannot_be_changed_by_who_runs_it(host):
    changeable = "'(' -user salon -o -perm /022 ')' -not -type l -not -path '*/static*'"
    found = host.check_output(f"find /opt/salon/releases /opt/salon/environments {changeable}")
    assert found == ""


def test_release_is_whole(host):
    assert host.file("/opt/salon/current/release.json").is_file
    assert host.file("/opt/salon/current/.good").is_file
    assert host.file("/opt/salon/current/venv/.complete").is_file


def test_a_command_for_root_only(host):
    refused = host.run("setpriv --reuid nobody --regid nogroup --clear-groups salon check")
    assert refused.rc == 1
    assert "sudo salon check" in refused.stderr


def test_a_command_keeps_input_output_and_exit_status(host):
    assert host.check_output("echo 'print(6 * 7)' | salon shell").splitlines()[-1] == "42"
    assert host.run("salon no_such_command").rc != 0
    assert host.run("salon migrate --check").rc == 0


def test_settings_fit_production(host):
    assert host.run("salon check --deploy --fail-level WARNING").rc == 0
