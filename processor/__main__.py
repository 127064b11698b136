"""`python -m processor`: the same as the console script `hakuna-processor`."""

from processor.cli import main

if __name__ == "__main__":
    main()
