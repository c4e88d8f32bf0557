"""What the model card of a fitted classifier says of it."""

from collections.abc import Mapping
from typing import Any

from fsclip_jax.errors import some
from fsclip_jax.fitting.card import Origin, card_of
from fsclip_jax.prediction.classifier import Classifier
from fsclip_jax.report.card import MOST_CLASSES, Card, HeldOutFigures

_USE = """```python
from fsclip_jax import FewShotClassifier

classifier = FewShotClassifier.from_pretrained("FOLDER or OWNER/NAME")
classifier.predict({given})
```

{clip} No file here holds code, and none is run."""

_OWN = (
    "Labelled pictures: the maker's own; who may use what was learned from them, the maker knows."
)


def classifier_card(
    classifier: Classifier,
    backbone: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
    *,
    support: str = "",
    said: str = "",
    origin: Origin | None = None,
) -> Card:
    """Describe a fitted classifier: how it was made, and how it did on what was held out.

    Args:
        backbone: ``id`` and ``sha256`` of the CLIP; empty for features of any origin.
        texts: title, purpose and use; those of a saved classifier if None.
        support: spec of the labelled pictures, if it is known; ``said`` is more of them.
        origin: command and checkpoint.
    """
    clip = backbone.get("id")
    meta = {**classifier.record, "backbone": clip, "backbone_sha256": backbone.get("sha256")}
    origin = origin or Origin(classifier.method.adapter, classifier.method.params, meta)
    known = (("support", support and f"{support}: {said}"), *_facts(classifier))
    card = card_of(
        origin._replace(meta=meta),
        facts=known,
        data=[support] if support else [],
        held_out=_held_out(classifier),
        task="image-classification",
        **(texts or _texts(classifier, clip)),
    )
    return card if support else card._replace(licences=[*card.licences, _OWN])


def _texts(classifier: Classifier, clip: str | None) -> dict[str, str]:
    features = "features of any origin" if clip is None else f"features of {clip}"
    given, needs = '["picture.jpg"]', f"The CLIP, {clip}, is not in here: it is loaded by its name."
    if clip is None:
        given, needs = "features", "It takes the features that it was fitted to [n dim]."
    return {
        "title": f"Classifier of {len(classifier.class_names)} classes on {clip or features}",
        "purpose": "A few-shot classifier of pictures, fitted to some labelled ones.",
        "use": _USE.format(given=given, clip=needs),
    }


def _facts(classifier: Classifier) -> list[tuple[str, Any]]:
    quality, names = classifier.quality, [name or "(no name)" for name in classifier.class_names]
    temperature, familiar = classifier.temperature, classifier.familiar
    tried = [f"{one.method} {one.score}" for one in classifier.tried]
    unknown = "a probability only: too few pictures could be held out"
    if familiar is not None:
        unknown = (
            f"a score below {familiar.threshold:.3f}; of pictures held out "
            f"{100 * familiar.kept:.0f} % stay known, without their own class "
            f"{100 * familiar.caught:.0f} % are unknown"
        )
    return [
        ("labelled pictures", quality.labelled),
        ("labelled pictures held out in turn, right", str(quality.held_out.score)),
        ("tried", "; ".join(tried) if len(tried) > 1 else ""),
        ("classes", some(names, MOST_CLASSES)),
        ("temperature", f"{temperature.value:.4f}"),
        ("share of the probability that all classes get alike", f"{temperature.even:.4f}"),
        ("unknown", unknown),
    ]


def _held_out(classifier: Classifier) -> HeldOutFigures | None:
    answers = classifier.quality.held_out
    score = answers.score
    if score.accuracy is None or score.low is None or score.high is None:
        return None
    classes = [(one.name, one.right, one.asked) for one in answers.classes]
    return HeldOutFigures(score.right, score.asked, score.accuracy, score.low, score.high, classes)
