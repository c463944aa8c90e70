"""`python -m profiler_service.cli`: the same as the command `lhp`."""

from profiler_service.cli import main

if __name__ == "__main__":
    main()
