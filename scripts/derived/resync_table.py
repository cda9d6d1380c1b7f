"""The reasons of a `resync` where others read them: PROTOCOL.md and docs/howto/troubleshoot.md."""

from beaconfire_kit.resync import ResyncReason

MARK = "resync reasons"


def for_clients() -> str:
    """The table of PROTOCOL.md: what happened, and what a client does."""
    rows = "".join(f"| `{reason}` | {reason.meaning} | {reason.client} |\n" for reason in ResyncReason)
    return f"| reason | means | what a client does besides |\n|---|---|---|\n{rows}"


def for_operators() -> str:
    """The table of docs/howto/troubleshoot.md: what happened, and what to look at."""
    rows = "".join(f"| `{reason}` | {reason.meaning} | {reason.operator} |\n" for reason in ResyncReason)
    return f"| reason | means | do |\n|---|---|---|\n{rows}"
