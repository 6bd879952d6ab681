"""Compiled functions do what the functions do: results, gradients, state, at every call."""

from __future__ import annotations

import gc
import logging
import threading

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import func, nn, optim

pytestmark = pytest.mark.usefixtures("program")


def batch(seed: int = 0, size: int = 8) -> tuple[cr.Tensor, cr.Tensor]:
    rng = np.random.default_rng(seed)
    return cr.tensor(rng.normal(size=(size, 5)).astype(np.float32)), cr.tensor(rng.integers(0, 3, size))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 7, bias=False)  # its gradient would be rounding noise before a batch norm
        self.norm = nn.BatchNorm1d(7)
        self.drop = nn.Dropout(0.25)
        self.fc2 = nn.Linear(7, 3)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.norm(self.fc1(x)))))


def trainer(make_optimizer, model_class=Net):
    cr.manual_seed(3)
    model = model_class()
    optimizer = make_optimizer(model.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def everything(model, optimizer) -> dict[str, np.ndarray]:
    found = {name: t.numpy() for name, t in model.state_dict().items()}
    found |= {f"{name}.grad": p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for index, states in optimizer.state_dict()["state"].items():
        found |= {f"{index}.{name}": t.numpy() for name, t in states.items()}
    return found


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=2e-6, err_msg=name)


OPTIMISERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "adamax": lambda p: optim.Adamax(p),
    "nadam": lambda p: optim.NAdam(p),
    "rmsprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr_decay=0.1),
    "adadelta": lambda p: optim.Adadelta(p),
    "lion": lambda p: optim.Lion(p, weight_decay=0.1),
    "muon": lambda p: optim.Muon([q for q in p if q.ndim == 2], lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_training_steps_leave_the_state_that_eager_steps_leave(name):
    model_a, optimizer_a, step = trainer(OPTIMISERS[name])
    eager = []
    for i in range(4):
        eager.append(step(*batch(i)).item())
    state = cr.random.default_generator.state.numpy().copy()
    model_b, optimizer_b, step = trainer(OPTIMISERS[name])
    compiled = cr.compile(step)
    losses = [compiled(*batch(i)).item() for i in range(4)]
    np.testing.assert_allclose(losses, eager, rtol=1e-5)
    assert_same(everything(model_a, optimizer_a), everything(model_b, optimizer_b))
    np.testing.assert_array_equal(cr.random.default_generator.state.numpy(), state)


def test_eager_and_compiled_steps_may_alternate():
    model_a, optimizer_a, step_a = trainer(OPTIMISERS["adam"])
    for i in range(6):
        step_a(*batch(i))
    model_b, optimizer_b, step_b = trainer(OPTIMISERS["adam"])
    compiled = cr.compile(step_b)
    for i in range(6):
        (compiled if i % 2 else step_b)(*batch(i))
    assert_same(everything(model_a, optimizer_a), everything(model_b, optimizer_b))


def traces(function):
    """The function, counting how often it really runs."""

    def counted(*args, **kwargs):
        counted.count += 1
        return function(*args, **kwargs)

    counted.count = 0
    return counted


def test_the_function_runs_once_for_each_form_of_arguments():
    function = traces(lambda x, *, scale=1.0, name="a": x * scale)
    compiled = cr.compile(function)
    for i in range(3):
        x = cr.tensor([1.0 + i, 2.0])
        assert compiled(x).tolist() == [1.0 + i, 2.0]
    assert function.count == 1
    compiled(cr.tensor([1.0, 2.0, 3.0]))
    compiled(cr.tensor([1.0, 2.0], dtype=cr.float64))
    assert compiled(cr.tensor([1.0, 2.0]), scale=2.0).tolist() == [2.0, 4.0]
    assert compiled(cr.tensor([1.0, 2.0]), scale=1).dtype == cr.float32
    assert function.count == 5
    assert compiled(cr.tensor([3.0, 4.0])).tolist() == [3.0, 4.0]
    assert function.count == 5


def test_another_shape_is_reported_at_debug_level(caplog):
    compiled = cr.compile(lambda x: x + 1)
    compiled(cr.ones(3))
    with caplog.at_level(logging.DEBUG, logger="chainrule.compiler"):
        compiled(cr.ones(4))
    assert "compiled again for float32[4]" in caplog.text


def test_arguments_and_results_are_nested_containers():
    @cr.compile
    def function(batch, options):
        x, y = batch["x"], batch["y"][0]
        return {"sum": x + y, "rest": [None, (x, options["k"] * y)]}

    x, y = cr.tensor([1.0, 2.0]), np.array([3.0, 4.0], np.float32)
    out = function({"x": x, "y": [y]}, {"k": 2})
    assert out["sum"].tolist() == [4.0, 6.0]
    assert out["rest"][0] is None and isinstance(out["rest"][1], tuple)
    assert out["rest"][1][0].tolist() == [1.0, 2.0]
    assert out["rest"][1][1].tolist() == [6.0, 8.0]


def test_non_contiguous_zero_size_and_0d_arguments():
    compiled = cr.compile(lambda x: (x * 2).sum(axis=0))
    base = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(compiled(cr.asarray(base).T).numpy(), (base.T * 2).sum(0))
    np.testing.assert_array_equal(compiled(cr.zeros((0, 3))).numpy(), np.zeros(3))
    assert cr.compile(lambda x: x + 1)(cr.tensor(2.0)).item() == 3.0


def test_an_argument_that_is_returned_and_a_result_given_twice():
    @cr.compile
    def function(x):
        y = x * 2
        return x, y, y

    x = cr.tensor([1.0])
    a, b, c = function(x)
    assert (a.item(), b.item(), c.item()) == (1.0, 2.0, 2.0)
    b += 1
    assert c.item() == 2.0


def test_a_decorated_method_belongs_to_its_object():
    class Scaler:
        def __init__(self, k):
            self.k = nn.Parameter(cr.tensor(k))

        @cr.compile
        def __call__(self, x):
            return x * self.k

    assert Scaler(2.0)(cr.tensor([1.0])).tolist() == [2.0]
    assert Scaler(3.0)(cr.tensor([1.0])).tolist() == [3.0]


def test_a_module_and_a_parameter_as_argument():
    model = nn.Linear(3, 2)
    compiled = cr.compile(model)
    x = cr.ones((4, 3))
    np.testing.assert_allclose(compiled(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert [p is q for p, q in zip(compiled.parameters(), model.parameters(), strict=True)] == [True, True]
    scale = cr.compile(lambda m, w, x: m(x) @ w)
    np.testing.assert_allclose(scale(model, model.weight, x).numpy(), (model(x) @ model.weight).numpy(), rtol=1e-6)
    model.weight.assign(model.weight * 2)
    np.testing.assert_allclose(scale(model, model.weight, x).numpy(), (model(x) @ model.weight).numpy(), rtol=1e-6)


def test_gradients_of_any_order():
    @cr.compile
    def function(x):
        x = x.detach().requires_grad_()
        (first,) = cr.grad((x**3).sum(), [x])
        (second,) = cr.grad(first.sum(), [x])
        return first, second

    first, second = function(cr.tensor([1.0, 2.0]))
    np.testing.assert_allclose(first.numpy(), [3.0, 12.0])
    np.testing.assert_allclose(second.numpy(), [6.0, 12.0])


def test_transformations_inside():
    f = lambda x: (x**2).sum() * x[0]  # noqa: E731
    x = cr.tensor([1.0, 2.0, 3.0])
    for transformed in (func.grad(f), func.hessian(f), func.vmap(lambda t: t * x.sum())):
        np.testing.assert_allclose(cr.compile(transformed)(x).numpy(), transformed(x).numpy(), rtol=1e-6)
    out, tangent = cr.compile(lambda x, d: func.jvp(f, (x,), (d,)))(x, cr.ones(3))
    want = func.jvp(f, (x,), (cr.ones(3),))
    np.testing.assert_allclose([out.item(), tangent.item()], [w.item() for w in want])


def test_a_compiled_function_inside_a_transformation_or_another_one_is_part_of_it():
    inner = cr.compile(lambda x: x**2)
    np.testing.assert_allclose(func.vmap(inner)(cr.tensor([1.0, 2.0])).numpy(), [1.0, 4.0])
    assert cr.compile(lambda x: inner(x) + 1)(cr.tensor(3.0)).item() == 10.0


def test_gradients_add_up_over_calls_as_in_eager_mode():
    w = nn.Parameter(cr.tensor([1.0, 2.0]))
    compiled = cr.compile(lambda x: (w * x).sum().backward())
    for _ in range(3):
        compiled(cr.tensor([1.0, 10.0]))
    np.testing.assert_allclose(w.grad.numpy(), [3.0, 30.0])
    w.grad = None
    compiled(cr.tensor([1.0, 10.0]))
    np.testing.assert_allclose(w.grad.numpy(), [1.0, 10.0])
    w.grad = cr.tensor([5.0, 5.0])
    compiled(cr.tensor([1.0, 10.0]))
    np.testing.assert_allclose(w.grad.numpy(), [6.0, 15.0])


def test_gradients_that_are_arguments():
    w = nn.Parameter(cr.tensor([1.0, 2.0]))
    optimizer = optim.SGD([w], lr=1.0)

    def step(g):
        w.grad = g
        optimizer.step()
        return g

    compiled = cr.compile(step)
    for i in range(3):
        g = cr.tensor([1.0, float(i)])
        out = compiled(g)
        assert w.grad.tolist() == g.tolist() == out.tolist()
        g[0] = 100.0  # repoints g: nothing else changes
        assert w.grad.tolist() == out.tolist() == [1.0, float(i)]
    assert w.tolist() == [-2.0, -1.0]
    array = np.array([1.0, 1.0], np.float32)
    out = cr.compile(lambda x: x)(array)
    array[:] = 7.0
    assert out.tolist() == [1.0, 1.0]


def test_gradients_of_arguments():
    compiled = cr.compile(lambda x: (x**2).sum().backward())
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    compiled(x)
    compiled(x)
    np.testing.assert_allclose(x.grad.numpy(), [4.0, 8.0])
    with pytest.raises(cr.TransformError, match="leads on through an argument"):
        compiled(x * 2)


def test_values_that_somebody_holds_do_not_change():
    model, _optimizer, step = trainer(OPTIMISERS["adam"])
    compiled = cr.compile(step)
    compiled(*batch())
    array, tensor, grad = model.fc1.weight.numpy(), model.fc1.weight.detach(), model.fc1.weight.grad
    before, grad_before = array.copy(), grad.numpy().copy()
    graph = (model.fc1.weight * 2).sum()
    for i in range(3):
        compiled(*batch(i))
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(tensor.numpy(), before)
    np.testing.assert_array_equal(grad.numpy(), grad_before)
    assert not np.array_equal(model.fc1.weight.numpy(), before)
    graph.backward()
    assert graph.item() == pytest.approx(2 * before.sum(), rel=1e-5)


def test_a_gradient_that_somebody_took_does_not_change():
    w = nn.Parameter(cr.tensor([1.0, 2.0]))

    def step(x):
        w.grad = None
        (w * x).sum().backward()

    compiled = cr.compile(step)
    for _ in range(2):
        compiled(cr.tensor([1.0, 1.0]))
    kept, w.grad = w.grad, None  # the same number of references as before
    compiled(cr.tensor([5.0, 5.0]))
    assert kept.tolist() == [1.0, 1.0] and w.grad.tolist() == [5.0, 5.0]
    w.grad = cr.tensor([7.0, 7.0])
    other = w.grad
    compiled(cr.tensor([2.0, 2.0]))
    assert other.tolist() == [7.0, 7.0] and w.grad.tolist() == [2.0, 2.0]


def test_a_parameter_frozen_while_a_graph_holds_it_stays():
    w = nn.Parameter(cr.tensor([1.0, 2.0]))
    optimizer = optim.SGD([w], lr=1.0)

    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    compiled = cr.compile(step)
    compiled(cr.tensor([1.0, 1.0]))
    compiled(cr.tensor([1.0, 1.0]))
    graph = (w * 3).sum()
    w.requires_grad_(False)
    before = w.tolist()
    with pytest.raises(cr.GradientError):
        compiled(cr.tensor([1.0, 1.0]))
    assert w.tolist() == before and graph.item() == pytest.approx(3 * sum(before))


def test_loaded_and_assigned_state_is_used():
    model_a, optimizer_a, step_a = trainer(OPTIMISERS["adam"])
    compiled = cr.compile(step_a)
    compiled(*batch(0))
    saved, saved_optimizer = model_a.state_dict(), optimizer_a.state_dict()
    draws = cr.random.default_generator.state.numpy().copy()
    compiled(*batch(1))
    after = everything(model_a, optimizer_a)
    model_a.load_state_dict(saved)
    optimizer_a.load_state_dict(saved_optimizer)
    cr.random.default_generator.state.assign(draws)
    compiled(*batch(1))
    assert_same(after, everything(model_a, optimizer_a))


def test_hyperparameters_are_read_at_each_call():
    losses = {}
    for compiled in (False, True):
        _model, optimizer, step = trainer(OPTIMISERS["adamw"])
        counted = traces(step)
        run = cr.compile(counted) if compiled else counted
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=8)
        losses[compiled] = []
        for i in range(7):
            losses[compiled].append(run(*batch(i)).item())
            schedule.step()
            optimizer.param_groups[0]["weight_decay"] *= 1.5
        assert counted.count == (1 if compiled else 7)
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-5)


def test_a_structural_hyperparameter_traces_again():
    w = nn.Parameter(cr.tensor([1.0]))
    optimizer = optim.SGD([w], lr=1.0)

    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    counted = traces(step)
    compiled = cr.compile(counted)
    compiled()
    optimizer.param_groups[0]["lr"] = 0.0
    compiled()
    assert w.item() == 0.0 and counted.count == 1
    optimizer.param_groups[0].update(lr=1.0, maximize=True)
    compiled()
    assert w.item() == 1.0 and counted.count == 2


def test_training_and_evaluation_are_told_apart():
    model = Net()
    compiled = cr.compile(lambda x: model(x))
    x, _ = batch()
    for mode in (True, False, True):
        model.train(mode)
        cr.manual_seed(5)
        got = compiled(x)
        cr.manual_seed(5)
        np.testing.assert_allclose(got.numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_changed_attribute_or_tensor_is_noticed():
    model = Net()
    shift = cr.tensor([1.0, 2.0, 3.0])
    compiled = cr.compile(lambda x: model(x) + shift)
    x, _ = batch()
    model.train()
    compiled(x)
    model.drop.p = 0.0
    shift[0] = 10.0
    np.testing.assert_allclose(compiled(x).numpy(), (model(x) + shift).numpy(), rtol=1e-5, atol=1e-6)
    model.fc2 = nn.Linear(7, 3)
    np.testing.assert_allclose(compiled(x).numpy(), (model(x) + shift).numpy(), rtol=1e-5, atol=1e-6)


def test_frozen_parameters_and_other_precision_trace_again():
    model, _optimizer, step = trainer(OPTIMISERS["sgd"])
    compiled = cr.compile(step)
    compiled(*batch())
    model.fc1.requires_grad_(False)
    before = model.fc1.weight.numpy().copy()
    compiled(*batch())
    np.testing.assert_array_equal(model.fc1.weight.numpy(), before)
    model.double()
    x, y = batch()
    assert compiled(x.astype("float64"), y).dtype == cr.float64


def test_equal_counters_that_part_ways_are_separate_states():
    a, b = nn.Buffer(cr.tensor(0.0)), nn.Buffer(cr.tensor(0.0))

    def count():
        a.assign(a + 1)
        b.assign(b + 2)

    compiled = cr.compile(count)
    compiled()
    compiled()
    assert (a.item(), b.item()) == (2.0, 4.0)


def test_shared_counters_that_are_set_apart_trace_again():
    a, b = nn.Buffer(cr.tensor(0.0)), nn.Buffer(cr.tensor(0.0))

    def count():
        a.assign(a + 1)
        b.assign(b + 1)

    compiled = cr.compile(count)
    compiled()
    b.assign(cr.tensor(10.0))
    compiled()
    assert (a.item(), b.item()) == (2.0, 11.0)


def test_a_failing_trace_changes_nothing():
    model, _optimizer, step = trainer(OPTIMISERS["adam"])
    before = {n: t.numpy().copy() for n, t in model.state_dict().items()}
    draws = cr.random.default_generator.state.numpy().copy()

    def broken(x, y):
        step(x, y)
        raise KeyError("later")

    with pytest.raises(KeyError):
        cr.compile(broken)(*batch())
    assert all(np.array_equal(t.numpy(), before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(cr.random.default_generator.state.numpy(), draws)
    cr.compile(step)(*batch())


def test_other_threads_see_the_real_state_during_a_trace():
    w = nn.Parameter(cr.tensor([1.0]))
    seen = []

    def function(x):
        y = w * x
        thread = threading.Thread(target=lambda: seen.append(w.numpy().tolist()))
        thread.start()
        thread.join()
        return y

    assert cr.compile(function)(cr.tensor([3.0])).tolist() == [3.0]
    assert seen == [[1.0]]


def test_random_numbers_continue_the_stream():
    cr.manual_seed(1)
    want = [cr.randn(3).tolist() for _ in range(3)]
    cr.manual_seed(1)
    compiled = cr.compile(lambda: cr.randn(3))
    np.testing.assert_allclose([compiled().tolist() for _ in range(3)], want, rtol=1e-6)


def test_results_say_where_the_graph_was_cut():
    w = nn.Parameter(cr.tensor([1.0]))
    out = cr.compile(lambda x: (w * x).sum())(cr.tensor([2.0]))
    with pytest.raises(cr.GradientError, match=r"cut by cr.compile\(\) at .*test_compile"):
        out.backward()


def test_a_call_that_fails_leaves_the_state():
    w = nn.Parameter(cr.asarray(np.eye(3) * 2.0))
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = (cr.linalg.cholesky(x) * w).sum() + cr.rand(1, dtype=cr.float64).sum()
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    compiled(cr.asarray(np.eye(3)))
    before = w.numpy().copy(), w.grad.numpy().copy(), cr.random.default_generator.state.numpy().copy()
    with pytest.raises((cr.ChainruleError, np.linalg.LinAlgError)):
        compiled(cr.asarray(-np.eye(3)))
    after = w.numpy(), w.grad.numpy(), cr.random.default_generator.state.numpy()
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    compiled(cr.asarray(np.eye(3)))
    assert not np.array_equal(w.numpy(), before[0])


def test_calls_from_several_threads():
    w = nn.Parameter(cr.tensor([2.0]))
    compiled = cr.compile(lambda x: x * w)
    found: dict[int, list[float]] = {}

    def work(number: int) -> None:
        found[number] = [compiled(cr.tensor([float(number)])).item() for _ in range(50)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: [2.0 * i] * 50 for i in range(4)}


def test_steps_leave_nothing_behind():
    _model, _optimizer, step = trainer(OPTIMISERS["adam"])
    compiled = cr.compile(step)
    for i in range(3):
        compiled(*batch(i))
    gc.collect()
    before = len(gc.get_objects())
    for i in range(300):
        compiled(*batch(i % 3))
    gc.collect()
    assert len(gc.get_objects()) <= before + 20


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was_after_a_trace(enabled):
    def fails(x):
        assert not gc.isenabled()
        raise ZeroDivisionError

    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        with pytest.raises(ZeroDivisionError):
            cr.compile(fails)(cr.ones(3))
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()
