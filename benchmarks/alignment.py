"""Time and memory of `alignment_scores` on a dictionary of the paper's size."""

import argparse
import json
import statistics
import time

import torch

from benchmarks.common import apart, peak_mib
from hf_alignmlm.alignment import alignment_scores


def _run(pairs: int, dim: int, repeats: int) -> dict[str, float | None]:
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
        "seconds": round(statistics.median(seconds), 2),
        "extra_mib": round(peak_mib() - before, 1),
        "p1": scores["p1"],
    }


def measure(pairs: int = 40_000, dim: int = 512, repeats: int = 3) -> dict[str, float | None]:
    """Median seconds and peak MiB beyond the inputs, in a new process: past peaks would hide it."""
    options = [f"--pairs={pairs}", f"--dim={dim}", f"--repeats={repeats}", "--here"]
    answer = apart("benchmarks.alignment", *options)
    return {"pairs": pairs, "dim": dim, "threads": torch.get_num_threads(), **answer}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    options = vars(parser.parse_args())
    here = options.pop("here")
    print(json.dumps(_run(**options) if here else measure(**options)))
