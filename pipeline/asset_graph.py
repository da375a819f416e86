"""The asset graph as a Dagster webserver tells it: the query, the answer, and how several answers join.

Fields of `AssetNode` come and go with Dagster's version, and GraphQL refuses a whole query for one unknown name
(1.9: no `internalFreshnessPolicy`; 1.7: no `kinds`). So the schema is asked first and the query is built from what is
there. Source: Dagster's GraphQL schema, measured on 1.7, 1.9, 1.10 and 1.13.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from pipeline.errors import DecodeError, PermanentError, RetryableError
from pipeline.http import HttpClient, expect_ok
from pipeline.lineage import AssetFacts, Freshness

_ENTRIES = {
    "TextMetadataEntry": "text",
    "UrlMetadataEntry": "url",
    "PathMetadataEntry": "path",
    "JsonMetadataEntry": "jsonString",
    "MarkdownMetadataEntry": "mdStr",
    "IntMetadataEntry": "intRepr",
    "FloatMetadataEntry": "floatValue",  # floatRepr is newer
    "BoolMetadataEntry": "boolValue",
}
_OWNERS = {"UserAssetOwner": "email", "TeamAssetOwner": "team"}
_FRESHNESS = {
    "TimeWindowFreshnessPolicy": "failWindowSeconds warnWindowSeconds",
    "CronFreshnessPolicy": "deadlineCron lowerBoundDeltaSeconds timezone",
}
_LEGACY = "FreshnessPolicy"
"""The policy of before 1.10 (`FreshnessPolicy(maximum_lag_minutes, cron_schedule)`), which 1.13 still tells of."""
_CHECKS = {"AssetChecks": "checks { name }"}

TYPES: AbstractSet[str] = frozenset((*_ENTRIES, *_OWNERS, *_FRESHNESS, *_CHECKS, _LEGACY))
"""The types that the query picks fields of, all of which the newest Dagster knows."""

_LEGACY_PICK = "legacyFreshnessPolicy: freshnessPolicy { maximumLagMinutes cronSchedule cronScheduleTimezone }"

SCHEMA_QUERY = '{ assetNode: __type(name: "AssetNode") { fields { name } } __schema { types { name } } }'
"""Asks which fields and types a webserver knows."""

# --- the query -------------------------------------------------------------------------------------------------------


def _picked(by_type: Mapping[str, str], types: AbstractSet[str], first: str = "__typename") -> str:
    """A selection with one inline fragment for each type that the webserver knows."""
    return " ".join([first, *(f"... on {name} {{ {pick} }}" for name, pick in by_type.items() if name in types)])


def asset_query(fields: AbstractSet[str], types: AbstractSet[str] = TYPES) -> str:
    """The query for all assets, of those `fields` of AssetNode and those `types` that the webserver knows."""
    selections = {
        "assetKey": "assetKey { path }",
        "dependencyKeys": "dependencyKeys { path }",
        "groupName": "groupName",
        "description": "description",
        "kinds": "kinds",
        "computeKind": "computeKind",
        "jobNames": "jobNames",
        "isExecutable": "isExecutable",
        "isPartitioned": "isPartitioned",
        "tags": "tags { key value }",
        "repository": "repository { location { name } }",
        "owners": f"owners {{ {_picked(_OWNERS, types)} }}",
        "internalFreshnessPolicy": f"freshnessPolicy: internalFreshnessPolicy {{ {_picked(_FRESHNESS, types)} }}",
        **({"freshnessPolicy": _LEGACY_PICK} if _LEGACY in types else {}),
        "metadataEntries": f"metadataEntries {{ {_picked(_ENTRIES, types, '__typename label')} }}",
        "assetChecksOrError": f"assetChecksOrError {{ {_picked(_CHECKS, types)} }}",
    }
    return "{ assetNodes { " + " ".join(text for name, text in selections.items() if name in fields) + " } }"


# --- the answer ------------------------------------------------------------------------------------------------------


class _Key(msgspec.Struct):
    path: list[str]


class _Owner(msgspec.Struct):
    email: str | None = None
    team: str | None = None


class _Tag(msgspec.Struct):
    key: str
    value: str | None = None


class _Location(msgspec.Struct):
    name: str = ""


class _Repository(msgspec.Struct):
    location: _Location | None = None


class _Policy(msgspec.Struct, rename="camel"):
    fail_window_seconds: float | None = None
    warn_window_seconds: float | None = None
    deadline_cron: str | None = None
    lower_bound_delta_seconds: float | None = None
    timezone: str | None = None


class _LegacyPolicy(msgspec.Struct, rename="camel"):
    maximum_lag_minutes: float | None = None
    cron_schedule: str | None = None
    cron_schedule_timezone: str | None = None


class _Entry(msgspec.Struct, rename="camel"):
    label: str = ""
    text: str | None = None
    url: str | None = None
    path: str | None = None
    json_string: str | None = None
    md_str: str | None = None
    int_repr: str | None = None
    float_value: float | None = None
    float_repr: str | None = None
    bool_value: bool | None = None


class _Check(msgspec.Struct):
    name: str


class _Checks(msgspec.Struct):
    checks: list[_Check] | None = None


class _Node(msgspec.Struct, rename="camel"):
    asset_key: _Key
    dependency_keys: list[_Key] | None = None
    group_name: str | None = None
    description: str | None = None
    kinds: list[str] | None = None
    compute_kind: str | None = None
    job_names: list[str] | None = None
    is_executable: bool | None = None
    is_partitioned: bool | None = None
    tags: list[_Tag] | None = None
    repository: _Repository | None = None
    owners: list[_Owner] | None = None
    freshness_policy: _Policy | None = None
    legacy_freshness_policy: _LegacyPolicy | None = None
    metadata_entries: list[_Entry] | None = None
    asset_checks_or_error: _Checks | None = None


class _Data(msgspec.Struct, rename="camel"):
    asset_nodes: list[_Node] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    data: _Data | None = None
    asset_nodes: list[_Node] | None = None
    errors: list[msgspec.Raw] | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def parse_asset_nodes(answer: bytes) -> dict[str, AssetFacts]:
    """The assets of a webserver's answer, with or without GraphQL's `data` around it.

    An asset that several code locations name stands once, joined as `merged` does. Raises DecodeError.
    """
    try:
        decoded = _decode_answer(answer)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"no answer to an assetNodes query: {error}") from error
    nodes = decoded.asset_nodes if decoded.data is None else decoded.data.asset_nodes
    if nodes is None:
        said = bytes(decoded.errors[0])[:300].decode("utf-8", "replace") if decoded.errors else "it has no assetNodes"
        raise DecodeError(f"no answer to an assetNodes query: {said}")
    return merged(*({facts.key: facts} for facts in map(_facts, nodes)))


def _facts(node: _Node) -> AssetFacts:
    location = node.repository.location if node.repository else None
    checks = node.asset_checks_or_error.checks if node.asset_checks_or_error else None
    return AssetFacts(
        key="/".join(node.asset_key.path),
        upstream=tuple("/".join(key.path) for key in node.dependency_keys or ()),
        group=node.group_name or "",
        owners=tuple(filter(None, map(_owner, node.owners or ()))),
        kinds=tuple(node.kinds or filter(None, (node.compute_kind,))),
        tags={tag.key: tag.value or "" for tag in node.tags or ()},
        description=node.description or "",
        code_location=location.name if location else "",
        jobs=tuple(node.job_names or ()),
        checks=tuple(check.name for check in checks or ()),
        partitioned=bool(node.is_partitioned),
        executable=node.is_executable is not False,
        freshness=_freshness(node.freshness_policy) or _legacy(node.legacy_freshness_policy),
        metadata={entry.label: text for entry in node.metadata_entries or () if (text := _text(entry)) is not None},
    )


def _owner(owner: _Owner) -> str:
    """As Dagster writes owners: an address, or `team:` and a name."""
    return owner.email or (f"team:{owner.team}" if owner.team else "")


def _freshness(policy: _Policy | None) -> Freshness | None:
    if policy is None:
        return None
    return Freshness(
        fail_s=_whole(policy.fail_window_seconds),
        warn_s=_whole(policy.warn_window_seconds),
        deadline_cron=policy.deadline_cron,
        lower_bound_s=_whole(policy.lower_bound_delta_seconds),
        timezone=policy.timezone,
    )


def _legacy(policy: _LegacyPolicy | None) -> Freshness | None:
    """At most so old: always, or where there is a schedule, at each of its times."""
    if policy is None or not policy.maximum_lag_minutes:
        return None
    lag_s = _whole(policy.maximum_lag_minutes * 60)
    if not policy.cron_schedule:
        return Freshness(fail_s=lag_s)
    timezone = policy.cron_schedule_timezone or "UTC"
    return Freshness(deadline_cron=policy.cron_schedule, lower_bound_s=lag_s, timezone=timezone)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _text(entry: _Entry) -> str | None:
    if entry.bool_value is not None:
        return "true" if entry.bool_value else "false"
    values = (entry.text, entry.url, entry.path, entry.json_string, entry.md_str, entry.int_repr, entry.float_repr)
    text = next((value for value in values if value is not None), None)
    return repr(entry.float_value) if text is None and entry.float_value is not None else text


# --- joining ---------------------------------------------------------------------------------------------------------


def merged(*graphs: Mapping[str, AssetFacts]) -> dict[str, AssetFacts]:
    """All assets of all graphs. Edges, jobs, checks, owners, kinds, tags and metadata add up; of single values the
    first graph's holds unless it is empty. What one graph can execute is not external, whoever else says so.
    """
    result: dict[str, AssetFacts] = {}
    for graph in graphs:
        for key, facts in graph.items():
            known = result.get(key)
            result[key] = facts if known is None else _joined(known, facts)
    return result


def _joined(a: AssetFacts, b: AssetFacts) -> AssetFacts:
    if b.executable and not a.executable:  # the location that makes the asset knows it better than one that reads it
        a, b = b, a
    return AssetFacts(
        key=a.key,
        upstream=_union(a.upstream, b.upstream),
        group=a.group or b.group,
        owners=_union(a.owners, b.owners),
        kinds=_union(a.kinds, b.kinds),
        tags={**b.tags, **a.tags},
        description=a.description or b.description,
        code_location=a.code_location or b.code_location,
        jobs=_union(a.jobs, b.jobs),
        checks=_union(a.checks, b.checks),
        partitioned=a.partitioned or b.partitioned,
        executable=a.executable or b.executable,
        freshness=a.freshness or b.freshness,
        metadata={**b.metadata, **a.metadata},
    )


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return a if not b or a == b else tuple(dict.fromkeys((*a, *b)))


# --- asking ----------------------------------------------------------------------------------------------------------


class _Name(msgspec.Struct):
    name: str


class _Type(msgspec.Struct):
    fields: list[_Name] | None = None


class _Schema(msgspec.Struct):
    types: list[_Name] = []


class _SchemaData(msgspec.Struct):
    asset_node: _Type | None = msgspec.field(default=None, name="assetNode")
    schema: _Schema | None = msgspec.field(default=None, name="__schema")


class _SchemaAnswer(msgspec.Struct):
    data: _SchemaData | None = None


_decode_schema = msgspec.json.Decoder(_SchemaAnswer).decode


async def fetch_asset_graph(
    http: HttpClient, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> dict[str, AssetFacts]:
    """The assets of the webserver at `url` (its address, or its `/graphql` itself).

    Raises RetryableError whatever went wrong: a webserver that refuses today may be replaced tomorrow.
    """
    endpoint = url if url.rstrip("/").endswith("/graphql") else url.rstrip("/") + "/graphql"
    try:
        schema = _decode_schema(await _ask(http, endpoint, SCHEMA_QUERY, headers, timeout_s)).data
        if schema is None or schema.asset_node is None or not schema.asset_node.fields:
            raise RetryableError(f"{endpoint} knows no AssetNode: is it a Dagster webserver?")
        fields = frozenset(field.name for field in schema.asset_node.fields)
        types = TYPES & {t.name for t in schema.schema.types} if schema.schema else TYPES
        return parse_asset_nodes(await _ask(http, endpoint, asset_query(fields, types), headers, timeout_s))
    except (PermanentError, DecodeError, msgspec.MsgspecError) as error:
        raise RetryableError(f"asset graph of {endpoint}: {error}") from error


async def _ask(
    http: HttpClient, endpoint: str, query: str, headers: Mapping[str, str] | None, timeout_s: float
) -> bytes:
    body = msgspec.json.encode({"query": query})
    sent = {"content-type": "application/json", **(headers or {})}
    response = await http.request("POST", endpoint, body=body, headers=sent, timeout_s=timeout_s)
    return expect_ok(response, endpoint).body
