"""The machine's limits beside which `fastmlp bench` measures: its caches, and its rates."""

import os

from fastmlp_bench import environment, limits


def test_the_caches_are_those_of_the_cores_and_shared_ones_count_once(tmp_path, monkeypatch):
    for core in range(2):
        own = str(core)
        each = ("1 Data 32K", own), ("1 Instruction 64K", own), ("2 Unified 1024K", "0-1")
        for number, (words, shared) in enumerate(each):
            place = tmp_path / str(core) / f"index{number}"
            place.mkdir(parents=True)
            values = dict(zip(("level", "type", "size"), words.split(), strict=True))
            for name, value in (values | {"shared_cpu_list": shared}).items():
                (place / name).write_text(f"{value}\n")
    monkeypatch.setattr(environment, "CACHES", str(tmp_path / "{}"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 0}, raising=False)
    environment.cache_sizes.cache_clear()
    try:
        assert environment.cache_sizes(1) == {"level 1": 32 << 10, "level 2": 1 << 20}
        assert environment.cache_sizes(2) == {"level 1": 64 << 10, "level 2": 1 << 20}
        found = [limits.level_of(size, 2) for size in (1, 64 << 10, 1 << 20, (1 << 20) + 1)]
        assert found == ["level 1", "level 1", "level 2", "memory"]
        monkeypatch.setattr(environment, "CACHES", str(tmp_path / "none {}"))
        sizes = environment.cache_sizes(3)
        assert sizes == {"level 1": 96 << 10, "level 2": 3 << 20, "level 3": 32 << 20}
    finally:
        environment.cache_sizes.cache_clear()


def test_the_limits_of_a_run_are_measured(monkeypatch):
    monkeypatch.setattr(limits, "MOST_MEMORY", 1 << 22)
    monkeypatch.setattr(limits, "STREAM_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "cache_sizes", lambda threads: {"level 1": 1 << 16})
    found = limits.measure_limits(["float32", "float64"], 1)
    assert set(found["peak_flops"]) == {"float32", "float64"}
    assert [it["level"] for it in found["levels"]] == ["level 1", "memory"]
    assert all(it[name] > 0 for it in found["levels"] for name in ("read", "update"))
