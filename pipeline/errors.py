"""The errors that travel between components and the runtime; their type says what happens next.

`PermanentError`: the same input will fail again, so it goes to the dead letters. `RetryableError`: try again.
`PartialError`: only the items named. Anything else that a component raises is a bug: a dead letter with its traceback.
"""

from collections.abc import Mapping, Sequence


class DagtelError(Exception):
    """The root of all errors that dagtel raises on purpose."""


class Problem(Exception):
    """One fault in a configuration: where it stands, what is wrong, what to write instead.

    Prints as `file:line: path: message`; `line` counts from 1, 0 where the fault has no line.
    """

    def __init__(self, path: str, message: str, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.path, self.message, self.file, self.line = path, message, file, line

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ConfigError(DagtelError):
    """A configuration that cannot run. Holds all problems found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class DecodeError(DagtelError):
    """Bytes that are no event. Its text is the reason that the dead letter carries."""


class StateError(DagtelError):
    """Stored state that this program must not touch: newer, orphaned, owned by somebody else or damaged."""


class PermanentError(DagtelError):
    """The backend refuses this payload for ever: it goes to the dead letters with this text. Never retried."""


class RetryableError(DagtelError):
    """The call may succeed later. `retry_after`: seconds the backend asked to wait, None if it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PartialError(DagtelError):
    """Some items of a payload were refused for ever, the rest was delivered.

    `failed` maps the item's index within the payload (-1: the backend did not say which) to its reason; `count` is
    how many were refused, by default as many as `failed` names.
    """

    def __init__(self, message: str, failed: Mapping[int, str], count: int | None = None) -> None:
        super().__init__(message)
        self.failed = dict(failed)
        self.count = len(self.failed) if count is None else count
