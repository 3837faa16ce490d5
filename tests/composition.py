"""The services of compose.yaml that `tests/containers/composed` has started, as they are found from outside."""

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Composition:
    """`localhost`, with a certificate by a private authority."""

    address = "127.0.0.1"
    """A resolver may know another one first, and nothing is there."""

    @classmethod
    def of_environment(cls):
        """The composition that this is run in, or None outside of one."""
        return cls() if "SALON_COMPOSED" in os.environ else None

    @property
    def url(self):
        return f"https://localhost:{os.environ['SALON_HTTPS_PORT']}"

    @property
    def manage_command(self):
        return [self._program, "exec", "--no-TTY", "app", "salon"]

    @property
    def authority(self):
        """The certificate of its private authority."""
        return Path(os.environ["SALON_COMPOSED"])

    @property
    def _program(self):
        return str(ROOT / "tests/containers/compose")

    def compose(self, *arguments, **options):
        """What a command of Docker Compose prints; it must succeed."""
        return _output([self._program, *arguments], **options)

    def containers(self):
        """What the engine knows of each container, by the name of its service; the first one, where there are more."""
        identifiers = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(_output(["docker", "inspect", *identifiers]))
        found.sort(key=lambda each: each["Name"], reverse=True)
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}


def _output(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
