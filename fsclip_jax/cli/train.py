"""``fsclip train``: meta-train an adapter, and say what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsclip_jax.cli.parsing import parse_experiment
from fsclip_jax.errors import say, tell
from fsclip_jax.evaluation.naming import data_name
from fsclip_jax.training.config import TrainConfig, check_train_config


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(*parse_experiment(TrainConfig, "train", args))


def run(config: TrainConfig, name: str) -> int:
    """Train in ``runs/NAME`` by default; 128 plus the signal's number if asked to stop, else 0.

    Raises:
        UserError: see `training.run.train`.
    """
    from fsclip_jax.cli.train_display import Display, summary
    from fsclip_jax.devices import require_shared
    from fsclip_jax.hosts import join_hosts
    from fsclip_jax.training.loop import Observer
    from fsclip_jax.training.method import chosen_anew, make_adapter
    from fsclip_jax.training.run import train

    check_train_config(config)
    adapter = make_adapter(config)
    # Before they meet: once one has left, JAX may abort the others in the middle of a word.
    require_shared(config.batch, max(config.processes or 1, 1))
    workdir = config.workdir or Path("runs") / (name or data_name(config.data))

    def open_stored() -> Any:
        # Pulls in the CLIP towers and transformers, which a run that is done already needs not.
        from fsclip_jax.features.extract import ExtractSettings, bank_for

        settings = ExtractSettings(
            views=config.views, templates=config.templates, prompt_file=config.prompt_file
        )
        return bank_for(config.data, config.backbone, settings)

    hosts = join_hosts(config.coordinator, config.processes, config.process, devices=True)
    with Display(config.steps, shown=not hosts.index) as display:
        observer = Observer(display.begin, display.row, display.stop_requested)
        outcome = train(config, workdir, open_stored, observer, hosts)
    if outcome.step < config.steps:
        say(
            f"stopped at step {outcome.step} of {config.steps}; "
            f"the same command with --resume continues in {workdir}"
        )
        return 128 + outcome.stopped
    if hosts.index:  # process 0 says it for all
        return 0
    tell(chosen_anew(adapter))
    for line in summary(config, workdir, outcome).splitlines():
        say(line)
    return 0
