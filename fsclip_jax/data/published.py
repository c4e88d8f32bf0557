"""What is known of a published data set: the types of ``data.catalog``'s table."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from fsclip_jax.data.templates import ENSEMBLE, PHOTO

CoopLayout: TypeAlias = Literal["json", "aircraft", "imagenet", "wnid", "numbered"]
"""How CoOp's folder of a set says which image is what: a ``split_zhou_*.json``; the lists of
FGVC-Aircraft; ``train/WNID`` and ``val/WNID``; folders named by WordNet id; by class number."""

NameRule: TypeAlias = Literal["as is", "lower", "year first", "capitals", "path", "wnid"]
"""How names as TFDS or a folder spells them become those of CoOp; see ``data.names``."""


@dataclass(frozen=True)
class CoopFolder:
    """Where CoOp's DATASETS.md puts a data set."""

    folder: str
    images: str
    split: str = ""
    """The JSON with the splits, if there is one."""
    layout: CoopLayout = "json"


@dataclass(frozen=True)
class TfdsBuilder:
    """Which TFDS builder holds a data set, and how its records are named.

    ``path`` makes of a record the path that CoOp's split has for it: fields of the record in
    braces; ``{label}`` is the raw name of the class, ``{split}`` the split of TFDS.
    """

    name: str
    version: str
    path: str
    config: str = ""
    note: str = ""
    spellings: tuple[tuple[str, str], ...] = ()

    @property
    def spec(self) -> str:
        """What follows ``tfds:``."""
        return f"{self.name}/{self.config}" if self.config else self.name


class Rn50Accuracies(NamedTuple):
    """Published accuracies of OpenAI's RN50 on CoOp's test images, in percent, 16 shots.

    Zero-shot is with the set's prompts (ImageNet: the seven templates). Tip-Adapter-F's best epoch
    was chosen on the test images; GDA is training-free, mean of three draws.

    Source: ``exp.log`` of Tip-Adapter (Zhang et al., ECCV 2022; one draw, float16); the table of
    GDA (Wang et al., ICLR 2024).
    """

    zero_shot: float
    tip_adapter: float
    tip_adapter_f: float
    gda: float


@dataclass(frozen=True)
class KnownSet:
    """A published data set.

    Attributes:
        coop: CoOp's folder; None where CoOp does not use the set.
        pooled: True where the published split was drawn at random from all images; without
            CoOp's JSON all images are then split 50/20/30. False where train and test are the
            authors' own; then only val is drawn, a fifth of train.
        drawn_val: draw that fifth; False for ImageNet, whose train stays whole.
        names_of: the set whose class names these are, if not its own.
        in_ensemble: whether its own template stands beside the ensemble's seven.
    """

    name: str
    title: str
    classes: int
    sizes: tuple[int, int, int]
    citation: str
    url: str
    coop: CoopFolder | None = None
    tfds: TfdsBuilder | None = None
    pooled: bool = False
    drawn_val: bool = True
    rule: NameRule = "as is"
    renames: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    names_of: str = ""
    aliases: tuple[str, ...] = ()
    note: str = ""
    template: str = PHOTO[0]
    in_ensemble: bool = True
    rn50: Rn50Accuracies | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """The one prompt template of the set."""
        return (self.template,)

    @property
    def ensemble(self) -> tuple[str, ...]:
        """Seven templates on ImageNet, and the set's own one beside them everywhere else."""
        return (*ENSEMBLE, self.template) if self.in_ensemble else ENSEMBLE
