"""The tables of docs/scaling.md: time and bytes of every stage by size, and what breaks first.

python scripts/scaling.py
"""

from collections.abc import Callable

from failures import in_words, two_digits
from stage_costs import (
    ACCELERATORS,
    SHARE,
    SIZES,
    Work,
    bank_bytes,
    classes_of,
    device_bytes,
    limits,
    measured,
    on,
    on_cpu,
    stages,
    tower_flops,
)


def time_tables() -> str:
    """Lay out the seconds of every stage by size, a table a machine."""
    rates = measured()
    machines: list[tuple[str, Callable[[Work], float]]] = [
        (f"2 CPU cores, measured rates ({rates.device.split(', ')[-1]})", on_cpu)
    ]
    machines += [
        (f"{each.name}, {SHARE:.0%} of published peaks", lambda work, each=each: on(work, each))
        for each in ACCELERATORS
    ]
    sizes = [stages(size, rates) for size in SIZES]
    parts = []
    for title, seconds in machines:
        head = [title, *(f"{size:,}" for size in SIZES)]
        rows = ["|" + "|".join(head) + "|", "|---" * len(head) + "|"]
        for name in sizes[0]:
            cells = [shown(seconds(each[name])) for each in sizes]
            rows.append("|" + "|".join([name, *cells]) + "|")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def byte_table() -> str:
    """Lay out bytes and operations by size."""
    rates = measured()
    head = ["", *(f"{size:,}" for size in SIZES)]
    checkpoint = rates.stages["checkpoint"]["bytes"]
    lines: dict[str, Callable[[int], str]] = {
        "classes": lambda n: f"{classes_of(n):,}",
        "pictures as JPEG": lambda n: in_bytes(rates.stages["decode"]["bytes"] * n),
        "bank on disk": lambda n: in_bytes(bank_bytes(n, rates)),
        "bank on a device": lambda n: in_bytes(device_bytes(n)),
        "names and labels on a host": lambda n: in_bytes(
            rates.stages["open"]["resident_bytes"] * n
        ),
        "checkpoint (Meta-Adapter, width 1,024)": lambda _: in_bytes(checkpoint),
        "FLOP to encode": lambda n: exponent(tower_flops() * n),
        "FLOP to meta-train": lambda n: exponent(stages(n, rates)["meta-train"].flops),
        "FLOP to fit Tip-Adapter-F": lambda n: exponent(
            stages(n, rates)["fit, trained (Tip-Adapter-F)"].flops
        ),
        "FLOP to evaluate": lambda n: exponent(
            stages(n, rates)["eval (Tip-Adapter, 3 draws)"].flops
        ),
    }
    rows = ["|" + "|".join(head) + "|", "|---" * len(head) + "|"]
    rows += ["|" + "|".join([name, *map(cell, SIZES)]) + "|" for name, cell in lines.items()]
    return "\n".join(rows)


def limit_table() -> str:
    """Lay out what breaks, and what to do."""
    rows = ["|from pictures|what breaks|what to do|", "|---|---|---|"]
    rows += [f"|{each.pictures:,}|{each.what}|{each.cure}|" for each in limits()]
    return "\n".join(rows)


def shown(seconds: float) -> str:
    """Say a time; what takes less than starting it is not told apart.

    Example:
        >>> shown(2e-6), shown(90.0)
        ('<1 ms', '90 s')
    """
    return "<1 ms" if seconds < 1e-3 else in_words(seconds)


def in_bytes(number: float) -> str:
    """Say a number of bytes in two digits.

    Example:
        >>> in_bytes(1.5e6), in_bytes(85e12)
        ('1.5 MB', '85 TB')
    """
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{two_digits(number / size)} {unit}"
    return f"{two_digits(number / 1e3)} kB"


def exponent(number: float) -> str:
    """Say a number as a power of ten, in two digits.

    Example:
        >>> exponent(8.3e12)
        '8.3e12'
    """
    return f"{number:.1e}".replace("e+", "e")


def main() -> None:
    """Print the tables."""
    print("\n\n".join((byte_table(), time_tables(), limit_table())))


if __name__ == "__main__":
    main()
