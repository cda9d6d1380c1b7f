"""The campaign: a page on which all users see the same campaign change. The publisher is its domain service."""
