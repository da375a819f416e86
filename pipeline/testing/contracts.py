"""The contract kit: what every component must keep, as pytest classes. docs/plugins.md shows how to use it.

class TestThinLogs(ProcessorContract):
    spec = SPEC
"""

from pipeline.testing.contract_exporter import ExporterContract, HttpExporterContract, PayloadContract
from pipeline.testing.contract_receiver import ReceiverContract
from pipeline.testing.contract_spec import ExtensionContract, SpecContract, law
from pipeline.testing.contract_stage import ConnectorContract, ProcessorContract

__all__ = [
    "ConnectorContract",
    "ExporterContract",
    "ExtensionContract",
    "HttpExporterContract",
    "PayloadContract",
    "ProcessorContract",
    "ReceiverContract",
    "SpecContract",
    "law",
]
