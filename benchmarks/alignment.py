"""Time and memory of `alignment_scores` on a dictionary of the paper's size."""

import statistics
import time

import torch

from benchmarks.common import command_line, peak_mib
from hf_alignmlm import alignment_scores


def alignment(pairs: int = 40_000, dim: int = 512, repeats: int = 3) -> dict[str, float]:
    """Median seconds, and peak MiB of this process beyond the inputs."""
    generator = torch.Generator().manual_seed(0)
    original = torch.randn(pairs, dim, generator=generator)
    derived = torch.randn(pairs, dim, generator=generator).mul_(2).add_(original)
    index = torch.arange(pairs)
    before, seconds, scores = peak_mib(), [], {}
    for _ in range(repeats):
        start = time.perf_counter()
        scores = alignment_scores(original, derived, index[:, None].expand(-1, 2), index % 2 == 0)
        seconds.append(time.perf_counter() - start)
    return {
        "pairs": pairs,
        "dim": dim,
        "threads": torch.get_num_threads(),
        "seconds": round(statistics.median(seconds), 2),
        "extra_mib": round(peak_mib() - before, 1),
        "p1": scores["p1"],
    }


if __name__ == "__main__":
    command_line(alignment)
