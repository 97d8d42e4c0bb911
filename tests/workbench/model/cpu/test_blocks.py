"""Rows in blocks: every row once, and the results and gradients of one block."""

import threading

import pytest
import torch

from tests.reference.tolerances import EXACT
from workbench.model.cpu.blocks import blocks_of, cores, in_blocks, on_each_core, one_thread_per_op


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def masks(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def test_blocks_by_hand():
    # 1 + 2 + 3 + 6 tokens: half of them are in the three short rows, half in the long one.
    (short, narrow), (long, wide) = blocks_of(masks(6, 1, 3, 2), 2)
    assert (short.tolist(), narrow) == ([1, 3, 2], 3)
    assert (long.tolist(), wide) == ([0], 6)


@pytest.mark.parametrize("number", [1, 2, 3, 50])
def test_every_row_is_in_one_block_that_is_wide_enough(number):
    lengths = [4, 9, 1, 0, 7, 7, 3]
    blocks = blocks_of(masks(*lengths), number)
    assert sorted(row for rows, _ in blocks for row in rows.tolist()) == list(range(7))
    assert len(blocks) <= number
    for rows, width in blocks:
        assert width == max(1, *(lengths[row] for row in rows.tolist()))


def test_rows_that_end_with_padding_on_the_left_are_as_wide_as_the_batch():
    mask = torch.tensor([[False, False, True], [True, True, True]])
    assert [width for _, width in blocks_of(mask, 2)] == [3, 3]


@pytest.mark.usefixtures("two_threads")
def test_states_and_gradients_are_those_of_one_pass():
    generator = torch.Generator().manual_seed(0)
    x, direction = (torch.randn(6, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    first, second = (torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))

    def run(rows):
        return (x[rows] @ first).sin() @ second

    blocks = [slice(0, 2), slice(2, 3), slice(3, 6)]
    states = in_blocks(run, blocks, [first, second])
    torch.testing.assert_close(states, run(slice(0, 6)), **EXACT)
    expected = torch.autograd.grad(run(slice(0, 6)), [first, second], direction)
    for mine, theirs in zip(torch.autograd.grad(states, [first, second], direction), expected, strict=True):
        torch.testing.assert_close(mine, theirs, **EXACT)
    with torch.no_grad():
        assert not in_blocks(run, blocks, [first, second]).requires_grad


@pytest.mark.usefixtures("two_threads")
def test_items_run_on_threads_of_one_core_each_in_order():
    seen = set()
    meet = threading.Barrier(2, timeout=20)

    def work(item):
        meet.wait()  # both run at the same time, or this fails
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return item * item

    assert on_each_core(work, [2, 3]) == [4, 9]
    assert len({thread for thread, _ in seen}) == 2
    assert {cores for _, cores in seen} == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("number", [0, 1, 2, 3, 6])
def test_the_cores_share_the_items(number):
    threads = dict[int, int]()
    found = on_each_core(lambda item: threads.update({item: threading.get_ident()}) or item * item, range(number))
    assert found == [item * item for item in range(number)]
    assert all((threads[item] == threads[0]) == (item % 2 == 0) for item in range(number))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_comes_out_and_the_threads_are_given_back(failing):
    def work(item):
        if item == failing:
            raise KeyError(item)

    with pytest.raises(KeyError):
        on_each_core(work, range(4))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_torch_keeps_to_one_core_where_the_others_are_kept_for_items():
    with one_thread_per_op():
        assert (torch.get_num_threads(), cores()) == (1, 2)
        with one_thread_per_op():
            assert (torch.get_num_threads(), cores()) == (1, 2)
        assert len(set(on_each_core(lambda _: threading.get_ident(), [0, 1]))) == 2
        assert (torch.get_num_threads(), cores()) == (1, 2)
    assert (torch.get_num_threads(), cores()) == (2, 2)
