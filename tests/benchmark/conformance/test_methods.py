"""Every method that ships keeps every promise."""

import importlib.util

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance import check_method, checks
from cellular_bench.environments import missing_text

METHODS = registry.methods()
#: They are ``cellular`` with some terms of its loss, and tests/methods/cellular trains them.
ABLATIONS = ("cellular_centroid", "cellular_contrastive")


def marked(method_id):
    """Starting R or another Python for each check takes minutes in all."""
    if METHODS[method_id].spec.environment:
        return pytest.param(method_id, marks=[pytest.mark.slow, pytest.mark.isolated])
    return pytest.param(method_id, marks=pytest.mark.slow if method_id in ABLATIONS else [])


# Methods that need a parameter are checked where their tests make one.
ALL = [marked(method_id) for method_id, method in METHODS.items() if not method.spec.needs_params]


@pytest.fixture(scope="module")
def results():
    """Results of each method, worked out once, however many tests look at them."""
    found = {}

    def of(method_id):
        method = METHODS[method_id]
        missing = [name for name in method.spec.requires if importlib.util.find_spec(name) is None]
        if missing:
            pytest.skip(f"{method_id} needs {', '.join(missing)}, which is not installed")
        state = method.environment()
        if state is not None and not state.is_ready:
            pytest.skip(missing_text(state))
        if method_id not in found:
            found[method_id] = check_method(method.factory)
        return found[method_id]

    return of


@pytest.mark.parametrize("method_id", ALL)
def test_method_keeps_every_promise(results, method_id):
    broken = [f"{r.check_id}: {r.message} {r.hint}" for r in results(method_id) if r.status == "failed"]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("method_id", ALL)
def test_method_is_excused_only_from_what_it_fails(results, method_id):
    excused = set(METHODS[method_id].spec.expected_failed_checks)
    assert {r.check_id for r in results(method_id) if r.status == "expected_failure"} == excused


@pytest.mark.parametrize("method_id", ALL)
def test_every_check_is_reported_once_and_runs(results, method_id):
    ids = [result.check_id for result in results(method_id)]
    assert ids == [check.check_id for check in checks()]
    status = {result.check_id: result.status for result in results(method_id)}
    assert {status[name] for name in ("runs", "output_shape", "finite", "input_unchanged")} == {"passed"}
