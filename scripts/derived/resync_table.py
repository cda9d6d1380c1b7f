"""The reasons and causes of a `resync` where others read them: PROTOCOL.md and docs/howto/troubleshoot.md."""

from beaconfire_kit.resync import ResyncCause, ResyncReason

MARK = "resync reasons"
CAUSES_MARK = "resync causes"


def for_clients() -> str:
    """Return the table of PROTOCOL.md: each reason, and what a client does."""
    rows = "".join(f"| `{reason}` | {reason.meaning} | {reason.client} |\n" for reason in ResyncReason)
    return f"| reason | means | what else a client does |\n|---|---|---|\n{rows}"


def for_operators() -> str:
    """Return the table of docs/howto/troubleshoot.md: each reason, and what to look at."""
    rows = "".join(f"| `{reason}` | {reason.meaning} | {reason.operator} |\n" for reason in ResyncReason)
    return f"| reason | means | do |\n|---|---|---|\n{rows}"


def causes() -> str:
    """Return the second table of docs/howto/troubleshoot.md: the exact causes."""
    rows = "".join(f"| `{cause}` | `{cause.reason}` | {cause.meaning} |\n" for cause in ResyncCause)
    return f"| cause | reason | means |\n|---|---|---|\n{rows}"
