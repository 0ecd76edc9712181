"""What `nvl-golden code` does: lists the Python code that a checkpoint brings, and runs none of it."""

from __future__ import annotations

import argparse
import json

from .huggingface.code import code_sha256, describe_code
from .huggingface.private import PrivateCopy
from .huggingface.source import find_source


def list_code(arguments: argparse.Namespace) -> int:
    """Runs the command.

    # Errors
    `GoldenError` if there is no such checkpoint, or its code cannot be listed.
    """
    source = find_source(arguments.model)
    with PrivateCopy(source.folder, source.origin) as copy:
        files, digest = copy.code, code_sha256(copy.code)
    if not arguments.json:
        print(describe_code(files) if files else "no code")
        print(f"SHA-256 of this list: {digest}")
        return 0
    rows = [
        {
            "name": file.name,
            "repository": file.repository,
            "revision": file.revision,
            "origin": file.origin,
            "bytes": len(file.source),
            "sha256": file.sha256,
        }
        for file in files
    ]
    head = {"folder": str(source.folder), "name": source.name, "revision": source.revision}
    print(json.dumps({**head, "sha256": digest, "files": rows}))
    return 0
