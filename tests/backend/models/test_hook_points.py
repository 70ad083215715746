"""A name says which block's output it is, or why it is none; the names are those that other tools give."""

import pytest

from backend.models.hook_points import HookPointError, hook_point_named, hook_point_of_folder, hook_point_stated


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blocks.3.hook_resid_post", 3),
        ("blocks.3.hook_resid_pre", 2),
        ("blocks.14", 14),  # TransformerLens
        ("blocks.3.hook_out", 3),
        ("blocks.3.hook_in", 2),  # its bridge
        ("model.layers.12", 12),
        ("transformer.h.5", 5),
        ("gpt_neox.layers.3", 3),
        ("layers.10", 10),
        ("h.0", 0),  # modules
        ("model.language_model.layers.7", 7),
        ("model.model.decoder.layers.1", 1),
        ("_orig_mod.model.layers.4", 4),
        ("model.layers.17.output", 17),
        ("model.layers[12].output[0]", 12),
        ("model.layers.12.input", 11),  # nnsight
        ("hidden_states[5]", 4),
        ("hidden_states.1", 0),  # entry k of transformers' hidden states enters block k
        ("resid_post_layer_12", 12),
        ("resid_out_layer3", 3),
        ("resid_pre_layer_12", 11),
        ("layer_13_out", 13),
        ("layer_13_in", 12),
    ],
)
def test_the_name_of_a_hook_or_module_says_which_blocks_output_it_is(name, layer):
    assert hook_point_named(name).layer == layer and hook_point_named(name).fault() is None


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("blocks.0.hook_resid_pre", "the embeddings, which enter block 0"),
        ("layers.0.input", "the embeddings"),
        ("hidden_states.0", "the embeddings"),
        ("hook_embed", "the embeddings"),
        ("model.embed_tokens", "the embeddings"),
        ("transformer.wte", "the embeddings"),
        ("embed", "the embeddings"),
        ("blocks.3.hook_resid_mid", "the middle of block 3"),
        ("blocks.14.resid_mid_after_ln", "the middle of block 14"),
        ("blocks.3.hook_mlp_out", "the MLP of block 3"),
        ("blocks.3.mlp.hook_post", "the MLP of block 3"),
        ("layers.5.mlp", "the MLP of block 5"),
        ("h.5.mlp.act", "the MLP of block 5"),
        ("mlp_out_layer_8", "the MLP of block 8"),
        ("model.layers.2.block_sparse_moe", "the MLP of block 2"),
        ("blocks.3.mlp.hook_out", "the MLP of block 3"),
        ("blocks.3.hook_attn_out", "the attention of block 3"),
        ("blocks.3.attn.hook_z", "the attention of block 3"),
        ("model.layers.5.self_attn.o_proj", "the attention of block 5"),
        ("attn_out_layer0", "the attention of block 0"),
        ("backbone.layers.3.mixer", "the state-space mixer of block 3"),
        ("blocks.3.ln2.hook_normalized", "a norm of block 3"),
        ("h.5.ln_1", "a norm of block 5"),
        ("model.layers.3.input_layernorm", "a norm of block 3"),
        ("model.norm", "the end of the model"),
        ("ln_final.hook_normalized", "the end of the model"),
        ("lm_head", "the end of the model"),
        ("model.vision_tower.layers.5", "another part of the model"),
        ("blocks.3.hook_new", "something inside block 3"),
        ("layers.5.adapter", "something inside block 5"),
        ("layers.-1", "counts blocks from the end"),
    ],
)
def test_what_is_no_blocks_output_is_told_apart_and_has_no_layer(name, what):
    assert hook_point_named(name).layer is None and what in hook_point_named(name).fault()


def test_a_block_that_the_model_lacks_is_a_fault():
    assert hook_point_named("blocks.4.hook_resid_pre").fault(4) is None  # the output of the last block
    assert "the model has 4 blocks, 0 to 3" in hook_point_named("blocks.5.hook_resid_pre").fault(4)
    assert "the model has 4 blocks, 0 to 3" in hook_point_named("layers.4").fault(4)


@pytest.mark.parametrize("name", ["", "sae", "v2", "player_9", "arr_0", "overall.mean", "x"])
def test_a_name_that_says_nothing_of_a_place_is_no_place(name):
    assert hook_point_named(name) is None and hook_point_named(name, is_label=True) is None


@pytest.mark.parametrize(
    ("label", "layer"),
    [
        ("12", 12),
        ("layer_activations.3", 3),
        ("directions.7", 7),
        ("direction.7", 7),
        ("backtracking.12", 12),
        ("12.mean", 12),
        ("layer_15.diff_in_means", 15),
        ("model.blocks.7.vector", 7),
        ("layer_3.attention_seeking", 3),
        ("refusal_layer_12", 12),
    ],
)
def test_of_a_label_that_people_chose_unknown_words_mean_nothing(label, layer):
    assert hook_point_named(label, is_label=True).layer == layer


def test_a_label_about_attention_is_not_the_output_of_attention():
    assert hook_point_named("attention", is_label=True) is None
    assert "the attention of a block" in hook_point_named("attn_out", is_label=True).fault()


@pytest.mark.parametrize(
    ("folder", "layer"),
    [
        ("layer_20/width_16k/average_l0_71", 20),
        ("models--google--gemma-scope-2b-pt-res/0f3/layer_20/width_16k/average_l0_71", 20),
        ("resid_post/layer_12_width_16k_l0_small", 12),
        ("resid_post_all/layer_12_width_16k_l0_small", 12),
        ("resid_post_layer_11/trainer_1", 11),
        ("resid_out_layer3/10_32768", 3),
        ("Llama3_1-8B-Base-L15R-8x/checkpoints", 15),
        ("checkpoints/layers.5", 5),
        ("400M-Slimpajama/L15R", 15),
    ],
)
def test_the_folders_of_published_dictionaries_say_their_layer(folder, layer):
    assert hook_point_of_folder(folder.split("/")).layer == layer


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("gemma-scope-9b-pt-mlp/layer_20/width_16k/average_l0_71", "the MLP of block 20"),
        ("gemma-scope-2b-pt-att/layer_20/width_16k/average_l0_71", "the attention of block 20"),
        ("gemma-scope-2b-pt-transcoders/layer_20/width_16k/average_l0_71", "two places of block 20"),
        ("embedding/width_4k/average_l0_6", "the embeddings"),
        ("mlp_out/layer_12_width_16k_l0_small", "the MLP of block 12"),
        ("crosscoder/layer_7_13_17_22_width_262k_l0_medium", "several blocks"),
        ("mlp_out_layer1/10_32768", "the MLP of block 1"),
        ("Llama3_1-8B-Base-L15M-8x/checkpoints", "the MLP of block 15"),
        ("layers.5.self_attn", "the attention of block 5"),
    ],
)
def test_the_folders_of_other_places_say_so(folder, what):
    assert what in hook_point_of_folder(folder.split("/")).fault()


def test_folders_that_say_nothing_are_no_place():
    assert hook_point_of_folder(["home", "3", "runs", "average_l0_71"]) is None


@pytest.mark.parametrize(
    ("statements", "layer"),
    [
        ({"hook_name": "blocks.3.hook_resid_pre", "hook_layer": 3}, 2),
        ({"hook_point": "blocks.{layer}.hook_resid_post", "hook_point_layer": 6}, 6),
        ({"layer": 8}, 8),
        ({"layer": "8"}, 8),
        ({"layer": 12, "submodule_name": "resid_post_layer_12"}, 12),
        ({"layer": 12, "submodule_name": "resid_pre"}, 11),
        ({"layer": 12, "io": "in"}, 11),
        ({"layer": 12, "io": "out"}, 12),
        ({"hf_hook_point_in": "model.layers.17.output", "hf_hook_point_out": "model.layers.17.output"}, 17),
        ({"layer_type": "decoder_block", "layer": 2}, 2),
        ({"layer_num": 6, "hook_type": "hook_resid_pre"}, 5),
    ],
)
def test_a_configuration_says_its_place_by_the_keys_of_its_tool(statements, layer):
    assert hook_point_stated(statements).layer == layer


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        ({"layer": 12, "submodule_name": "mlp_out"}, "the MLP of block 12"),
        ({"layer": 2, "layer_type": "self_attn"}, "the attention of"),
        ({"hook_name": "blocks.3.hook_resid_post", "hook_head_index": 2}, "hook_head_index 2"),
        ({"layer": -1}, "counts blocks from the end"),
        ({"hook_name": "blocks.3.hook_resid_pre", "hook_name_out": "blocks.3.hook_mlp_out"}, "as a transcoder reads"),
        ({"layer": 3, "io": "in_and_out"}, "as a transcoder reads"),
    ],
)
def test_a_configuration_of_another_place_says_so(statements, what):
    fault = hook_point_stated(statements, where="cfg.json").fault()
    assert what in fault and fault.startswith("cfg.json: ")


@pytest.mark.parametrize(
    "statements",
    [
        {"hook_name": "blocks.3.hook_resid_post", "hook_layer": 5},
        {"hook_name": "blocks.3.hook_resid_post", "site": "resid_pre"},
    ],
)
def test_statements_that_contradict_each_other_are_refused(statements):
    with pytest.raises(HookPointError, match=r"name two .*correct one of them"):
        hook_point_stated(statements)


def test_a_configuration_that_says_nothing_is_no_place():
    assert hook_point_stated({"k": 3, "layer": None, "hook_name": ""}) is None and hook_point_stated({}) is None
