"""Says on which machine benchmarks were made."""

from bilevelbench.contract.steps import identity


def pytest_benchmark_update_machine_info(machine_info):
    machine_info["identity"] = identity()
