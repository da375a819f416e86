"""Problems by path: the place in the file is looked up, so that whoever finds a fault need only name it."""

from collections.abc import Iterable, Iterator

from pipeline.config.model import Config
from pipeline.config.source import place
from pipeline.errors import Problem


class Faults:
    """Problems found so far, and where to put further ones."""

    def __init__(self, config: Config) -> None:
        self.problems = list(config.faults)
        self._config = config
        self._order = {file: index for index, file in enumerate(config.files)}

    def add(self, path: str, message: str) -> None:
        self.problems.append(self.at(path, message))

    def at(self, path: str, message: str) -> Problem:
        """A problem at `path`, with the line of the nearest value above it that is in the file."""
        node = place(self._config.tree, path)
        return Problem(path, message, node.file, node.line)

    def known_at(self, path: str) -> bool:
        """Whether something at or below `path` was found already: what follows from it need not be said."""
        return any(
            problem.path == path or problem.path.startswith((f"{path}.", f"{path}[")) for problem in self.problems
        )

    def listed(self, path: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Each name of the list at `path`, with the path of its own place."""
        node = place(self._config.tree, path)
        written = [child.value for child in node.value] if isinstance(node.value, list) else []
        start = 0
        for name in names:
            index = written.index(name, start) if name in written[start:] else None
            yield (path if index is None else f"{path}[{index}]"), name
            start = start if index is None else index + 1

    def in_order(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """In the order of the files and of their lines; what is said twice of one place is said once."""
        unique = {str(problem): problem for problem in problems}
        return tuple(sorted(unique.values(), key=lambda p: (self._order.get(p.file, 0), p.line)))
