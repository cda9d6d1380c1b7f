"""`clients/js/src/messages.d.ts`: the messages of the protocol as TypeScript, from the interfaces of PROTOCOL.md."""

import re

from beaconfire_kit.resync import ResyncReason

HEAD = """\
// Written by `make generate` from PROTOCOL.md and shared/src/beaconfire_kit/resync.py. Do not edit.

"""
_BLOCK = re.compile(r"^```ts\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def interfaces(page: str) -> list[str]:
    """The TypeScript blocks of a page, in order."""
    return _BLOCK.findall(page)


def message_typings(page: str) -> str:
    """The whole file, from the text of PROTOCOL.md."""
    blocks = [re.sub(r"^(?=(?:interface|type) )", "export ", block, flags=re.MULTILINE) for block in interfaces(page)]
    return HEAD + "\n".join([*blocks, _reasons()])


def _reasons() -> str:
    cases = "".join(f"\n  /** {reason.meaning} */\n  | {_quoted(reason)}" for reason in ResyncReason)
    return f"/** Why the state of rooms must be loaded again. */\nexport type ResyncReason ={cases};\n"


def _quoted(word: str) -> str:
    return f'"{word}"'
