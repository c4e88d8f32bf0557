"""What a trained adapter has seen of what it is evaluated on."""

from collections.abc import Sequence

from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.checkpoints import Checkpoint, trained_on


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
    specs = {str(data.get("spec")), str(here.get("spec"))}
    topics = "emoji" in specs and any(spec.startswith("emoji:") for spec in specs)
    if not same and not topics:
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
