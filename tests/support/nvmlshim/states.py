"""Writes what the stand-in library answers: GPUs as published captures show them, and faults."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20

Answer = str | int

PROFILES: Mapping[str, Mapping[str, Answer]] = {
    "a100-40": {
        "name": "NVIDIA A100-SXM4-40GB",
        "mem_total": 40960 * MIB,
        "mem_reserved": 518 * MIB,
        "power_limit_mw": 400_000,
        "pci_device_id": 0x20B010DE,
        "cc": "8.0",
        "pcie_gen": 4,
        "temp_thr_0": 92,
        "temp_thr_1": 89,
        "temp_thr_3": 85,
        "bar1_total": 65536 * MIB,
        "clk_sm_max": 1410,
        "clk_mem_max": 1215,
        "nvlinks": 12,
        "remap_hist": "640 0 0 0 0",
        "mig_mode": 0,
        "remap_corr": 0,
        "remap_unc": 0,
    },
    "h100-80": {
        "name": "NVIDIA H100 80GB HBM3",
        "mem_total": 81559 * MIB,
        "mem_reserved": 480 * MIB,
        "power_limit_mw": 700_000,
        "pci_device_id": 0x233010DE,
        "cc": "9.0",
        "pcie_gen": 5,
        "temp_margin": 50,
        "bar1_total": 131072 * MIB,
        "clk_sm_max": 1980,
        "clk_mem_max": 2619,
        "nvlinks": 18,
        "remap_hist": "2560 0 0 0 0",
        "mig_mode": 0,
        "remap_corr": 0,
        "remap_unc": 0,
    },
    "t4": {
        "name": "Tesla T4",
        "mem_total": 15360 * MIB,
        "mem_reserved": 448 * MIB,
        "power_limit_mw": 70_000,
        "pci_device_id": 0x1EB810DE,
        "cc": "7.5",
        "pcie_gen": 3,
        "temp_thr_0": 96,
        "temp_thr_1": 93,
        "temp_thr_3": 85,
        "bar1_total": 256 * MIB,
        "clk_sm_max": 1590,
        "clk_mem_max": 5001,
        "retired_sbe": 0,
        "retired_dbe": 0,
        "retired_pending": 0,
    },
}

ALL_ALIKE: Mapping[str, Answer] = {
    "mem_used": 0,
    "util": 0,
    "util_mem": 0,
    "temp": 35,
    "temp_mem": 40,
    "power_mw": 70_000,
    "energy_mj": 1_000_000,
    "pstate": 0,
    "persistence": 1,
    "compute_mode": 0,
    "display_active": 0,
    "pcie_width": 16,
    "pcie_replay": 0,
    "bar1_used": MIB,
    "clk_gr": 1200,
    "clk_sm": 1200,
    "clk_mem": 1215,
    "clk_video": 900,
    "throttle": 0,
    "throttle_supported": 0x1FF,
    "ecc": 1,
    "util_enc": 0,
    "util_dec": 0,
    "recovery_action": 0,
}


@dataclass(frozen=True)
class Gpu:
    """One GPU: a profile, what differs from it (None: not supported), and further lines.

    Lines inject faults: `err nvmlDeviceGetPowerUsage 999`, `delay nvmlDeviceGetMemoryInfo_v2 60000`
    (milliseconds), or add `proc` and `mig` entries (README.md).
    """

    index: int
    profile: str
    values: Mapping[str, Answer | None] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """Its UUID, made from its index."""
        return f"GPU-{self.index:08x}-0000-0000-0000-{self.index:012x}"

    def text(self) -> str:
        """Return its part of a state file."""
        own = {"uuid": self.uuid, "pci": f"00000000:{7 + 8 * self.index:02X}:00.0"}
        values = {**PROFILES[self.profile], **ALL_ALIKE, **own, **self.values}
        told = [f"  {key} {value}\n" for key, value in values.items() if value is not None]
        return "".join([f"gpu {self.index}\n", *told, *(f"  {line}\n" for line in self.lines)])


def write(
    path: Path,
    gpus: Sequence[Gpu],
    lines: Sequence[str] = (),
    driver: str = "570.148.08",
) -> None:
    """Write the whole state, seen at the next call; `lines` are global (`init_error 9`)."""
    head = [f"driver_version {driver}", f"nvml_version 12.{driver}", "cuda_version 12080", *lines]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text("".join(f"{line}\n" for line in head) + "".join(g.text() for g in gpus))
    temporary.replace(path)
