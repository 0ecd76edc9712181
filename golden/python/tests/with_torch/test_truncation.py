"""Which layers `nvl-golden truncate` finds, and what it makes of a configuration."""

import pytest
from nvl_golden import GoldenError
from nvl_golden.truncation.configuration import plan


def stack(prefix, count, inside="mlp.fc1.weight"):
    return [f"{prefix}.{index}.{inside}" for index in range(count)]


TEXT = stack("model.layers", 4)
TOWER = stack("vision_tower.encoder.layers", 6)


def planned(names, config, complete=None, **asked):
    """The layers that stay of each stack, and the fields that change."""
    found = plan(names, config, complete, asked)
    changes = {".".join(change.path): change.after for change in found.changes}
    for change in found.changes:
        change.apply(config)
    return {stack.prefix: count for stack, count in found.cuts}, changes, config


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers", "depth"])
def test_whatever_counts_the_layers_is_changed(key):
    assert planned(TEXT, {key: 4, "hidden_size": 4}, text=2)[:2] == ({"model.layers": 2}, {key: 2})


def test_tensors_of_layers_that_stay_and_of_no_layer_are_kept():
    names = [*TEXT, "model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.experts.3.up.weight"]
    found = plan(names, {"num_hidden_layers": 4}, None, {"text": 2})
    kept = [*TEXT[:2], "model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.experts.3.up.weight"]
    assert [name for name in names if found.keeps(name)] == kept


def test_experts_and_other_lists_of_the_same_length_are_no_layers():
    names = [
        *(
            f"{layer[: -len('.mlp.fc1.weight')]}.mlp.experts.{expert}.up.weight"
            for layer in TEXT
            for expert in range(4)
        ),
        *stack("model.hash_tables", 4),
        *stack("projector", 4, "weight"),
    ]
    config = {
        "num_hidden_layers": 4,
        "num_local_experts": 4,
        "eos_token_id": [1, 2, 3, 4],
        "rope_sections": [1, 1, 1, 1],
    }
    assert planned(names, config, text=2)[:2] == ({"model.layers": 2}, {"num_hidden_layers": 2})


def test_lists_with_something_of_each_layer_and_numbers_of_layers_follow():
    text = {
        "num_hidden_layers": 4,
        "max_window_layers": 4,
        "layer_types": ["full", "sliding", "full", "sliding"],
        "no_rope_layers": [1, 1, 1, 0],
        "cross_attention_layers": [1, 3],
        "mlp_only_layers": [],
    }
    _, changes, _ = planned(TEXT, {"text_config": text}, text=3)
    assert changes == {
        "text_config.num_hidden_layers": 3,
        "text_config.max_window_layers": 3,
        "text_config.layer_types": ["full", "sliding", "full"],
        "text_config.no_rope_layers": [1, 1, 1],
        "text_config.cross_attention_layers": [1],
    }


def test_where_outputs_of_layers_are_taken_there_are_as_many_as_before():
    vision = {
        "depth": 6,
        "intermediate_layers_indices": [1, 3, 5],
        "deepstack_visual_indexes": [0, 4],
        "out_indices": [-1],
    }
    config = {"num_hidden_layers": 4, "vision_config": vision, "vision_feature_layer": -4, "image_token_id": 5}
    kept, changes, _ = planned([*TEXT, *TOWER], config, vision=2)
    assert kept == {"vision_tower.encoder.layers": 2}
    assert changes == {
        "vision_feature_layer": -3,
        "vision_config.depth": 2,
        "vision_config.intermediate_layers_indices": [1, 1, 1],
        "vision_config.deepstack_visual_indexes": [0, 1],
    }


def test_parts_with_as_many_layers_are_told_apart():
    names = [*stack("model.layers", 6), *TOWER, *stack("qformer.encoder.layer", 6), *stack("audio_tower.layers", 6)]
    parts = {"text_config": {}, "vision_config": {}, "qformer_config": {}, "audio_config": {}}
    config = {name: {"num_hidden_layers": 6} for name in parts}
    assert planned(names, config, text=2)[:2] == ({"model.layers": 2}, {"text_config.num_hidden_layers": 2})
    assert planned(names, config, vision=3)[0] == {"vision_tower.encoder.layers": 3}


def test_the_encoder_of_pictures_is_told_from_the_decoder_of_text_by_the_configuration():
    names = [*stack("encoder.encoder.layer", 4), *stack("decoder.model.layers", 4)]
    config = {"encoder": {"model_type": "vit", "num_hidden_layers": 4}, "decoder": {"num_hidden_layers": 4}}
    assert planned(names, config, text=2)[:2] == ({"decoder.model.layers": 2}, {"decoder.num_hidden_layers": 2})


def test_an_encoder_and_a_decoder_are_cut_alike():
    names = [*stack("encoder.block", 4, "layer.0.q.weight"), *stack("decoder.block", 3, "layer.0.q.weight")]
    kept, changes, _ = planned(names, {"num_layers": 4, "num_decoder_layers": 3}, text=2)
    assert kept == {"encoder.block": 2, "decoder.block": 2}
    assert changes == {"num_layers": 2, "num_decoder_layers": 2}


def test_a_tower_that_timm_makes_by_its_name_gets_its_depth_as_an_argument():
    names = [*TEXT, *stack("vision_model.radio_model.model.blocks", 6)]
    for arguments in ({}, {"model_kwargs": None}, {"model_kwargs": {"num_heads": 2}}):
        config = {
            "llm_config": {"num_hidden_layers": 4},
            "vision_config": {"args": {"model": "vit_large", **arguments}},
        }
        kept, _, after = planned(names, config, vision=2)
        assert kept == {"vision_model.radio_model.model.blocks": 2}
        assert after["vision_config"]["args"]["model_kwargs"] == {**(arguments.get("model_kwargs") or {}), "depth": 2}


def test_what_a_configuration_leaves_to_defaults_is_written_into_it():
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    complete = {"text_config": {"model_type": "llama", "num_hidden_layers": 4}}
    _, changes, after = planned(TEXT, config, complete, text=1)
    assert changes == {"text_config.num_hidden_layers": 1}
    assert after["text_config"] == {"model_type": "llama", "num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("names", "config", "asked", "message"),
    [
        (TEXT, {"num_hidden_layers": 4}, {"text": 5}, "--layers: expected at most the 4 layers of `model.layers`, found 5"),
        (TEXT, {"num_hidden_layers": 4}, {"vision": 1}, "--vision-layers: expected numbered layers of the vision part among "),
        (TEXT, {"num_hidden_layers": 5}, {"text": 1}, "counts the layers (4 of `model.layers`), found `num_hidden_layers` 5"),
        (TEXT, {}, {"text": 1}, "that counts the layers (4 of `model.layers`), found none"),
        (
            [*stack("model.first", 4), *stack("model.second", 4)],
            {"num_hidden_layers": 4},
            {"text": 1},
            "counts the layers (4 of `model.first`, 4 of `model.second`), found `num_hidden_layers` 4",
        ),
        (
            [*stack("one.layers", 4), *stack("two.layers", 4)],
            {"num_hidden_layers": 4, "vision_config": {"num_hidden_layers": 4}},
            {"text": 1},
            "counts the layers (4 of `one.layers`, 4 of `two.layers`), found `num_hidden_layers` 4",
        ),
        ([*TEXT[:2], TEXT[3]], {"num_hidden_layers": 4}, {"text": 1}, "expected numbered layers of the text part"),
        (
            TOWER,
            {"vision_config": {"num_layers": 6, "depths": [2, 2, 6, 2, 2, 2]}},
            {"vision": 2},
            "expected layers of one width, found stages: `vision_config.depths` [2, 2, 6, 2, 2, 2]",
        ),
        (
            [*TEXT, "model.embed_tokens_per_layer.weight"],
            {"num_hidden_layers": 4},
            {"text": 2},
            "`model.embed_tokens_per_layer.weight`: expected each layer's tensors to be its own, found one for all layers",
        ),
    ],
    ids=["too-many", "no-vision", "another-number", "no-number", "two-lists", "two-parts", "a-gap", "stages", "one-for-all"],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(names, config, asked, message):
    with pytest.raises(GoldenError) as refused:
        plan(names, config, None, asked)
    assert message in str(refused.value)
