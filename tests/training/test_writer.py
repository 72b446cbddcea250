"""The thread that writes: in order, one thing at a time, and no error is lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from picolm.training.writer import Writer, host_copy

PATIENCE = 30.0
"""Seconds after which a test gives up; none of them waits for that long."""


class Refused(Exception):
    """What a task raises in these tests."""


def refuse() -> None:
    raise Refused


@contextmanager
def held_up(writer: Writer) -> Iterator[threading.Event]:
    """Give the writer a task that ends when the event is set, at the latest with the context."""
    begun, go = threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    writer.submit(task)
    assert begun.wait(PATIENCE)
    try:
        yield go
    finally:
        go.set()


def test_tasks_run_in_the_order_in_which_they_were_given() -> None:
    done: list[int] = []
    with Writer() as writer:
        for number in range(50):
            writer.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == list(range(50))


def test_a_task_runs_beside_the_caller_on_one_other_thread() -> None:
    threads: list[int] = []
    with Writer() as writer:
        with held_up(writer):
            # Had `submit` run the task itself, this line would not be reached.
            pass
        for _ in range(3):
            writer.submit(lambda: threads.append(threading.get_ident()))
    assert len(set(threads)) == 1 and threads[0] != threading.get_ident()


def test_a_second_task_is_taken_only_when_the_first_is_done() -> None:
    order: list[str] = []
    with Writer() as writer, held_up(writer) as go:
        taken = threading.Event()

        def give() -> None:
            writer.submit(lambda: order.append("second"))
            taken.set()

        giver = threading.Thread(target=give)
        giver.start()
        # What is not taken is not held in memory by the writer.
        assert not taken.wait(0.2) and order == []
        go.set()
        assert taken.wait(PATIENCE)
        giver.join()
        writer.wait()
        assert order == ["second"]


def test_waiting_returns_when_everything_is_done() -> None:
    done: list[int] = []
    with Writer() as writer:
        with held_up(writer) as go:
            threading.Timer(0.05, go.set).start()
            writer.submit(lambda: done.append(1))
        writer.wait()
        assert done == [1]
        writer.wait()


def test_an_error_is_raised_by_the_next_task_which_does_not_run() -> None:
    done: list[int] = []
    with Writer() as writer:
        writer.submit(refuse)
        with pytest.raises(Refused):
            writer.submit(lambda: done.append(1))
        writer.wait()
        writer.submit(lambda: done.append(2))
    assert done == [2], "the error is raised once, and the writer goes on"


def test_an_error_is_raised_by_waiting() -> None:
    with Writer() as writer:
        writer.submit(refuse)
        with pytest.raises(Refused):
            writer.wait()


def test_an_error_of_the_last_task_is_raised_on_leaving() -> None:
    with pytest.raises(Refused), Writer() as writer:
        writer.submit(refuse)


def test_an_error_in_the_context_is_not_replaced_by_one_of_a_task() -> None:
    with pytest.raises(KeyError, match="mine"), Writer() as writer:
        writer.submit(refuse)
        raise KeyError("mine")


def test_after_an_error_in_the_context_the_task_in_progress_is_finished() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), Writer() as writer:
        with held_up(writer) as go:
            threading.Timer(0.05, go.set).start()
            writer.submit(lambda: done.append(1))
        raise KeyError
    assert done == [1]


def test_a_host_copy_does_not_follow_what_it_was_made_of() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    parameter = torch.nn.Parameter(matrix.clone())
    copies = host_copy({"turned": matrix.T, "trained": parameter})
    matrix.zero_()
    with torch.no_grad():
        parameter.zero_()
    assert torch.equal(copies["turned"], torch.arange(6.0).reshape(2, 3).T)
    assert torch.equal(copies["trained"], torch.arange(6.0).reshape(2, 3))
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in copies.values())
