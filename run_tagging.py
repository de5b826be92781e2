#!/usr/bin/env python
"""Fine-tune a checkpoint on POS or NER and measure zero-shot transfer to its derived language.

    python run_tagging.py --model_name_or_path runs/first --task_name pos

With no data named, the task comes from the embedded corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_alignmlm.cli import run


def main(argv: Sequence[str] | None = None) -> None:
    """The script; `alignmlm tag` is the same."""
    run("tag", argv)


if __name__ == "__main__":
    main()
