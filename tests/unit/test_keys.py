"""The keys that tokens are checked with: files of every kind, their mistakes, and their changes."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.exceptions import ImproperlyConfigured

from chat.keys import KeyRing, read
from signing import Signer, jwks

SECRET = "s" * 40
RSA, ED25519, OCT = Signer.rsa("r"), Signer.ed25519("e"), Signer.secret("o" * 32, "o")


@pytest.fixture
def write(tmp_path):
    """Writes a key file and returns its path."""

    def write(text, name="key"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def pem_of(private):
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("signer", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_a_public_key(write, signer):
    [key] = read(write(signer.public_pem))
    assert (key.algorithm, key.kid) == (signer.algorithm, None)
    assert key.material == signer.private.public_key()


def test_an_rsa_key_of_the_older_form(write):
    [key] = read(write(RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)))
    assert key.algorithm == "RS256"


def test_several_public_keys_in_one_file(write):
    keys = read(write(RSA.public_pem + "the next one\n" + ED25519.public_pem))
    assert [key.algorithm for key in keys] == ["RS256", "EdDSA"]


def test_a_jwks(write):
    keys = read(write("\n " + jwks(RSA, ED25519, OCT)))
    assert [(key.algorithm, key.kid) for key in keys] == [("RS256", "r"), ("EdDSA", "e"), ("HS256", "o")]


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ"},
        {"kty": "OKP", "crv": "X25519", "x": "eA"},
        RSA.jwk | {"use": "enc"},
        RSA.jwk | {"alg": "RS512"},
        RSA.jwk | {"key_ops": ["encrypt"]},
        RSA.jwk | {"key_ops": 5},
        RSA.jwk | {"kty": ["RSA"]},
        ED25519.jwk | {"alg": ["EdDSA"]},
    ],
)
def test_keys_for_other_uses_are_left_alone(write, other):
    assert [key.kid for key in read(write(jwks(other, ED25519)))] == ["e"]
    with pytest.raises(ImproperlyConfigured, match="holds no key that checks"):
        read(write(jwks(other)))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_an_ed25519_key_says_its_algorithm_in_either_way(write, name):
    assert read(write(jwks(ED25519.jwk | {"alg": name, "use": "sig"})))[0].algorithm == "EdDSA"


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        (RSA.private_pem, "holds a private key, which must not lie on this server"),
        (RSA.public_pem + ED25519.private_pem, "holds a private key"),
        (jwks(ED25519, RSA.private_jwk), "holds a private key"),
        (jwks(RSA, {"kty": "EC", "crv": "P-256", "x": "eA", "y": "eQ", "d": "ZA"}), "holds a private key"),
        ("", "is neither a public key"),
        ("ssh-ed25519 AAAA", "is neither a public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is neither a public key"),
        (RSA.public_pem.replace("-----END PUBLIC KEY-----", ""), "is neither a public key"),
        (RSA.public_pem + "-----BEGIN PUBLIC KEY-----\n", "is neither a public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
        (b"\xff\xfe", "is not a text"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
        (pem_of(ed448.Ed448PrivateKey.generate()), "neither RSA nor Ed25519"),
        ("{", "is not valid JSON"),
        ("{}", "is no JWKS"),
        ('{"keys": {}}', "is no JWKS"),
        ('{"keys": [1]}', "is no JWKS"),
        (jwks(), "holds no key"),
        (jwks({"kty": "RSA"}), "cannot be read: without a kid"),
        (jwks({"kty": "RSA", "kid": "a", "n": 5, "e": "AQAB"}), "cannot be read: a"),
        (jwks({"kty": "OKP", "crv": "Ed25519", "x": "eA"}), "cannot be read"),
        (jwks({"kty": "oct"}), "cannot be read"),
        (jwks(ED25519.jwk | {"kid": 5}), "`kid` is not a text"),
        (jwks(Signer.secret("short")), "a secret of 5 bytes; HS256 needs at least 32"),
        (Signer.rsa(bits=1024).public_pem, "an RSA key of 1024 bits; RS256 needs at least 2048"),
        (jwks(Signer.rsa(bits=1024)), "an RSA key of 1024 bits"),
    ],
)
def test_a_file_that_cannot_be_used(write, text, clue):
    path = write(text)
    with pytest.raises(ImproperlyConfigured) as error:
        read(path)
    sentence = str(error.value)
    assert sentence.startswith(f"SALON_TOKEN_KEY_FILES: {path} ")
    assert clue in sentence
    assert sentence.count("\n") == 0


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="cannot be read: No such file"):
        KeyRing([SECRET], [tmp_path / "absent"])


@pytest.mark.parametrize("text", [RSA.public_pem, jwks(RSA), "ssh-ed25519 " + "A" * 60])
def test_a_public_key_is_no_secret(text):
    with pytest.raises(ImproperlyConfigured, match="SALON_TOKEN_KEY_FILES"):
        KeyRing([text])


class TestFinding:
    @pytest.fixture
    def ring(self, write):
        return KeyRing(
            [SECRET],
            [
                write(jwks(RSA, Signer.rsa("other"), OCT, Signer.ed25519()), "jwks"),
                write(Signer.rsa().public_pem, "pem"),
            ],
        )

    @pytest.mark.parametrize(
        ("algorithm", "kid", "kids"),
        [
            ("RS256", None, ["r", "other", None]),
            ("RS256", "r", ["r", None]),
            ("RS256", "unknown", [None]),
            ("EdDSA", "r", [None]),
            ("HS256", None, [None, "o"]),
            ("HS256", "r", [None]),
            ("RS512", None, []),
            ("none", None, []),
            (None, None, []),
            (["HS256"], None, []),
        ],
    )
    def test_by_algorithm_and_kid(self, ring, algorithm, kid, kids):
        found = ring.find(algorithm, kid)
        assert [key.kid for key in found] == kids
        assert {key.algorithm for key in found} <= {algorithm if isinstance(algorithm, str) else None}


class TestChanges:
    @pytest.fixture
    def path(self, write):
        return write(jwks(RSA, ED25519))

    def ring(self, path):
        return KeyRing([SECRET], [path], look_interval=0)

    def test_a_changed_file_is_read_again(self, path):
        ring = self.ring(path)
        assert ring.find("RS256", "r")
        path.write_text(jwks(ED25519))
        assert ring.find("RS256", "r") == []
        assert ring.find("EdDSA", "e")

    def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time(self, path, write):
        ring = self.ring(path)
        before = path.stat()
        new = write(jwks(Signer("RS256", RSA.private, "n"), ED25519), "new")
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(path)
        assert path.stat().st_size == before.st_size
        assert ring.find("RS256", "r") == []
        assert ring.find("RS256", "n")

    @pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()])
    def test_a_broken_file_keeps_its_last_keys_and_is_told_once(self, path, caplog, spoil):
        ring = self.ring(path)
        spoil(path)
        assert ring.find("RS256", "r")
        assert ring.find("EdDSA", "e")
        [record] = caplog.records
        assert record.levelname == "ERROR"
        assert str(path) in record.message
        assert "stay in use" in record.message
        path.write_text(jwks(ED25519))
        assert ring.find("RS256", "r") == []

    def test_between_two_looks_the_file_is_left_alone(self, path):
        ring = KeyRing([SECRET], [path], look_interval=3600)
        path.write_text(jwks(ED25519))
        assert ring.find("RS256", "r")
