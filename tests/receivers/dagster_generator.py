"""Runs jobs of the corpus's project in a Dagster of its own; needs an environment with Dagster, none of dagtel.

    DAGSTER_HOME=… PYTHONPATH=tests/data/project python dagster_generator.py ROUNDS

Prints a line for each finished run. At the end it prints what Dagster's own API says is stored: a JSON object, run id
to the list of [storage id, stored bytes' CRC-32]; the run id of events without a run is "". SIGUSR1 has each process
write where it stands to its stderr.
"""

import faulthandler
import json
import signal
import sys
import zlib
from multiprocessing import get_context

import dagster as dg
from dagster._serdes import serialize_value
from shop.definitions import defs

JOBS = ("vacuum_warehouse", "reindex_search", "warehouse_ping")


def run(name: str) -> str:
    find = getattr(defs, "resolve_job_def", None) or defs.get_job_def
    with dg.DagsterInstance.get() as instance:
        result = find(name).execute_in_process(
            instance=instance, raise_on_error=False, tags={"requested_by": "generator"}
        )
        instance.report_engine_event("after its end", result.dagster_run, job_name=name)
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["vendor", name])))
    return name


def stored(instance: dg.DagsterInstance) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for run_id in ("", *(run.run_id for run in instance.get_runs())):
        records = instance.event_log_storage.get_records_for_run(run_id).records
        found[run_id] = [(r.storage_id, zlib.crc32(serialize_value(r.event_log_entry).encode())) for r in records]
    return found


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    dg.DagsterInstance.get().dispose()  # two processes that make the same storage at once make it wrong
    with get_context("fork").Pool(3) as workers:
        for ran in workers.imap_unordered(run, JOBS * int(sys.argv[1]), chunksize=1):
            print("ran", ran, flush=True)
        workers.close()  # leaving the block sends SIGTERM; a worker that waits, and where Dagster caught it, never ends
        workers.join()
    with dg.DagsterInstance.get() as dagster_instance:
        print(json.dumps(stored(dagster_instance)))
