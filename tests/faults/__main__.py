"""Try the faults: see README.md beside this file, or `--help`."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# What the tests have for telling where a run was made is used as it is.
sys.path[:1] = [str(TESTS), str(TESTS / "integration")]

if __name__ == "__main__":
    from faults.command import main

    sys.exit(main())
