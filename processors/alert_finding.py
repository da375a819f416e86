"""Which finding stands for a life: the latest failure, or the parts of one failure together. Pure."""

import msgspec

from pipeline.signals import Alert
from processors.alert_state import Life, decode, encode


def latest(life: Life, finding: Alert) -> bytes:
    """The finding with the last known impact. A group goes on being its first."""
    if finding.fingerprint != life.fingerprint:
        return life.raw
    if finding.assets:
        finding = _joined(decode(life.raw), finding)
    if finding.impact is None and (impact := decode(life.raw).impact) is not None:
        finding = msgspec.structs.replace(finding, impact=impact)
    return encode(finding)


def same_failure(one: Alert, other: Alert) -> bool:
    """Whether both tell of assets of one failed attempt of a step."""
    return bool(one.assets and other.assets and one.run_id) and (one.run_id, one.step_key, one.last_ns) == (
        other.run_id,
        other.step_key,
        other.last_ns,
    )


def _joined(before: Alert, finding: Alert) -> Alert:
    """Of one failure, told in parts: the assets and the impact of all parts. Of another failure: the latest alone."""
    if not same_failure(before, finding):
        return finding
    assets = tuple(dict.fromkeys((*before.assets, *finding.assets)))
    known = before.impact
    if finding.impact is None or known is None:
        return msgspec.structs.replace(finding, asset=before.asset, assets=assets, impact=finding.impact or known)
    stale = {key: hops for key, hops in {**finding.impact.assets, **known.assets}.items() if key not in assets}
    return msgspec.structs.replace(
        finding, asset=before.asset, assets=assets, impact=msgspec.structs.replace(known, assets=stale)
    )
