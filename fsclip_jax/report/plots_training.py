"""Curves of the trainings of adapters, as SVG."""

from collections.abc import Sequence

from fsclip_jax.report.names import method_title
from fsclip_jax.report.plots import for_page, plot_settings, quiet_axes, saved
from fsclip_jax.report.styles import INK, PAPER, QUIET, SOFT
from fsclip_jax.report.training import TrainingCurve


def training_panels(curve: TrainingCurve, prefix: str) -> list[tuple[str, str]]:
    """Draw loss and accuracy against steps; what has fewer than two points is not drawn."""
    title, drawn = method_title(curve.method), []
    episodes, held_out = (curve.step, curve.accuracy), (curve.val_step, curve.val_accuracy)
    for name, lines in (
        ("Loss", [(curve.step, curve.loss, INK)]),
        ("Accuracy, %", [(*episodes, QUIET), (*held_out, INK)]),
    ):
        lines = [line for line in lines if len(line[0]) > 1]
        if lines:
            label = f"{name.partition(',')[0]} of {title} while it was trained"
            drawn.append((f"{title}: {name}", for_page(_panel(lines), f"{prefix}-{name}", label)))
    return drawn


def _panel(lines: Sequence[tuple[Sequence[int], Sequence[float], str]]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_settings("none")):
        figure = Figure(figsize=(5.7, 2.7), facecolor=PAPER)
        axes = figure.add_axes((0.08, 0.18, 0.9, 0.78))
        for steps, values, colour in lines:
            dot = "o" if len(steps) < 12 else ""
            axes.plot(steps, values, color=colour, linewidth=1.2, marker=dot, markersize=3.5)
        quiet_axes(axes)
        axes.set_xlabel("step", color=SOFT, labelpad=4)
        axes.margins(x=0.02, y=0.08)
        return saved(figure)
