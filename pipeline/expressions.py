"""Conditions in the Common Expression Language, over the items that flow: the one door to the `cel` library.

Which names an expression may use depends on the signal (`pipeline.expression_names`). A fault that can be seen without
data (syntax, an unknown name, no yes-or-no answer) is found when the condition is made. Only the variables that an
expression names are read from an item: what costs is handing them over (2 µs for two texts).
"""

import re
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from pipeline.expression_names import ITEMS, VARIABLES
from pipeline.signals import Signal


class ExpressionError(ValueError):
    """An expression that cannot be used, or that failed on an item. Its text says why in one line."""


_FUNCTIONS: Final = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes", "timestamp"}
    | {"duration", "type", "dyn"}
)
# Names that a macro binds look like variables to the library: the `a` of `assets.exists(a, a == "x")`.
_BOUND: Final = re.compile(r"\.(?:exists|exists_one|all|map|filter)\s*\(\s*(\w+)\s*,")
_TEXT: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")


def signal_of(item: object) -> Signal | None:
    """The signal that an item belongs to, None for what is none."""
    return ITEMS.get(type(item))


class Condition:
    """A compiled expression that says yes or no of an item of a signal.

    Raises ExpressionError on an expression that cannot be used with any of `signals`.
    """

    def __init__(self, source: str, *signals: Signal) -> None:
        self.source = source
        self._program = _compiled(source)
        names = _names(self._program, source)
        self._reads = {
            signal: [(name, VARIABLES[signal][name].read) for name in names]
            for signal in (signals or tuple(Signal))
            if names <= VARIABLES[signal].keys()
        }
        if not self._reads:
            raise ExpressionError(_unknown(names, signals or tuple(Signal)))
        for signal in self._reads:
            self._try(signal, names)

    def holds(self, item: object, signal: Signal) -> bool:
        """Whether it is true of the item. Raises ExpressionError when it cannot be said."""
        reads = self._reads.get(signal)
        if reads is None:
            raise ExpressionError(f"`{self.source}` uses names that {signal.value} do not have")
        answer = self._run({name: read(item) for name, read in reads})
        if not isinstance(answer, bool):
            raise ExpressionError(f"`{self.source}` gives {answer!r}, not true or false")
        return answer

    def _run(self, values: dict[str, object]) -> object:
        try:
            return self._program.execute(values)
        except KeyError as error:
            raise ExpressionError(f"`{self.source}`: there is no {error}; ask with `in` or `has()` first") from error
        except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError, IndexError) as error:
            raise ExpressionError(f"`{self.source}`: {_first_line(error)}") from error

    def _try(self, signal: Signal, names: set[str]) -> None:
        """Evaluate once with values of the right types: finds what no item would ever get through."""
        values = {name: VARIABLES[signal][name].example for name in names}
        if msgspec.UNSET in values.values():
            return  # a map of anything: only an item can tell
        try:
            answer = self._run(values)
        except ExpressionError as error:
            if isinstance(error.__cause__, KeyError | IndexError):
                return  # the example has not the key that items may have
            raise
        if not isinstance(answer, bool):
            raise ExpressionError(f"`{self.source}` gives a {type(answer).__name__}, not true or false")


def _compiled(source: str) -> Any:
    import cel  # brings a terminal of its own, 100 ms of imports: only who writes a condition pays

    try:
        return cel.compile(source)
    except ValueError as error:
        found = re.search(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n{]*)", str(error))
        why = f"{found[3].strip()} at character {found[2]}" if found else _first_line(error)
        raise ExpressionError(f"`{source}` is no expression: {why}") from error


def _names(program: Any, source: str) -> set[str]:
    unknown = [name for name in program.functions() if name[0].isalpha() and name not in _FUNCTIONS]
    if unknown:
        raise ExpressionError(f"there is no function `{unknown[0]}`{_near(unknown[0], _FUNCTIONS)}")
    return set(program.variables()) - set(_BOUND.findall(_TEXT.sub('""', source)))


def _unknown(names: set[str], signals: tuple[Signal, ...]) -> str:
    known = {name for signal in signals for name in VARIABLES[signal]}
    strange = sorted(names - known)
    if strange:
        return f"there is no variable `{strange[0]}`{_near(strange[0], known)}"
    return f"no signal has all of these variables: {', '.join(sorted(names))}"


def _near(name: str, known: "frozenset[str] | set[str]") -> str:
    near = get_close_matches(name, sorted(known), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(". Check that")[0] if str(error) else type(error).__name__
