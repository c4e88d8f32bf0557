"""What a trained adapter has seen of what it is evaluated on."""

from collections.abc import Sequence

from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.checkpoints import Checkpoint, trained_on
from fsclip_jax.report.rows import Report


def training_warnings(
    checkpoint: Checkpoint,
    stored: StoredBank,
    groups: Sequence[str],
    query_split: str,
    base: str = "base",
) -> list[str]:
    """Say, a line a matter, where a trained adapter saw classes or images it is evaluated on.

    ``base`` is what a training calls the base classes of the report, ``base`` or ``easy``.
    """
    name, here = checkpoint.adapter.name, stored.manifest["data"]
    data, classes = trained_on(checkpoint.meta)
    if data is None:
        return [f"{name}: the checkpoint does not say what data it was trained on"]
    same = any(data.get(part) == here.get(part) for part in ("spec", "version"))
    if not same and not _overlap(str(data.get("spec")), str(here.get("spec"))):
        return []
    lines = []
    everything, part = classes != base, classes in ("base", "easy")
    if everything and part and "novel" in groups:
        lines.append(
            f"{name} was meta-trained on the {classes} classes of this data, which are not the "
            f"base classes here: train with --classes {base}"
        )
    elif everything and not part and any(group in ("novel", "test") for group in groups):
        lines.append(
            f"{name} was meta-trained on all classes of this data: no class here is new to it"
        )
    elif "test" in groups:
        lines.append(
            f"{name} was meta-trained on the {'base half' if classes == 'base' else 'easy part'} "
            "of these classes: see cross_category for "
            "classes that are new to it"
        )
    if query_split == "val" and (everything or any(g in ("base", "test") for g in groups)):
        lines.append(f"{name}: its checkpoint was chosen on val images of some of these classes")
    return lines


def trained_elsewhere(report: Report) -> list[str]:
    """Say, a line an adapter, which were trained on other data than those of a report."""
    spec_here = str(report.data.get("spec", ""))
    here = str(report.data.get("source") or spec_here)
    trained = ((each.get("method"), each.get("trained_on")) for each in report.checkpoints)
    return [
        f"{name} was trained on {spec}, not on {spec_here}"
        for name, spec in trained
        if spec and spec != here and not _overlap(str(spec), here)
    ]


def _overlap(spec: str, other: str) -> bool:
    """Whether one is the whole of the bundled art and the other a topic of it."""
    return "emoji" in (spec, other) and any(one.startswith("emoji:") for one in (spec, other))
