"""A YAML file as plain data: Dagster's own settings, tables of assets. (Our configuration has `pipeline.config`.)"""

from pathlib import Path

import yaml

from pipeline.errors import ConfigError, Problem


def load_yaml(path: str | Path) -> object:
    """The file's one document as dicts, lists and scalars; None when it is empty.

    Raises ConfigError (with the line, where the fault has one) when the file cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError([Problem("", f"cannot be read: {error.strerror}", str(path))]) from error
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        said = error.problem if isinstance(error, yaml.MarkedYAMLError) and error.problem else str(error)
        raise ConfigError([Problem("", f"no YAML: {said}", str(path), mark.line + 1 if mark else 0)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("", "no YAML: nested too deeply", str(path))]) from error
