"""`python -m tests`: the whole suite in two halves side by side, since tests with servers wait more than they work."""

from __future__ import annotations

import subprocess
import sys
import tempfile

HALVES = (
    ("tests/contract", "tests/unit"),
    ("tests", "--ignore=tests/contract", "--ignore=tests/unit"),
)
"""What each is given; between them nothing is left out."""


def main() -> int:
    """Runs both, shows the first as it goes and the second when it is over; returns the worse exit status."""
    commands = [[sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *half, *sys.argv[1:]] for half in HALVES]
    with tempfile.TemporaryFile() as shown_later:
        second = subprocess.Popen(commands[1], stdout=shown_later, stderr=subprocess.STDOUT)
        try:
            worst = subprocess.call(commands[0])
            return max(worst, second.wait())
        except KeyboardInterrupt:
            second.wait()  # it was interrupted, too, and stops its servers
            return 130
        finally:
            shown_later.seek(0)
            sys.stdout.flush()
            sys.stdout.buffer.write(shown_later.read())


if __name__ == "__main__":
    sys.exit(main())
