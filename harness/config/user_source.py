"""The user's own configuration directories, as Hydra looks into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from harness.config.errors import InputError
from harness.config.user_yaml import as_mapping, user_text


class UserSource(FileConfigSource):
    """A directory of files that anybody may have written: each is read within bounds, and what is wrong with it ends in an InputError
    that names it."""

    @staticmethod
    def scheme() -> str:
        return "user"

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path) / self._normalize_file_name(config_path)
        text = user_text(path)
        content = as_mapping(path, text, holds="keys and values")
        _refuse_other_defaults(path, content.get("defaults", []))
        try:
            header = self._get_header_dict(text[:512])
        except ValueError as error:
            raise InputError(f"{path}: {error}; valid: # @package _global_") from None
        return ConfigResult(config=OmegaConf.create(content), path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)


def _refuse_other_defaults(path: Path, defaults: Any) -> None:
    entries = defaults if isinstance(defaults, list) else [None]
    wrong = [entry for entry in entries if not isinstance(entry, str) and not (isinstance(entry, dict) and len(entry) == 1)]
    if wrong:
        raise InputError(f"{path}: defaults={defaults}: expected a list of names and of group: choice, e.g. [cpt, override /optim: muon]")
