"""Files of Jacobian lenses: the other tool's are read right, ours by its rule, and what does not fit is refused.

The golden files are made here by the published rule, in plain code: the prompt is repeated along the batch, row b of a
pass has a one-hot cotangent at output b of every valid position, and the gradients at a block's *output* are averaged
over these positions. A lens that took block inputs for outputs would read them wrong by a whole block.
"""

import copy
from dataclasses import replace

import pytest
import torch

from backend.lens.jacobian import prompt_rows
from backend.lens.jacobian_files import Card, has_folded_norm, read, write
from backend.lens.kinds import LensError
from backend.lens.lens import JacobianLens, Readout
from backend.models.pullbacks import Pullbacks
from backend.models.residuals import record_residuals
from tests.backend.lens.conftest import D

TOKENS = torch.randint(3, 384, (20,), generator=torch.Generator().manual_seed(0)).tolist()
CARD = Card("owner/Some-Model", "a" * 40, "owner/texts", 2, 128, "float32", (None, 0.25))


def golden(model, path, prompts=(TOKENS,)):
    """What the other tool saves: Jacobians of every block but the last, by a plain loop."""
    blocks, target = model.model.layers, len(model.model.layers) - 1
    sums = {layer: torch.zeros(D, D) for layer in range(target)}
    for prompt in prompts:
        outputs = {}

        def keep(layer, outputs=outputs):
            def hook(_block, _inputs, output):
                h = output if torch.is_tensor(output) else output[0]
                if layer == 0:
                    h.requires_grad_(True)
                outputs[layer] = h

            return hook

        handles = [block.register_forward_hook(keep(layer)) for layer, block in enumerate(blocks)]
        model.model(input_ids=torch.tensor([prompt]).expand(D, -1), use_cache=False)
        for handle in handles:
            handle.remove()
        valid = list(range(16, len(prompt) - 1))
        cotangent = torch.zeros_like(outputs[target])
        for dim in range(D):
            cotangent[dim, valid, dim] = 1.0
        if target:
            found = torch.autograd.grad(outputs[target], [outputs[layer] for layer in range(target)], cotangent)
            for layer, gradient in enumerate(found):
                sums[layer] += gradient[:, valid].mean(1)
    matrices = {layer: (matrix / len(prompts)).to(torch.float16) for layer, matrix in sums.items()}
    content = {"J": matrices, "n_prompts": len(prompts), "source_layers": sorted(matrices), "d_model": D}
    torch.save(content, path)
    return path


def test_a_file_for_a_model_of_one_block_has_no_matrix_and_reads_the_model_itself(small, tmp_path):
    loaded = small(1)
    found = read(golden(loaded.model, tmp_path / "m_jacobian_lens.pt"), loaded)
    h = record_residuals(loaded, TOKENS, [0])[0]
    assert found.lens.jacobians == {} and found.n_prompts == 1
    assert prompt_rows(Pullbacks(loaded), TOKENS, torch.eye(D), []).shape == (0, D, D)
    with torch.inference_mode():
        expected = loaded.model(torch.tensor([TOKENS])).logits[0].log_softmax(-1)
    assert torch.equal(Readout(loaded).log_probs(found.lens, h, 0), expected)


def test_a_file_for_a_model_of_two_blocks_reads_the_output_of_the_first(small, tmp_path):
    loaded = small(2)
    path = golden(loaded.model, tmp_path / "m_jacobian_lens.pt", prompts=(TOKENS, TOKENS[::-1]))
    found = read(path, loaded)
    ours = torch.stack([prompt_rows(Pullbacks(loaded), ids, torch.eye(D), [0]) for ids in (TOKENS, TOKENS[::-1])])
    torch.testing.assert_close(found.lens.jacobians[0], ours.mean(0)[0], rtol=2e-3, atol=2e-3)  # through float16
    h = record_residuals(loaded, TOKENS, [0])[0]
    torch.testing.assert_close(found.lens.carried(h, 0), h @ ours.mean(0)[0].T, rtol=1e-2, atol=1e-2)
    assert found.n_prompts == 2 and found.model is None


def test_what_is_written_is_read_by_the_published_rule_and_by_ours(small, tmp_path):
    loaded = small(2)
    (matrix,) = prompt_rows(Pullbacks(loaded), TOKENS, torch.eye(D), [0])
    folder = write(JacobianLens(2, {0: matrix}), CARD, tmp_path)
    assert folder == tmp_path / "some-model" / "jlens" / "owner-texts"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.yaml", "some-model_convergence.csv", "some-model_jacobian_lens.pt"]
    content = torch.load(folder / names[2], map_location="cpu", weights_only=True)
    assert set(content) == {"J", "n_prompts", "source_layers", "d_model"}
    assert (content["n_prompts"], content["source_layers"], content["d_model"]) == (2, [0], D)
    assert content["J"][0].dtype == torch.float16
    torch.testing.assert_close(content["J"][0].float(), matrix, rtol=1e-3, atol=1e-3)
    header, first, last = (line.split(",") for line in (folder / names[1]).read_text().split())
    assert header == ["n_done", "identity_distance", "mean_rel_change"] and first == ["1", "", ""]
    apart = sum((matrix[row, column].item() - (row == column)) ** 2 for row in range(D) for column in range(D))
    assert last[::2] == ["2", "0.25"] and float(last[1]) == pytest.approx((apart / D) ** 0.5)
    assert f"final_identity_distance: {last[1]}" in (folder / names[0]).read_text()
    for where in (folder, folder / names[2], tmp_path):
        found = read(where, loaded)
        assert torch.equal(found.lens.jacobians[0], content["J"][0].float()) and found.model == "owner/Some-Model"


def test_rows_of_named_tokens_alone_cannot_be_written(tmp_path):
    with pytest.raises(LensError, match="named tokens alone"):
        write(JacobianLens(2, {}), CARD, tmp_path)


def saved(path, **changed):
    content = {"J": {0: torch.zeros(D, D)}, "n_prompts": 1, "source_layers": [0], "d_model": D}
    torch.save({key: value for key, value in {**content, **changed}.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"J": None, "jacobian_sum": {0: torch.zeros(D, D)}, "n_done": 3}, "no J .*jacobian_sum, n_done.*going on"),
        ({"d_model": 8}, r"layer 0 is \(16, 16\); a matrix of \(8, 8\)"),
        ({"d_model": 8, "J": {0: torch.zeros(8, 8)}}, "streams of 8 values; owner/Some-Model has 16"),
        ({"d_model": None}, "d_model is None"),
        (
            {"J": {0: torch.zeros(D, D), 1: torch.zeros(D, D)}, "source_layers": [0, 1]},
            "up to 1 towards layer 2, and",
        ),
        ({"source_layers": [3]}, r"source_layers are \[3\], and J has layers \[0\]"),
        ({"J": {0: torch.full((D, D), float("nan"))}}, "NaN"),
        ({"J": {"first": torch.zeros(D, D)}}, "key 'first'"),
        ({"J": [torch.zeros(D, D)]}, "J is list"),
        ({"J": {0: torch.zeros(D)}}, r"layer 0 is \(16,\)"),
    ],
)
def test_a_file_that_is_no_lens_of_this_model_is_refused_by_name(small, tmp_path, changed, words):
    path = saved(tmp_path / "m_jacobian_lens.pt", **changed)
    with pytest.raises(LensError, match=words) as refused:
        read(path, small(2))
    assert path.name in str(refused.value)


@pytest.mark.parametrize(
    "config, words",
    [
        ('hf_model_name: "Qwen/Qwen3-4B"\n', "of Qwen/Qwen3-4B, and this model is owner/Some-Model"),
        ('hf_model_name: "owner/Some-Model"\nrevision: "def"\n', "of revision def .* this one is a{40}"),
        ('hf_model_name: "owner/Some-Model"\nfit:\n  target_layer: 5\n', "towards layer 5"),
    ],
)
def test_a_lens_that_says_another_model_revision_or_layer_is_refused(small, tmp_path, config, words):
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(LensError, match=words):
        read(saved(tmp_path / "m_jacobian_lens.pt"), small(2))


def test_a_model_may_be_known_by_another_name_and_by_another_owner(small, tmp_path):
    path = saved(tmp_path / "m_jacobian_lens.pt")
    for config in ('hf_model_name: "someone/some-model"\nfit:\n  target_layer: null\n', "hf_model_name: gpt2\n"):
        (tmp_path / "config.yaml").write_text(config)
        assert read(path, small(2), known_as="gpt2").lens.n_layers == 2


def test_weights_with_folded_norms_are_refused(small, tmp_path):
    loaded = small(2)
    folded = replace(loaded, model=copy.deepcopy(loaded.model))
    folded.model.lm_head.weight.data *= folded.model.model.norm.weight.data
    folded.model.model.norm.weight.data[:] = 1
    assert has_folded_norm(folded) and not has_folded_norm(loaded)
    with pytest.raises(LensError, match="folded"):
        read(saved(tmp_path / "m_jacobian_lens.pt"), folded)


def test_pickles_pointers_and_folders_without_one_lens_are_refused(small, tmp_path):
    loaded = small(2)
    path = tmp_path / "m_jacobian_lens.pt"
    torch.save({"J": CARD}, path)
    with pytest.raises(LensError, match="refused"):
        read(path, loaded)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(LensError, match="git lfs pull"):
        read(path, loaded)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(LensError, match=r"refused|cannot be read"):
        read(path, loaded)
    (tmp_path / "n_jacobian_lens.pt").write_bytes(b"")
    with pytest.raises(LensError, match=r"m_jacobian_lens\.pt, n_jacobian_lens\.pt"):
        read(tmp_path, loaded)
    with pytest.raises(LensError, match="found none"):
        read(tmp_path / "nowhere", loaded)
