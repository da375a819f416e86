"""configs/prometheus: what the rules find, by their own unit tests under a real promtool."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "configs" / "prometheus"


@pytest.mark.integration
@pytest.mark.skipif(not os.environ.get("DAGTEL_TEST_PROMETHEUS"), reason="DAGTEL_TEST_PROMETHEUS names no promtool")
def test_the_rules_find_what_their_tests_say() -> None:
    promtool = [str(ROOT / "tests" / "backends" / "prometheus"), "promtool"]
    env = {**os.environ, "PROM_FROM": os.environ["DAGTEL_TEST_PROMETHEUS"]}
    tests = sorted(str(path) for path in RULES.glob("*_test.yaml"))
    assert len(tests) == 2
    for arguments in (["check", "rules", str(RULES / "rules.yaml")], ["test", "rules", *tests]):
        done = subprocess.run(
            [*promtool, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
