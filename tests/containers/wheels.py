"""Gathers the libraries of the application for the images, as for a host: wheels.py DIRECTORY."""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.13"
"""Debian 13's."""

specification = importlib.util.spec_from_file_location("build_release", ROOT / "roles/daphne/files/build_release.py")
build_release = importlib.util.module_from_spec(specification)
sys.modules["build_release"] = build_release
specification.loader.exec_module(build_release)

machine = platform.machine()
requirements = build_release.requirements_for((ROOT / "app/requirements.txt").read_text(), PYTHON, machine)
try:
    wheels = build_release.fetch_wheels(requirements, PYTHON, machine, ROOT / "build/wheels")
except build_release.BuildError as error:
    sys.exit(str(error))
shutil.copytree(wheels, sys.argv[1])
