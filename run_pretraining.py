#!/usr/bin/env python
"""Pre-train a bilingual masked language model on a corpus and its synthetic twin.

    python run_pretraining.py --objective align-mlm --language trans_inv --output_dir runs/first

With no corpus named, the embedded one. Several processes: see the README.
"""

from hf_alignmlm.pretraining import main

if __name__ == "__main__":
    main()
