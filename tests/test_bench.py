"""The tool behind `fastmlp bench`: its report from a made-up run, its checks, its providers."""

import csv
import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fastmlp_bench import cases, environment, populations, regressions, report, results, run, timing
from fastmlp_bench.measure import measure
from fastmlp_bench.plots import draw
from fastmlp_bench.providers import PROVIDERS, numpy_lean, plain
from helpers import DTYPES

import fastmlp
from fastmlp import reference
from fastmlp.commands import cli

ROOT = Path(__file__).parents[1]
SMALL_CASES = [
    cases.layer("float32", 9, 30, 7),
    cases.matmul("float64", 300, 12, 7, transposed=True),
    *(cases.rowwise(name, "float64", 12, 10) for name in ("relu", "softmax", "log", "log_softmax")),
    *(cases.rowwise(name, "float64", 12, 10) for name in ("tanh", "logistic", "silu", "gelu")),
    cases.rowwise("leaky_relu", "float64", 12, 10),
    cases.predict("float32", 13, (20, 8, 10)),
    cases.predict("float32", 13, (20, 8, 10), "predict_proba"),
    *(cases.update(name, "float32") for name in cases.UPDATES),
    cases.train("float32", 50, (20, 8, 6, 10), 16),  # the last batch has 2 samples
    cases.train("float64", 50, (20, 8, 10), 50),
    populations.fit_many(8, (10, 16, 3), 70, 32, providers=None),
    populations.fit_many(8, (10, 8, 8, 1), 70, 32),
    populations.estimator(
        "MLPClassifier", 300, "5-1", populations.epochs_of(200, 10, learning_rate_init=0.01)
    ),
    populations.estimator(
        "MLPRegressor", 300, "5-1", populations.epochs_of(200, 10, learning_rate_init=0.01)
    ),
]


def row(provider, seconds, beside, operation="layer", series="", value=0):
    """A row as `measure` makes it, of rounds that all took the same time."""
    ratio = seconds / beside
    return {
        **{"operation": operation, "shape": "2x3", "dtype": "float32"},
        **{"series": series, "value": value, "provider": provider, "form": "", "threads": 2},
        **{"median": seconds, "p20": seconds, "p80": seconds, "first_call": 1.0},
        **{"ratio": ratio, "ratio_p20": ratio, "ratio_p80": ratio, "flops": 10**9, "bytes": 10**6},
        **{"limit": 0.01, "of_limit": 0.01 / seconds, "peak_flops": 1e11, "bandwidth": 1e10},
        **{"binds": "level 2"},
    }


@pytest.fixture
def made_up():
    """Twice as fast as NumPy in one operation, slower than JAX in the other; three curves."""
    rows = [row("fastmlp", 0.02, 0.02), row("numpy lean", 0.04, 0.02)]
    rows += [row("fastmlp", 0.02, 0.02, "predict"), row("jax", 0.015, 0.02, "predict")]
    for value in (10, 100, 1000):
        rows.append(row("fastmlp", 1e-6 * value**2, 1, "train", "width, training", value))
        rows.append(row("fastmlp", 1e-6 * value**0.5, 1, "predict", "width, inference", value))
        rows.append(row("numpy lean", 1e-6 * value, 1, "train", "batch size, training", value))
        rows.append(row("jax", 1e-6 * value, 1, "predict", "batch size, inference", value))
    return {
        "machine": {"cpu": "a CPU", "cores": 4, "threads": 2, "system": "an OS"},
        "versions": {"python": "3", "numpy": "2"},
        "missing": {"torch eager": "no torch"},
        "limits": [
            {
                "threads": 2,
                "peak_flops": {"float32": 1e11, "float64": 5e10},
                "levels": [
                    {"level": "level 1", "size": 65536, "read": 4e11, "update": 5e11},
                    {"level": "memory", "size": 0, "read": 3e10, "update": 2e10},
                ],
            }
        ],
        "failed": {"jax, layer 2x3": "ValueError: no", "jax, layer 3x3": "ValueError: no"},
        "rows": rows,
        "memory": [{"provider": "jax", "samples": 5, "inputs": 2_000_000, "peak": 3_000_000}],
        "accuracy": [{"provider": "jax", "epoch": 1, "seconds": 0.5, "accuracy": 0.9}],
    }


def test_the_table_has_times_ratios_fractions_and_what_is_left_out(made_up):
    text = report.table(made_up)
    limit = "1 GFLOP at 100 GFLOP/s, 1 MB at 10 GB/s: limit 10.0 ms, by level 2"
    assert f"layer 2x3 float32: {limit}" in text
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line.startswith("  ")}
    assert "40.0 ms" in lines["numpy lean"]
    assert "2.00 x fastmlp" in lines["numpy lean"]
    assert "25.0% of the limit" in lines["numpy lean"]
    assert "  torch eager: no torch" in text
    assert "  jax in layer 2x3 and 1 more: ValueError: no" in text
    assert "width" not in text


def test_the_limits_are_a_table_and_old_results_have_none(made_up):
    lines = report.limit_table(made_up)
    assert lines[-4:] == [
        "| 2 threads | read, GB/s | update, GB/s | FMA, GFLOP/s |",
        "|---|---|---|---|",
        "| level 1, 64 KiB | 400 | 500 | float32 100, float64 50 |",
        "| memory | 30 | 20 |  |",
    ]
    assert all(line in report.table(made_up).splitlines() for line in lines)
    del made_up["limits"]
    for line in made_up["rows"]:
        del line["binds"]
    assert report.limit_table(made_up) == []
    assert "| layer 2x3 float32 | 20.0 ms | 50% | 2.00 |  |" in report.markdown(made_up, [])


def test_where_fastmlp_loses(made_up):
    expected = "predict 2x3 float32, times of fastmlp's: jax 0.75 (0.75 .. 0.75)"
    table = {**made_up, "rows": made_up["rows"][:4]}
    assert report.losses(table) == [expected]
    table["rows"][3]["ratio"] = 1.0
    assert report.losses(table) == []


def test_the_exponent_of_each_curve_is_fitted(made_up):
    fitted = {(series, name): slopes for series, name, *slopes in report.exponents(made_up)}
    assert fitted["width, training", "fastmlp"] == pytest.approx([2, 2])
    assert fitted["width, inference", "fastmlp"] == pytest.approx([0.5, 0.5])
    assert fitted["batch size, training", "numpy lean"] == pytest.approx([1, 1])
    lines = report.growth(made_up)
    assert lines[0] == "width, training: fastmlp 2.00 (2.00)"
    assert lines[-1] == "memory of an epoch, beside inputs of 2.0 MB: jax 3.0 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.345, "12.3 s"),
        (0.1, "100 ms"),
        (2e-3, "2.00 ms"),
        (5e-5, "50.0 us"),
        (5e-9, "0.00500 us"),
    ],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_the_readmes_part_is_replaced_and_nothing_else(made_up):
    part = report.markdown(made_up, ["docs/pictures/width.svg"])
    assert "| layer 2x3 float32 | 20.0 ms | 50%, level 2 | 2.00 |  |" in part
    assert "![width](docs/pictures/width.svg)" in part
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.with_part("page", text, part)
    assert once == f"before\n{report.BEGIN}\n{part}\n{report.END}\nafter\n"
    assert report.with_part("page", once, part) == once
    for broken in ("before", f"{report.BEGIN} only", f"{report.END}{report.BEGIN}"):
        with pytest.raises(ValueError, match="page: expected the lines"):
            report.with_part("page", broken, part)


def test_the_pages_show_the_committed_results(tmp_path, monkeypatch):
    for page in run.PAGES:
        place = tmp_path / page
        place.parent.mkdir(exist_ok=True)
        place.write_text((ROOT / page).read_text())
    monkeypatch.chdir(tmp_path)
    committed = results.read(ROOT / run.RESULTS / "results.json")
    names = ("batch-size", "width", "many-networks", "time-to-accuracy")
    pictures = [run.PICTURES / f"{name}.svg" for name in names]
    shown = [path for path in pictures if (ROOT / path).is_file()]
    run.write_pages(committed, shown)
    for page in run.PAGES:
        assert (tmp_path / page).read_text() == (ROOT / page).read_text(), page
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(picture).is_file()
    names = {
        results.case_name(row["operation"], row["shape"], row["dtype"]) for row in committed["rows"]
    }
    assert set(report.ROWS) <= names


def test_the_files_hold_every_row(made_up, tmp_path):
    paths = results.write(made_up, tmp_path / "new")
    assert results.read(paths[0]) == made_up
    rows = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert tuple(rows[0]) == results.COLUMNS
    assert [line["provider"] for line in rows] == [line["provider"] for line in made_up["rows"]]
    assert float(rows[1]["median"]) == 0.04
    assert rows[1]["versions"] == "python 3; numpy 2"


def test_the_pictures_have_axes_with_units_and_every_provider(made_up, tmp_path):
    for value in (100, 1000):
        line = row("fastmlp", 3e-4 * value**1.01, 1, "fit_many", populations.NETWORKS, value)
        made_up["rows"].append(line | {"shape": f"{value} x 10-16-3, 200 samples"})
    paths = draw(made_up, tmp_path)
    names = ["batch-size", "width", "many-networks", "time-to-accuracy"]
    assert [path.name for path in paths] == [
        f"{n}.{kind}" for n in names for kind in ("png", "svg")
    ]
    for path in paths:
        assert path.stat().st_size > 1000
    text = (tmp_path / "width.svg").read_text()
    words = "% of the machine", "hidden units", "bands: 20th", "a CPU"
    assert all(word in text for word in words)
    text = (tmp_path / "many-networks.svg").read_text()
    words = "microseconds for each network", "c x n^1.01 (a fit)", ">10-16-3, 200 samples"
    assert all(word in text for word in words)
    assert "seconds of training" in (tmp_path / "time-to-accuracy.svg").read_text()
    again = draw(made_up, tmp_path / "again")
    assert again[1].read_bytes() == paths[1].read_bytes()


def test_the_limit_of_a_training_leaves_out_what_multiplies_zeros():
    """By the images themselves; none of the committed rows is beyond its limit."""
    x = fastmlp.mnist_dataset()[0][0].reshape(60_000, 784)
    assert abs(np.mean(x == 0) - cases.MNIST_ZEROS) < 1e-3
    case = cases.train("float32", 60_000, cases.SMALL, 128)
    assert abs(case.zeros / (4 * np.count_nonzero(x == 0) * 100) - 1) < 1e-3
    assert cases.train("float32", 60_000, cases.SMALL, 128, without_zeros=True).zeros == 0
    assert cases.train("float32", 100, (100, 100, 10), 128).zeros == 0
    committed = results.read(ROOT / run.RESULTS / "results.json")["rows"]
    # With many hidden layers relu makes many zeros, which count.
    few = [row["of_limit"] or 0 for row in committed if row["series"] != "depth"]
    assert 0.5 < max(few) < 1


def slowed(results, ratio=1.0, of_limit=1.0):
    slower = json.loads(json.dumps(results))
    slower["rows"][1]["ratio"] *= ratio
    slower["rows"][0]["of_limit"] *= of_limit
    return slower


@pytest.mark.parametrize(
    ("ratio", "of_limit", "problems"),
    [(0.84, 0.84, 1), (0.86, 0.86, 0), (1.5, 1.5, 0), (0.84, 0.86, 0), (0.86, 0.84, 0)],
)
def test_regressions_lower_all_ratios_below_085_of_the_committed(
    made_up, ratio, of_limit, problems
):
    assert len(regressions.compare(slowed(made_up, ratio, of_limit), made_up)) == problems


def test_regressions_name_what_is_not_measured_any_more(made_up):
    missing = {**made_up, "rows": made_up["rows"][2:]}
    problems = regressions.compare(missing, made_up).values()
    assert [line.rpartition(": ")[2] for line in problems] == ["not measured now"]


@pytest.mark.parametrize(("right_in_try", "problems"), [(2, 0), (4, 0), (5, 1)])
def test_a_regression_is_too_slow_in_every_try(made_up, right_in_try, problems):
    slower = slowed(made_up, 0.5, 0.5)
    tries = [(1, None)]

    def again(names):
        tries.append((len(tries) + 1, names))
        return made_up if len(tries) == right_in_try else slower

    assert len(regressions.lasting(slower, made_up, again)) == problems
    case = made_up["rows"][0]
    name = f"{case['operation']} {case['shape']} {case['dtype']}"
    assert tries[1:] == [(n, {name}) for n in range(2, min(right_in_try, regressions.TRIES) + 1)]


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "torch.compile"])
def test_every_provider_computes_what_it_is_asked_for(name, case):
    provider = PROVIDERS[name]
    if missing := provider.missing():
        pytest.skip(f"{name}: no {', '.join(missing)}")
    form = provider.form(case.operation)
    arguments, error = case.make()
    made = form(*arguments) if form else None
    for call in made.values() if isinstance(made, dict) else [made] * (made is not None):
        assert error(call()) < case.tolerance


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_yardstick_of_training_is_the_references_epoch(dtype):
    x, y = cases.data(50, 20, dtype)
    parameters = cases.initial_parameters((20, 8, 6, 10), dtype)
    model = reference.MLP((20, 8, 6, 10), dtype=dtype, rng=0)
    options = {"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "optimizer": "sgd"}
    model.fit(x, y, **options, shuffle=False)
    call = numpy_lean.train(x, y, parameters, 16, 0.1)
    call()
    found = np.concatenate([array.ravel() for array in call()])
    tolerance = {np.float32: 1e-5, np.float64: 1e-13}[dtype]
    assert cases.relative_error(found, model.flat_parameters) < tolerance


def test_a_wrong_provider_is_named_and_not_timed(monkeypatch):
    def wrong(x, W, b):
        return lambda: plain.layer(x, W, b)() * np.float32(1.001)

    def broken(x, W, b):
        raise OSError("no such thing\nbut more lines")

    monkeypatch.setattr(numpy_lean, "layer", wrong)
    failed = {}
    case = cases.layer("float32", 9, 30, 7)
    rows = measure(case, 1, 1, failed, providers=("fastmlp", "numpy lean", "fastmlp reference"))
    assert [line["provider"] for line in rows] == ["fastmlp", "fastmlp reference"]
    assert {line["binds"] for line in rows} <= {"FMA", "level 1"}
    assert list(failed) == [f"numpy lean, {case.name}"]
    assert "WrongResultError: expected a relative error below 0.0001" in next(iter(failed.values()))
    monkeypatch.setattr(numpy_lean, "layer", broken)
    measure(case, 1, 1, failed, providers=("fastmlp", "numpy lean"))
    assert next(iter(failed.values())) == "OSError: no such thing"


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(4, np.nan), np.array([1, 2, 3, 4.1])])
def test_the_relative_error_sees_shapes_nans_and_values(wrong):
    expected = np.array([1.0, 2, 3, 4])
    assert cases.relative_error(expected, expected) == 0
    assert cases.relative_error(wrong, expected) > 1e-2


def test_the_run_has_a_clean_environment_and_equal_threads(monkeypatch):
    started = []
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    monkeypatch.setattr(run.subprocess, "run", lambda *a, **k: started.append((a, k)) or Done)
    assert cli.main(["bench", "--threads", "3", "--only", "layer"]) == 7
    ((command,), options) = started[0]
    assert json.loads(command[-1])["only"] == "layer"
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        assert name not in options["env"]
        assert name in os.environ
    assert {options["env"][name] for name in environment.THREADS} == {"3"}


class Done:
    returncode = 7


def test_repeats_are_counted_when_a_call_is_steady(monkeypatch):
    """Of a call whose first four stand in another library's way, and whose threads then sleep."""
    clock, stalled, calls = 0.0, 4, 0

    def pass_time(seconds):
        nonlocal clock
        clock += seconds

    def call():
        nonlocal calls, stalled
        calls += 1
        pass_time(0.01 if stalled else 50e-6)
        stalled = max(0, stalled - 1)

    def process_time():
        return clock if stalled else 0.0

    names = {"perf_counter": lambda: clock, "process_time": process_time, "sleep": pass_time}
    monkeypatch.setattr(timing, "time", SimpleNamespace(**names))
    seconds = timing.interleaved({"call": call}, rounds=3)
    np.testing.assert_allclose(seconds["call"], 50e-6)
    assert calls > 3 * 0.9 * timing.SAMPLE_SECONDS / 50e-6


def test_rounds_of_long_calls_are_few(monkeypatch):
    clock, rounds = 0.0, []

    def call():
        nonlocal clock
        clock += 25.0

    names = {"perf_counter": lambda: clock, "process_time": lambda: 0.0, "sleep": lambda _: None}
    monkeypatch.setattr(timing, "time", SimpleNamespace(**names))
    seconds = timing.interleaved({"call": call}, 9, lambda: rounds.append(clock))
    np.testing.assert_allclose(seconds["call"], [25.0] * timing.FEWEST_ROUNDS)
    assert len(rounds) == 9  # the bar goes to its end


def test_only_refuses_what_no_row_has():
    with pytest.raises(ValueError, match="--only: expected part of a row's name"):
        run.measure_all(False, "no such row", 1)
