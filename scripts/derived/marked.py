"""Replace generated parts of hand-written pages, between `<!-- generated: NAME -->` and `<!-- end -->`."""

END = "<!-- end -->"


def fill(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of this name. Raises ValueError if the page does not have them."""
    begin = f"<!-- generated: {name} -->"
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no {begin} … {END}")
    return f"{before}{begin}\n{text}{END}{after}"
