"""Whatever Dagster can do that the shop does not: wide multi-assets that fail in the middle, graphs in graphs, steps that
make another step's asset, checks that raise, odd keys and figures, every way for a step to fail."""
import logging, os, signal, sys, time, math
import dagster as dg
from dagster import asset, op, job, graph, multi_asset, AssetKey, AssetSpec, MaterializeResult, RetryPolicy, RetryRequested

V = tuple(int(p) for p in dg.__version__.split(".")[:2])
days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-01-08")
regions = dg.StaticPartitionsDefinition(["eu/west", "us east", "ап|ac"])
multi = dg.MultiPartitionsDefinition({"day": days, "region": dg.StaticPartitionsDefinition(["eu", "us"])})

class Boom(Exception): pass
class TokenSecretExpiredError(Exception): pass
class Quiet(Exception):
    def __str__(self): return ""

# ---- keys with unicode, slashes, quotes, dots, spaces
WK = AssetKey(["wei rd", 'ключ"quoted"', "a.b\\c", "x/y"])
@multi_asset(outs={"w": dg.AssetOut(key=WK, group_name="odd", metadata={"m": 1}, dagster_type=dg.Nothing)}, name="weird_key")
def weird_key(context):
    context.log.info("line1\nline2\ttab \u2028 sep \x00 nul \x1b[31mred\x1b[0m {job=\"x\"}")
    return MaterializeResult(metadata={"dagster/row_count": 7, "nan": float("nan"), "inf": float("inf"), "ninf": float("-inf"), "big": 2**62, "neg": -5,
        "dagster/partition_row_count": 3, "j": dg.MetadataValue.json({"a": [1, None, {"b": "\ud83d\ude00"}]}), "null": dg.MetadataValue.null(), "huge": "x" * 300000})

@asset
def zero_rows(context):
    return MaterializeResult(metadata={"dagster/row_count": 0, "rows_loaded": 12, "inserts": 3, "updates": 4, "deletes": 1, "bytes_written": 0})

@asset
def returns_value(): return [1, 2, 3]

@asset
def consumes_value(returns_value): return len(returns_value)

# ---- optional outputs that skip
@asset(output_required=False)
def maybe_never(context):
    context.log.info("skip"); return
    yield

@asset
def after_maybe(maybe_never): return 1

@multi_asset(outs={"opt_a": dg.AssetOut(is_required=False), "opt_b": dg.AssetOut(is_required=False)})
def optional_pair(context):
    yield dg.Output(1, "opt_a")

@asset
def uses_opt_a(opt_a): return 1

@asset
def uses_opt_b(opt_b): return 1

# ---- a wide multi-asset that fails whole, in the middle, or by subset
WIDE = [f"wide_{i:02d}" for i in range(14)]
class WideCfg(dg.Config):
    fail_at: int = -1
    klass: str = "Boom"

@multi_asset(specs=[AssetSpec(w, skippable=True, deps=["returns_value"]) for w in WIDE], can_subset=True, name="wide_step")
def wide_step(context, config: WideCfg):
    for i, w in enumerate(WIDE):
        if AssetKey(w) not in context.selected_asset_keys: continue
        if i == config.fail_at:
            raise {"Boom": Boom, "Token": TokenSecretExpiredError, "Quiet": Quiet}[config.klass](f"at {i}")
        yield MaterializeResult(asset_key=w, metadata={"dagster/row_count": 100 + i})

@asset(deps=["wide_00", "wide_13"])
def after_wide(): return 1

# made all, then raises
@multi_asset(specs=[AssetSpec("made1"), AssetSpec("made2")], name="made_then_raise")
def made_then_raise(context):
    yield MaterializeResult(asset_key="made1", metadata={"dagster/row_count": 1})
    yield MaterializeResult(asset_key="made2", metadata={"dagster/row_count": 2})
    raise Boom("after all was made")

# ---- graph assets
@op
def g_load(context): return 1
@op
def g_audit(context, x): raise Boom("audit broke but nothing needs it")
@op
def g_slow(context, x):
    time.sleep(1); return x + 1
@op
def g_fail(context, x): raise ValueError("graph inner failed 42")

@graph(name="inner")
def inner_graph(x): return g_slow(x)
@dg.graph_multi_asset(name="gside", outs={"graph_side_fails": dg.AssetOut(), "side_audit": dg.AssetOut()})
def graph_side_fails():
    x = g_load()
    return {"graph_side_fails": g_slow(x), "side_audit": g_audit(x)}

@dg.graph_asset(name="graph_nested")
def graph_nested():
    return inner_graph(g_load())

@op
def n_fail(context, x): raise KeyError("nested")
@graph(name="innerf")
def inner_fail_graph(x): return g_slow(n_fail(x))
@dg.graph_asset(name="graph_nested_fail")
def graph_nested_fail(): return inner_fail_graph(g_load())

# the asset's last op is nested, the failing op is outside of the sub graph
@dg.graph_asset(name="graph_outer_fails")
def graph_outer_fails(): return inner_graph(g_fail(g_load()))

@op(out={"p": dg.Out(), "q": dg.Out(), "r": dg.Out()})
def split3(context):
    yield dg.Output(1, "p", metadata={"dagster/row_count": 11}); yield dg.Output(2, "q"); yield dg.Output(3, "r")
@op
def plus(context, v): return v + 1
@op
def broken(context, v): raise OSError(28, "No space left on device: '/var/lib/x'")
@dg.graph_multi_asset(name="gma", outs={"gm_p": dg.AssetOut(), "gm_q": dg.AssetOut(), "gm_r": dg.AssetOut()})
def gma():
    p, q, r = split3()
    return {"gm_p": plus(p), "gm_q": broken(q), "gm_r": plus.alias("plus_r")(r)}

@op(out=dg.DynamicOut())
def fan(context):
    for k in ["a", "b", "c", "d"]:
        yield dg.DynamicOutput(k, mapping_key=k)
@op
def each(context, k):
    if k in ("b", "c"): raise Boom(f"mapped {k}")
    return k
@op
def gather(context, ks): return ks
@dg.graph_asset(name="graph_dynamic")
def graph_dynamic(): return gather(fan().map(each).collect())

# op in graph retries then succeeds
@op(retry_policy=RetryPolicy(max_retries=2, delay=0.1))
def flaky(context):
    if context.retry_number < 1: raise Boom("flaky")
    return 1
@dg.graph_asset(name="graph_flaky")
def graph_flaky(): return g_slow(flaky())

# ---- a materialization from another step for an asset whose own step failed
@asset
def rescued(): raise Boom("own step failed")
@asset(deps=["returns_value"])
def rescuer(context):
    time.sleep(2.5)
    context.log_event(dg.AssetMaterialization("rescued", metadata={"dagster/row_count": 5}))
    context.log_event(dg.AssetMaterialization("never_planned", partition="p1", metadata={"dagster/row_count": 6}))
    context.log_event(dg.AssetMaterialization("never_planned", partition="p2", metadata={"dagster/row_count": 9}))
    context.log_event(dg.AssetObservation("never_planned", metadata={"latency_ms": 3}))
    return 1

# ---- retries
@asset
def retry_requested(context):
    if context.retry_number < 2:
        raise RetryRequested(max_retries=3, seconds_to_wait=0.1) from TokenSecretExpiredError("password=hunter2 expired")
    return 1
@asset
def retry_exhausted(context):
    raise RetryRequested(max_retries=1, seconds_to_wait=0.1) from ZeroDivisionError("at last")
@asset(retry_policy=RetryPolicy(max_retries=1))
def retry_policy_exhausted(context): raise Quiet()
@asset
def bare_failure(): raise dg.Failure(description=None)
@asset
def chained():
    try:
        try: {}["x"]
        except KeyError as e: raise Boom("mid") from e
    except Boom as e: raise RuntimeError("outer")
@asset
def sysexit(): sys.exit(3)
@asset
def kbd(): raise KeyboardInterrupt()
@asset
def group_exc():
    raise ExceptionGroup("many", [ValueError("a"), TypeError("b")])
@asset
def type_fail() -> int: return "not an int"
@asset
def missing_out():
    yield dg.AssetObservation("x")

# ---- checks
@asset(check_specs=[dg.AssetCheckSpec("in_op", asset="checked"), dg.AssetCheckSpec("in_op2", asset="checked")])
def checked():
    yield dg.Output(1, metadata={"dagster/row_count": 200})
    yield dg.AssetCheckResult(check_name="in_op", passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"failed_count": 3, "total_count": 10})
    yield dg.AssetCheckResult(check_name="in_op2", passed=True, metadata={"pass_rate": 1, "nan": float("nan")})
@dg.asset_check(asset=checked)
def check_warns(): return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="warn: 7 of 10")
@dg.asset_check(asset=checked)
def check_raises(): raise Boom("check itself broke")
@dg.asset_check(asset=checked, blocking=True)
def check_blocks(): return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.ERROR)
@dg.asset_check(asset=checked, blocking=True)
def check_blocks_warn(): return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)
@asset(deps=[checked])
def behind_block(): return 1
@asset(check_specs=[dg.AssetCheckSpec("half", asset="check_half")])
def check_half():
    yield dg.Output(1)
    raise Boom("before the check")
@dg.multi_asset_check(specs=[dg.AssetCheckSpec("mc1", asset="zero_rows"), dg.AssetCheckSpec("mc2", asset="returns_value")], can_subset=True)
def multi_check(context):
    if dg.AssetCheckKey(AssetKey("zero_rows"), "mc1") in context.selected_asset_check_keys: yield dg.AssetCheckResult(asset_key="zero_rows", check_name="mc1", passed=True)
    raise Boom("second check never came")

# ---- partitions
@asset(partitions_def=days)
def daily_a(context):
    if context.partition_key == "2026-01-03": raise Boom(f"bad day {context.partition_key}")
    return MaterializeResult(metadata={"dagster/partition_row_count": 10, "dagster/row_count": int(context.partition_key[-2:])})
@asset(partitions_def=days, deps=[daily_a])
def daily_b(context): return None
@asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def ranged(context):
    context.log.info(str(context.partition_keys)); return None
@asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def ranged_fail(context): raise Boom("range failed")
@asset(partitions_def=regions)
def regional(context):
    if context.partition_key == "us east": raise Boom("x")
    return MaterializeResult(metadata={"dagster/row_count": 4})
@asset(partitions_def=multi)
def multi_part(context):
    return MaterializeResult(metadata={"dagster/row_count": 3})

# ---- observable source
@dg.observable_source_asset(name="obs_src")
def obs_src(context): return dg.ObserveResult(data_version=dg.DataVersion("9"), metadata={"dagster/row_count": 77})
@dg.observable_source_asset(name="obs_fail")
def obs_fail(context): raise Boom("could not look")
@asset(deps=[obs_src])
def from_obs(): return 1

# ---- dbt-like
@multi_asset(name="dbt_like", specs=[AssetSpec(AssetKey(["dbt", n]), deps=([AssetKey(["dbt", "stg"])] if n != "stg" else [])) for n in ["stg", "m1", "m2", "m3"]],
    check_specs=[dg.AssetCheckSpec("not_null_id", asset=AssetKey(["dbt", "stg"])), dg.AssetCheckSpec("unique_id", asset=AssetKey(["dbt", "m1"]))])
def dbt_like(context):
    yield MaterializeResult(asset_key=AssetKey(["dbt", "stg"]), metadata={"unique_id": "model.x.stg", "invocation_id": "ab", "Execution Duration": 1.23, "dagster/row_count": 50})
    yield dg.AssetCheckResult(asset_key=AssetKey(["dbt", "stg"]), check_name="not_null_id", passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"dagster_dbt/failed_row_count": 5})
    raise dg.Failure(description="The dbt CLI process with command\n\n`dbt build`\n\nfailed with exit code `1`.\n\nErrors parsed from dbt logs:\n\nCompilation Error in model m1")

# ---- IO manager / resource failures
class BadIO(dg.IOManager):
    def handle_output(self, context, obj): raise ConnectionResetError(104, "io reset")
    def load_input(self, context): return 1
class LoadBad(dg.IOManager):
    def handle_output(self, context, obj): pass
    def load_input(self, context): raise FileNotFoundError(2, "no such file: '/data/a b/2026-01-01.parquet'")
@asset(io_manager_key="bad_io")
def io_fails(): return 1
@asset(io_manager_key="load_bad")
def io_ok(): return 1
@asset
def io_load_fails(io_ok): return 1
class Res(dg.ConfigurableResource):
    x: int = 1
    def setup_for_execution(self, context): raise PermissionError(13, "denied")
@asset
def needs_res(bad_res: Res): return 1
class ResTear(dg.ConfigurableResource):
    x: int = 1
    def teardown_after_execution(self, context): raise PermissionError(13, "teardown denied")
@asset
def needs_tear(tear_res: ResTear): return 1

# ---- processes that die, cancel
@asset
def dies(): os._exit(7)
@asset
def killed(): os.kill(os.getpid(), signal.SIGKILL)
@asset(deps=[dies])
def after_dies(): return 1
@asset
def sleeper():
    for _ in range(600): time.sleep(0.1)
@asset
def sleeper_ugly():
    try:
        for _ in range(600): time.sleep(0.1)
    except BaseException as e:
        raise Boom("cleanup failed too") from None
@asset
def fails_then_cancel(): raise TokenSecretExpiredError("failed before the cancel")

# ---- op jobs
@dg.failure_hook
def bad_hook(context): raise Boom("hook broke")
@dg.success_hook
def ok_hook(context): context.log.info("hook ok")
@dg.success_hook
def bad_success_hook(context): raise ValueError("success hook broke")
@op
def op_ok(context):
    context.log_event(dg.ExpectationResult(success=False, label="exp", description="no"))
    context.log_event(dg.AssetMaterialization("from_op/plain", metadata={"dagster/row_count": 3}))
    context.add_output_metadata({"n": 1})
    return 1
@op
def op_fail(context, x): raise Boom("op failed")
@op
def op_after(context, y): return y
@job(hooks={bad_hook, ok_hook, bad_success_hook})
def ops_only(): op_after(op_fail(op_ok()))
@op(out={"yes": dg.Out(is_required=False), "no": dg.Out(is_required=False)})
def branch(context): yield dg.Output(1, "yes")
@job
def branches():
    y, n = branch(); op_after(y); op_after.alias("never")(n)
@op(out=dg.DynamicOut())
def fan0(context):
    return
    yield
@job
def fan_zero(): gather(fan0().map(each).collect())
@job
def dyn_job(): gather(fan().map(each).collect())
@graph
def deep3(x): return op_after(x)
@graph
def deep2(x): return deep3(x)
@graph
def deep1(x): return deep2(op_fail.alias("deep_fail")(x))
@job
def deep_job(): deep1(op_ok())
@op
def bad_log(context):
    context.log.info("%s %d", "not enough")
    context.log.error("boom", exc_info=True)
    try: 1 / 0
    except Exception: context.log.exception("logged exception")
    logging.getLogger("mill.py").warning("py warn", extra={"a": 1})
@job(tags={"team": "mill", "weird tag/with": "väl ue\"'"})
def logs_job(): bad_log()
@op
def typed(context) -> int: return "no"
@job
def type_job(): typed()
@op(config_schema={"n": int})
def configured(context): return context.op_config["n"]
@job
def config_job(): configured()
@op(retry_policy=RetryPolicy(max_retries=3, delay=0.05))
def op_retry(context):
    if context.retry_number < 3: raise Boom(f"try {context.retry_number}")
@job
def retry_job(): op_retry()
@op
def op_cancel(context):
    for _ in range(600): time.sleep(0.1)
@job
def cancel_job(): op_cancel()
@op
def op_worker_dies(context): os._exit(9)
@job(executor_def=dg.in_process_executor)
def worker_dies(): op_worker_dies()
@op
def fast_fail(context): raise TokenSecretExpiredError("failed before the cancel")
@op
def slow_ok(context):
    for _ in range(600): time.sleep(0.1)
@job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": 2}))
def fail_and_cancel(): fast_fail(); slow_ok()
@job
def retry_run(): op_fail(op_ok())
@job
def native_step(): op_worker_dies()   # default multiprocess executor: the step's child dies

assets_ = [v for v in list(globals().values()) if isinstance(v, (dg.AssetsDefinition, dg.SourceAsset))]
checks_ = [v for v in list(globals().values()) if isinstance(v, dg.AssetChecksDefinition)]
assets_ = [a for a in assets_ if a not in checks_]
inproc = dg.in_process_executor
def aj(name, *sel, ex=None, part=None, **kw):
    from functools import reduce
    sel = [x if isinstance(x, dg.AssetSelection) else dg.AssetSelection.keys(AssetKey(x.split("/"))) if isinstance(x, str) else dg.AssetSelection.keys(x) for x in sel]
    return dg.define_asset_job(name, selection=reduce(lambda a, b: a | b, sel), **({"executor_def": ex} if ex else {}), **({"partitions_def": part} if part else {}), **kw)
AS = dg.AssetSelection
jobs = [
    aj("weird_job", AS.keys(AssetKey(["wei rd", 'ключ"quoted"', "a.b\\c", "x/y"])), "zero_rows", ex=inproc),
    aj("values", "returns_value", "consumes_value"),
    aj("optional", "maybe_never", "after_maybe", "opt_a", "opt_b", "uses_opt_a", "uses_opt_b", ex=inproc),
    aj("wide", *WIDE, "after_wide", ex=inproc),
    aj("wide_part", *WIDE[3:9], ex=inproc),
    aj("wide_one", WIDE[5], ex=inproc),
    aj("made_raise", "made1", "made2", ex=inproc),
    aj("graph_side", "graph_side_fails", "side_audit", ex=inproc),
    aj("graph_side_multi", "graph_side_fails", "side_audit"),
    aj("graph_nested_j", "graph_nested", "graph_nested_fail", "graph_outer_fails", ex=inproc),
    aj("gma_j", "gm_p", "gm_q", "gm_r", ex=inproc),
    aj("gma_multi", "gm_p", "gm_q", "gm_r"),
    aj("graph_dyn", "graph_dynamic", ex=inproc),
    aj("graph_dyn_multi", "graph_dynamic"),
    aj("graph_flaky_j", "graph_flaky", ex=inproc),
    aj("rescue", "rescued", "rescuer", "returns_value"),
    aj("retries", "retry_requested", "retry_exhausted", "retry_policy_exhausted", ex=inproc),
    aj("errors", "bare_failure", "chained", "group_exc", "type_fail", "missing_out", ex=inproc),
    aj("exits", "sysexit", ex=inproc),
    aj("exits_multi", "sysexit", "kbd"),
    aj("kbd_job", "kbd", ex=inproc),
    aj("checks", AS.keys("checked", "behind_block", "check_half", "returns_value", "zero_rows"), ex=inproc),
    aj("checks_only", AS.checks(check_warns, check_raises, check_blocks), ex=inproc),
    aj("days_job", "daily_a", "daily_b", ex=inproc, part=days),
    aj("ranged_job", "ranged", ex=inproc, part=days),
    aj("ranged_fail_job", "ranged_fail", ex=inproc, part=days),
    aj("regional_job", "regional", ex=inproc, part=regions),
    aj("multi_job", "multi_part", ex=inproc, part=multi),
    aj("observe", "obs_src", ex=inproc), aj("observe_fail", "obs_fail", ex=inproc),
    aj("dbt", "dbt/stg", "dbt/m1", "dbt/m2", "dbt/m3", ex=inproc),
    aj("io", "io_fails", "io_ok", "io_load_fails", ex=inproc),
    aj("res_job", "needs_res", "returns_value", ex=inproc), aj("res_job_multi", "needs_res", "returns_value"),
    aj("tear_job", "needs_tear", ex=inproc),
    aj("dies_multi", "dies", "after_dies", "killed"), aj("dies_inproc", "dies", "after_dies", ex=inproc),
    aj("cancel_assets", "sleeper", ex=inproc), aj("cancel_ugly", "sleeper_ugly", ex=inproc), aj("cancel_multi", "sleeper", "fails_then_cancel"),
    aj("kill_me", "sleeper", "returns_value"),
    ops_only, branches, fan_zero, dyn_job, deep_job, logs_job, type_job, config_job, retry_job, cancel_job, worker_dies, fail_and_cancel, retry_run, native_step,
]
defs = dg.Definitions(assets=assets_, asset_checks=checks_, jobs=jobs,
    resources={"bad_io": BadIO(), "load_bad": LoadBad(), "bad_res": Res(), "tear_res": ResTear(), "io_manager": dg.mem_io_manager if False else dg.FilesystemIOManager()})
