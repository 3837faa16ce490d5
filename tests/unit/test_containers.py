"""What the images, compose.yaml and the page about them have to agree on."""

import re
from pathlib import Path

import pytest
import yaml

from salon import listen

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
PAGE = (ROOT / "docs/containers.md").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]


def test_every_setting_is_explained_with_its_default():
    found = {}
    for name, default in re.findall(r"\$\{(SALON_\w+)(?::?-([^}]*))?\}", COMPOSE):
        assert found.setdefault(name, default) == default, f"{name} has two defaults"
    rows = re.findall(r"^\| (`SALON_.+?) \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    explained = {
        name: default
        for names, defaults in rows
        for name, default in zip(
            names.replace("`", "").split(", "), defaults.replace("`", "").split(", "), strict=False
        )
    }
    assert explained == {name: default or "from all" for name, default in found.items()}


def test_a_build_is_given_every_argument_and_no_other():
    given = set(yaml.safe_load(COMPOSE)["x-build"]["args"])
    assert given == set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    for service in SERVICES.values():
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in DOCKERFILE
            assert set(service["build"]["args"]) == given


def test_the_page_knows_every_service_and_every_volume():
    rows = set(re.findall(r"`([a-z…-]+)`", "\n".join(re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE))))
    assert set(SERVICES) <= rows
    kept = {name for name in yaml.safe_load(COMPOSE)["volumes"] if not name.startswith("run-")}
    assert kept | {"run-…"} <= rows


def test_a_container_runs_what_a_host_runs():
    unit = (ROOT / "templates/etc/systemd/system/daphne@.service.j2").read_text()
    [command] = re.findall(r"^ExecStart=.+?/python (.+)$", unit, re.MULTILINE)
    assert command.split() == listen.SERVER
    assert "TimeoutStopSec={{ daphne_stop_timeout }}" in unit
    defaults = yaml.safe_load((ROOT / "roles/daphne/defaults/main.yml").read_text())
    assert SERVICES["app"]["stop_grace_period"] == defaults["daphne_stop_timeout"]
    assert SERVICES["app"]["mem_limit"].upper() == defaults["daphne_memory_max"]
    assert f"WATCHDOG_USEC={defaults['daphne_watchdog'].removesuffix('s')}000000\n" in DOCKERFILE


@pytest.mark.parametrize("name", SERVICES)
def test_a_user_owns_the_memory_that_it_writes_in(name):
    users = {"www-data": "33"} | {
        user: number
        for number, user in re.findall(r"useradd --system --uid (\d+) .*? (\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    }
    stages = re.split(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    stage = dict(zip(stages[1::2], stages[2::2], strict=True))[SERVICES[name]["image"].removeprefix("salon-")]
    [own] = re.findall(r"^USER (\d+)$", stage, re.MULTILINE)
    assert own in users.values()
    if given := SERVICES[name].get("user"):
        own = users[given]
    for mount in SERVICES[name]["tmpfs"]:
        assert "mode=1777" in mount or f"uid={own},gid={own}" in mount
