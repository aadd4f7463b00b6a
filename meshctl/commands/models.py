"""List the models that can be asked for, with price, context and health."""

import asyncio
import json
from argparse import ArgumentParser, Namespace

from meshctl import options
from meshctl.failure import ExitCode

NAME = "models"
EPILOG = """\
examples:
  meshctl models
  meshctl models --json | jq -r '.[].name'

exit codes:
  0 listed   4 no router answers
"""


def add_arguments(parser: ArgumentParser) -> None:
    options.add_router(parser)
    options.add_json(parser)


def run(arguments: Namespace) -> int:
    from google.protobuf.json_format import MessageToDict

    from meshctl import asking

    found = asyncio.run(asking.models(options.router_of(arguments)))
    rows = [
        MessageToDict(model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for model in found
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    return ExitCode.OK


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "tier", "context", "ready", "input $/M", "cached $/M", "output $/M", box=None)
    for row in rows:
        table.add_row(
            str(row["name"]),
            str(row["tier"]),
            str(row["context_tokens"]),
            f"{row['ready_count']}/{row['instance_count']}",
            *(f"{int(str(row[f'{kind}_price_micro_usd'])) / 1e6:.3f}" for kind in ("input", "cached_input", "output")),
        )
    Console().print(table)
