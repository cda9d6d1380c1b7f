"""Read settings that hold secrets from files, as Docker and Kubernetes mount them.

    BEACONFIRE_NATS_PASSWORD_FILE=/run/secrets/nats_password

A file holds one secret, and perhaps a line break at its end. No error contains a part of it.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import PrivateAttr, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from beaconfire_kit import logs
from beaconfire_kit.secret_files import read_content

SUFFIX = "_FILE"
_MARK: Final = "may contain a password"
MayContainPassword = Annotated[str, _MARK]
"""A text such as a URL, which may contain a password, so it may be in a file."""

log = logs.get(__name__)


class FilesUnusable(Exception):
    """Secrets cannot be read from their files. `sentences` has the reason for each."""

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True, slots=True)
class _Read:
    path: str
    content: str = field(repr=False)


class FileSettings(BaseSettings):
    """Settings from the environment. For each that holds a secret, `…_FILE` may name the file that has it."""

    _files: dict[str, _Read] = PrivateAttr(default_factory=dict)

    def __init__(self, **chosen: Any) -> None:
        """Read the settings. Those that were `chosen` in code win. Raises FilesUnusable, pydantic.ValidationError."""
        read = _read_files(type(self), chosen)
        values: dict[str, Any] = {name: one.content for name, one in read.items()}
        super().__init__(**values, **chosen)
        self._files = read

    def current(self, name: str) -> str:
        """Return a secret as its file has it now. If it is in no file, or the file cannot be read, as at the start."""
        value: str | SecretStr = getattr(self, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        read = self._files.get(name)
        if read is None or read.content != text:  # `model_copy` may have replaced the value
            return text
        try:
            return read_setting(read.path)
        except ValueError as error:
            log.warning("a secret's file cannot be read: using the secret as it was at the start", error=str(error))
            return text

    def is_in_file(self, name: str) -> bool:
        """Return whether a setting came from a file."""
        return name in self._files

    def warn_of_readable_files(self) -> None:
        """Log a warning for each file with a secret that every user of the machine can read."""
        for read in self._files.values():
            if Path(read.path).stat().st_mode & stat.S_IROTH:
                log.warning("every user of this machine can read a secret's file: run `chmod o-r`", path=read.path)


def may_be_in_file(setting: FieldInfo) -> bool:
    """Return whether a setting holds a secret."""
    return setting.annotation is SecretStr or _MARK in setting.metadata


def path_given(variable: str, environment: Mapping[str, str]) -> str | None:
    """Return the path that `…_FILE` has for a variable, or None. Raises ValueError if the variable is set, too."""
    path = environment.get(variable + SUFFIX)
    if path and environment.get(variable):
        raise ValueError(f"{variable} and {variable}{SUFFIX} are both set: remove one of them")
    return path or None


def secret_given(variable: str, environment: Mapping[str, str]) -> str | None:
    """Return the secret of the file that `…_FILE` names, or None if none is named. Raises ValueError."""
    if (path := path_given(variable, environment)) is None:
        return None
    try:
        return read_setting(path)
    except ValueError as error:
        raise ValueError(f"{variable}{SUFFIX}: {error}") from None


def read_setting(path: str) -> str:
    """Return the secret of a file. Raises ValueError with the path and what to do."""
    try:
        text = read_content(path).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not text in UTF-8") from None
    if not text:
        raise ValueError(f"{path}: is empty: write the secret into it")
    if text != text.strip() or not text.isprintable():
        raise ValueError(f"{path}: has several lines, or white space at an end: leave only the secret in it")
    return text


def _read_files(cls: type[FileSettings], chosen: Mapping[str, Any]) -> dict[str, _Read]:
    environment = {name.upper(): value for name, value in os.environ.items()}
    read: dict[str, _Read] = {}
    wrong: list[str] = []
    for name, variable in _variables(cls):
        if name in chosen:
            continue
        try:
            if (content := secret_given(variable, environment)) is not None:
                read[name] = _Read(environment[variable + SUFFIX], content)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise FilesUnusable(tuple(wrong))
    return read


def _variables(cls: type[FileSettings]) -> Iterator[tuple[str, str]]:
    prefix = cls.model_config.get("env_prefix", "")
    for name, setting in cls.model_fields.items():
        if may_be_in_file(setting):
            yield name, f"{prefix}{name}".upper()
