# make demo | make test | make check | make bench | make chaos: each sets up what it needs. PYTHON names the interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DAGSTER_VENV := .venv-dagster

# Where it is set, hundreds of daemons would be compiled from their sources, start for start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench chaos native lock clean

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("dagtel needs Python 3.11 or later; name one: make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# The demo's Dagster lives apart: its pins are not ours. ONCE=1 plays one round and says whether all of it arrived.
$(DAGSTER_VENV)/.ready: demo/requirements.lock packages/dagster-dagtel/pyproject.toml $(wildcard dagster_dagtel/*.py)
	$(PYTHON) -m venv $(DAGSTER_VENV)
	$(DAGSTER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r demo/requirements.lock
	$(DAGSTER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./packages/dagster-dagtel
	touch $@

# What the tests ask of a running Dagster beside that: its webserver.
$(DAGSTER_VENV)/.webserver: $(DAGSTER_VENV)/.ready tests/dagster-requirements.lock
	$(DAGSTER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/dagster-requirements.lock
	touch $@

demo: $(VENV)/.ready $(DAGSTER_VENV)/.ready
	@$(BIN)/python -m demo $(if $(ONCE),--once)

# Three at a time, each file's tests in one process: most of them wait for a broker, a clock or a daemon.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 3 --dist loadfile

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# With the compiled twins where there is Rust.
bench: $(VENV)/.ready $(if $(shell command -v cargo 2>/dev/null),$(VENV)/.native)
	$(BIN)/python -m benchmarks

# The compiled twins of the hottest functions (docs/decisions/0017-compiled-twins.md); needs Rust 1.88 or later.
native: $(VENV)/.native

$(VENV)/.native: $(VENV)/.ready $(wildcard packages/dagtel-native/*.* packages/dagtel-native/src/*)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps ./packages/dagtel-native
	touch $@

# Everything is broken that can break, a quarter of an hour long; ARGS="-k kills" runs a part.
chaos: $(VENV)/.ready
	@$(BIN)/python -m tests.chaos $(ARGS)

# Renews requirements.lock from pyproject.toml; no index's address stands in it.
lock: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet pyproject.toml --extra apprise --extra s3 --extra demo --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements.lock

clean:
	rm -rf $(VENV) $(DAGSTER_VENV) out
