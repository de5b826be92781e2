#!/usr/bin/env python
"""`alignmlm nli` as a script: fine-tunes on NLI, measures the transfer.."""

from functools import partial

from hf_alignmlm.cli import run

main = partial(run, "nli")

if __name__ == "__main__":
    main()
