"""What a token may say, before anybody looks whom it names."""

import time

import pytest
from django.conf import settings

from chat import claims
from chat.claims import GREATEST_ID, LAST_SECOND
from chat.keys import KeyRing
from chat.protocol import ChatError, ErrorCode
from signing import Signer, signed_with_text, unsigned

SALON = Signer.secret(settings.TOKEN_KEY)


def refusal(token):
    """The sentence that an invalid token is refused with."""
    with pytest.raises(ChatError) as error:
        claims.read(token)
    assert error.value.code == ErrorCode.INVALID_TOKEN
    return error.value.sentence


@pytest.mark.parametrize(
    ("said", "user_id", "subject"),
    [
        ({"user_id": 7}, 7, None),
        ({"user_id": "7"}, 7, None),
        ({"sub": 7}, 7, None),
        ({"sub": "7"}, 7, None),
        ({"sub": str(GREATEST_ID)}, GREATEST_ID, None),
        ({"user_id": 7, "sub": "8"}, 7, None),
        ({"user_id": 7, "sub": ["x"]}, 7, None),
        ({"user_id": None, "sub": "8"}, 8, None),
        ({"sub": "auth0|5f7"}, None, "auth0|5f7"),
        ({"sub": "-7"}, None, "-7"),
        ({"sub": "٧"}, None, "٧"),
        ({"sub": "s" * 255}, None, "s" * 255),
    ],
)
def test_whom_it_names(said, user_id, subject):
    read = claims.read(SALON.token(**said))
    assert (read.user_id, read.subject) == (user_id, subject)


@pytest.mark.parametrize(
    ("said", "clue"),
    [
        ({}, "names nobody"),
        ({"sub": None}, "names nobody"),
        ({"sub": ""}, "names nobody"),
        ({"sub": True}, "names nobody"),
        ({"sub": 7.0}, "names nobody"),
        ({"sub": {"id": 7}}, "names nobody"),
        ({"user_id": True}, "`user_id` is not an id; it is a whole number"),
        ({"user_id": 7.5}, "`user_id` is not an id"),
        ({"user_id": "alice"}, "`user_id` is not an id"),
        ({"user_id": "7\n"}, "`user_id` is not an id"),
        ({"user_id": ""}, "`user_id` is not an id"),
        ({"user_id": 0, "sub": "7"}, "ids go from 1 to 9007199254740991"),
        ({"user_id": -7}, "ids go from 1"),
        ({"user_id": 2**63}, "ids go from 1"),
        ({"sub": "0"}, "`sub` is not an id; ids go from 1"),
        ({"sub": str(2**63)}, "ids go from 1"),
        ({"sub": "9" * 5000}, "ids go from 1"),
        ({"sub": "s" * 256}, "`sub` does not fit; it is a text of at most 255 characters"),
        ({"sub": "a\0"}, "`sub` does not fit"),
        ({"sub": "\ud800"}, "`sub` does not fit"),
    ],
)
def test_nobody_that_there_could_be(said, clue):
    assert clue in refusal(SALON.token(**said))


def test_what_is_signed_counts_and_not_how_the_signature_is_written():
    token = SALON.token(user_id=7)
    assert claims.read(token).digest == claims.read(token + "=").digest == claims.digest(token)
    assert claims.read(SALON.token(user_id=7, jti=1)).digest != claims.digest(token)


def test_times():
    read = claims.read(SALON.token(user_id=7, iat=1.25, exp=int(time.time()) + 60))
    assert read.issued_at.timestamp() == 1.25
    assert 0 < read.expires_at.timestamp() - time.time() <= 60
    assert claims.read(SALON.token(user_id=7)).issued_at is None
    for far in (1e300, 10**400):
        assert claims.read(SALON.token(user_id=7, exp=far)).expires_at.timestamp() == LAST_SECOND


@pytest.mark.parametrize(
    ("said", "clue"),
    [
        ({"exp": None}, "has no `exp`"),
        ({"exp": str(int(time.time()) + 3600)}, "`exp` is not a time"),
        ({"exp": "tomorrow"}, "can be read here"),
        ({"exp": float("nan")}, "can be read here"),
        ({"exp": float("inf")}, "can be read here"),
        ({"exp": [1]}, "can be read here"),
        ({"iat": True}, "`iat` is not a time"),
        ({"iat": -5}, "`iat` is not a time"),
        ({"iat": "yesterday"}, "can be read here"),
        ({"iat": time.time() + 3600}, "not valid yet"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
        ({"aud": "another"}, "`aud` is not this server"),
    ],
)
def test_times_and_places_that_do_not_fit(said, clue):
    assert clue in refusal(SALON.token(**{"user_id": 7, **said}))


def test_the_clock_of_who_signs_may_be_off():
    now = time.time()
    claims.read(SALON.token(user_id=7, exp=now - 5, iat=now + 5, nbf=now + 5))
    with pytest.raises(ChatError) as error:
        claims.read(SALON.token(user_id=7, exp=now - 15))
    assert error.value.code == ErrorCode.TOKEN_EXPIRED


class TestRemembered:
    @pytest.fixture
    def checks(self, monkeypatch):
        """The tokens whose signature was checked."""
        monkeypatch.setattr(claims, "_remembered", claims.Remembered(greatest=2))
        checks, check = [], claims._verified
        monkeypatch.setattr(claims, "_verified", lambda token: checks.append(token) or check(token))
        return checks

    def test_a_signature_is_checked_once(self, checks):
        token = SALON.token(user_id=7, name="Ada")
        assert claims.read(token) == claims.read(token)
        assert checks == [token]

    def test_another_signature_is_another_token(self, checks):
        token, forged = (signer.token(user_id=7, exp=2**33) for signer in (SALON, Signer.secret("f" * 40)))
        claims.read(token)
        assert token.rpartition(".")[0] == forged.rpartition(".")[0]
        for _ in range(2):
            assert "not signed with a key" in refusal(forged)

    @pytest.mark.parametrize(("said", "later"), [({"exp": 1000}, 1010), ({"nbf": 990}, 979), ({"iat": 990}, 979)])
    def test_its_times_are_looked_at_each_time(self, checks, monkeypatch, said, later):
        token = SALON.token(**{"user_id": 7, "exp": 2000, **said})
        monkeypatch.setattr(claims, "_verified", lambda token: {"user_id": 7, "exp": 2000, **said})
        moment = 999.0
        monkeypatch.setattr(claims.time, "time", lambda: moment)
        claims.read(token)
        assert claims._remembered.find(token, claims.keys.ring().edition())
        moment = later
        assert claims._remembered.find(token, claims.keys.ring().edition()) is None

    def test_other_keys_check_again(self, checks, monkeypatch, tmp_path):
        signer = Signer.ed25519()
        path = tmp_path / "key.pem"
        path.write_text(signer.public_pem)
        ring = KeyRing([settings.TOKEN_KEY], [path], look_interval=0)
        monkeypatch.setattr(claims.keys, "ring", lambda: ring)
        token = signer.token(user_id=7)
        assert claims.read(token) == claims.read(token)
        path.write_text(Signer.ed25519().public_pem)
        assert "not signed with a key" in refusal(token)
        assert checks == [token, token]

    def test_only_so_many_are_kept(self, checks):
        tokens = [SALON.token(user_id=number) for number in (1, 2, 3)]
        for token in (tokens[0], tokens[1], tokens[0], tokens[2], tokens[0], tokens[1]):
            claims.read(token)
        assert checks == [*tokens[:2], tokens[2], tokens[1]]


@pytest.mark.parametrize(
    "token",
    [
        unsigned(user_id=7),
        unsigned(user_id=7) + "AAAA",
        Signer.secret("another secret " * 4).token(user_id=7),
        signed_with_text("", user_id=7),
        Signer.rsa().token(user_id=7),
        Signer.ed25519().token(user_id=7),
        SALON.token({"alg": "HS512"}, user_id=7),
        SALON.token({"alg": "RS256"}, user_id=7),
        SALON.token({"alg": ["HS256"]}, user_id=7),
    ],
    ids=["none", "none and more", "secret", "empty", "RSA", "Ed25519", "HS512", "RS256", "several"],
)
def test_a_signature_that_nobody_here_knows(token):
    assert "not signed with a key" in refusal(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "..",
        "a.b.c",
        "\ud800",
        "é.é.é",
        SALON.token({"kid": 5}, user_id=7),
        SALON.token({"crit": ["exp"]}, user_id=7),
        SALON.token({"b64": False}, user_id=7),
        SALON.sign([1]),
        SALON.sign("text"),
        SALON.token(user_id=7).rpartition(".")[0],
        SALON.token(user_id=7) + "\n",
    ],
    ids=[
        *(
            "nothing",
            "a word",
            "dots",
            "no base64",
            "half a character",
            "letters of no base64",
            "a key that is no text",
        ),
        *("crit", "b64", "a list", "a text", "no signature", "a line"),
    ],
)
def test_what_is_no_token(token):
    assert "log in again" in refusal(token)


class TestProfile:
    def test_all_of_it(self):
        said = {"name": " Alice  van Dyke ", "role": "teacher", "avatar": "/a.png", "is_staff": True, "email": "a@b.c"}
        assert claims.profile(said) == {
            "first_name": "Alice",
            "last_name": "van Dyke",
            "role": "teacher",
            "avatar": "/a.png",
        }

    @pytest.mark.parametrize(
        ("said", "fields"),
        [
            ({}, {}),
            ({"name": "Alice"}, {"first_name": "Alice", "last_name": ""}),
            ({"name": None}, {"first_name": "", "last_name": ""}),
            ({"avatar": None}, {"avatar": ""}),
            ({"role": None}, {}),
            ({"name": "x" * 150, "avatar": "y" * 500}, {"first_name": "x" * 150, "last_name": "", "avatar": "y" * 500}),
        ],
    )
    def test_parts_of_it(self, said, fields):
        assert claims.profile(said) == fields

    @pytest.mark.parametrize("claim", ["name", "avatar", "username", "preferred_username"])
    @pytest.mark.parametrize("value", [True, 5, ["a"], {"a": 1}, "a\0", "\udfff", "x" * 501])
    def test_a_text_that_does_not_fit(self, claim, value):
        read = claims.username if "username" in claim else claims.profile
        with pytest.raises(ChatError, match=f"`{claim}` does not fit; it is a text of at most"):
            read({claim: value})

    @pytest.mark.parametrize("role", ["king", "", "Teacher", True, 5, ["teacher"], {"a": 1}, "superuser"])
    def test_a_role_that_there_is_not(self, role):
        with pytest.raises(ChatError, match="`role` is unknown here; it is one of teacher, student, parent"):
            claims.profile({"role": role})

    @pytest.mark.parametrize(
        ("said", "username"),
        [
            ({}, None),
            ({"username": "alice"}, "alice"),
            ({"preferred_username": "alice@example.org"}, "alice@example.org"),
            ({"username": "", "preferred_username": "alice"}, "alice"),
            ({"username": "ada", "preferred_username": "alice"}, "ada"),
            ({"username": "Alice Martin"}, None),
            ({"username": "ﬁona"}, "fiona"),
            ({"username": "ﷺ" * 150}, None),
        ],
    )
    def test_a_user_name(self, said, username):
        assert claims.username(said) == username


def test_a_token_that_cannot_be_checked_still_says_when_it_ends():
    assert claims.unverified_expiry(Signer.rsa().token(exp=60)).timestamp() == 60
    assert claims.unverified_expiry(Signer.rsa().token(exp=None)) is None
    for text in ("", "nonsense", "a.b.c", "\ud800", unsigned(exp="tomorrow")):
        with pytest.raises(ChatError):
            claims.unverified_expiry(text)
