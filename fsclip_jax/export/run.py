"""The three things that are exported, each into a new folder."""

import calendar
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from fsclip_jax import __version__
from fsclip_jax.clip.load import load_clip
from fsclip_jax.durable import new_folder, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.export.onnx import export_onnx
from fsclip_jax.export.stablehlo import (
    PLATFORMS,
    export_adapter,
    export_classifier,
    refuse_fixed_shapes,
)
from fsclip_jax.export.torch_zip import torch_archive
from fsclip_jax.fitting.card import Origin, card_of, dotted
from fsclip_jax.fitting.checkpoints import FeatureSpec, read_checkpoint
from fsclip_jax.fitting.inputs import no_text
from fsclip_jax.fitting.methods import choose_method, usable
from fsclip_jax.fitting.sharing import PURPOSE, title_of, write_adapter
from fsclip_jax.prediction.card import classifier_card
from fsclip_jax.prediction.run import PictureClassifier
from fsclip_jax.report.card import Card, write_card
from fsclip_jax.typing import Params

ADAPTER = "adapter.stablehlo"
CLASSIFIER = "classifier.stablehlo"
GRAPH = "classifier.onnx"
TORCH_ARCHIVE = "adapter.pt"

_INPUTS = [
    "text [way dim]",
    "support [way shot dim]",
    "mask [way shot]",
    "query [query dim]",
    "logit_scale []",
]
_IN_TORCH = """```python
import torch

tensors = torch.load("adapter.pt", weights_only=True)
```"""
_AS_PROGRAM = f"""```python
from pathlib import Path

import jax.export

program = jax.export.deserialize(bytearray(Path("{ADAPTER}").read_bytes()))
logits = program.call(text, support, mask, query, logit_scale)
```

`text` [way dim], `support` [way shot dim] and `query` [query dim] are unit features, float32;
`mask` [way shot] is false where there is no shot; `logit_scale` is a float32 scalar, 100 for
OpenAI's models; `text` is zero where the backbone has none. Any way from 2, any shot and query
from 1; each new shape is compiled once."""
_AS_PREDICTOR = """`python predictor.py PICTURE [...]` prints each picture's path, class and
probability. It needs `pip install jax flatbuffers pillow`, for HEIC pillow-heif too. The program
itself takes pixels, uint8 [batch size size 3], any batch, and gives probabilities [batch way] in
the order of `class_names` in `classifier.json`, and what tells pictures of none of the classes
[batch 3]. `--unknown auto`, or a probability, leaves the class of such pictures empty."""

_IN_ONNX = f"""```python
import json

import onnxruntime

session = onnxruntime.InferenceSession("{GRAPH}")
about = session.get_modelmeta().custom_metadata_map
names, preprocess = json.loads(about["class_names"]), json.loads(about["preprocess"])
probabilities, labels, evidence = session.run(None, {{"pixels": pixels}})
```

`pixels` are pictures as `preprocess` says, cut to squares of `size`: uint8 [batch size size 3], any
batch, in the order RGB; the graph scales them itself. `probabilities` [batch way] are in the order
of `names`, `labels` [batch] the places of the largest, and `evidence` [batch 3] what tells pictures
of none of the classes."""

_RULE = "https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees"


def export_weights(checkpoint: Path, out: Path, command: str, *, torch: bool = False) -> list[str]:
    """Write the parameters of a trained adapter under the published names; return the file names.

    The checkpoint is a workdir of ``fsclip train`` or a file of weights; the command line is for
    the card. With ``torch`` it is a state dict as ``torch.save`` writes it, else safetensors.

    Raises:
        UserError: there is no checkpoint, it has no parameters, or the folder cannot be made.
    """
    trained = read_checkpoint(checkpoint)
    adapter, params, meta = trained.adapter, trained.params, trained.meta
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise UserError(f"{adapter.name} has no parameters to export; give another --checkpoint")
    origin = Origin(adapter, params, meta, command, checkpoint)
    with new_folder(out) as folder:
        if not torch:
            return write_adapter(folder, origin)
        tensors = {dotted(path): np.asarray(leaf, np.float32) for path, leaf in leaves}
        write_file(folder / TORCH_ARCHIVE, torch_archive(tensors))
        card = card_of(origin, title=title_of(origin), purpose=PURPOSE, use=_IN_TORCH)
        return write_card(folder, card)


def export_program(
    out: Path,
    command: str,
    *,
    checkpoint: Path | None = None,
    method: str | None = None,
    backbone: str | None = None,
) -> list[str]:
    """Write the adapter alone as a StableHLO program for any number of classes and shots.

    Without a checkpoint, ``method`` learns nothing across tasks, and ``backbone`` is the CLIP whose
    features it is for.

    Raises:
        UserError: see ``stablehlo.refuse_fixed_shapes``; there is no such checkpoint or method.
    """
    missing: dict[str, str] = {}
    if checkpoint is not None:
        trained = read_checkpoint(checkpoint)
        dim, meta = _dim(trained.params, trained.meta, checkpoint), trained.meta
    else:
        refuse_fixed_shapes(usable(method or "zero_shot"))
        clip = load_clip(backbone or "mini")
        dim, meta = clip.embed_dim, {"backbone": clip.id, "backbone_sha256": clip.sha256}
        missing = no_text(clip.id) if clip.tokenizer is None else {}
    spec = FeatureSpec(dim)
    chosen = choose_method(method, spec, checkpoint, default="zero_shot", missing=missing)
    adapter, params = chosen.adapter, chosen.params
    artifact = export_adapter(adapter, params, dim)
    about = {
        "method": adapter.name,
        "dim": dim,
        "inputs": _INPUTS,
        "output": "logits [query way]",
        **_made_by(),
    }
    with new_folder(out) as folder:
        write_file(folder / ADAPTER, artifact)
        write_file(folder / "adapter.json", _json(about))
        card = card_of(
            Origin(adapter, params, meta, command, checkpoint),
            title=f"{adapter.name} for {meta.get('backbone', 'a CLIP')}, as StableHLO",
            purpose="A few-shot method as one program: features of labelled pictures and class "
            f"names in, logits of queries out. It runs on {', '.join(PLATFORMS)}.",
            use=f"{_AS_PROGRAM}\n\n{_promise(ADAPTER, about)}",
        )
        return write_card(folder, card)


def export_ready(
    ready: PictureClassifier, out: Path, command: str, checkpoint: Path | None = None
) -> list[str]:
    """Write image tower and fitted classifier as one StableHLO program, with a predictor.

    Raises:
        UserError: the folder cannot be made.
    """
    classifier, clip = ready.classifier, ready.backbone
    preprocess = dataclasses.asdict(clip.preprocess)
    artifact = export_classifier(clip, classifier)
    about = {
        "class_names": list(classifier.class_names),
        "image_size": clip.image_size,
        **{name: preprocess[name] for name in ("fit", "resample", "odd_margin", "edge")},
        "input": "pixels uint8 [batch image_size image_size 3]",
        "output": "probabilities float32 [batch way], evidence float32 [batch 3]",
        "familiar": None if classifier.familiar is None else classifier.familiar._asdict(),
        "method": classifier.method.name,
        "backbone": clip.id,
        "temperature": classifier.temperature.value,
        "even": classifier.temperature.even,
        "sha256": hashlib.sha256(artifact).hexdigest(),
        **_made_by(),
    }
    use = f"{_AS_PREDICTOR}\n\n{_promise(CLASSIFIER, about)}"
    where = f"StableHLO program. It runs on {', '.join(PLATFORMS)}."
    card = _ready_card(ready, (command, checkpoint), where, use)
    with new_folder(out) as folder:
        write_file(folder / CLASSIFIER, artifact)
        write_file(folder / "classifier.json", _json(about))
        write_file(folder / "predictor.py", predictor_program())
        return write_card(folder, card)


def export_ready_onnx(
    ready: PictureClassifier, out: Path, command: str, checkpoint: Path | None = None
) -> list[str]:
    """Write image tower and fitted classifier as one file of ONNX, which describes itself.

    Raises:
        UserError: see ``onnx.export_onnx``, or the folder cannot be made.
    """
    artifact = export_onnx(ready.backbone, ready.classifier)
    card = _ready_card(ready, (command, checkpoint), "ONNX graph.", _IN_ONNX)
    with new_folder(out) as folder:
        write_file(folder / GRAPH, artifact)
        return write_card(folder, card)


def _ready_card(
    ready: PictureClassifier, made_by: tuple[str, Path | None], where: str, use: str
) -> Card:
    """Return the model card of a fitted classifier, ``where`` the words for its form."""
    classifier, clip = ready.classifier, ready.backbone
    texts = {
        "title": f"Classifier of {len(classifier.class_names)} classes on {clip.id}",
        "purpose": "Pictures in, class probabilities out: the image tower of a CLIP and a "
        f"few-shot classifier as one {where}",
        "use": use,
    }
    return classifier_card(
        classifier,
        {"id": clip.id, "sha256": clip.sha256},
        texts,
        support=str(ready.bank.manifest["data"].get("spec")),
        said=ready.describe(),
        origin=Origin(classifier.method.adapter, {}, {}, *made_by),
    )


def _dim(params: Params, meta: Mapping[str, Any], checkpoint: Path) -> int:
    if isinstance(meta.get("dim"), int):
        return int(meta["dim"])
    if "q_proj" in params:
        return int(params["q_proj"]["weight"].shape[-1])
    raise UserError(f"{checkpoint} does not say the width of its features; train it again")


def _made_by(today: datetime.date | None = None) -> dict[str, Any]:
    """What wrote a program, and the last day of which JAX may still promise to read it.

    JAX counts its six months from the release of jaxlib, which was before today.
    """
    today = today or datetime.datetime.now(datetime.UTC).date()
    year, month = today.year + (today.month + 5) // 12, (today.month + 5) % 12 + 1
    until = datetime.date(year, month, min(today.day, calendar.monthrange(year, month)[1]))
    return {
        "platforms": list(PLATFORMS),
        "fsclip_version": __version__,
        "jax_version": jax.__version__,
        "jaxlib_version": jaxlib.__version__,
        "exported": today.isoformat(),
        "promised_until": until.isoformat(),
    }


def _promise(program: str, about: Mapping[str, Any]) -> str:
    lib = about["jaxlib_version"]
    return (
        f"`{program}` was written on {about['exported']} by jax {about['jax_version']} with jaxlib "
        f"{lib}, which read it at any time. Of others JAX "
        f"[promises]({_RULE}) it for those whose jaxlib was released at most three weeks before "
        f"jaxlib {lib} or six months after it: for none released after {about['promised_until']}."
    )


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def predictor_program() -> bytes:
    """The program, with the two modules that it needs of this package in place of their import."""
    package = resources.files("fsclip_jax")
    script = (package / "export" / "predictor.py").read_text("utf-8")
    for module in ("pixels", "printable"):
        before, _, after = script.partition(f"from fsclip_jax.{module} import ")
        _, _, rest = after.partition("\n")
        script = before + (package / f"{module}.py").read_text("utf-8") + rest
    return script.encode()
