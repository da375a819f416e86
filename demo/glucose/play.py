"""Runs the pipeline in one kind of weather after the other, on the Dagster instance that DAGSTER_HOME names.

python -m glucose.play once     a single round
python -m glucose.play          until it is stopped, with a pause between the runs
"""

import itertools
import sys
import time

import dagster as dg
from glucose.definitions import WEATHER, defs

ROUND = ("fine", "flaky", "outliers", "bad_rows", "down")
PAUSE_S = 4.0


def main(once: bool) -> None:
    """Print a line a run, for who watches: `run WEATHER ok|failed RUN_ID`."""
    job = defs.resolve_job_def("daily_glucose_pipeline")
    with dg.DagsterInstance.get() as instance:
        for weather in ROUND if once else itertools.cycle(ROUND):
            run = job.execute_in_process(instance=instance, tags={WEATHER: weather}, raise_on_error=False)
            print("run", weather, "ok" if run.success else "failed", run.run_id, flush=True)
            if not once:
                time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1:] == ["once"])
