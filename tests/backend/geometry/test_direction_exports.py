"""What leaves the library is read again, by our own readers and by the tools of the formats, to the last bit."""

import json

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors import safe_open

from backend.geometry.direction_exports import FORMATS, KEY, NotExported, exported_name, to_gguf, to_safetensors
from backend.geometry.direction_files import read_direction
from tests.backend.store.test_library import vector


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.ending)
@pytest.mark.parametrize("seed", range(20))
def test_what_is_exported_is_read_again_exactly(form, seed):
    kept = vector(seed, "a / name: of “mine”, 7", d=16, layer=3, length=10.0 ** (seed - 10))
    name = exported_name(kept, form.ending)
    found = read_direction(form.encoded(kept, "llama"), name, d_model=16, n_layers=6)
    assert found.given.tobytes() == kept.vector.tobytes() and found.vector.tobytes() == kept.unit.tobytes()
    assert (found.layer, found.norm) == (3, kept.norm)


def test_a_safetensors_file_says_all_that_is_known(tmp_path):
    kept = vector(d=16)
    path = tmp_path / "v.safetensors"
    path.write_bytes(to_safetensors(kept))
    with safe_open(path, "np") as file:
        about = file.metadata()
        assert np.array_equal(file.get_tensor(KEY), kept.vector) and list(file.keys()) == [KEY]
    assert (about["name"], about["model"], about["revision"], about["layer"]) == ("doubt", "tiny", "r1", "3")
    assert (float(about["norm"]), about["sha256"], json.loads(about["made"])) == (
        kept.norm,
        kept.sha256,
        dict(kept.made),
    )


def test_a_control_vector_has_the_layout_of_repeng_and_llama_cpp(tmp_path):
    """general.architecture = controlvector, controlvector.model_hint and layer_count, a tensor direction.k of float32
    for block k (repeng's export_gguf; llama.cpp's common_control_vector_load)."""
    kept = vector(d=16, layer=5)
    path = tmp_path / "v.gguf"
    path.write_bytes(to_gguf(kept, "llama"))
    read = GGUFReader(path)

    def said(key):
        return read.fields[key].contents()

    assert said("general.architecture") == "controlvector" and said("controlvector.model_hint") == "llama"
    assert said("controlvector.layer_count") == 1
    (tensor,) = read.tensors
    assert (tensor.name, tensor.tensor_type.name, list(tensor.shape)) == ("direction.5", "F32", [16])
    assert np.array_equal(tensor.data, kept.vector)


def test_block_0_has_no_place_in_a_control_vector():
    with pytest.raises(NotExported, match=r"block 0.*Export it as safetensors"):
        to_gguf(vector(layer=0), "llama")
    assert read_direction(to_safetensors(vector(layer=0)), "v.safetensors", d_model=6, n_layers=4).layer == 0
