#!/usr/bin/env python
"""`alignmlm pretrain` as a script: pre-trains a masked LM on a corpus and its twin.."""

from functools import partial

from hf_alignmlm.cli import run

main = partial(run, "pretrain")

if __name__ == "__main__":
    main()
