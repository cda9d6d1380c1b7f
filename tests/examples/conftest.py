"""The whole set as processes, for programs in other languages."""

from tests.e2e.conftest import _line, _running  # noqa: F401  (fixtures)
