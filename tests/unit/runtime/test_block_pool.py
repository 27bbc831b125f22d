from __future__ import annotations

from openmodel_runtime.engine.block_pool import BlockPool, content_name


def test_names_are_of_everything_before() -> None:
    first = content_name(None, [1, 2])
    assert content_name(first, [3]) != content_name(content_name(None, [2, 1]), [3])
    assert content_name(None, [1, 2]) == first


def test_a_named_block_is_found_until_it_is_used_anew() -> None:
    pool = BlockPool(2)
    block, name = pool.take(), content_name(None, [1])
    pool.name(block, name)
    pool.give_back(block)
    assert pool.find(name) == block
    assert pool.num_free == 2
    # The nameless one goes first.
    other = pool.take()
    assert other != block
    assert pool.find(name) == block
    assert pool.take() == block
    assert pool.find(name) is None
    assert pool.num_free == 0


def test_the_block_freed_first_is_used_anew_first_unless_someone_took_it_up() -> None:
    pool = BlockPool(3)
    names = [content_name(None, [number]) for number in range(3)]
    blocks = [pool.take() for _ in names]
    for block, name in zip(blocks, names, strict=True):
        pool.name(block, name)
        pool.give_back(block)
    pool.hold(blocks[0])
    pool.give_back(blocks[0])
    assert [pool.take() for _ in range(3)] == [blocks[1], blocks[2], blocks[0]]


def test_a_block_is_free_when_its_last_holder_gives_it_back() -> None:
    pool = BlockPool(1)
    block = pool.take()
    pool.hold(block)
    pool.give_back(block)
    assert not pool.is_free(block)
    pool.give_back(block)
    assert pool.is_free(block)


def test_of_two_blocks_with_one_content_the_first_keeps_the_name() -> None:
    pool = BlockPool(2)
    one, two, name = pool.take(), pool.take(), content_name(None, [1])
    pool.name(one, name)
    pool.name(two, name)
    assert pool.find(name) == one
    pool.give_back(two)
    assert pool.take() == two
