"""tools/install_detectron2.py: a small fake carrier wheel stands in for the 2 MB real one."""

import base64
import csv
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import install_detectron2 as tool

UPSTREAM = {
    "detectron2/__init__.py": b'__version__ = "0.6"\n',
    "detectron2/config/lazy.py": b'import detectron2.utils\nNAME = "detectron2.x"  # \xc3\xa9\n',
    "detectron2/model_zoo/configs/a/b.yaml": b"MODEL: {}\n",
}
NOT_TAKEN = {"LabGym/__main__.py": b"raise SystemExit\n", "LabGym/detectron2_like.py": b""}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def carrier(tmp_path):
    """A wheel made as LabGym makes its own: the folder moved, every import prefixed."""
    path = tmp_path / "labgym.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("LabGym/detectron2/", b"")
        for name, content in UPSTREAM.items():
            prefixed = content.replace(b"detectron2.", b"LabGym.detectron2.")
            archive.writestr(f"LabGym/{name}", prefixed)
        for name, content in NOT_TAKEN.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def pip_calls(monkeypatch):
    """Records what would be given to pip, so that no test installs anything."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(tool, "run_pip", lambda *args: calls.append(args))
    return calls


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(tool, "find_installed", lambda: None)


def test_mapping_back_restores_upstream_and_takes_nothing_else(carrier):
    assert tool.map_back(carrier) == UPSTREAM


def test_digest_depends_on_names_contents_and_their_borders():
    digests = {
        tool.tree_digest(tree)
        for tree in ({"a": b"bc"}, {"ab": b"c"}, {"a": b"bd"}, {"a": b"bc", "d": b""}, {})
    }
    assert len(digests) == 5
    assert tool.tree_digest({"x": b"1", "y": b"2"}) == tool.tree_digest({"y": b"2", "x": b"1"})


def test_a_tree_with_one_changed_byte_is_refused():
    expected = tool.tree_digest(UPSTREAM)
    tool.check_tree(UPSTREAM, expected)
    changed = {**UPSTREAM, "detectron2/__init__.py": b'__version__ = "0.7"\n'}
    with pytest.raises(tool.InstallError, match=f"not upstream commit {tool.UPSTREAM_COMMIT}"):
        tool.check_tree(changed, expected)


def test_a_tampered_carrier_is_refused(carrier):
    expected = sha256(carrier)
    tool.check_carrier(carrier, expected)
    with carrier.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(tool.InstallError, match="expected " + expected):
        tool.check_carrier(carrier, expected)


def test_built_wheel_has_a_record_that_verifies(tmp_path):
    wheel = tool.build_wheel(UPSTREAM, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"detectron2-{tool.VERSION}.dist-info"
        rows = list(csv.reader(archive.read(f"{info}/RECORD").decode().splitlines()))
        assert [row[0] for row in rows] == names
        for name, digest, size in rows[:-1]:
            content = archive.read(name)
            encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == "sha256=" + encoded.rstrip("=")
            assert int(size) == len(content)
        assert rows[-1] == [f"{info}/RECORD", "", ""]
        assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")
    assert set(UPSTREAM) < set(names)


def test_the_same_tree_gives_the_same_wheel(tmp_path):
    wheels = []
    for folder in (tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
        wheels.append(sha256(tool.build_wheel(UPSTREAM, folder)))
    assert wheels[0] == wheels[1]


def check_identity(metadata) -> None:
    """The identity and the warning that every copy made by the tool must carry."""
    assert metadata["Name"] == "detectron2"
    assert metadata["Version"] == tool.VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(tool.UPSTREAM_URL in url for url in metadata.get_all("Project-URL"))
    text = metadata.get_payload() or metadata["Description"]
    assert tool.UPSTREAM_COMMIT in text
    assert "not an official release" in text
    assert "detectron2._C is missing" in text


def test_metadata_says_what_the_copy_is(tmp_path):
    wheel = tool.build_wheel(UPSTREAM, tmp_path)
    [distribution] = importlib.metadata.distributions(path=[str(wheel)])
    check_identity(distribution.metadata)


def test_installed_copy_carries_that_identity():
    try:
        distribution = importlib.metadata.distribution("detectron2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("detectron2 is not installed as a package here")
    if distribution.version != tool.VERSION:
        pytest.skip(f"another build of detectron2 is installed: {distribution.version}")
    check_identity(distribution.metadata)
    tree = {
        str(file): file.read_binary()
        for file in distribution.files or []
        if file.parts[0] == "detectron2" and file.suffix != ".pyc"
    }
    tool.check_tree(tree)


def test_an_installed_detectron2_is_left_alone(monkeypatch, capsys, pip_calls):
    monkeypatch.setattr(tool, "find_installed", lambda: "version 0.6 in /somewhere/detectron2")
    assert tool.main([]) == 0
    assert "left alone: version 0.6 in /somewhere/detectron2" in capsys.readouterr().out
    assert pip_calls == []


def test_find_installed_locates_without_importing(monkeypatch, tmp_path):
    def found(origin):
        monkeypatch.setattr(
            tool.importlib.util, "find_spec", lambda _: SimpleNamespace(origin=origin)
        )
        return tool.find_installed()

    monkeypatch.setattr(tool.importlib.metadata, "version", lambda _: "0.6+local")
    init = tmp_path / "detectron2" / "__init__.py"
    assert found(str(init)) == f"version 0.6+local in {init.parent}"
    # What `pip uninstall` leaves when a user had put a file there: a folder without __init__.py.
    assert found(None) is None


def test_main_installs_the_wheel_it_built(carrier, monkeypatch, capsys, pip_calls, absent):
    monkeypatch.setattr(tool.check_carrier, "__defaults__", (sha256(carrier),))
    monkeypatch.setattr(tool.check_tree, "__defaults__", (tool.tree_digest(UPSTREAM),))
    assert tool.main(["--wheel", str(carrier)]) == 0
    [(command, *_, wheel)] = pip_calls
    assert command == "install"
    assert Path(wheel).name == f"detectron2-{tool.VERSION}-py3-none-any.whl"
    assert not Path(wheel).exists()  # the temporary folder is gone
    assert "without the compiled extension" in capsys.readouterr().out


def test_main_refuses_another_wheel_in_one_line(carrier, capsys, pip_calls, absent):
    assert tool.main(["--wheel", str(carrier)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: labgym.whl has sha256 ")
    assert error.count("\n") == 1
    assert tool.OFFICIAL_BUILD in error
    assert pip_calls == []


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\nmore", "does not have sha256"),
        ("WARNING: x\nERROR: No matching distribution\nhint", "No matching distribution"),
        ("killed", r"`pip download` failed;.*\(killed\)"),
    ],
)
def test_pip_errors_name_the_remedy(monkeypatch, output, problem):
    done = SimpleNamespace(returncode=1, stdout="", stderr=output)
    monkeypatch.setattr(tool.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(tool.InstallError, match=problem) as caught:
        tool.run_pip("download", "x")
    assert tool.OFFICIAL_BUILD in str(caught.value)


def test_download_pins_the_hash(tmp_path, pip_calls):
    (tmp_path / "labgym.whl").touch()
    assert tool.download_carrier(tmp_path) == tmp_path / "labgym.whl"
    [(command, *options)] = pip_calls
    assert command == "download"
    assert "--require-hashes" in options
    pinned = Path(options[-1]).read_text(encoding="utf-8")
    assert pinned == f"{tool.CARRIER} --hash=sha256:{tool.CARRIER_SHA256}\n"
