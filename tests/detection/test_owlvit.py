"""OWL-ViT against transformers' PyTorch model, on random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Picture
from fsclip_jax.detection.models import owlvit_model
from fsclip_jax.detection.owlvit import box_bias, find_regions, unit
from fsclip_jax.detection.owlvit_load import (
    load_owlvit,
    owlvit_config,
    owlvit_map,
    owlvit_preprocess,
)
from fsclip_jax.detection.owlvit_text import encode_queries
from fsclip_jax.detection.scoring import Found, score_owlvit
from fsclip_jax.errors import UserError

TOLERANCE = 1e-4
PROMPTS = ["ab cd", "j", "a b c d e f g h i"]


@pytest.fixture(scope="module", params=[3, 5])
def pair(request, torch_owlvit, owlvit_folder):
    """A loaded detector, its regions of some pixels, and the PyTorch model's outputs."""
    torch = pytest.importorskip("torch")
    patches = request.param
    detector = load_owlvit(owlvit_folder(patches))
    rng = np.random.default_rng(patches)
    pixels = rng.standard_normal((2, 8 * patches, 8 * patches, 3)).astype(np.float32)
    regions = jax.jit(find_regions, static_argnums=0)(
        detector.graphdef, detector.state, jnp.asarray(pixels)
    )
    ids = detector.tokenizer(PROMPTS)
    with torch.no_grad():
        theirs = torch_owlvit(patches)(
            input_ids=torch.tensor(np.tile(ids, (2, 1))).long(),
            pixel_values=torch.tensor(pixels).permute(0, 3, 1, 2),
        )
    return detector, regions, theirs


def test_boxes_equal_pytorch(pair):
    _, regions, theirs = pair
    assert np.abs(np.asarray(regions.boxes) - theirs.pred_boxes.numpy()).max() <= TOLERANCE
    assert np.ptp(np.asarray(regions.boxes), axis=1).min() > 0.01  # they are not all the same


def test_class_embeddings_equal_pytorch(pair):
    _, regions, theirs = pair
    ours = np.asarray(unit(regions.embeds))  # theirs are normalised on the way to the logits
    assert np.abs(ours - theirs.class_embeds.numpy()).max() <= TOLERANCE


def test_scores_of_texts_equal_pytorch(pair):
    detector, regions, theirs = pair
    queries = encode_queries(detector, PROMPTS)
    _, boxes, shift, scale = (np.asarray(part) for part in regions)
    for i, wanted in enumerate(theirs.logits.sigmoid().numpy()):
        found = Found(i, boxes[i], np.asarray(unit(regions.embeds[i])), None, shift[i], scale[i])
        scores = score_owlvit(100 * found.features @ queries.T, found, 100.0)
        assert np.abs(scores - wanted).max() <= TOLERANCE / 4  # a sigmoid's largest slope
        assert scores.std() > 0.01


def test_queries_of_texts_equal_pytorch(pair):
    detector, _, theirs = pair
    mine = encode_queries(detector, PROMPTS)
    assert np.abs(mine - theirs.text_embeds.numpy()[0]).max() <= TOLERANCE


def test_the_box_bias_is_read_by_rows():
    centres = np.asarray(jax.nn.sigmoid(box_bias(3)))[:, :2]
    assert np.allclose(centres[1], [2 / 3, 1 / 3], atol=1e-3)
    assert np.allclose(centres[3], [1 / 3, 2 / 3], atol=1e-3)


def test_every_weight_has_a_place_of_its_own():
    config = owlvit_config({"model_type": "owlvit"})
    keys = [entry.key for entry in owlvit_map(config)]
    assert len(keys) == len(set(keys)) == 412
    assert "owlvit.vision_model.pre_layernorm.weight" in keys


@pytest.mark.parametrize("size", [(100, 37), (24, 24), (300, 260)])
def test_pixels_equal_the_processor_of_transformers(size, rng):
    pytest.importorskip("torch")
    from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

    picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    processor = OwlViTImageProcessorPil(size={"height": 40, "width": 40})
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]
    prepare = owlvit_preprocess({"size": {"height": 40, "width": 40}})
    ours = np.asarray(prepare.normalize(prepare.crop(picture)))
    assert np.abs(ours - theirs.transpose(1, 2, 0)).max() <= 1e-5


def test_sizes_are_read_in_all_their_spellings():
    for size in (768, [768, 768], {"height": 768, "width": 768}):
        assert owlvit_preprocess({"size": size, "rescale": True}).size == 768
    with pytest.raises(UserError, match="do_rescale"):
        owlvit_preprocess({"rescale": False})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "owlv2"}, "'owlv2' model"),
        ({}, "None model"),
        ({"model_type": "owlvit", "projection_dim": 8}, "must be equal"),
        ({"model_type": "owlvit", "vision_config": {"patch_size": 7}}, "no multiple"),
        ({"model_type": "owlvit", "vision_config": {"num_channels": 1}}, "only 3"),
        ({"model_type": "owlvit", "text_config": {"vocab_size": "x"}}, "wrong type"),
    ],
)
def test_another_config_is_refused_in_one_line(values, words):
    with pytest.raises(UserError, match=words) as error:
        owlvit_config(values)
    assert "\n" not in str(error.value)


def test_a_folder_that_lacks_something_is_refused(owlvit_folder, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        load_owlvit(tmp_path / "none")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_owlvit(tmp_path)
    folder = owlvit_folder(3)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32}))
    with pytest.raises(UserError, match="the image tower takes 24"):
        load_owlvit(folder)
    values = json.loads((folder / "config.json").read_text())
    values["text_config"]["max_position_embeddings"] = 10**9
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="text context_length 1000000000, and no array of the file"):
        load_owlvit(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_owlvit(folder)


def test_an_annotated_box_is_described_by_the_region_that_fits_it(owlvit_folder, rng):
    model = owlvit_model(load_owlvit(owlvit_folder(5)))
    pictures = [
        Image.fromarray(rng.integers(0, 256, (30 + i, 50, 3), dtype=np.uint8)) for i in range(6)
    ]
    names = [f"{i}.png" for i in range(6)]
    folder = owlvit_folder(5)
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / name)
    listed = [Picture(i, 50, 30 + i, name) for i, name in enumerate(names)]
    found = list(model.regions(folder, listed, {}))
    assert [each.image for each in found] == list(range(6))
    asked = [(picture, each.boxes[[7, 3]]) for picture, each in zip(pictures, found, strict=True)]
    for each, described in zip(found, model.describe(asked), strict=True):
        overlap = overlaps(each.boxes[[7, 3]], each.boxes)
        assert np.abs(described - each.features[overlap.argmax(1)]).max() < 1e-5
        assert np.allclose(np.linalg.norm(described, axis=-1), 1, atol=1e-3)
