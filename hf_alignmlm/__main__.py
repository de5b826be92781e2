"""`python -m hf_alignmlm`: the command `alignmlm`."""

from hf_alignmlm.cli import main

if __name__ == "__main__":
    main()
