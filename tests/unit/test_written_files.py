"""Directories and files on a host, as `salon_files` brings them there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    specification = importlib.util.spec_from_file_location("salon_files_module", ROOT / path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


salon_files = load("roles/preflight/library/salon_files.py")
OWNER, GROUP = salon_files.pwd.getpwuid(os.getuid()).pw_name, salon_files.grp.getgrgid(os.getgid()).gr_name


class Module:
    """What the module is given by Ansible."""

    def __init__(self, tmpdir, *, check_mode=False):
        self.tmpdir, self.check_mode = str(tmpdir), check_mode

    def run_command(self, command):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def bring(tmp_path):
    """Bring a file, or without content a directory, to what it is to be; what was changed."""
    (tmp_path / "tmp").mkdir()

    def bring(name, content=None, mode="0640", check=False, **more):
        entry = {"path": str(tmp_path / name), "owner": OWNER, "group": GROUP, "mode": mode, "validate": None, **more}
        module = Module(tmp_path / "tmp", check_mode=check)
        if content is None:
            return salon_files.Directory(module, entry).bring()
        return salon_files.File(module, entry | {"content": content}).bring()

    return bring


def mode(path):
    return path.stat().st_mode & 0o7777


def test_a_directory_is_made_with_all_above_it_and_once(bring, tmp_path):
    assert bring("a/b", mode="2750") == ["directory"]
    assert [mode(tmp_path / "a"), mode(tmp_path / "a/b")] == [0o755, 0o2750]
    assert bring("a/b", mode="2750") == []
    assert bring("a/b", mode="0700") == ["mode"]
    assert mode(tmp_path / "a/b") == 0o700


def test_a_file_is_written_and_once(bring, tmp_path):
    assert bring("f", "one\n") == ["content"]
    assert (mode(tmp_path / "f"), (tmp_path / "f").read_text()) == (0o640, "one\n")
    assert bring("f", "one\n") == []
    assert bring("f", "two\n") == ["content"]
    (tmp_path / "f").chmod(0o666)
    assert bring("f", "two\n") == ["mode"]
    assert (mode(tmp_path / "f"), (tmp_path / "f").read_text()) == (0o640, "two\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "tmp"]


def test_a_check_changes_nothing(bring, tmp_path):
    (tmp_path / "f").write_text("one")
    assert bring("f", "two", check=True) == ["content", "mode"]
    assert bring("d", check=True) == ["directory"]
    assert bring("d/f", "one", check=True) == ["content"]
    assert bring("f", "one", mode=f"{mode(tmp_path / 'f'):04o}", check=True, owner="nobody-yet") == ["owner"]
    assert (tmp_path / "f").read_text() == "one"
    assert not (tmp_path / "d").exists()


def test_an_owner_who_is_not_there_is_named(bring):
    with pytest.raises(salon_files.MistakeError, match="nobody-yet"):
        bring("f", "one", owner="nobody-yet")


def test_what_is_not_good_does_not_replace_what_is(bring, tmp_path):
    bring("f", "good")
    with pytest.raises(salon_files.MistakeError, match=r"/f would not be good, and what was there stays: it is bad"):
        bring("f", "bad", validate="test $(basename %s) = f && grep -q good %s || { echo it is bad >&2; exit 1; }")
    assert (tmp_path / "f").read_text() == "good"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert bring("f", "good too", validate="grep -q good %s") == ["content"]


def test_a_link_is_replaced_by_a_file(bring, tmp_path):
    (tmp_path / "other").write_text("other")
    (tmp_path / "f").symlink_to("other")
    assert bring("f", "one") == ["content"]
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "other").read_text() == "other"


def test_what_stands_in_the_way_is_named(bring, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    with pytest.raises(salon_files.MistakeError, match="is a directory"):
        bring("d", "one")
    with pytest.raises(salon_files.MistakeError, match="is no directory"):
        bring("f")
