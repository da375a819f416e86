"""Every name that leaves dagtel stands in docs/telemetry.md."""

import re
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import (
    cicd_attributes,
    deployment_attributes,
    log_attributes,
)
from opentelemetry.semconv.attributes import error_attributes, exception_attributes, service_attributes

from pipeline import names

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
NAMES = {key: value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("name", sorted(NAMES.values()))
def test_the_page_has_a_line_for_each_name(name: str) -> None:
    assert re.search(rf"`{re.escape(name)}`", PAGE)


@pytest.mark.parametrize("name", sorted(n for n in NAMES.values() if "." in n and not n.startswith("dagster.")))
def test_what_is_not_ours_is_a_name_of_the_semantic_conventions(name: str) -> None:
    modules = (
        cicd_attributes,
        deployment_attributes,
        log_attributes,
        error_attributes,
        exception_attributes,
        service_attributes,
    )
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    known |= {"service.namespace", "service.instance.id"}  # stable in the conventions, not in this package's module
    assert name in known
