"""A vector's way in a real browser: uploaded, kept under a name, found again by its link, exported, audited."""

import io
import re
import sys

import numpy as np
import pytest
from playwright.sync_api import expect

from backend.geometry.direction_files import read_direction
from backend.store.library import Library
from tests import steerable_study
from tests.browser.conftest import serving


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    return steerable_study.make(tmp_path_factory.mktemp("library") / "small", tiny("llama"))


@pytest.fixture(scope="module")
def server(chromium, study, tmp_path_factory):
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    with serving(command, study, tmp_path_factory.mktemp("server"), own_cache=True) as address:
        yield address


def test_a_vector_is_uploaded_kept_under_a_name_found_by_its_link_exported_and_audited(tab, server, study, tiny):
    given = np.random.default_rng(5).standard_normal(tiny("llama").d_model).astype(np.float32)
    data = io.BytesIO()
    np.save(data, given)
    tab.goto(f"{server}/steering?study=small&direction=file&layer=2&beta=6&run_kind=stream")
    said = tab.locator(".st-key-intervention")
    expect(said).to_contain_text("Choose a file with a vector")
    tab.locator('input[type="file"]').set_input_files(
        {"name": "v.npy", "mimeType": "application/octet-stream", "buffer": data.getvalue()}
    )
    expect(said).to_contain_text("v.npy (array)")
    tab.get_by_text("Keep this vector").click()
    tab.get_by_role("textbox", name="Name", exact=True).fill("my doubt")
    tab.get_by_role("button", name="Keep in the library").click()
    tab.wait_for_url(re.compile("direction=library"))
    expect(said).to_contain_text("add +6 RMS of “my doubt” at layer 2")
    link = tab.url
    assert re.search(r"vector_kept=v\w+", link)

    tab.goto("about:blank")
    tab.goto(link)
    expect(said).to_contain_text("add +6 RMS of “my doubt” at layer 2")
    expect(tab.locator('input[type="file"]')).to_have_count(0)

    tab.goto(link.replace("/steering", "/direction_library"))
    expect(tab.get_by_text("Largest |z|")).to_be_visible()
    for words, ending in (("safetensors", ".safetensors"), ("GGUF control vector", ".gguf")):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=words).click()
        assert download.value.suggested_filename == f"my-doubt-layer_2{ending}"
        content = download.value.path().read_bytes()
        found = read_direction(content, f"v{ending}", d_model=len(given), n_layers=tiny("llama").n_layers)
        assert found.given.tobytes() == given.tobytes() and found.layer == 2
    tab.get_by_role("button", name="Measure KL").click()
    expect(tab.get_by_text("times that of random vectors of its norm")).to_be_visible()
    tab.get_by_role("button", name="Steer along it").click()
    tab.wait_for_url(re.compile("/steering"))
    expect(said).to_contain_text("“my doubt” at layer 2")
    assert list(Library(study).vectors()["name"]) == ["my doubt"] and tab.foreign == []
