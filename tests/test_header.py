"""README.md's header: what a Space reads of it, against the documented keys
(https://huggingface.co/docs/hub/spaces-config-reference)."""

import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from monju.models import packaged

ROOT = Path(__file__).parents[1]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KEYS = {"title": str, "emoji": str, "colorFrom": str, "colorTo": str, "sdk": str, "sdk_version": str, "python_version": str,
        "app_file": str, "app_port": int, "base_path": str, "fullWidth": bool, "header": str, "short_description": str,
        "models": list, "datasets": list, "tags": list, "thumbnail": str, "pinned": bool, "hf_oauth": bool,
        "hf_oauth_scopes": list, "hf_oauth_expiration_minutes": int, "hf_oauth_authorized_org": (str, list),
        "disable_embedding": bool, "startup_duration_timeout": str, "custom_headers": dict, "preload_from_hub": list,
        "suggested_hardware": str, "license": str}
HEADER = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_every_key_is_documented_and_of_its_type():
    for key, value in HEADER.items():
        assert key in KEYS and isinstance(value, KEYS[key]), key


def test_the_header_says_what_a_space_needs():
    assert HEADER["sdk"] == "gradio" and (ROOT / HEADER["app_file"]).is_file() and HEADER["title"] == "Monju"
    assert {HEADER["colorFrom"], HEADER["colorTo"]} <= COLOURS and 0 < len(HEADER["short_description"]) <= 60
    assert HEADER["suggested_hardware"] == "cpu-basic" and re.fullmatch(r"3\.1[0-3]", HEADER["python_version"])
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in HEADER["models"] + HEADER["datasets"])
    assert HEADER["hf_oauth"] is True and HEADER["hf_oauth_expiration_minutes"] <= 43_200


def test_what_is_preloaded_are_models_and_files_of_them():
    """A repository, files separated by commas, a revision: models alone."""
    for line in HEADER["preload_from_hub"]:
        repository, files, *revision = line.split(" ")
        assert repository in HEADER["models"] and not revision
        assert all(re.fullmatch(r"[\w.-]+\.(json|txt|safetensors)", name) for name in files.split(","))
    assert set(packaged.TABLE[packaged.MPNET].files) <= set(files.split(","))


def test_the_sdk_is_a_gradio_that_the_requirements_take():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = {found.name: found for line in lines if line and not line.startswith("#") for found in [Requirement(line)]}
    assert wanted["gradio"].specifier.contains(Version(HEADER["sdk_version"]))
    for offered in ("2.8.0", "2.9.1", "2.10.0", "2.11.0"):  # ZeroGPU's
        assert wanted["torch"].specifier.contains(Version(offered))
