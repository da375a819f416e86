"""YAML files that are not our configuration."""

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.yaml_file import load_yaml


def test_a_file_is_plain_data(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: [1, x]\nb: {c: null}\n")
    assert load_yaml(file) == {"a": [1, "x"], "b": {"c": None}}


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert load_yaml(tmp_path / "a.yaml") is None


def test_a_fault_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\nb: [\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: no YAML"):
        load_yaml(file)


@pytest.mark.parametrize("bad", [b"\xff\xfe\x00", b"a: \x01", b"!!python/object:os.system x", b"{" * 5000])
def test_what_is_no_yaml_is_an_error(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(bad)
    with pytest.raises(ConfigError):
        load_yaml(file)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml")
