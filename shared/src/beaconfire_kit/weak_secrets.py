"""Whether a secret is one: refused are those that stand in books, in examples and in our own defaults."""

MIN_PASSWORD = 16
MIN_KEY = 32  # what signs, seals or opens everything
MIN_DIFFERENT = 6

# No word under six letters: a random secret could hold one by chance.
_WORDS = (
    "password",
    "passwort",
    "changeme",
    "change-me",
    "change_me",
    "replaceme",
    "example",
    "default",
    "secret",
    "letmein",
    "qwerty",
    "insecure",
    "development",
    "postgres",
    "beaconfire",
    "correct horse",
    "12345678",
    "abcdefgh",
)


def weakness(secret: str, *, min_length: int) -> str | None:
    """Why a secret is weak, in words that do not repeat it; None where it is not.

    Says nothing of how it was made: a long word nobody has listed here passes.
    """
    if not secret:
        return "is empty"
    if len(secret) < min_length:
        return f"has {len(secret)} characters, at least {min_length} are needed"
    word = next((word for word in _WORDS if word in secret.lower()), None)
    if word is not None:
        return f"contains {word!r}, which everybody tries first"
    if len(set(secret)) < MIN_DIFFERENT:
        return "repeats a few characters"
    return None
