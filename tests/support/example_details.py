"""Details of a report with small pictures, for the tests of the page."""

from PIL import Image

from fsclip_jax.evaluation.thumbnails import data_uri
from fsclip_jax.report.details import (
    ClassAttention,
    ClassChanges,
    Confusion,
    Details,
    Mistake,
    Neighbour,
    Reliability,
    Shot,
)


def example_details(methods, names=("cat", "dog", "owl"), key="pets/cat 1.png", cards=1) -> Details:
    """Details with so many attended classes, confusions and mistakes."""
    keys = [key, "pets/dog.png", "pets/owl.png"]
    colours = ("#c33", "#36c", "#2a7")
    pictures = {
        k: data_uri(Image.new("RGB", (60, 40), c)) for k, c in zip(keys, colours, strict=True)
    }
    change = {m: (10.0 + i, -5.0, 0.0) for i, m in enumerate(methods) if m != "zero_shot"}
    shots = (Shot(keys[0], 0.6), Shot(keys[1], 0.3), Shot("", 0.0))
    return Details(
        split="novel",
        shots=4,
        draws=3,
        reference="zero_shot",
        method="meta_adapter",
        changes=ClassChanges(tuple(names), (50.0, 60.0, 20.0), change),
        confusions=cards * (Confusion(names[0], names[1], 7, 9, keys[0], keys[1]),),
        reliability={m: Reliability((0.2, 0.9), (0.1, 0.8), (5, 20)) for m in methods},
        attention=cards * (ClassAttention(names[0], "gains most", 0.87, 0.1, shots, 50.0, 60.0),),
        attention_method="meta_adapter",
        gates=(0.7, 0.8, 0.87),
        mistakes=cards * (
            Mistake(
                keys[0], names[0], names[1], 0.93, tuple(
                    Neighbour(k, n, 0.8) for k, n in zip(keys, names, strict=True)
                ),
            ),
        ),
        pictures=pictures,
    )  # fmt: skip
