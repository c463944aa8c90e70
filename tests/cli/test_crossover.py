from __future__ import annotations

import json

from profiler_service.cli.text import describe_crossover
from profiler_service.wire import CrossoverAnswer, KernelCrossover
from tests.cli.conftest import Lhp
from tests.cli.stub import DONE, NOW, Reply, StubService, make_sweep

ANSWER = CrossoverAnswer(
    dims=[1500, 1400],
    batch=16,
    dtype="float32",
    best="packed",
    sparsity=0.83,
    sparsity_interval=(0.82, 0.84),
    kernels=[
        KernelCrossover(
            backend="packed", latency_s=350e-6, sparsity=0.83, sparsity_interval=(0.82, 0.84)
        ),
        KernelCrossover(
            backend="dense", latency_s=1e-3, sparsity=0.51, sparsity_interval=(0.5, None)
        ),
    ],
    sparse=[],
    failures={"compiled": "no compiler"},
    platform="f00d",
    host="anvil",
    curve="c7",
    measured_at=NOW,
    num_samples=900,
    stale=False,
)
RUNNING = make_sweep(mode="kernels")


def test_the_crossover_of_each_dense_kernel(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /crossover", Reply.accepted(RUNNING), ANSWER)
    service.reply("GET /sweeps/s1", DONE)
    done = lhp("crossover", "1500, 1400", "--batch", "16", "--dtype", "float32", "--host", "anvil")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == (
        "1500,1400 at batch 16 in float32: from 83 % zeros on csr is faster than packed,"
        " the best dense (95 % interval 82 to 84 %)"
    )
    assert lines[1] == "  packed      350 µs  csr faster from 83 % on (95 % interval 82 to 84 %)"
    assert lines[2] == "  dense      1.00 ms  csr faster from 51 % on (95 % interval 50 % to never)"
    assert lines[3] == "  compiled  failed: no compiler"
    assert lines[4].startswith("on anvil · measured ") and lines[4].endswith("· curve c7")
    query, _ = next(iter(service.sent("GET /crossover")))
    query.pop("wait")
    assert query == {"dims": "1500,1400", "batch": "16", "dtype": "float32", "host": "anvil"}


def test_a_layer_with_a_bias(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /crossover", ANSWER.model_copy(update={"bias": "yes"}))
    done = lhp("crossover", "1500,1400", "--bias")
    assert done.out.startswith("1500,1400 at batch 16 in float32 with bias: from 83 % zeros on")
    query, _ = next(iter(service.sent("GET /crossover")))
    assert query["bias"] == "yes"


def test_json_is_the_answer_and_nothing_else(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /crossover", ANSWER)
    done = lhp("crossover", "1500,1400", "--json")
    assert CrossoverAnswer.model_validate(json.loads(done.out)) == ANSWER
    assert done.err == ""


def test_a_problem_is_told_with_its_hint(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /crossover", Reply.problem(422, "no sparse product", "another dtype"))
    done = lhp("crossover", "5,6", "--dtype", "bfloat16")
    assert done.code == 2
    assert done.err == "error: no sparse product\nhint: another dtype\n"


def test_malformed_dims_never_reach_the_service(lhp: Lhp, service: StubService) -> None:
    assert lhp("crossover", "-5,6").code == 2
    assert lhp("crossover", "5;6").code == 2
    assert not list(service.sent("GET /crossover"))


def test_a_crossover_in_doubt_says_so() -> None:
    noisy = ANSWER.model_copy(update={"noisy": True, "caveats": ["noisy: 72% of 2,466 samples."]})
    assert "\nnoisy: 72% of 2,466 samples." in describe_crossover(noisy, NOW)


def test_never_and_always_are_said_in_words() -> None:
    never = ANSWER.model_copy(update={"sparsity": None, "sparsity_interval": (None, None)})
    assert "never: not even at 99 % zeros" in describe_crossover(never, NOW)
    always = ANSWER.model_copy(update={"sparsity": 0.0, "sparsity_interval": (0.0, 0.0)})
    assert "always: csr is faster than packed" in describe_crossover(always, NOW)
    stale = ANSWER.model_copy(update={"stale": True})
    assert "this describes platform f00d" in describe_crossover(stale, NOW)
