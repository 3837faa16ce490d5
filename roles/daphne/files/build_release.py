"""Builds a release of the application: its code and every library it needs, for the Python of the host.

It prints one JSON object: the release's `id` (named by its content: the same code has the same id), the `archive`,
and whether it had to be `built`. Finished work is found again and not repeated.
"""

import argparse
import gzip
import hashlib
import io
import json
import subprocess  # nosec B404 # it runs this Python's pip
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Ansible itself depends on it, so it is there wherever this is run.
from packaging.markers import Marker

# Debian 12 has glibc 2.36; a wheel for an older one runs on it and on Debian 13.
NEWEST_GLIBC = 36
OLDEST_GLIBC = 17

IGNORED_SUFFIXES = (".pyc", ".pyo", "~")


class BuildError(Exception):
    """The release cannot be built; the message says why."""


def source_files(source: Path) -> Iterator[Path]:
    """The files of the application in a stable order, without what Python and editors leave there."""
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        if path.is_dir() or path.name.endswith(IGNORED_SUFFIXES):
            continue
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        if path.is_symlink():
            raise BuildError(f"{path} is a symbolic link; a release holds plain files only.")
        yield path


def is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def release_id(source: Path) -> str:
    """A name for exactly this content: paths, executable bits and bytes."""
    digest = hashlib.sha256()
    for path in source_files(source):
        content = path.read_bytes()
        header = f"{path.relative_to(source).as_posix()}\0{is_executable(path):d}\0{len(content)}\0"
        digest.update(header.encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def requirements_for(text: str, python: str, machine: str) -> str:
    """The hash-pinned requirements that apply to the host, without their markers.

    pip would evaluate the markers of a lock file with the Python it runs on, which is the controller's.
    """
    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        # The oldest patch release is the careful answer to a marker such as < '3.11.3'.
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    kept = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        name, _, marker = requirement.partition(";")
        if "==" not in name or not hashes:
            raise BuildError(f"requirements.txt: {name.strip()} is not pinned with its hashes; run `make lock`.")
        if marker.strip() and not Marker(marker.strip()).evaluate(environment):
            continue
        kept.append(" \\\n    ".join([name.strip(), *(f"--hash={digest.strip()}" for digest in hashes)]))
    return "\n".join(kept) + "\n"


def fetch_wheels(requirements: str, python: str, machine: str, cache: Path) -> Path:
    """The directory with a wheel for each requirement; it appears only once it is complete."""
    digest = hashlib.sha256(requirements.encode()).hexdigest()[:16]
    wheels = cache / f"py{python}-{machine}-{digest}"
    if wheels.is_dir():
        return wheels
    cache.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as new:
        listing = Path(new) / "requirements.txt"
        listing.write_text(requirements)
        fetched = Path(new) / "wheels"
        command = [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"),
            *("--only-binary=:all:", "--no-deps", "--require-hashes"),
            *(f"--python-version={python}", "--implementation=cp"),
            *(f"--platform={platform}" for platform in [*platforms, f"manylinux2014_{machine}"]),
            *(f"--dest={fetched}", f"--requirement={listing}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B603 # noqa: S603 (no shell, our own words)
        if done.returncode:
            reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise BuildError(f"The libraries for Python {python} on {machine} could not be fetched:\n{reason}")
        try:
            fetched.rename(wheels)
        except OSError:
            # Another run has been faster.
            if not wheels.is_dir():
                raise
    return wheels


def members(source: Path, wheels: Path, requirements: str) -> Iterator[tuple[str, int, bytes | None]]:
    """What the archive holds: name, mode and content; a directory, which comes before what is in it, has none."""
    directories = {path.relative_to(source).parent for path in source_files(source)}
    directories |= {parent for directory in directories for parent in directory.parents}
    for directory in sorted(directories):
        yield (Path("app") / directory).as_posix(), 0o755, None
    for path in source_files(source):
        mode = 0o755 if is_executable(path) else 0o644
        yield f"app/{path.relative_to(source).as_posix()}", mode, path.read_bytes()
    yield "requirements.txt", 0o644, requirements.encode()
    for path in sorted(wheels.glob("*.whl")):
        yield f"wheels/{path.name}", 0o644, path.read_bytes()


def write_archive(archive: Path, contents: Iterator[tuple[str, int, bytes | None]]) -> None:
    """The same contents give the same bytes; the file appears only once it is complete."""
    with tempfile.NamedTemporaryFile(dir=archive.parent, prefix=".new-", delete=False) as new:
        try:
            # Wheels are compressed already.
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=new, compresslevel=1, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for name, mode, content in contents:
                    member = tarfile.TarInfo(name)
                    member.mode = mode
                    if content is None:
                        member.type = tarfile.DIRTYPE
                        tar.addfile(member)
                    else:
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
            new.close()
            Path(new.name).replace(archive)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def build(source: Path, output: Path, python: str, machine: str) -> dict[str, str | bool]:
    """Build the release unless it is there, and say what it is."""
    identity = release_id(source)
    archive = output / f"salon-{identity}-py{python}-{machine}.tar.gz"
    if built := not archive.exists():
        output.mkdir(parents=True, exist_ok=True)
        requirements = requirements_for((source / "requirements.txt").read_text(), python, machine)
        wheels = fetch_wheels(requirements, python, machine, output / "wheels")
        write_archive(archive, members(source, wheels, requirements))
    return {"id": identity, "archive": str(archive), "built": built}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the application")
    parser.add_argument("--build", type=Path, required=True, help="where releases and wheels are kept")
    parser.add_argument("--python", required=True, help="the host's Python, e.g. 3.13")
    parser.add_argument("--machine", required=True, choices=["x86_64", "aarch64"], help="the host's processor")
    arguments = parser.parse_args()
    try:
        report = build(arguments.source.resolve(), arguments.build.resolve(), arguments.python, arguments.machine)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
