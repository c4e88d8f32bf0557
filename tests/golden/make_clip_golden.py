"""Make the golden arrays of the CLIP tests: `python tests/golden/make_clip_golden.py`.

Needs torch, transformers, open_clip and pillow. Each `clip_<case>.npz` holds what PyTorch's
towers make of a case of `tests/clip/clip_cases.py`; `clip_preprocess.npz` what transformers'
image processor makes of a few odd pictures.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import clip_cases  # noqa: E402
import torch_clips  # noqa: E402


def main() -> None:
    """Write every file."""
    for name in clip_cases.CASES:
        images, texts = torch_clips.torch_features(name)
        np.savez_compressed(HERE / f"clip_{name}.npz", images=images, texts=texts)


if __name__ == "__main__":
    main()
