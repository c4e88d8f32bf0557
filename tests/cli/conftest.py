"""Files that every command can be tried on."""

import every_command
import pytest


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """What every command reads."""
    folder = tmp_path_factory.mktemp("files")
    every_command.write_files(folder)
    return folder
