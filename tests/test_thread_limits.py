"""How many threads a process takes by default, and what decides it."""

import numba
import pytest

import fastmlp
from fastmlp import thread_limits

MOST = numba.config.NUMBA_NUM_THREADS


def limit_of(monkeypatch, **environment):
    """The limit of a process that starts with these variables, and no container."""
    for name in (thread_limits.VARIABLE, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return thread_limits._of_process.__wrapped__()


def test_the_smallest_limit_decides(monkeypatch):
    monkeypatch.setattr(thread_limits, "_cores", lambda: 7)
    monkeypatch.setattr(thread_limits, "most_threads", lambda: 5)
    monkeypatch.setattr(thread_limits, "cgroup_quota", lambda root: None)
    assert limit_of(monkeypatch) == (5, "NUMBA_NUM_THREADS")
    assert limit_of(monkeypatch, OMP_NUM_THREADS="4,2") == (4, "OMP_NUM_THREADS")
    for nothing in ("", "0", "-1", "many"):  # as OpenMP, which goes on without it
        assert limit_of(monkeypatch, OMP_NUM_THREADS=nothing).threads == 5
    monkeypatch.setattr(thread_limits, "cgroup_quota", lambda root: 2.5)
    assert limit_of(monkeypatch) == (3, "the container's CPU quota")
    monkeypatch.setattr(thread_limits, "cgroup_quota", lambda root: 0.2)
    assert limit_of(monkeypatch).threads == 1
    monkeypatch.setattr(thread_limits, "_cores", lambda: 1)
    assert limit_of(monkeypatch) == (1, "the cores that this process may use")
    own = limit_of(monkeypatch, FASTMLP_NUM_THREADS="4", OMP_NUM_THREADS="2")
    assert own == (4, "FASTMLP_NUM_THREADS")


@pytest.mark.parametrize("wrong", ["0", "-2", "2.0", "all", str(MOST + 1)])
def test_a_wrong_number_of_threads_is_an_error_whose_mend_works(monkeypatch, wrong):
    with pytest.raises(ValueError, match=f"expected 1 to {MOST}, got") as error:
        limit_of(monkeypatch, FASTMLP_NUM_THREADS=wrong)
    mend = str(error.value).split("set FASTMLP_NUM_THREADS=")[1].split(",")[0]
    assert limit_of(monkeypatch, FASTMLP_NUM_THREADS=mend).threads == MOST


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2.0),  # as a container sees it
        ("1:cpu:/\n0::/", {"unified/cpu.max": "300000 100000"}, 3.0),
        (
            "4:cpu,cpuacct:/jobs\n3:memory:/",
            {
                "cpu,cpuacct/jobs/cpu.cfs_quota_us": "80000",
                "cpu,cpuacct/jobs/cpu.cfs_period_us": "40000",
            },
            2.0,
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("3:memory:/", {"memory/cpu.cfs_quota_us": "1", "memory/cpu.cfs_period_us": "1"}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(tmp_path, groups, files, quota):
    assert thread_limits.cgroup_quota(tmp_path) is None  # without /proc
    groups_file = tmp_path / "proc/self/cgroup"
    places = {groups_file: groups} | {tmp_path / "sys/fs/cgroup" / at: files[at] for at in files}
    for place, text in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    assert thread_limits.cgroup_quota(tmp_path) == quota


def test_a_dask_workers_tasks_take_no_more_threads_than_it_has(monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(fastmlp.threads, "_num_threads", None)
    monkeypatch.setattr(thread_limits, "_of_process", lambda: thread_limits.Limit(3, "cores"))
    cluster = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with LocalCluster(**cluster, dashboard_address=":0") as made, Client(made) as client:
        inside = client.submit(lambda: (fastmlp.get_num_threads(), thread_limits.default_limit()))
        assert inside.result() == (2, (2, "the Dask worker's nthreads"))
        assert fastmlp.get_num_threads() == 3  # outside of its tasks
        fastmlp.set_num_threads(1)
        assert client.submit(fastmlp.get_num_threads, pure=False).result() == 1
