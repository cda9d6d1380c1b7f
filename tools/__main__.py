"""The command line where the console script is not installed (the container image): `python -m tools setup`."""

from tools.cli import main

main()
