"""``fsclip eval``: compare few-shot methods and write the report."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fsclip_jax.cli.parsing import command_line, parse_experiment
from fsclip_jax.errors import say
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.naming import data_name

if TYPE_CHECKING:
    from fsclip_jax.evaluation.progress import Watch


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(*parse_experiment(EvalConfig, "evaluate", args))


def run(config: EvalConfig, name: str) -> int:
    """Evaluate, print the table, write the report into ``runs/NAME`` by default.

    Raises:
        UserError: the input is wrong, another evaluation writes there, or the disk is full.
    """
    from rich.console import Console

    from fsclip_jax.cli.curves import with_curves
    from fsclip_jax.durable import only_writer
    from fsclip_jax.evaluation.config import check_eval_config
    from fsclip_jax.evaluation.evaluate import evaluate_bank, write_evaluation, write_supports
    from fsclip_jax.evaluation.progress import SILENT
    from fsclip_jax.evaluation.provenance import trained_elsewhere
    from fsclip_jax.evaluation.spread import sum_of
    from fsclip_jax.features.extract import ExtractSettings, bank_for
    from fsclip_jax.fitting.methods import applicable
    from fsclip_jax.hosts import join_hosts
    from fsclip_jax.report.rows import refuse_other_data
    from fsclip_jax.report.terminal import print_report

    check_eval_config(config)
    applicable(config.methods)
    workdir = config.workdir or Path("runs") / (name or data_name(config.data))
    out = config.out or workdir
    hosts = join_hosts(config.coordinator, config.processes, config.process)
    same = {k: v for k, v in vars(config).items() if k not in ("process", "workdir", "out")}
    with hosts.failing_together(), ExitStack() as held:
        hosts.same("configuration", same)
        if not hosts.index:  # process 0 writes for all
            refuse_other_data(out, config.data)
        settings = ExtractSettings(
            views=config.views,
            prompts=config.prompts,
            templates=config.templates,
            prompt_file=config.prompt_file,
            features=config.features,
        )
        stored, *targets = (
            bank_for(spec, config.backbone, settings) for spec in (config.data, *config.targets)
        )
        if hosts.count > 1:
            hosts.same("bank", {"sums": [sum_of(bank) for bank in (stored, *targets)]})
        if not hosts.index:
            held.enter_context(only_writer(out, ".eval.lock", "is evaluating", "--out"))
        if config.write_draws is not None and not hosts.index:
            write_supports(config, stored, config.write_draws)
        with ExitStack() as shown:
            watch = SILENT if hosts.index else _shown(shown)
            found = evaluate_bank(
                config, stored, workdir, watch, command_line(), targets=targets, hosts=hosts
            )
        if hosts.index:
            hosts.hear("finished")
            return 0
        found = found._replace(report=with_curves(found.report))
        say(*trained_elsewhere(found.report))
        # First the table: if the disk is full, the numbers are still seen.
        print_report(found.report, Console())
        files = write_evaluation(found, out)
        hosts.tell("finished")
    say(f"wrote {', '.join(file.name for file in files)} to {out}")
    return 0


def _shown(shown: ExitStack) -> "Watch":
    """Show how far the comparison is, until ``shown`` is closed."""
    from fsclip_jax.evaluation.progress import Watch
    from fsclip_jax.features.progress import Progress

    bars: list[Progress] = []

    def begin(steps: int) -> None:
        bars.append(shown.enter_context(Progress(steps, "steps", "evaluate")))

    def ended(line: str) -> None:
        bars[0].note(line)
        bars[0].advance(1, now="")

    # Of which classes the lines of what has ended say; here is no room for it.
    return Watch(begin, lambda text: bars[0].advance(0, now=text.partition(":")[0]), ended)
