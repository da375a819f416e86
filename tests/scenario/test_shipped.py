"""The project's own policies: `dagtel test configs/*.test.yaml`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(map(str, CONFIGS.glob("*.test.yaml")))

SIX_HOURS = [
    ("0s", "firing", "1"),
    *((f"{hour}h", "digest", "12") for hour in range(1, 6)),
    ("6h", "escalated", "72"),
    ("8h", "repeated", "24"),
    ("10h", "repeated", "23"),
    ("10h3m", "resolved", "120"),
]


@pytest.mark.parametrize("options", [(), ("--restarts",)], ids=["one life", "killed between any two moments"])
def test_the_shipped_policies_are_as_they_say(options: tuple[str, ...]) -> None:
    assert FILES
    result = CliRunner().invoke(app, ["test", *FILES, *options])
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output


def test_the_seeds_six_hours_are_shown() -> None:
    result = CliRunner().invoke(app, ["test", str(CONFIGS / "six-hours.test.yaml")])
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("     ")]
    assert [(row[0], row[1], row[row.index("count") + 1]) for row in rows] == SIX_HOURS


def test_an_altered_policy_is_caught(tmp_path: Path) -> None:
    text = (CONFIGS / "six-hours.test.yaml").read_text()
    altered = text.replace("config: file.yaml", f"config: {CONFIGS / 'file.yaml'}")
    altered = altered.replace("set:\n", "set:\n  - processors.dedup.escalate_after=7h\n", 1)
    (tmp_path / "altered.test.yaml").write_text(altered)
    result = CliRunner().invoke(app, ["test", str(tmp_path / "altered.test.yaml")])
    assert result.exit_code == 1
    assert "-        6h  escalated CRITICAL dlt_users count 72" in result.stdout
    assert "+        7h  escalated CRITICAL" in result.stdout
