"""Published accuracies to compare a run with: OpenAI's RN50 on CoOp's test images, in percent."""

from collections.abc import Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """One row of the published tables, 16 shots where there are shots.

    Attributes:
        zero_shot: CLIP with the prompts of the set (ImageNet: the seven templates).
        tip_adapter_f: fine-tuned; its best epoch was chosen on the test images.
        gda: training-free, mean of three draws.
    """

    zero_shot: float
    tip_adapter: float
    tip_adapter_f: float
    gda: float


RN50: Mapping[str, Published] = {
    "imagenet": Published(60.32, 62.01, 65.51, 63.82),
    "caltech101": Published(85.92, 90.18, 92.86, 92.55),
    "oxford_pets": Published(85.83, 88.14, 89.70, 88.81),
    "stanford_cars": Published(55.74, 66.77, 75.74, 75.12),
    "oxford_flowers": Published(66.02, 89.89, 94.80, 95.72),
    "food101": Published(77.32, 77.83, 79.43, 79.05),
    "fgvc_aircraft": Published(17.10, 29.76, 35.55, 40.61),
    "sun397": Published(58.52, 66.85, 71.47, 70.70),
    "dtd": Published(42.20, 60.93, 66.55, 66.51),
    "eurosat": Published(37.52, 70.54, 84.54, 86.12),
    "ucf101": Published(61.35, 70.58, 78.03, 77.53),
}
"""Tip-Adapter's ``exp.log`` (Zhang et al., ECCV 2022; one draw, float16) and GDA's table (Wang et
al., ICLR 2024)."""
