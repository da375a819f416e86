"""Whether the twins are used, and what the daemon's log says of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAID = "from pipeline.native import HAS_NATIVE, told; print(HAS_NATIVE, told())"


def said(folder: Path, **environment: str) -> str:
    """With a `dagtel_native` in the folder, if there is one."""
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, "-c", SAID], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("module", "environment", "expected"),
    [
        ("VERSION = '0.5.0'", {"DAGTEL_NATIVE": "1"}, "True 0.5.0"),
        ("VERSION = '0.5.0'", {"DAGTEL_NATIVE": "0"}, "False off (DAGTEL_NATIVE=0)"),
        ("VERSION = '9.0.0'", {"DAGTEL_NATIVE": "1"}, "False not used: 9.0.0 is there, 0.5.0 fits"),
        ("raise ImportError", {"DAGTEL_NATIVE": "1"}, "False not installed"),
    ],
)
def test_only_twins_that_fit_are_used_and_it_is_said(
    tmp_path: Path, module: str, environment: dict[str, str], expected: str
) -> None:
    (tmp_path / "dagtel_native.py").write_text(module)
    assert said(tmp_path, **environment) == expected


def test_everything_is_there_without_them(tmp_path: Path) -> None:
    """A name of the distribution in an annotation is looked up when a module is imported."""
    (tmp_path / "dagtel_native.py").write_text("raise ImportError")
    house = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(house)])}
    names = sorted(
        ".".join(path.relative_to(house).with_suffix("").parts)
        for folder in ("receivers", "processors", "connectors", "exporters")
        for path in (house / folder).rglob("*.py")
        if path.stem not in ("__init__", "apprise", "host_lake")  # libraries of an extra
    )
    script = f"import importlib; [importlib.import_module(name) for name in {names}]"
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
