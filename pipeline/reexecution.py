"""A run re-executed from its failure, by the GraphQL of Dagster's webserver: the queries, the answers, the calls.

What a webserver knows is asked first, so that one without `launchRunReexecution` (before Dagster 0.15) gets an answer
that says so. A run that has been re-executed before, by whomever, is not once more: Dagster notes the parent in the tag
`dagster/parent_run_id`, and that tells after a crash whether a launch went through.
Source: Dagster's GraphQL schema, measured on 1.13; `reexecutionParams` with `strategy` since 0.14.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from pipeline.errors import DagtelError, PermanentError, RetryableError
from pipeline.http import HttpClient, Response, Tls, expect_no_page, expect_ok

T = TypeVar("T", bound=msgspec.Struct)

PARENT: Final = "dagster/parent_run_id"
DONE: Final = frozenset({"FAILURE", "CANCELED"})
"""States from whose failure a run can go on."""
_LOOK: Final = """query($id: ID!, $tags: [ExecutionTag!]) {
  runOrError(runId: $id) { __typename ... on Run { runId status jobName } ... on Error { message } }
  runsOrError(filter: {tags: $tags}, limit: 1) { ... on Runs { results { runId status } } ... on Error { message } }
}"""
_KNOWS: Final = """{
  mutation: __type(name: "Mutation") { fields { name } }
  strategy: __type(name: "ReexecutionStrategy") { enumValues { name } }
}"""
_LAUNCH: Final = """mutation($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on InvalidStepError { invalidStepKey }
    ... on Error { message }
  }
}"""
_FIELD: Final = "launchRunReexecution"
_FROM_FAILURE: Final = "FROM_FAILURE"
LONGEST: Final = 500
"""Characters of what Dagster says that are told on."""


class Refused(DagtelError):
    """Dagster will not do it; nothing was launched. The text says why, for a person."""


class Unanswered(DagtelError):
    """No answer: whether the run was launched is not known yet."""


class Run(msgspec.Struct, frozen=True):
    """A run as the webserver tells it. `job` is "" where it was not asked for."""

    id: str = msgspec.field(name="runId")
    status: str
    job: str = msgspec.field(name="jobName", default="")


class Webserver:
    """Calls one webserver. `url` is its address, or its `/graphql` itself."""

    def __init__(
        self,
        http: HttpClient,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 20.0,
        tls: Tls | None = None,
    ) -> None:
        self._http, self._headers, self._timeout_s, self._tls = http, dict(headers or {}), timeout_s, tls
        self.endpoint = url if url.rstrip("/").endswith("/graphql") else url.rstrip("/") + "/graphql"

    async def look(self, run: str) -> tuple[Run, Run | None]:
        """The run, and the run that re-executes it, if there is one. Raises Refused: there is none; Unanswered."""
        variables = {"id": run, "tags": [{"key": PARENT, "value": run}]}
        found = (await self._ask(_LOOK, variables, _Looked)) or _Looked()
        if found.run is None or found.run.run is None:
            raise Refused(_words(found.run.message if found.run else "") or f"Dagster knows no run {run}")
        return found.run.run, next(iter(found.runs.results if found.runs else ()), None)

    async def reexecute(self, run: str) -> str:
        """Launch it from its failure; gives the new run's id. Raises Refused; Unanswered: it may have been launched."""
        knows = (await self._ask(_KNOWS, {}, _Known)) or _Known()
        fields = {field.name for field in (knows.mutation.fields if knows.mutation else ())}
        values = {value.name for value in (knows.strategy.values if knows.strategy else ())}
        if _FIELD not in fields or _FROM_FAILURE not in values:
            raise Refused(
                f"the webserver at {self.endpoint} knows no {_FIELD} with {_FROM_FAILURE}: its Dagster is too old"
            )
        params = {"parentRunId": run, "strategy": _FROM_FAILURE}
        answer = (await self._ask(_LAUNCH, {"params": params}, _Launched)) or _Launched()
        if answer.result is None or answer.result.run is None:
            raise Refused(_refusal(answer.result))
        return answer.result.run.id

    async def _ask(self, query: str, variables: Mapping[str, object], data: type[T]) -> T | None:
        body = msgspec.json.encode({"query": query, "variables": variables})
        sent = {"content-type": "application/json", **self._headers}
        try:
            response = await self._http.request(
                "POST", self.endpoint, body=body, headers=sent, timeout_s=self._timeout_s, tls=self._tls
            )
            answer = _answer(response)
        except RetryableError as error:
            raise Unanswered(f"{error}") from error
        except (PermanentError, msgspec.MsgspecError) as error:
            raise Refused(f"{self.endpoint} does not answer as a Dagster webserver: {error}") from error
        if answer.errors:
            raise Refused(_words(answer.errors[0].message) or "Dagster refused, and did not say why")
        try:
            return msgspec.convert(answer.data, data | None)
        except msgspec.ValidationError as error:
            raise Refused(f"{self.endpoint} does not answer as a Dagster webserver: {error}") from error


def _answer(response: Response) -> "_Answer":
    """GraphQL's answer, whatever the status: Dagster says 500 beside a reason, and 400 beside a fault of the query.

    Raises RetryableError, PermanentError, msgspec.MsgspecError for what is no answer of GraphQL's.
    """
    try:
        answer = msgspec.json.decode(response.body, type=_Answer)
    except msgspec.MsgspecError:
        answer = _Answer()
    if answer.data is not None or answer.errors:
        return answer
    return msgspec.json.decode(expect_no_page(expect_ok(response, "Dagster"), "Dagster").body, type=_Answer)


def _refusal(result: "_Result | None") -> str:
    """Dagster's reason in words."""
    if result is None:
        return "Dagster refused, and did not say why"
    said = _words(result.message) or "; ".join(_words(error.message) for error in result.errors[:3])
    if result.step:
        said = f"there is no step {_words(result.step)} any more"
    if "CheckError" in said:  # its own words help nobody: "Expected non-None value: None"
        said += " (a run that was not launched from a code location of this webserver cannot be launched again)"
    kind = "" if result.kind == "PythonError" else f"{result.kind}: "
    return f"{kind}{said}" if said else result.kind


def _words(text: str | None) -> str:
    """A text of Dagster's as one line that can be shown."""
    inert = "".join(c if c.isprintable() else " " for c in (text or "")[: 4 * LONGEST])
    return " ".join(inert.split())[:LONGEST]


class _Message(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    data: object = None
    errors: list[_Message] = []


class _OneRun(msgspec.Struct):
    """`Run`, or an error with its message."""

    kind: str = msgspec.field(name="__typename", default="")
    message: str = ""
    id: str = msgspec.field(name="runId", default="")
    status: str = ""
    job: str = msgspec.field(name="jobName", default="")

    @property
    def run(self) -> Run | None:
        return Run(self.id, self.status, self.job) if self.id else None


class _Runs(msgspec.Struct):
    results: list[Run] = []


class _Looked(msgspec.Struct):
    run: _OneRun | None = msgspec.field(name="runOrError", default=None)
    runs: _Runs | None = msgspec.field(name="runsOrError", default=None)


class _Named(msgspec.Struct):
    name: str


class _Fields(msgspec.Struct):
    fields: list[_Named] = []


class _Values(msgspec.Struct):
    values: list[_Named] = msgspec.field(name="enumValues", default_factory=list)


class _Known(msgspec.Struct):
    mutation: _Fields | None = None
    strategy: _Values | None = None


class _NewRun(msgspec.Struct):
    id: str = msgspec.field(name="runId")


class _Result(msgspec.Struct):
    kind: str = msgspec.field(name="__typename", default="")
    run: _NewRun | None = None
    message: str = ""
    errors: list[_Message] = []
    step: str = msgspec.field(name="invalidStepKey", default="")


class _Launched(msgspec.Struct):
    result: _Result | None = msgspec.field(name=_FIELD, default=None)
