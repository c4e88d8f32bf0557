"""``fsclip suite``: many comparisons from one configuration, and one table."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from fsclip_jax.cli.parsing import command_line, parse_experiment
from fsclip_jax.evaluation.naming import data_name
from fsclip_jax.printable import printable
from fsclip_jax.suite.config import SuiteConfig

SOME_FAILED = 3
"""Exit code where cells failed and the rest is done."""


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(*parse_experiment(SuiteConfig, "suite", args, fallback="emoji_suite"))


def run(config: SuiteConfig, name: str) -> int:
    """Work through the cells in ``runs/NAME`` by default; return 0 or `SOME_FAILED`.

    Raises:
        UserError: the input is wrong, another suite works in that folder, or the disk is full.
    """
    from rich.console import Console

    from fsclip_jax.devices import device_name
    from fsclip_jax.durable import only_writer, write_text
    from fsclip_jax.evaluation.config import check_eval_config
    from fsclip_jax.features.progress import clock
    from fsclip_jax.hosts import join_hosts
    from fsclip_jax.report.suite import read_suite, suite_to_json
    from fsclip_jax.report.suite_markdown import suite_to_markdown
    from fsclip_jax.report.write import draw_suite
    from fsclip_jax.suite.cells import cells_of
    from fsclip_jax.suite.run import Done
    from fsclip_jax.suite.share import run_shared
    from fsclip_jax.suite.table import suite_of

    cells = cells_of(config)
    for cell in cells:
        check_eval_config(cell.config)
    folder = config.out or Path("runs") / (name or _named(config.data))
    console = Console()

    def tell(line: str) -> None:
        for each in line.split("\n"):
            console.print(printable(each), markup=False, highlight=False, soft_wrap=True)

    done: list[Done] = []
    places = {str(cell): place for place, cell in enumerate(cells, 1)}
    began = time.monotonic()

    def begin(cell: str) -> None:
        fresh = sum(not each.before for each in done)
        rest = (time.monotonic() - began) / max(fresh, 1) * (len(cells) - len(done))
        left = f", {clock(rest)} left" if fresh else ""
        tell(f"cell {places[cell]} of {len(cells)}{left}: {cell}")

    hosts = join_hosts(config.coordinator, config.processes, config.process)
    same = {name: value for name, value in vars(config).items() if name not in ("process", "out")}
    with hosts.failing_together(), ExitStack() as held:
        hosts.same("configuration", same)
        if not hosts.index:  # process 0 writes for all
            held.enter_context(only_writer(folder, ".suite.lock", "works on a suite", "--out"))
        for each in run_shared(cells, folder, begin, command_line(), hosts):
            done.append(each)
            if each.report is None:
                kind = "failed" if each.failed else "left out"
                tell(f"{kind}: {each.cell}: {each.reason}")
        if hosts.index:
            hosts.hear("finished")
            return 0
        done.sort(key=lambda each: cells.index(each.cell))
        suite = suite_of(config, done, command_line(), device_name())
        write_text(folder / "suite.json", suite_to_json(suite))
        # Drawn from what was written, so that `fsclip report` makes the very same pages later.
        suite = read_suite(folder)
        draw_suite(suite, folder)
        hosts.tell("finished")
    tell(suite_to_markdown(suite))
    failed = sum(each.failed for each in done)
    before = sum(each.before for each in done)
    left_out = sum(each.report is None and not each.failed for each in done)
    tell(
        f"{len(done)} cells: {len(done) - failed - left_out} done ({before} by an earlier run), "
        f"{failed} failed, {left_out} left out; wrote suite.json, suite.md, suite.html to {folder}"
    )
    return SOME_FAILED if failed else 0


def _named(data: Sequence[str]) -> str:
    """A folder for a suite that no configuration names: `emoji_suite`, `dtd_and_2_more_suite`."""
    more = f"_and_{len(data) - 1}_more" if len(data) > 1 else ""
    return f"{data_name(data[0]) if data else 'no'}{more}_suite"
