"""Builds a release of the application: its code and every library it needs, for the Python of the host.

    identify   which release it is: named for the moment and the commit of its code, so the same code has the same name
    pack       an archive of it, with those libraries that a host lacks
    gone       whether the run of Ansible on this machine is over that a host's lock speaks of

Each prints one JSON object. Finished work is found again and not repeated.
"""

import argparse
import ast
import getpass
import gzip
import hashlib
import io
import json
import os
import socket
import subprocess  # nosec B404 # it runs this Python's pip, git and ps
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Ansible itself depends on it, so it is there wherever this is run.
from packaging.markers import Marker

# Debian 12 has glibc 2.36; a wheel for an older one runs on it and on Debian 13.
NEWEST_GLIBC = 36
OLDEST_GLIBC = 17

IGNORED_SUFFIXES = (".pyc", ".pyo", "~")

CONTRACT_MARK = "contract_after"
"""What a migration is marked with that takes away what older code needs: see `app/chat/migrations/__init__.py`."""


class BuildError(Exception):
    """The release cannot be built; the message says why."""


def source_files(source: Path) -> list[Path]:
    """The files of the application in a stable order, without what git ignores and what editors leave there."""
    if is_versioned(source):
        listed = git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".").split("\0")
        paths = sorted({source / name for name in listed if name})
    else:
        paths = sorted(source.rglob("*"))
    return [path for path in paths if _is_part(path, path.relative_to(source).parts)]


def _is_part(path: Path, parts: Sequence[str]) -> bool:
    if path.name.endswith(IGNORED_SUFFIXES) or any(part.startswith(".") or part == "__pycache__" for part in parts):
        return False
    if path.is_symlink():
        raise BuildError(f"{path} is a symbolic link; a release holds plain files only.")
    # One that git knows and that is gone is a change that is not committed.
    return path.is_file()


def git(source: Path, *arguments: str) -> str:
    """What git says of the application. Raises `BuildError`."""
    command = ["git", "-C", str(source), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # nosec B603 # noqa: S603 (no shell, our own words)
    except FileNotFoundError:
        raise BuildError("git is not installed here, and a release is built from a commit; install git.") from None
    if done.returncode:
        raise BuildError(f"git cannot read {source}: {done.stderr.strip()}")
    return done.stdout


def is_versioned(source: Path) -> bool:
    """Whether git knows the application."""
    return any((directory / ".git").exists() for directory in (source, *source.parents))


def is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def content_digest(source: Path) -> str:
    """A name for exactly this content: paths, executable bits and bytes."""
    digest = hashlib.sha256()
    for path in source_files(source):
        content = path.read_bytes()
        header = f"{path.relative_to(source).as_posix()}\0{is_executable(path):d}\0{len(content)}\0"
        digest.update(header.encode())
        digest.update(content)
    return digest.hexdigest()[:8]


@dataclass(frozen=True)
class Origin:
    """What a release is made of: the commit that last touched the application, and what was changed since."""

    moment: datetime
    commit: str
    subject: str
    changed: tuple[str, ...] = ()

    def name(self, source: Path) -> str:
        """When and what: two releases of the same name hold the same code."""
        name = f"{self.moment:%Y%m%d-%H%M%S}-{self.commit[:10] or 'uncommitted'}"
        return f"{name}-{content_digest(source)}" if self.changed or not self.commit else name


def origin(source: Path, *, may_be_changed: bool) -> Origin:
    """Where the code comes from. Raises `BuildError` where it is not what a commit holds, unless that is allowed."""
    advice = "Commit that, or allow it with -e daphne_uncommitted=true; a rollback could not say later what it was."
    if not is_versioned(source):
        if not may_be_changed:
            raise BuildError(f"{source} is in no git repository, so no commit says what it is. {advice}")
        newest = max((path.stat().st_mtime for path in source_files(source)), default=0.0)
        return Origin(datetime.fromtimestamp(newest, UTC), "", "")
    changed = git(source, "status", "--porcelain", "--untracked-files=all", "--", ".").splitlines()
    if changed and not may_be_changed:
        shown = ", ".join(line[3:] for line in changed[:5]) + (" and more" if len(changed) > 5 else "")
        raise BuildError(f"The application has changes that are in no commit: {shown}. {advice}")
    logged = git(source, "log", "-1", "--format=%ct%x00%H%x00%s", "--", ".").strip()
    if not logged:
        raise BuildError(f"No commit holds anything of {source} yet. {advice}")
    seconds, commit, subject = logged.split("\0")
    return Origin(datetime.fromtimestamp(int(seconds), UTC), commit, subject, tuple(changed))


def migrations(source: Path) -> dict[str, str | None]:
    """The migrations of the application's own code, and for those that contract the one that code has to know.

    They are read and not run: on the controller there is no Django.
    """
    found = {}
    for path in sorted(source.glob("*/migrations/[0-9]*.py")):
        mark = None
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.ClassDef) and node.name == "Migration":
                mark = _contract_mark(node, path)
        found[f"{path.parent.parent.name}.{path.stem}"] = mark and f"{path.parent.parent.name}.{mark}"
    return found


def _contract_mark(migration: ast.ClassDef, path: Path) -> str | None:
    for node in migration.body:
        if isinstance(node, ast.Assign) and any(getattr(name, "id", "") == CONTRACT_MARK for name in node.targets):
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                return node.value.value
            raise BuildError(f"{path}: {CONTRACT_MARK} is not a plain text; it is the name of an earlier migration.")
    return None


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


def environment_name(requirements: str, python: str, machine: str) -> str:
    """A name for exactly these libraries."""
    return f"py{python}-{machine}-{hashlib.sha256(requirements.encode()).hexdigest()[:16]}"


def fetch_wheels(requirements: str, python: str, machine: str, cache: Path) -> Path:
    """The directory with a wheel for each requirement; it appears only once it is complete."""
    wheels = cache / environment_name(requirements, python, machine)
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


def members(
    source: Path, record: dict[str, Any], requirements: str, wheels: Sequence[Path]
) -> Iterator[tuple[str, int, bytes | None]]:
    """What the archive holds: name, mode and content; a directory, which comes before what is in it, has none."""
    files = source_files(source)
    directories = {path.relative_to(source).parent for path in files}
    directories |= {parent for directory in directories for parent in directory.parents}
    for directory in sorted(directories):
        yield (Path("app") / directory).as_posix(), 0o755, None
    for path in files:
        mode = 0o755 if is_executable(path) else 0o644
        yield f"app/{path.relative_to(source).as_posix()}", mode, path.read_bytes()
    yield "requirements.txt", 0o644, requirements.encode()
    for path in wheels:
        yield f"wheels/{path.name}", 0o644, path.read_bytes()
    yield "release.json", 0o644, (json.dumps(record, indent=2) + "\n").encode()


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


@dataclass(frozen=True)
class Build:
    """A release of the application at `source`, for one kind of host."""

    source: Path
    output: Path
    python: str
    machine: str
    may_be_changed: bool = False

    @property
    def requirements(self) -> str:
        return requirements_for((self.source / "requirements.txt").read_text(), self.python, self.machine)

    def identify(self) -> dict[str, Any]:
        """The release's record: its `id`, where it comes from, its libraries and its migrations."""
        begin = origin(self.source, may_be_changed=self.may_be_changed)
        return {
            # A release's libraries are for one Python: with a new one, the same code is another release.
            "id": f"{begin.name(self.source)}-py{self.python}",
            "commit": begin.commit,
            "subject": begin.subject,
            "changed": list(begin.changed),
            "environment": environment_name(self.requirements, self.python, self.machine),
            "migrations": migrations(self.source),
        }

    def pack(self, *, has_environment: bool, has_wheels: Sequence[str]) -> dict[str, Any]:
        """The archive of it, with the wheels that the host lacks, and whether it had to be made."""
        record, requirements, lacking = self.identify(), self.requirements, []
        if not has_environment:
            wheels = fetch_wheels(requirements, self.python, self.machine, self.output / "wheels")
            record["wheels"] = sorted(path.name for path in wheels.glob("*.whl"))
            lacking = [wheels / name for name in record["wheels"] if name not in has_wheels]
        contents = "\n".join(path.name for path in lacking)
        mark = hashlib.sha256(contents.encode()).hexdigest()[:8]
        archive = self.output / f"salon-{record['id']}-{self.machine}-{mark}.tar.gz"
        if built := not archive.exists():
            self.output.mkdir(parents=True, exist_ok=True)
            write_archive(archive, members(self.source, record, requirements, lacking))
        return {"archive": str(archive), "built": built, "wheels": len(lacking)}


# Who runs Ansible here, so that a lock that a killed run has left is known for one.


def this_run() -> dict[str, Any]:
    """The run of Ansible that this is a part of."""
    pid = _ansible() or os.getppid()
    return {
        "id": uuid.uuid4().hex,
        "who": f"{getpass.getuser()} on {socket.gethostname()}",
        "machine": this_machine(),
        "pid": pid,
        "started": _started(pid),
    }


def this_machine() -> str:
    """The machine, its boot, and the processes that can be seen from here: elsewhere, a number says nothing."""
    files = [Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")]
    parts = [socket.gethostname(), *(path.read_text().strip() for path in files if path.exists())]
    if Path("/proc/self/ns/pid").exists():
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def is_gone(run: dict[str, Any]) -> bool:
    """Whether that run is surely over: it was on this machine, and its process is there no more."""
    return run.get("machine") == this_machine() and _started(int(run["pid"])) != run["started"]


def _ansible() -> int | None:
    """The process of `ansible-playbook` that this one comes from; its own children look the same."""
    found, pid = None, os.getppid()
    while pid > 1:
        if "ansible-playbook" in _ps(pid, "command"):
            found = pid
        elif found:
            break
        parent = _ps(pid, "ppid")
        pid = int(parent) if parent.isdecimal() else 0
    return found


def _started(pid: int) -> str:
    """The moment at which a process began, or nothing where there is none."""
    return _ps(pid, "lstart")


def _ps(pid: int, what: str) -> str:
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            if what == "command":
                return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            # What stands in brackets may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[1] if what == "ppid" else fields[19]
    command = ["ps", "-o", f"{what}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # nosec B603 B607 # noqa: S603 (no shell, our own words)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("identify", "pack"):
        command = commands.add_parser(name)
        command.add_argument("--source", type=Path, required=True, help="the application")
        command.add_argument("--build", type=Path, required=True, help="where releases and wheels are kept")
        command.add_argument("--python", required=True, help="the host's Python, e.g. 3.13")
        command.add_argument("--machine", required=True, choices=["x86_64", "aarch64"], help="the host's processor")
        command.add_argument("--may-be-changed", action="store_true", help="even if no commit holds it")
        if name == "pack":
            command.add_argument("--has-environment", action="store_true", help="the host has its libraries installed")
            command.add_argument(
                "--has-wheels", type=json.loads, default=[], help="the wheels that the host has: a list"
            )
    commands.add_parser("run")
    commands.add_parser("gone").add_argument("run", type=json.loads, help="who holds the lock")
    given = parser.parse_args()
    try:
        report = obey(given)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def obey(given: argparse.Namespace) -> dict[str, Any]:
    if given.command == "gone":
        return {"gone": is_gone(given.run)}
    if given.command == "run":
        return this_run()
    build = Build(given.source.resolve(), given.build.resolve(), given.python, given.machine, given.may_be_changed)
    if given.command == "identify":
        return build.identify() | {"run": this_run()}
    return build.pack(has_environment=given.has_environment, has_wheels=given.has_wheels)


if __name__ == "__main__":
    sys.exit(main())
