"""Start the command line: the console script `beaconfire`, or `python -m beaconfire`."""

import signal

from beaconfire_kit import stopping


def main() -> None:
    """Run a command. SIGTERM and SIGINT end it from the first moment, also as process 1 and under `nohup`."""
    stopping.exit_on_signal(None)
    from beaconfire.cli import main as run  # takes a second
    from beaconfire_kit import logs

    logs.configure_command()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
