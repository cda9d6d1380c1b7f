"""Refuse weak secrets: short ones, well-known ones, and those of examples and of our own defaults."""

MIN_PASSWORD = 16
MIN_KEY = 32  # a secret that signs, encrypts or opens everything
MIN_DIFFERENT = 6

# No word has less than six letters, because a random secret could contain a shorter one by chance.
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
    """Return why a secret is weak, without repeating it, or None if it is not.

    It cannot know how a secret was chosen: a long word that is not listed here passes.
    """
    if not secret:
        return "is empty"
    if len(secret) < min_length:
        return f"has {len(secret)} characters, at least {min_length} are needed"
    word = next((word for word in _WORDS if word in secret.lower()), None)
    if word is not None:
        return f"contains {word!r}, which attackers try first"
    if len(set(secret)) < MIN_DIFFERENT:
        return "repeats a few characters"
    return None
