"""What every stage costs from a thousand pictures to a thousand million, and what breaks first.

Arithmetic alone: the operations and bytes of a stage over the rates of a machine. Those of the CPU
were measured (benchmarks/encode.py, benchmarks/stages.py); of GPUs and TPUs the published peaks
are taken at ``SHARE``, which nobody has measured here. Decoding costs the measured time of a core
everywhere.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fsclip_jax.training.placement import Size, bytes_a_device

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**9)
SHARE = 0.45
"""Of the published peaks, that GPUs and TPUs are taken to reach: the goal of accelerator.py."""

MOST_CLASSES = 21_841
DIM, SHOT, SEEDS, EPISODES, QUERIES = 512, 16, 3, 4 * 300, 2
"""Width of ViT-B/32; shots; draws of `eval`; episodes of a training and their queries a class."""

EPOCHS, BETAS = 20, 200
"""Of Tip-Adapter-F, and settings of beta that Tip-Adapter's search tries."""

OPENED = 529
"""Bytes of a process for every picture of a folder, as docs/robustness.md has it."""


@dataclass(frozen=True)
class Device:
    """A machine: devices, the cores and bytes of its hosts, and rates of one device a second."""

    name: str
    devices: int
    flops: float
    moved: float
    memory: float
    cores: int
    host_memory: float
    hosts: int = 1


ACCELERATORS = (
    Device("1 GPU", 1, 989e12, 3.35e12, 80e9, 26, 234e9),
    Device("8 GPUs", 8, 989e12, 3.35e12, 80e9, 208, 1872e9),
    Device("TPU pod", 256, 197e12, 819e9, 16e9, 32 * 224, 32 * 384e9, 32),
)
"""H100 SXM as in a3-highgpu-1g and -8g, dense bfloat16; v5e-256 with ct5lp-hightpu-8t hosts."""


@dataclass(frozen=True)
class Measured:
    """Seconds of a core, bytes and rates that the benchmarks stored."""

    device: str
    tower: float
    stages: dict[str, dict[str, float]]

    def seconds(self, name: str) -> float:
        """Return the seconds of a core, of a picture or of the whole reference task."""
        return self.stages[name]["seconds"]


@dataclass(frozen=True)
class Work:
    """What a stage computes for so many pictures.

    Attributes:
        core: seconds of a core where the CPU does it all.
        flops: operations of a device, and ``moved`` bytes through its memory, where it has one.
        decode: seconds of a core that the hosts of a device work beside it.
        most: devices that it can be spread over.
    """

    core: float
    flops: float
    moved: float
    decode: float = 0.0
    most: int = 10**9


def measured() -> Measured:
    """Read what the benchmarks measured on two cores."""
    towers = json.loads((RESULTS / "encode-cpu-float32-32-vit.json").read_text("utf-8"))
    stages = json.loads((RESULTS / "stages-cpu.json").read_text("utf-8"))
    rate = next(row["ours"] for row in towers["rows"] if row["model"] == "vit-b32")
    return Measured(towers["device"], 2 / rate, stages["stages"])


def classes_of(pictures: int) -> int:
    """Return the classes that so many pictures are taken to have: 1,000 pictures each.

    Example:
        >>> classes_of(1000), classes_of(10**6), classes_of(10**9)
        (10, 1000, 21841)
    """
    return min(max(10, pictures // 1000), MOST_CLASSES)


def tower_flops() -> float:
    """Return the operations of ViT-B/32 for a picture: two for each multiplication."""
    n, width, mlp = 50, 768, 3072
    block = n * width * (4 * width + 2 * mlp) + 2 * n * n * width
    last = (2 * n + 2) * width**2 + 2 * n * width + 2 * width * mlp
    return 2.0 * (49 * 3 * 32**2 * width + 11 * block + last + width * DIM)


def stages(pictures: int, rates: Measured) -> dict[str, Work]:
    """Return what every stage computes; a tenth of the pictures is val, a tenth test."""
    way = classes_of(pictures)
    keys, asked, held = way * SHOT, pictures / 10, rates.stages["decode"]["seconds"]
    trained = min(way, 1000)
    step = 10 * trained * DIM**2 + 8 * trained * SHOT * DIM + 4 * QUERIES * trained**2 * DIM
    one = 2.0 * (keys + way) * DIM
    reference = 100 * SHOT
    grid = 2.0 * keys * (DIM + BETAS)

    def scaled(name: str, flops: float, of_reference: float) -> float:
        return rates.seconds(name) * flops / of_reference

    fit_flops = EPOCHS * 4.0 * keys**2 * DIM
    gda_flops = 2.0 * keys * DIM**2 + 8 / 3 * DIM**3
    encode = Work(rates.tower * pictures, tower_flops() * pictures, 4.0 * DIM * pictures, 0.0)
    decode = Work(held * pictures, 0.0, 0.0, held * pictures)
    train = Work(
        scaled("train", EPISODES * step, rates.stages["train"]["flops"]),
        EPISODES * step,
        EPISODES * 4.0 * trained * DIM * (2 * SHOT + 3),
        most=4,
    )
    predict = scaled("predict", one, 2.0 * (reference + 100) * DIM)
    search = scaled("search", grid, 2.0 * reference * (DIM + BETAS))
    return {
        "decode": decode,
        "encode": encode,
        "read the bank": Work(
            (rates.seconds("open") + rates.seconds("read")) * pictures,
            0.0, 0.0, (rates.seconds("open") + rates.seconds("read")) * pictures,
        ),
        "meta-train": train,
        "fit, closed form (GDA)": Work(
            scaled("fit gda", gda_flops, 2.0 * reference * DIM**2 + 8 / 3 * DIM**3),
            gda_flops, 4.0 * keys * DIM, most=1,
        ),
        "fit, trained (Tip-Adapter-F)": Work(
            scaled("fit tip_adapter_f", fit_flops, EPOCHS * 4.0 * reference**2 * DIM),
            fit_flops, EPOCHS * 4.0 * 3 * keys * DIM, most=1,
        ),
        "search (Tip-Adapter, val)": Work(
            search * asked, grid * asked, 4.0 * (asked + keys) * DIM, most=1
        ),
        "eval (Tip-Adapter, 3 draws)": Work(
            SEEDS * (predict + search) * asked, SEEDS * (one + grid) * asked,
            4.0 * SEEDS * 2 * (asked + keys) * DIM, most=SEEDS,
        ),
        "predict (with decode, encode)": Work(
            decode.core + encode.core + predict * pictures,
            encode.flops + one * pictures, encode.moved, decode.decode,
        ),
    }  # fmt: skip


def on_cpu(work: Work, cores: int = 2) -> float:
    """Return the seconds on so many cores."""
    return work.core / cores


def on(work: Work, device: Device) -> float:
    """Return the seconds on accelerators: the longer of decoding and of all else."""
    used = SHARE * min(work.most, device.devices)
    computing = work.flops / (used * device.flops) + work.moved / (used * device.moved)
    return max(computing, work.decode / device.cores)


def bank_bytes(pictures: int, rates: Measured) -> float:
    """Return the bytes of a bank on disk: float16, labels, names of pictures."""
    return rates.stages["read"]["disk_bytes"] * pictures


def device_bytes(pictures: int) -> float:
    """Return the bytes of a bank of one view that lies whole on a device."""
    return bytes_a_device("replicated", Size(1, pictures, DIM, classes_of(pictures)), 1)


@dataclass(frozen=True)
class Limit:
    """From so many pictures on something does not go as before, and what to do."""

    pictures: float
    what: str
    cure: str


def limits() -> list[Limit]:
    """Return what breaks, by the number of pictures from which on it does."""
    rates, (gpu, *_, pod) = measured(), ACCELERATORS
    day, opened = 86_400.0, rates.stages["open"]["resident_bytes"]
    found = [
        Limit(
            first(lambda n: _waits(n, rates, gpu)),
            f"{gpu.cores} cores decode slower than one GPU encodes, whatever the size",
            "more cores, `--decode draft`, pictures stored small; more GPUs do not help",
        ),
        Limit(
            first(lambda n: on_cpu(stages(n, rates)["predict (with decode, encode)"]) > day),
            "two cores encode for more than a day",
            "a GPU, or a smaller tower",
        ),
        Limit(
            first(lambda n: device_bytes(n) > pod.memory / 2),
            "in `train` the bank fills half of a TPU v5e chip",
            "`--bank-placement`: rows spread over the devices, or left on the host",
        ),
        Limit(
            first(lambda n: device_bytes(n) > gpu.memory / 2),
            "in `train` the bank fills half of an H100",
            "`--bank-placement`: rows spread over the devices, or left on the host",
        ),
        Limit(
            first(lambda n: device_bytes(n) > gpu.memory),
            "`eval` has the features of train and test on every device: an H100 is full",
            "a bank of fewer classes, or a sample of test",
        ),
        Limit(
            first(lambda n: OPENED * n > gpu.host_memory),
            "the names of a folder's pictures fill a host of 234 GB",
            "several banks, each of a part",
        ),
        Limit(
            first(lambda n: on(stages(n, rates)["decode"], gpu) > day),
            "decoding takes the cores of one GPU more than a day",
            "`extract` on several hosts",
        ),
        Limit(
            first(lambda n: opened * n > gpu.host_memory),
            "names and labels of an opened bank fill a host of 234 GB",
            "several banks, each of a part",
        ),
    ]
    return sorted(found, key=lambda each: each.pictures)


def _waits(pictures: int, rates: Measured, device: Device) -> bool:
    work = stages(pictures, rates)
    return on(work["decode"], device) > on(work["encode"], device)


def first(breaks: Callable[[int], bool]) -> float:
    """Return the least number of pictures, in steps of two digits, that something is true of.

    Example:
        >>> first(lambda n: n > 2_450_000)
        2500000
    """
    numbers = (step * 10**power for power in range(2, 11) for step in range(10, 100))
    return next((number for number in numbers if breaks(number)), math.inf)
