"""Where a Dagster instance keeps its events, as its dagster.yaml says."""

from pathlib import Path

import pytest

from pipeline.dagster_home import PostgresStorage, SqliteStorage, find_storage
from pipeline.errors import PermanentError
from pipeline.options import Secret

NONE = Secret("")


def home(folder: Path, settings: str | None) -> str:
    if settings is not None:
        (folder / "dagster.yaml").write_text(settings)
    return str(folder)


@pytest.mark.parametrize("settings", [None, "", "telemetry: {enabled: false}\n"])
def test_without_a_word_about_storage_it_is_sqlite_below_the_home(tmp_path: Path, settings: str | None) -> None:
    expected = SqliteStorage(tmp_path / "history" / "runs", tmp_path / "history" / "runs.db")
    assert find_storage(home(tmp_path, settings), NONE) == expected


def test_sqlite_can_live_elsewhere(tmp_path: Path) -> None:
    found = find_storage(home(tmp_path, "storage: {sqlite: {base_dir: /data}}"), NONE)
    assert found == SqliteStorage(Path("/data/history/runs"), Path("/data/history/runs.db"))


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ("storage: {postgres: {postgres_url: 'postgresql+psycopg2://u:p@h/d'}}", "postgresql://u:p@h/d"),
        ("storage: {postgres: {postgres_url: {env: PG_URL}}}", "postgresql://from:env@h/d"),
        (
            "storage: {postgres: {postgres_db: {username: u, password: {env: PG_PASSWORD}, hostname: h, db_name: d}}}",
            "postgresql://u:p%40ss%2F@h:5432/d",
        ),
        (
            "storage: {postgres: {postgres_db: {username: u, hostname: h, db_name: d, port: 6, "
            "params: {sslmode: require}}}}",
            "postgresql://u@h:6/d?sslmode=require",
        ),
        (
            "event_log_storage: {module: dagster_postgres.event_log, class: PostgresEventLogStorage, "
            "config: {postgres_url: 'postgresql://u@h/d'}}",
            "postgresql://u@h/d",
        ),
    ],
)
def test_postgresql_by_any_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, url: str
) -> None:
    monkeypatch.setenv("PG_URL", "postgresql://from:env@h/d")
    monkeypatch.setenv("PG_PASSWORD", "p@ss/")
    found = find_storage(home(tmp_path, settings), NONE)
    assert isinstance(found, PostgresStorage)
    assert found.url.reveal() == url


def test_each_storage_by_its_class(tmp_path: Path) -> None:
    settings = (
        "event_log_storage: {module: m, class: ConsolidatedSqliteEventLogStorage, config: {base_dir: /events}}\n"
        "run_storage: {module: m, class: SqliteRunStorage, config: {base_dir: /runs}}\n"
    )
    assert find_storage(home(tmp_path, settings), NONE) == SqliteStorage(Path("/events"), Path("/runs/runs.db"))


def test_a_url_goes_before_a_home(tmp_path: Path) -> None:
    found = find_storage(home(tmp_path, None), Secret("postgresql+psycopg://u@h/d"))
    assert isinstance(found, PostgresStorage)
    assert found.url.reveal() == "postgresql://u@h/d"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("storage: {mysql: {mysql_url: x}}", "storage of kind `mysql` is not read"),
        ("storage: {custom: {module: m, class: c}}", "storage of kind `custom` is not read"),
        ("storage: 3", "storage: expected keys and values"),
        ("[]", "dagster.yaml"),
        ("a: [", r"dagster\.yaml:\d+: no YAML"),
        ("storage: {sqlite: {base_dir: {env: NOT_SET}}}", "NOT_SET: not set"),
        ("storage: {postgres: {auth_provider: {gcp_wif: {}}, postgres_url: x}}", "`auth_provider` is not supported"),
        ("event_log_storage: {class: Mine, module: m, config: {}}", "event log storage `Mine` is not read"),
        (
            "event_log_storage: {class: SqliteEventLogStorage, module: m, config: {base_dir: /e}}\n"
            "run_storage: {class: PostgresRunStorage, module: m, config: {}}",
            "only where the runs are in SQLite",
        ),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        find_storage(home(tmp_path, settings), NONE)


def test_a_home_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="none is no folder"):
        find_storage(str(tmp_path / "none"), NONE)


def test_neither_home_nor_url_is_said() -> None:
    with pytest.raises(PermanentError, match="give `home`"):
        find_storage("", NONE)
