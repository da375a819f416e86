"""`make chaos`: every scenario in its long form, on real backends; the table is printed and written into the docs.

The backends are those that DAGTEL_TEST_… names (tests/backends/all prints them); where they are not named they are
installed and started here, and stopped afterwards. Arguments are pytest's: `make chaos ARGS="-k kills"` runs a part,
and renews the rows of that part. Nothing is written when a test fails.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.table import KEPT, ROWS, gathered, keep, markdown, renewed, written_into

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BACKENDS = ROOT / "tests" / "backends" / "all"
PAGES = (ROOT / "docs" / "delivery.md", ROOT / "docs" / "chaos.md")


def main(arguments: list[str]) -> int:
    """Run it; gives pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        environment = {**os.environ, "DAGTEL_CHAOS": "long", ROWS: str(rows)}
        started = "DAGTEL_TEST_KAFKA" not in os.environ
        if started:
            environment |= _backends(environment)
        try:
            command = [sys.executable, "-m", "pytest", "--tb=short", str(HERE), *arguments]
            code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        finally:
            if started:
                subprocess.run([BACKENDS, "down"], env=environment, check=False)
        found = gathered(rows)
    print(markdown(found))
    if code == 0 and found:
        table = renewed(gathered(KEPT), found)
        keep(table)
        _write(markdown(table))
    return code


def _backends(environment: dict[str, str]) -> dict[str, str]:
    """Start them; gives what they are to be called by."""
    subprocess.run([BACKENDS, "install"], env=environment, check=True)
    said = subprocess.run([BACKENDS, "up"], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    words = " ".join(line.removeprefix("export ") for line in said.splitlines() if line.startswith("export "))
    return dict(word.split("=", 1) for word in words.split())


def _write(table: str) -> None:
    """Into the first page that has a place for it."""
    for page in PAGES:
        if page.exists():
            try:
                page.write_text(written_into(page.read_text(), table))
            except ValueError:
                continue
            print(f"written to {page.relative_to(ROOT)}")
            return
    raise SystemExit("no page has a place for the table")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
