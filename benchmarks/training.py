"""Training beside stock: `python -m benchmarks.training PART --text TEXT …` prints JSON."""

from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import ON_CPU, Side, command_line, peak_mib
from hf_alignmlm.sizes import SIZES, flops_per_token, matmul_rate

DEVICE = torch.device("cpu" if ON_CPU else "cuda")
SIDES = ("stock", "mlm", "xlm", "dict-mlm", "align-mlm")


def throughput(text: Path, size: str = "mini", rounds: int = 3, steps: int = 6) -> dict[str, Any]:
    """Tokens per second of all sides, in turn; ratios are medians of each round's."""
    sides = {name: Side(name, size, text, steps=steps) for name in SIDES}
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    matrix = []
    for _ in range(rounds):
        for name, side in sides.items():
            matrix.append(matmul_rate(DEVICE, torch.bfloat16))
            rates[name].append(side.tokens / side.seconds())
    flops = flops_per_token(sides["mlm"].trainer.model.config, SIZES[size].max_seq_length)

    def ratio(name: str, base: str) -> float:
        return median(a / b for a, b in zip(rates[name], rates[base], strict=True))

    medians = {name: median(measured) for name, measured in rates.items()}
    share = 100 * flops / median(matrix)
    return {
        "tokens_per_second": medians,
        "rounds": rates,
        "against_stock": {name: ratio(name, "stock") for name in SIDES},
        "align_mlm_against_mlm": ratio("align-mlm", "mlm"),
        "matrix_gflops": median(matrix) / 1e9,
        "share_of_matrix_rate": {name: rate * share for name, rate in medians.items()},
        "padding_percent": 100 * sides["align-mlm"].padding,
    }


def memory(text: Path, size: str = "mini", side: str = "align-mlm") -> dict[str, float]:
    """Peak MiB of this process after three steps, and before the model was made."""
    before = peak_mib()
    Side(side, size, text, steps=3).trainer.train()
    peak = peak_mib() if ON_CPU else torch.cuda.max_memory_allocated() / 2**20
    return {"before_mib": before, "peak_mib": peak}


def losses(
    text: Path, size: str = "mini", steps: int = 6, fp32: bool = False, moved: bool = False
) -> list[float]:
    """The loss of each step of align-mlm; another version's checkout takes the same options.

    `moved` changes the initial weights by 1e-6, to show what rounding alone does.
    """
    side = Side("align-mlm", size, text, steps=steps, fp32=fp32, log=True)
    if moved:
        # By less than bf16 can tell: what differs after that, differs by rounding.
        with torch.no_grad():
            for weight in side.trainer.model.parameters():
                weight.mul_(1 + 1e-6 * torch.randn_like(weight))
    side.trainer.train()
    return [line["loss"] for line in side.trainer.state.log_history if "loss" in line]


if __name__ == "__main__":
    command_line(throughput, memory, losses)
