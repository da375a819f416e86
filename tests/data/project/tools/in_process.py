"""Launch the runs of a plan one after the other in this process, without webserver and daemon: quick, and as varied.

    python in_process.py PLAN.json HOME
"""
import importlib
import json
import os
import pathlib
import sys

plan, home = json.load(open(sys.argv[1])), pathlib.Path(sys.argv[2])
home.mkdir(parents=True)
os.environ["DAGSTER_HOME"] = str(home)
(home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

import dagster as dg  # noqa: E402

repo = importlib.import_module(plan["module"]).defs.get_repository_def()
kinds = {"materialization": dg.AssetMaterialization, "observation": dg.AssetObservation}
with dg.DagsterInstance.get() as instance:
    for step in plan["steps"]:
        for event in step.get("runless", ()):
            key = dg.AssetKey(event["asset"].split("/"))
            instance.report_runless_asset_event(kinds[event["kind"]](key, metadata=event.get("metadata", {})))
        if "job" not in step:
            continue
        try:
            done = repo.get_job(step["job"]).execute_in_process(
                instance=instance, raise_on_error=False, run_config=step.get("config", {}),
                tags=step.get("tags", {}), partition_key=step.get("partition"),
            )
            print(step["job"], done.success)
        except BaseException as error:  # a step may exit or be interrupted
            print(step["job"], type(error).__name__, error)
