"""The operator's commands print just their result, and a mistake is one clear line."""

import pytest


def test_each_command_prints_just_its_result(embedded):
    assert embedded.manage("create_user", "dora", "--role", "school_admin").isdecimal()
    assert embedded.manage("create_room", "Library", "--member", "dora").isdecimal()
    assert embedded.manage("create_token", "dora", "--hours", "1").count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (("create_token", "nobody"), "create_user"),
        (("create_room", "Lab", "--member", "nobody"), "create_user"),
        (("create_room", ""), "needs a name"),
        (("create_room", "x" * 300), "200 characters"),
        (("create_user", "two words"), "username"),
        (("create_user", "eve", "--id", "0"), "--id"),
        (("create_user", "eve", "--id", "1"), "already exists"),
        (("create_user", "eve", "--role", "king"), "school_admin"),
        (("create_token", "nobody", "--hours", "0"), "--hours"),
    ],
)
def test_a_mistake_is_told_on_standard_error(embedded, arguments, clue):
    done = embedded.try_manage(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert clue in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_name_is_taken_once(embedded):
    embedded.manage("create_user", "frank")
    done = embedded.try_manage("create_user", "frank")
    assert done.returncode != 0
    assert "already exists" in done.stderr


def test_a_weak_password_is_refused(embedded):
    done = embedded.try_manage("create_user", "gil", "--password-stdin", stdin="12345\n")
    assert done.returncode != 0
    assert "at least 12 characters" in done.stderr


def test_frontend_env_of_a_real_server_has_no_token(embedded):
    lines = embedded.manage("frontend_env").splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "NEXT_PUBLIC_WS_HOST",
        "NEXT_PUBLIC_WS_PROTOCOL",
        "NEXT_PUBLIC_API_TOKEN",
        "NEXT_PUBLIC_API_BASE_URL",
    ]
    assert lines[2] == "NEXT_PUBLIC_API_TOKEN="
