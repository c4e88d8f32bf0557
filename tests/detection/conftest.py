"""A tiny OWL-ViT in the layout of transformers, with its PyTorch twin."""

import json

import numpy as np
import pytest

LETTERS = "!abcdefghij"
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 10,
    "eos_token_id": 63,
    "bos_token_id": 62,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "patch_size": 8,
}


def owlvit_values(patches):
    vision = VISION | {"image_size": 8 * patches}
    return {
        "model_type": "owlvit",
        "projection_dim": 16,
        "text_config": TEXT,
        "vision_config": vision,
    }


@pytest.fixture(scope="session")
def torch_owlvit():
    """Make a random ``OwlViTForObjectDetection``; its weights are wide enough to matter."""
    torch = pytest.importorskip("torch")
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    def make(patches):
        torch.manual_seed(patches)
        values = owlvit_values(patches)
        config = OwlViTConfig(
            text_config=values["text_config"],
            vision_config=values["vision_config"],
            projection_dim=values["projection_dim"],
        )
        model = OwlViTForObjectDetection(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture(scope="session")
def owlvit_folder(torch_owlvit, tmp_path_factory):
    """Save such a model with its preprocessing and its tokenizer."""
    from transformers import CLIPTokenizer

    merges = [("a", "b"), ("c", "d</w>")]
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), *("".join(m) for m in merges)]
    tokens += [f"<extra{i}>" for i in range(62 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    backend = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, pad_token="!"
    )

    def make(patches):
        folder = tmp_path_factory.mktemp("owlvit")
        torch_owlvit(patches).save_pretrained(folder)
        backend.save_pretrained(folder)
        side = 8 * patches
        (folder / "preprocessor_config.json").write_text(
            json.dumps({"size": {"height": side, "width": side}, "do_center_crop": False})
        )
        return folder

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)
