#!/usr/bin/env python
"""Pre-train a bilingual masked language model on a corpus and its synthetic twin.

    python run_pretraining.py --objective align-mlm --language trans_inv --output_dir runs/first

With no corpus named, the embedded one. Several processes: docs/pretraining.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_alignmlm.cli import run


def main(argv: Sequence[str] | None = None) -> None:
    """The script; `alignmlm pretrain` is the same."""
    run("pretrain", argv)


if __name__ == "__main__":
    main()
