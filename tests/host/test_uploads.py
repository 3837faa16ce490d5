"""Files of messages on the host: who may read them, how large they may be."""

import json
import uuid

import pytest

MB = 1024 * 1024

FROM_THE_UNIT = ("UMask", "PrivateUsers", "RestrictSUIDSGID", "ProtectSystem", "CapabilityBoundingSet")

KEEP = """
from pathlib import Path
from django.core.files.uploadedfile import SimpleUploadedFile
from chat import files
print(files._path(files.store(SimpleUploadedFile("note.txt", b"a secret"), "attachment").uuid))
"""


@pytest.fixture(scope="module")
def kept(host):
    """The path of a file that was kept by the application's code, confined as its processes are."""
    wanted = " ".join(f"--property={name}" for name in FROM_THE_UNIT)
    shown = host.check_output(f"systemctl show daphne@1.service {wanted}")
    assert "PrivateUsers=yes" in shown
    properties = " ".join(f"--property={line}" for line in shown.splitlines())
    path = host.check_output(
        "systemd-run --quiet --wait --pipe --property=User=salon --property=Group=salon"
        " --property=EnvironmentFile=/etc/salon/salon.env --property=ReadWritePaths=/var/lib/salon"
        f" {properties} /opt/salon/current/venv/bin/python /opt/salon/current/app/manage.py shell -v 0 -c '{KEEP}'"
    )
    yield path
    host.run_expect([0], f"rm {path}")


def test_a_file_belongs_to_the_application_and_to_nginx(host, kept):
    file, directory = host.file(kept), host.file(kept.rpartition("/")[0])
    assert (file.user, file.group, oct(file.mode)) == ("salon", "www-data", "0o640")
    assert (directory.user, directory.group, oct(directory.mode)) == ("salon", "www-data", "0o2750")


@pytest.mark.parametrize(("user", "allowed"), [("www-data", True), ("redis", False)])
def test_only_nginx_reads_it(host, kept, user, allowed):
    done = host.run(f"setpriv --reuid {user} --regid {user} --clear-groups cat {kept}")
    assert (done.rc == 0) == allowed, done.stderr
    assert host.run(f"setpriv --reuid {user} --regid {user} --clear-groups ls /var/lib/salon").rc != 0


def test_nobody_reaches_it_past_the_application(fetch, kept):
    place = "/".join(kept.rsplit("/", 2)[1:])
    for path in (f"/_files/{place}", "/_files/", f"/static/../_files/{place}", f"/static/%2e%2e/_files/{place}"):
        answer = fetch(path)
        assert answer.status == 404
        assert "secret" not in answer.body


def test_what_nginx_refuses_it_explains_in_json(fetch):
    # The length alone is enough: nothing has to be sent.
    for path, length in (("/chats/messages/create/", 102 * MB), ("/login/", 2 * MB)):
        answer = fetch(path, body=b"", headers={"Content-Length": str(length)})
        assert answer.status == 413
        assert answer.headers["Content-Type"] == "application/json"
        assert "too large" in json.loads(answer.body)["detail"]
        assert answer.headers["Strict-Transport-Security"]


def test_a_file_that_is_too_large_reaches_the_application(fetch):
    """Which says in its own words what is wrong, and not in nginx's."""
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\n\r\n'.encode()
        + bytes(11 * MB)
        + f"\r\n--{boundary}--\r\n".encode()
    )
    answer = fetch(
        "/chats/messages/create/", body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert "a message takes" not in answer.body
    assert answer.status < 500
