"""Nothing leaks: seconds go to the right account, prices and bytes are those of work of known cost."""

import dataclasses
import functools
import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point
from bilevelbench.measure import clock
from bilevelbench.measure.clock import Stopwatch, self_check
from bilevelbench.measure.memory import LiveBytes, ProcessPeak, peak
from bilevelbench.measure.prices import BLOCK, LIMIT, _line, answer, bare, prices, questions
from bilevelbench.run import worker
from bilevelbench.run.plan import expand
from bilevelbench.run.suite import Block, Suite
from bilevelbench.store.journal import Journal, read

PARTS = ("setup_seconds", "warmup_seconds", "audit_seconds")  # on the first row; the others are on the last


def job(tmp_path, problem="quadratic(d=2)", solver="bome(T=3)", **limits):
    return expand(Suite("", "", (Block((problem,), (solver,), **({"steps": 6} | limits)),)), tmp_path)[0]


def booked(path):
    record = read(path)
    assert record.status == "done", record.rows[-1]
    first, last = record.rows[0], record.rows[-1]
    parts = {name: first[name] for name in PARTS} | {
        name: last[name] for name in ("seconds", "judge_seconds", "overhead_seconds")
    }
    return parts, first, last


class FakeDevice:
    """A device that works only when somebody waits for it, and the only clock there is."""

    def __init__(self):
        self.now = self.queue = 0.0

    def drain(self):
        self.now += self.queue
        self.queue = 0.0

    def read(self):
        return self.now

    def after(self, fn, seconds, later=False):
        """The function, taking so many seconds of the host, or of the device later."""

        def ticking(*args, **kwargs):
            if later:
                self.queue += seconds
            else:
                self.now += seconds
            return fn(*args, **kwargs)

        return ticking


def test_on_a_fake_device_every_second_is_booked_where_it_belongs(tmp_path, monkeypatch):
    """Kernels of g take 1 s, later; building takes 1000 s, judging 100 s, writing a row 10 s."""
    fake, made = FakeDevice(), job(tmp_path)
    built = worker.build_problem

    def build(*args):
        problem = built(*args)
        fake.now += 1000.0
        return dataclasses.replace(problem, g=fake.after(problem.g, 1.0, later=True))

    class Judge:
        def __init__(self, problem, plan):
            pass

        def __call__(self, x, y, step, last):
            fake.now += 60.0
            fake.queue += 40.0  # the judge's kernels, too, are done later
            return {"phi": 0.0}

    monkeypatch.setattr(worker, "build_problem", build)
    monkeypatch.setattr(worker, "Judge", Judge)
    monkeypatch.setattr(worker, "Stopwatch", functools.partial(Stopwatch, wall=fake.read, cpu=fake.read))
    monkeypatch.setattr(worker, "drain", lambda device: fake.drain)
    monkeypatch.setattr(worker, "prices", lambda *arguments: {})
    monkeypatch.setattr(worker.by_hand, "seconds", lambda *arguments: None)
    monkeypatch.setattr(worker, "peak", lambda *arguments: {})  # it is measured when the run is over
    monkeypatch.setattr(Journal, "append", fake.after(Journal.append, 10.0))
    begin = fake.now
    assert worker.execute(made) == "done"
    fake.drain()
    parts, _, last = booked(made.path)
    assert parts["setup_seconds"] == 1000.0
    assert parts["seconds"] == 6 * 5.0  # 3 + 2 gradients of g a step
    assert parts["judge_seconds"] == 7 * 100.0
    assert parts["warmup_seconds"] == 2 * 5.0
    assert parts["audit_seconds"] == 10.0  # the guards ask g four times of the run's problem, then
    # once of each build, once for the digest, once for a second derivative and twice for its difference
    assert parts["overhead_seconds"] == 1000.0 + 6 * 10.0  # the exact problem is built, too; rows but the last
    written = 10.0  # the last row, which cannot say of itself how long writing it took
    assert sum(parts.values()) + written == fake.now - begin
    assert last["step"] == 6


def test_on_an_asynchronous_device_the_parts_are_the_wall_time_of_the_run(tmp_path, monkeypatch):
    """Kernels are a thread's, done in order; the parts sum to what a clock outside reads, within 2 %."""
    made, kernel, judged = job(tmp_path, steps=5), 0.002, 0.05
    built, judge = worker.build_problem, worker.Judge
    with ThreadPoolExecutor(1) as device:
        queue = []

        def wait():
            while queue:
                queue.pop().result()

        def build(*args):
            problem = built(*args)
            g = problem.g

            def slow(x, y):
                queue.append(device.submit(time.sleep, kernel))
                return g(x, y)

            return dataclasses.replace(problem, g=slow)

        class SlowJudge(judge):
            def __call__(self, x, y, *look):
                time.sleep(judged)
                return super().__call__(x, y, *look)

        monkeypatch.setattr(worker, "build_problem", build)
        monkeypatch.setattr(worker, "Judge", SlowJudge)
        monkeypatch.setattr(worker, "drain", lambda name: wait)
        monkeypatch.setattr(worker, "prices", lambda *arguments: {})
        monkeypatch.setattr(worker, "peak", lambda *arguments: {})
        device.submit(int).result()  # its thread is there before the run: one that begins within is an offence
        begin = time.perf_counter()
        worker.execute(made)
        wall = time.perf_counter() - begin
    parts, first, _ = booked(made.path)
    assert sum(parts.values()) == pytest.approx(wall, rel=0.02)
    assert parts["seconds"] >= 5 * 5 * kernel  # all of it, though a step returns at once
    assert parts["judge_seconds"] >= 6 * judged
    assert 5 * kernel <= first["first_seconds"] < first["warmup_seconds"]


def test_a_real_run_is_accounted_for(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "peak", lambda *arguments: {})  # it is measured when the run is over
    made = job(tmp_path, problem="coreset", solver="aid_cg", steps=40)
    begin = time.perf_counter()
    worker.execute(made)
    wall = time.perf_counter() - begin
    parts, *_ = booked(made.path)
    assert sum(parts.values()) == pytest.approx(wall, rel=0.02)
    assert all(seconds >= 0 for seconds in parts.values())
    assert read(made.path).header["environment"]["clock"]["ok"]
    assert set(read(made.path).header["prices"]) >= {"f", "dg_y", "d2g_yy"}


def test_what_raises_is_booked_too():
    fake = FakeDevice()
    watch = Stopwatch(fake.drain, wall=fake.read, cpu=fake.read)

    def fail():
        with watch.account("judge"):
            fake.now += 3.0
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    fake.now += 2.0
    watch.start()
    assert dict(watch.accounts) == {"judge": 3.0, "overhead": 2.0}


# -- the clock's check of itself


def test_the_check_passes_here():
    found = self_check("cpu")
    assert found["ok"], found
    assert found["slept"] >= clock.KNOWN
    assert found["busy_cpu"] == pytest.approx(clock.KNOWN, rel=0.2)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_clock_at_the_wrong_pace_is_found(monkeypatch, factor):
    monkeypatch.setattr(clock, "Stopwatch", functools.partial(Stopwatch, wall=lambda: factor * time.perf_counter()))
    self_check.cache_clear()
    assert not self_check("cpu")["ok"]
    self_check.cache_clear()


# -- prices


@pytest.fixture
def ticking(monkeypatch):
    """The only clock there is for prices; it goes on when it is told to."""
    fake = FakeDevice()
    monkeypatch.setattr(
        "bilevelbench.measure.prices.time", SimpleNamespace(process_time=fake.read, perf_counter=fake.read)
    )
    return fake


def priced(clock=None, f=0.0, g=0.0, row=0.0, n=1):
    """A problem whose values take known seconds; those of g also some for each row."""

    def work(x, y, seconds):
        if clock:
            clock.now += seconds
        return (y - x) @ (y - x)

    return Problem(
        f=lambda x, y, rows=None: work(x, y, f),
        g=lambda x, y, rows=None: work(x, y, g + row * (n if rows is None else len(rows))),
        x0=torch.zeros(3, dtype=torch.float64), y0=torch.ones(3, dtype=torch.float64), n_f=n, n_g=n,
    )  # fmt: skip


def test_prices_are_what_answers_take(ticking):
    found = prices(priced(ticking, f=0.004, g=0.001))
    products = {kind for kind in bare(priced()) if "2" in kind}
    assert set(found) == {*bare(priced()), *(f"kept {kind}" for kind in products)}
    for kind, (call, row) in found.items():
        known = 0.004 if kind in ("f", "df", "df_x", "df_y", "d2f") else 0.001
        if kind.startswith("kept"):
            known = 0.0  # the function is not asked
        assert call == pytest.approx(known, rel=1e-9), kind
        assert row == 0.0


def test_rows_have_a_price_of_their_own(ticking):
    found = prices(priced(ticking, g=0.0005, row=2e-6, n=1024))
    call, row = found["dg_y"]
    assert row == pytest.approx(2e-6, rel=1e-9)
    assert call == pytest.approx(0.0005, rel=1e-9)


def test_a_row_never_costs_less_than_nothing():
    """Where noise makes more rows look cheaper, all is the call's."""
    seconds, row = _line([(1, 0.004), (1000, 0.003)])
    assert row == 0.0
    assert seconds > 0


def test_where_the_peak_cannot_be_reset_the_process_has_none(monkeypatch):
    """What the process held before would be shown as the run's."""

    def refuses(self, text):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuses)
    assert ProcessPeak().read() == {}


def test_measuring_prices_takes_no_longer_than_it_may(ticking, monkeypatch):
    monkeypatch.setattr("bilevelbench.measure.prices.PATIENCE", 0.05)
    found = prices(priced(ticking, f=0.03, g=0.03))
    last = BLOCK * 0.03  # what has begun is ended
    assert ticking.now <= LIMIT + last
    assert 0 < len(found) < len(bare(priced())), "what there was no time for has no price"


def test_prices_are_cpu_seconds_of_this_process():
    """Against the real clock: a call that works 2 ms and sleeps 5 costs the 2."""

    def f(x, y):
        end = time.process_time() + 0.002
        while time.process_time() < end:
            pass
        time.sleep(0.005)
        return (y - x) @ (y - x)

    call, _ = prices(dataclasses.replace(priced(), f=f))["f"]
    assert 0.002 <= call < 0.005


def test_the_questions_of_a_step():
    asked, state = questions(build_problem("quadratic(d=3)", Draw(0)), make_solver("bome(T=2)"), 2)
    assert [question.kind for question in asked] == ["dg_y", "dg_y", "df", "dg", "dg_x"] * 2
    assert len(state.y) == 3


class AsksByName:
    """The same question three ways: without rows, and twice with what was drawn."""

    name = "asks_by_name"

    def __init__(self, size):
        self.size = size

    def init(self, o, x, y):
        return Point(x, y)

    def step(self, o, s):
        drawn = o.draw_g(self.size)
        o.dg_y(s.x, s.y)
        o.dg_y(s.x, s.y, drawn)
        return Point(s.x, s.y - o.dg_y(s.x, s.y, rows=drawn))


def test_a_question_is_kept_with_its_rows_and_without_none():
    """A question is asked again of f and g themselves: they may take no rows, not even None."""
    whole = build_problem("quadratic(d=3)", Draw(0))
    asked, _ = questions(whole, AsksByName(None), 1)
    assert [len(question.arguments) for question in asked] == [2, 2, 2]
    answer(whole, asked)
    asked, _ = questions(finite_sum_of(8), AsksByName(3), 1)
    assert [[len(part) for part in arguments[2:]] for _, arguments, _ in asked] == [[], [3], [3]]
    answer(finite_sum_of(8), asked)


# -- memory


@pytest.mark.parametrize("size", [None, 3])
def test_bytes_are_followed_whichever_way_rows_are_given(size):
    assert peak(finite_sum_of(8), AsksByName(size))["problem_bytes"] > 0


class Holds:
    """Keeps so many copies of y, and asks for one gradient."""

    name, n = "holds", 3

    def init(self, o, x, y):
        return Point(x, y)

    def step(self, o, s):
        kept = [s.y + k for k in range(self.n)]
        o.dg_y(s.x, s.y)
        return Point(s.x, kept[-1])


def test_the_solver_s_own_bytes_and_the_problem_s_are_told_apart():
    """y is 8000 bytes; g makes eight numbers of the size of y before it sums them."""
    n = 1000

    def g(x, y):
        return sum((y * (k + 1)).sin() for k in range(4)).sum()  # each keeps its argument for the gradient

    problem = Problem(f=g, g=g, x0=torch.zeros(1, dtype=torch.float64), y0=torch.zeros(n, dtype=torch.float64))
    holds = Holds()
    found = peak(problem, holds)
    more = peak(problem, type("More", (Holds,), {"n": 13})())
    assert more["solver_bytes"] - found["solver_bytes"] == 10 * 8 * n
    assert more["problem_bytes"] == found["problem_bytes"] >= 4 * 8 * n
    assert max(found["solver_bytes"], found["problem_bytes"]) <= found["peak_bytes"]
    assert found["peak_bytes"] <= found["solver_bytes"] + found["problem_bytes"]


def test_an_answer_that_is_kept_is_the_solver_s():
    with LiveBytes() as tracker:
        tracker.inside = True
        scratch = torch.zeros(1000)
        kept = torch.zeros(10)
        del scratch
        tracker.leave()
        assert (tracker.inside_peak, tracker.own_peak) == (4040, 40)
    del kept


def test_itd_holds_its_path_and_bome_does_not():
    """In vectors of y: the solver's own bytes are a line in T with slope 1 for ITD, and flat for BOME."""
    problem = build_problem("quadratic(d=300)", Draw(0))
    vector = problem.y0.nbytes
    own = {
        name: [peak(problem, make_solver(f"{name}(T={T})"))["solver_bytes"] / vector for T in (5, 20, 80)]
        for name in ("itd", "bome")
    }
    low, middle, high = own["itd"]
    assert (middle - low, high - middle) == pytest.approx((15, 60), rel=0.02)  # and a few numbers of each kept graph
    assert own["bome"] == pytest.approx([own["bome"][0]] * 3, abs=0.1)


def test_saba_holds_its_table():
    """Three tables over the blocks of rows, with an entry the size of y in each: 3 n copies of y in its state."""
    own = {}
    for n in (4, 8, 24):
        problem = finite_sum_of(n)
        found = peak(problem, make_solver("saba(batch=1)"))
        own[n] = found["state_bytes"] / problem.y0.nbytes
    assert own[8] - own[4] == pytest.approx(3 * 4, abs=0.05)
    assert own[24] - own[8] == pytest.approx(3 * 16, abs=0.05)


def finite_sum_of(n):
    """A sum of n rows with 1000 lower variables and one upper."""
    weight = torch.linspace(0.5, 1.5, n, dtype=torch.float64)

    def mean(x, y, rows=None):
        return (weight if rows is None else weight[rows]).mean() * ((y - x) @ (y - x)) / 2

    return Problem(
        f=mean, g=mean, x0=torch.zeros(1, dtype=torch.float64), y0=torch.ones(1000, dtype=torch.float64), n_f=n, n_g=n,
        flags=frozenset({"strongly_convex"}),
    )  # fmt: skip


def test_the_process_s_own_peak_is_read():
    resident = ProcessPeak()
    before = resident.read().get("process_bytes")
    if before is None:
        pytest.skip("this system does not let a process reset its peak of resident memory")
    # a mapping of its own: the heap of a process that has run other tests may have so much resident memory to spare
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert resident.read()["process_bytes"] - before >= 60 << 20
    assert ProcessPeak().read()["process_bytes"] - before < 60 << 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_clock_waits_and_the_allocator_is_read():
    assert self_check("cuda")["ok"], self_check("cuda")
    problem = build_problem("quadratic(d=2000)", Draw(0, "cuda"))
    found = peak(problem, make_solver("itd(T=40)"))
    assert found["cuda_bytes"] >= found["peak_bytes"]
    assert prices(problem, "cuda")["dg_y"][0] > 0
