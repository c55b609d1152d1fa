"""Lets `python -m thinkrank` do what `thinkrank` does."""

from thinkrank.cli import main

if __name__ == "__main__":
    main()
