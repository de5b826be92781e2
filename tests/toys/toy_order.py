"""A toy order: neighbours change places, [0, 1, 2, 3, 4] becomes [1, 0, 3, 2, 4]."""

from hf_alignmlm import order


@order("toyswap", "neighbouring words in each other's place")
def swap_neighbours(order, words, tree, seed, index):
    """Each word at an even place changes with the one behind it."""
    return [i for start in range(0, len(order), 2) for i in reversed(order[start : start + 2])]
