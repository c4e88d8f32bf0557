"""Make the golden arrays of the adapter tests: `python tests/golden/make_adapters_golden.py`.

Needs torch. `adapters_refine.npz` holds the inputs, and for each case of
`tests/adapters/published_forms.py` the refined text and the gradients by PyTorch.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import published_forms as forms  # noqa: E402


def main() -> None:
    """Write the file."""
    arrays = dict(forms.refine_inputs())
    for case in forms.REFINE_CASES:
        refined, loss, gradients = forms.torch_reference(forms.refine_inputs(), case)
        arrays[f"{case}/refined"] = refined
        arrays[f"{case}/loss"] = np.float32(loss)
        arrays.update({f"{case}/{name}": g for name, g in gradients.items()})
    np.savez_compressed(HERE / "adapters_refine.npz", **arrays)


if __name__ == "__main__":
    main()
