import clip_cases as cases
import pytest

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.clip.families import read_config
from fsclip_jax.errors import UserError


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"projection_dim": 768, "text_config": {"hidden_size": 768, "num_attention_heads": 12}},
        {"text_config": {"eos_token_id": 2}, "vision_config": {"patch_size": 14}},
        # As OpenAI's ViT-L/14 has it: the old sections go before the new ones, with defaults.
        {
            "text_config": {"hidden_size": 256, "eos_token_id": 2},
            "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
            "vision_config": {"hidden_act": "gelu", "patch_size": 16},
            "vision_config_dict": {"hidden_size": 1024, "num_attention_heads": 16},
        },
        {"text_config_dict": None, "vision_config_dict": {}},
        *cases.HF_CASES.values(),
    ],
)
def test_a_config_reads_as_in_transformers(values):
    from transformers import CLIPConfig

    theirs = CLIPConfig.from_dict(values)
    ours = read_config("hf", values)
    for part, tower in ((ours.text, theirs.text_config), (ours.vision, theirs.vision_config)):
        assert part.width == tower.hidden_size
        assert part.layers == tower.num_hidden_layers
        assert part.heads == tower.num_attention_heads
        assert part.mlp_width == tower.intermediate_size
        assert part.activation == tower.hidden_act
        assert part.norm_eps == tower.layer_norm_eps
        assert part.embed_dim == theirs.projection_dim
    assert ours.vision.image_size == theirs.vision_config.image_size
    assert ours.vision.patch_size == theirs.vision_config.patch_size
    assert ours.text.vocab_size == theirs.text_config.vocab_size
    assert ours.text.context_length == theirs.text_config.max_position_embeddings
    eos_id = theirs.text_config.eos_token_id
    assert ours.text.eos_id == (None if eos_id == 2 else eos_id)
    assert ours.logit_scale_init == theirs.logit_scale_init_value


@pytest.mark.parametrize("name", cases.CASES)
def test_shapes_survive_their_layout(name):
    config = cases.config_of(name)
    layout = cases.layout_name(name)
    assert read_config(layout, cases.written_in(layout, config)) == config


@pytest.mark.parametrize("mlp_width", range(1, 400, 7))
def test_the_ratio_of_open_clip_loses_no_channel(mlp_width):
    text = TextConfig(64, 8, 33, 1, 3, mlp_width, 8)
    vision = VitConfig(32, 16, 49, 1, 7, mlp_width, 8)
    config = ClipConfig(vision, text)
    assert read_config("open_clip", cases.written_in("open_clip", config)) == config


def test_published_open_clip_configs_are_read():
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    vision = {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None}
    ours = read_config("open_clip", {"embed_dim": 1024, "vision_cfg": vision, "text_cfg": text})
    assert ours.vision == ResNetConfig((3, 4, 6, 3), 64, 224, 1024, 32)
    assert ours.text == TextConfig(49408, 77, 512, 12, 8, 2048, 1024, activation="gelu")
    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    ours = read_config(
        "open_clip", {"embed_dim": 512, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    )
    assert ours.vision == VitConfig(224, 32, 768, 12, 12, 3072, 512)


def test_every_option_of_open_clip_that_is_not_plain_is_named():
    values = {
        "embed_dim": 8,
        "multimodal_cfg": {"width": 8},
        "vision_cfg": {"timm_model_name": "vit", "pool_type": "avg", "ls_init_value": 0.1},
        "text_cfg": {"no_causal_mask": True, "pool_type": "last"},
    }
    with pytest.raises(UserError) as caught:
        read_config("open_clip", values)
    for part in (
        "vision_cfg.timm_model_name='vit'",
        "vision_cfg.pool_type='avg'",
        "vision_cfg.ls_init_value=0.1",
        "text_cfg.no_causal_mask=True",
        "text_cfg.pool_type='last'",
        "multimodal_cfg={'width': 8}",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model_type": "siglip2"}, "accepted are 'clip', 'siglip', "),
        ({"vision_config": {"hidden_act": "relu"}}, "relu"),
        ({"vision_config": {"num_channels": 1}}, "1 channels"),
        ({"vision_config": {"image_size": [224, 200]}}, "200"),
        ({"vision_config": {"image_size": 225}}, "225"),
        ({"vision_config": {"patch_size": 0}}, "0 pixels"),
        ({"text_config": {"num_attention_heads": 7}}, "7 heads"),
        ({"text_config": {"hidden_size": "wide"}}, "text_config.hidden_size='wide'"),
    ],
)
def test_configs_that_describe_no_clip_are_refused(values, named):
    with pytest.raises(UserError, match=named) as caught:
        read_config("hf", values)
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match="embed_dim"):
        read_config("open_clip", {})


def test_what_a_layout_cannot_say_is_refused():
    text = TextConfig(64, 8, 16, 1, 2, 32, 8, activation="gelu")
    vision = VitConfig(32, 16, 24, 1, 3, 48, 8)
    with pytest.raises(ValueError, match="one activation"):
        cases.written_in("open_clip", ClipConfig(vision, text))
    quick = TextConfig(64, 8, 16, 1, 2, 32, 8, norm_eps=1e-6)
    with pytest.raises(ValueError, match="epsilon"):
        cases.written_in("open_clip", ClipConfig(vision, quick))


@pytest.mark.parametrize("ends", [None, 1, 2])
def test_where_a_prompt_ends_survives_being_written(ends):
    vision = VitConfig(32, 16, 24, 1, 3, 48, 8)
    config = ClipConfig(vision, TextConfig(64, 8, 16, 1, 2, 32, 8, eos_id=ends))
    assert read_config("hf", cases.written_in("hf", config)) == config
