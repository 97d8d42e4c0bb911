"""Fingerprints: what must differ differs, what is the same stays the same."""

import hashlib
import shutil

from workbench.run.lineage import PACKAGES, base_fingerprint, data_fingerprint, git_commit, package_versions


def test_a_file_is_its_size_and_sha256(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"abc")
    assert data_fingerprint(path) == {"path": str(path), "bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}


def test_one_byte_changes_a_file_or_folder(tmp_path):
    (tmp_path / "d/sub").mkdir(parents=True)
    first, second = tmp_path / "d/a", tmp_path / "d/sub/b"
    content = bytearray(3 << 20)
    first.write_bytes(content)
    second.write_bytes(b"x")
    file, folder = data_fingerprint(first), data_fingerprint(tmp_path / "d")
    assert folder["bytes"] == len(content) + 1
    content[2 << 20] = 1
    first.write_bytes(content)
    assert data_fingerprint(first)["sha256"] != file["sha256"]
    assert data_fingerprint(tmp_path / "d")["sha256"] != folder["sha256"]


def write_base(folder, content):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text("{}")
    return folder


def test_base_is_known_by_its_weights_and_not_by_its_place(tmp_path):
    content = bytes(3 << 20)
    first = write_base(tmp_path / "a", content)
    copy = shutil.copytree(first, tmp_path / "copy")
    (copy / "README.md").write_text("moved")
    assert base_fingerprint(first) == base_fingerprint(copy)
    others = {
        base_fingerprint(write_base(tmp_path / "head", b"\x01" + content[1:])),
        base_fingerprint(write_base(tmp_path / "tail", content[:-1] + b"\x01")),
        base_fingerprint(write_base(tmp_path / "longer", content + b"\x00")),
        base_fingerprint(first),
    }
    assert len(others) == 4


def test_a_small_base_is_read_whole(tmp_path):
    first = write_base(tmp_path / "a", b"abc")
    assert base_fingerprint(first) != base_fingerprint(write_base(tmp_path / "b", b"abd"))


def test_versions_of_everything_that_training_depends_on():
    versions = package_versions()
    assert set(versions) == {"python", *PACKAGES}
    import torch

    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_commit_is_a_hash_or_nothing():
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("+")) == 40
