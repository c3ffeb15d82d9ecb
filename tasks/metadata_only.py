"""A stand-in for a build backend that names a package and does nothing else.

`pip download` wants the metadata of a source archive and would run its setup.py to get it. tasks/archives.py copies
this file to where pip's subprocess looks for the backend first, so no code of the archive runs.
"""

import os
from typing import Any


class MetadataOnly:
    """The two hooks that `pip download` calls."""

    def get_requires_for_build_wheel(self, config_settings: Any = None) -> list[str]:
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory: str, config_settings: Any = None) -> str:
        name, version = os.environ["EQUIPOISE_ARCHIVE"].split("==")
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        os.makedirs(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as file:
            file.write(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return folder


__legacy__ = MetadataOnly()  # what pip asks for where an archive has no pyproject.toml
get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
