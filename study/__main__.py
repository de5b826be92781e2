"""`python -m study`: the paper's grid with one command."""

from study.grid import main

if __name__ == "__main__":
    main()
