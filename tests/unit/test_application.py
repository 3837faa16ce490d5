"""What must stay true of the application as a whole."""

import ast
import gettext
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

import salon
from chat import frontend, layers, wire

PROJECT = Path(__file__).parents[2]
CHAT = PROJECT / "app" / "chat"

# Who may import whom: each only from the lines above its own.
LAYERS = [
    {
        "protocol",
        "models",
        "frontend",
        "keys",
        "batches",
        "deadlines",
        "failures",
        "pictures",
        "follow",
        "order",
        "client",
        "services",
        "sessions",
        "sql",
        "typescript",
        "wire",
        "words",
    },
    {"layers", "postgresql", "database", "people", "files", "limits", "logins", "claims", "asyncapi", "changes"},
    {"auth", "rooms", "origins"},
    {"connection", "messages", "roster", "relay", "held"},
    {"histories", "overview"},
    {"catchup"},
    {"audience", "availability"},
    {"journal", "gaps"},
    {"hub"},
    {"presence"},
    {"conversation", "watch"},
    {"consumers", "announcements", "views", "admin", "lifespan", "metrics", "pictures_page"},
    {"api", "routing", "apps"},
]


def modules():
    """The modules of `chat`, and its packages, which hold together what is of one level."""
    yield from ((path.stem, [path]) for path in CHAT.glob("*.py") if path.stem != "__init__")
    yield "api", CHAT.glob("api/*.py")


def imports(path):
    """The modules of `chat` that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "chat":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chat."):
            yield node.module.split(".")[1]


def test_no_module_imports_upwards():
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = dict(modules())
    assert found.keys() == level.keys()
    for name, paths in found.items():
        for imported in [each for path in paths for each in imports(path)]:
            assert level[imported] <= level[name], f"{name} imports {imported}"


def test_the_migrations_are_those_of_the_models():
    call_command("makemigrations", "--check", "--dry-run", stdout=StringIO())


def test_french_is_complete_and_compiled(tmp_path):
    source = PROJECT / "app" / "locale" / "fr" / "LC_MESSAGES" / "django.po"
    entries = source.read_text().split("\n\n")[1:]
    assert entries
    assert [entry for entry in entries if 'msgstr ""' in entry or "fuzzy" in entry] == []
    with source.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in entries:
        words = dict(line.split(" ", 1) for line in entry.splitlines() if line.startswith("msg"))
        assert compiled.gettext(ast.literal_eval(words["msgid"])) == ast.literal_eval(words["msgstr"])


@pytest.mark.parametrize(
    ("url", "host", "protocol"),
    [
        ("http://localhost:8000", "localhost:8000", "ws"),
        ("https://chat.example.org", "chat.example.org", "wss"),
        ("https://chat.example.org:8443", "chat.example.org:8443", "wss"),
    ],
)
def test_the_frontends_variables(url, host, protocol):
    assert frontend.environment(url, "T") == [
        f"NEXT_PUBLIC_WS_HOST={host}",
        f"NEXT_PUBLIC_WS_PROTOCOL={protocol}",
        "NEXT_PUBLIC_API_TOKEN=T",
        f"NEXT_PUBLIC_API_BASE_URL={url}",
    ]


def test_the_version_is_that_of_the_project():
    with (PROJECT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == salon.__version__


def test_what_is_installed_is_pinned_by_hash_and_names_no_index():
    for path in ("app", "playbooks", "tests"):
        text = (PROJECT / path / "requirements.txt").read_text()
        assert "://" not in text
        pins = text.count("==")
        assert 0 < pins <= text.count("--hash=sha256:")


def test_a_redis_that_hangs_is_noticed_before_publishers_give_up():
    assert layers.LOOK_INTERVAL * (wire.SILENT_LOOKS + 1) < settings.CHANNEL_LAYER_TIMEOUT
    assert settings.CHANNEL_LAYER_TIMEOUT >= layers.TRY_TIMEOUT
