"""What a training shows while it runs, and says when it is done."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from fsclip_jax.cli.parsing import called_as
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.progress import Progress
from fsclip_jax.stopping import stop_requests
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.loop import Episodes
from fsclip_jax.training.metrics_log import METRICS_FILE, LogRow
from fsclip_jax.training.run import TrainOutcome


class Display(contextlib.ExitStack):
    """Progress of a run, where it is shown; from its first step on, Ctrl-C is a request to stop."""

    def __init__(self, steps: int, *, shown: bool = True) -> None:
        super().__init__()
        self._steps, self._step, self._shown = steps, 0, shown
        self._progress: Progress | None = None
        self._requested: Callable[[], int] = lambda: 0

    def begin(self, stored: StoredBank, episodes: Episodes, step: int) -> None:
        """Show what is trained on."""
        self._step = step
        if self._shown:
            bar = Progress(self._steps, "steps", "train", start=step)
            self._progress = self.enter_context(bar)
            self._progress.note(describe_episodes(stored, episodes, step))
            self._progress.doing("compiling")
        self._requested = self.enter_context(stop_requests())

    def stop_requested(self) -> int:
        """The signal that asked for a stop, 0 if none did."""
        return self._requested()

    def row(self, row: LogRow) -> None:
        """Show a row of the log."""
        if self._progress is None:
            return
        step = int(row["step"] or 0)
        self._progress.advance(step - self._step, **_moving(row))
        self._step = step
        validated = validation_line(row)
        if validated:
            self._progress.note(validated)


def _moving(row: LogRow) -> dict[str, str]:
    """What a row of the log shows beside the progress; nothing before the first step."""
    loss, accuracy = row.get("loss"), row.get("accuracy")
    told = {"loss": "" if loss is None else f"{loss:.3f}"}
    told["accuracy"] = "" if accuracy is None else f"{accuracy:.1f} %"
    return {name: text for name, text in told.items() if text}


def describe_episodes(stored: StoredBank, episodes: Episodes, step: int) -> str:
    """Say in a line what is trained on, and from which step if it is not the first."""
    spec, sizes = episodes.plan.spec, episodes.source.bank.sizes
    shots = f"{spec.min_shot or spec.shot}-{spec.shot}" if spec.min_shot else f"{spec.shot}"
    start = f"continuing from step {step}; " if step else ""
    held = episodes.validation
    held_out = f"{len(held.support.bank.sizes)} held out" if held else "none held out: no val"
    total = len(stored.class_names)
    unseen = total - len(sizes) - (len(held.support.bank.sizes) if held else 0)
    if unseen:
        held_out += f"; {unseen} kept for a test on novel classes, --classes all trains on them"
    lies = {"sharded": " split over the devices", "host": " read from the disk"}
    where = lies.get(episodes.placement, "")
    return (
        f"{start}{len(sizes)} of {total} classes to train on ({held_out}), "
        f"{len(episodes.source.bank.labels)} images{where}, dim {stored.dim}; "
        f"episodes of {spec.way} ways, {shots} shots, {spec.query} queries a class"
    )


def validation_line(row: LogRow) -> str | None:
    """Say in a line what a validation gave; None where the row has none."""
    accuracy = row.get("val_accuracy")
    if accuracy is None or accuracy != accuracy:
        return None
    line = f"step {row['step']}: val accuracy {accuracy:.2f} %"
    for name in ("zero_shot", "text_prototype"):
        reference = row.get(f"val_{name}")
        line += "" if reference is None else f", {name} {reference:.2f} %"
    return line + (" (before training)" if row["step"] == 0 else "")


def summary(config: TrainConfig, workdir: Path, outcome: TrainOutcome) -> str:
    """Say what was trained, where it and its log are, then what to do next, a line each."""
    references = ", ".join(f"{name} {value:.2f}" for name, value in outcome.references.items())
    told = (
        f"best of {outcome.step} steps is step {outcome.best_step}, "
        f"val accuracy {outcome.val_accuracy:.2f} % ({references})"
        if outcome.val_accuracy == outcome.val_accuracy
        else f"{outcome.step} steps, nothing held out to validate on"
    )
    done = " was trained already" if outcome.was_done else ""
    anew = "; to train anew, delete that folder or give another --workdir" * outcome.was_done
    data, folder = quote(config.data), quote(str(workdir))
    backbone = "" if config.data.startswith("bank:") else f" --backbone {quote(config.backbone)}"
    return "\n".join(
        [
            f"{config.method}{done}: {told}",
            f"wrote {workdir / 'adapter.safetensors'}{anew}",
            f"log: {workdir / METRICS_FILE}; its curves: tensorboard --logdir {folder}",
            f"next: {called_as('eval')} --data {data}{backbone} --checkpoint {folder}",
        ]
    )
