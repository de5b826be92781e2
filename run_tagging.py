#!/usr/bin/env python
"""`alignmlm tag` as a script: fine-tunes on POS or NER, measures the transfer.."""

from functools import partial

from hf_alignmlm.cli import run

main = partial(run, "tag")

if __name__ == "__main__":
    main()
