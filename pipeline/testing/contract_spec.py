"""What every component's spec must be, whatever its kind. The other contracts build on it.

A contract is a class of pytest tests: subclass it, name the `spec`, and where defaults do not do override `options`.
Its laws are hypothesis properties; each example has an empty `folder` of its own.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.components import (
    AnySpec,
    ConnectorSpec,
    ExporterSpec,
    ExtensionSpec,
    ProcessorSpec,
    ReceiverSpec,
)
from pipeline.config.fields import doc, fields, struct_within
from pipeline.testing.context import FakeContext

_METHODS: dict[type, tuple[str, ...]] = {
    ReceiverSpec: ("run",),
    ProcessorSpec: ("process",),
    ConnectorSpec: ("process",),
    ExporterSpec: ("build", "send"),
    ExtensionSpec: (),
}
_SET_ASIDE = [HealthCheck.differing_executors, HealthCheck.too_slow, HealthCheck.data_too_large]


def law(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of a contract as a property: `def test_…(self, data)` draws what it needs from `data`."""

    def made(test: Callable[..., None]) -> Callable[..., None]:
        checked: Callable[..., None] = given(data=st.data())(test)
        return settings(max_examples=examples, deadline=None, suppress_health_check=_SET_ASIDE)(checked)

    return made


class SpecContract:
    """A component of any kind: its spec is well formed, its options are documented, it can be built and left."""

    spec: AnySpec
    folder: Path
    """An empty folder, for options that name files."""

    def options(self) -> Any:
        """The options to test with. Override it where some have no default, or where the default does nothing."""
        return self.spec.config()

    @contextmanager
    def world(self) -> Iterator[None]:
        """An empty `folder` for one example."""
        with TemporaryDirectory(prefix="contract-") as folder:
            self.folder = Path(folder)
            yield

    @asynccontextmanager
    async def built(self, context: FakeContext | None = None) -> AsyncIterator[Any]:
        """The component, for as long as the block."""
        async with self.spec.build(self.options(), context or FakeContext(self.spec.name)) as component:
            yield component

    def test_its_name_can_stand_in_a_configuration(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", self.spec.name), (
            f"{self.spec.name!r}: letters, digits and _, as in `my_sampler`"
        )

    def test_its_options_are_a_frozen_struct_that_knows_its_fields(self) -> None:
        for options in _blocks(self.spec.config):
            about = options.__struct_config__
            assert about.frozen, f"{options.__name__}: write frozen=True; options never change"
            assert about.forbid_unknown_fields, (
                f"{options.__name__}: write forbid_unknown_fields=True, or a misspelt option is silently ignored"
            )

    def test_it_and_each_of_its_options_are_documented(self) -> None:
        for options in _blocks(self.spec.config):
            assert doc(options), f"{options.__name__} has no docstring; it is what the reference says"
            bare = [field.name for field in fields(options) if not field.doc]
            assert not bare, f"{options.__name__}: no docstring after {', '.join(bare)}"

    def test_its_defaults_are_options(self) -> None:
        options: type[msgspec.Struct] = self.spec.config
        if not any(field.required for field in fields(options)):
            options()
        named = getattr(self.spec, "resets_state", ())
        known = [field.name for field in fields(options)]
        unknown = [name for name in named if name.partition(".")[0] not in known]
        assert not unknown, f"resets_state names {', '.join(unknown)}, which are no options"

    def test_the_options_it_is_tested_with_are_right(self) -> None:
        with self.world():
            options = self.options()
            assert isinstance(options, self.spec.config), "options() gives something else than spec.config"
            problems = list(getattr(options, "problems", lambda: ())())
            assert not problems, f"options() has problems: {problems}"

    def test_it_is_built_and_left_and_built_again(self) -> None:
        async def twice() -> None:
            for _ in range(2):
                async with self.built() as component:
                    missing = [name for name in _METHODS[type(self.spec)] if not hasattr(component, name)]
                    assert not missing, f"what build gives has no {', '.join(missing)}"

        with self.world():
            anyio.run(twice)


class ExtensionContract(SpecContract):
    """An extension: nothing is asked of one but a good spec, and that it can be left and built again."""

    spec: ExtensionSpec[Any]


def _blocks(config: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The options type and those of its nested blocks."""
    found: list[type[msgspec.Struct]] = []
    open_ = [config]
    while open_:
        options = open_.pop()
        if options not in found:
            found.append(options)
            open_ += [below for field in fields(options) if (below := struct_within(field.hint))]
    return found
