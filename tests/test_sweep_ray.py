"""Sweeps on a Ray cluster of two machines: two raylets, each with a core of its own."""

import os
import threading
import time
from pathlib import Path

import pytest

from codec_det.errors import ConfigError
from codec_det.sweep.machines import RayCluster, differing_file
from codec_det.sweep.state import states_of
from tests.sweeps import make_configs, points_of, study_of, write_study
from tools.sweep import main

pytest.importorskip("ray", reason="Ray is an optional extra")
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, for the driver, and two machines with one each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * MEBIBYTE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80 * MEBIBYTE)
    yield cluster
    cluster.shutdown()


def machine_of(pid):
    """Process id of the raylet that a point's process belongs to: the parent of its parent."""
    for _ in range(2):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def process_of(point):
    """Process id of the run of ``point``; None where it is not running."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        runs = any(word.endswith(b"train_net.py") for word in words[:2])
        if runs and str(point.folder).encode() in words:
            return int(path.parent.name)
    return None


def lose_machine_of(point, cluster, lost):
    """Remove the machine that runs ``point`` once it has a checkpoint."""
    deadline = time.monotonic() + 600
    while not (point.folder / "last_checkpoint").exists():
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
    process = process_of(point)
    raylet = machine_of(process)
    (node,) = [
        node
        for node in cluster.worker_nodes
        if any(p.process.pid == raylet for p in node.all_processes["raylet"])
    ]
    cluster.remove_node(node, allow_graceful=False)
    lost.append(process)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_points_of_a_lost_machine_run_on_another(cluster, tmp_path, tiny_set, capsys):
    options = {"SOLVER.MAX_ITER": 6, "SOLVER.CHECKPOINT_PERIOD": 1}
    make_configs(tmp_path / "configs", tiny_set, **options)
    study = study_of(tmp_path)
    study.update(options={}, prepare={})
    study["grid"][0]["regimes"] = ["tft"]
    path = write_study(tmp_path, study)
    points = points_of(path)
    victim = points["tft-low-seed_1"]
    lost = []
    watcher = threading.Thread(target=lose_machine_of, args=(victim, cluster, lost), daemon=True)
    watcher.start()
    assert main([str(path), "--address", cluster.address, "--num-gpus", "0"]) == 0
    watcher.join(5)
    output = capsys.readouterr().out
    assert len(lost) == 1
    assert not Path(f"/proc/{lost[0]}").exists()
    assert "tft-low-seed_1: failed (lost: " in output
    assert "tft-low-seed_1: handed to Ray, to be resumed, attempt 2; console in" in output
    assert "2 of 2 points are done" in output
    assert all(state.done for state in states_of(list(points.values())).values())
    log = (victim.folder / "log.txt").read_text()
    assert log.count("Rank of current process: 0") == 2


@pytest.fixture
def machines(cluster):
    with RayCluster(cluster.address, None) as machines:
        yield machines


@pytest.mark.slow
def test_machines_see_the_same_files(machines, tmp_path):
    (tmp_path / "there.yaml").write_text("a: 1")
    machines.check_files([tmp_path / "there.yaml"])
    # One machine of two is lost by now.
    assert machines.room() == len(machines._nodes()) - 1


@pytest.mark.slow
def test_machine_that_is_too_busy(machines, monkeypatch):
    monkeypatch.setattr("codec_det.sweep.machines.START_SECONDS", 0)
    with pytest.raises(ConfigError, match="has not begun to work within 0 seconds: free it"):
        machines.check_files([])


@pytest.mark.slow
def test_more_gpus_than_any_machine_has(cluster):
    with pytest.raises(ConfigError, match="num_gpus is 3, but the machines of the cluster have at"):
        RayCluster(cluster.address, 3)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_no_cluster_at_the_address(address):
    with pytest.raises(ConfigError, match=f"--address {address}: there is no Ray cluster"):
        RayCluster(address, None)


def test_files_that_differ(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    here = {str(tmp_path / "a"): b"1"}
    assert differing_file(here) is None
    assert differing_file({**here, str(tmp_path / "b"): b"3"}) == str(tmp_path / "b")
    assert differing_file({**here, str(tmp_path / "c"): b"1"}) == str(tmp_path / "c")
