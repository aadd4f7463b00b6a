"""Look into the response cache, invalidate entries, and carry them from one cache to another."""

import asyncio
import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshctl import options
from meshctl.failure import CommandFailed, ExitCode

if TYPE_CHECKING:
    from meshctl.cache_asking import Cache

NAME = "cache"
EXIT_CODES = """
exit codes:
  0 done   1 refused or failed, see the message   2 wrong usage   4 no cache answers
"""
EPILOG = f"""\
examples:
  meshctl cache stats
  meshctl cache invalidate --tag faq                      count what it would forget
  meshctl cache invalidate --tag faq --apply --reason "the FAQ changed"
  meshctl cache export answers.mcache && meshctl cache warm answers.mcache --cache 10.0.0.5:50052

Each has its own --help, and --json for programs.
{EXIT_CODES}"""
INVALIDATE = f"""\
Without --apply nothing changes: it counts what would be forgotten, each entry once and in each tier. With --apply the
entries are hidden at once in every tier of this instance, and within a second at the others; deleting them follows.

examples:
  meshctl cache invalidate --revision 4f2a91
  meshctl cache invalidate --tag faq --apply --reason "the FAQ changed"
  meshctl cache invalidate --all --tenant search --apply --reason "new index"
  meshctl cache invalidate --digest 9c0f --json | jq .tiers
{EXIT_CODES}"""
BUMP = f"""\
Every entry of the tenant that was looked up before is hidden at once, here and within a second at the other instances.
Nothing is counted or deleted; the space comes back as entries expire. `invalidate --all` deletes them, too.

examples:
  meshctl cache bump-epoch --reason "new model behind the same name"
{EXIT_CODES}"""
AUDIT = f"""\
Lists what this instance was told to invalidate for the tenant since it started, newest first. The lasting record is
its log, event cache.invalidation.

examples:
  meshctl cache audit
  meshctl cache audit --json | jq '.records[].reason'
{EXIT_CODES}"""
EXPORT = f"""\
Writes every entry of the tenant that could be served now. The file holds answers in clear and is readable for you
alone; it names no tenant, so whoever loads it gets the entries for their own.

examples:
  meshctl cache export answers.mcache
  meshctl cache export answers.mcache --tenant search
{EXIT_CODES}"""
WARM = f"""\
Checks the whole file first, then loads it for the tenant. Entries keep their age and their end; what is over, or was
invalidated in this cache since it was made, is left out and counted.

examples:
  meshctl cache warm answers.mcache
  meshctl cache warm answers.mcache --tenant search --json | jq .stored_count
{EXIT_CODES}"""

Ask = Callable[["Cache", Namespace], Any]


def add_arguments(parser: ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="cache_command", metavar="COMMAND", required=True)

    def add(name: str, summary: str, ask: Ask, epilog: str) -> ArgumentParser:
        child = commands.add_parser(
            name, help=summary, description=summary, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
        )
        child.set_defaults(ask=ask)
        child.add_argument("--tenant", default="", metavar="NAME", help="act as this tenant (default: `default`)")
        child.add_argument("--cache", metavar="HOST:PORT", help="cache to ask (default: that of the mesh running here)")
        options.add_run_dir(child)
        options.add_json(child)
        return child

    add("stats", "Show hits, entries and bytes of each tier", _stats, f"examples:\n  meshctl cache stats\n{EXIT_CODES}")
    invalidate = add("invalidate", "Forget entries; only counts them unless told to apply", _invalidate, INVALIDATE)
    _add_selectors(invalidate)
    invalidate.add_argument("--apply", action="store_true", help="really forget")
    invalidate.add_argument("--reason", default="", metavar="TEXT", help="why, for the record; needed with --apply")
    bump = add("bump-epoch", "Hide every older entry of the tenant at once", _bump, BUMP)
    bump.add_argument("--reason", required=True, metavar="TEXT", help="why, for the record")
    for child in (invalidate, bump):
        child.add_argument(
            "--idempotency-key", metavar="KEY", help="a repetition with the same key, within a day, changes nothing"
        )
    add("audit", "List what was invalidated, by whom and why", _audit, AUDIT)
    export = add("export", "Write the tenant's entries to a file", _export, EXPORT)
    export.add_argument("file", type=Path, metavar="FILE", help="file to write; must not exist")
    warm = add("warm", "Load entries from a file", _warm, WARM)
    warm.add_argument("file", type=Path, metavar="FILE", help="file that `export` wrote")
    warm.add_argument("--as-new", action="store_true", help="load also what this cache has invalidated since")


def _add_selectors(parser: ArgumentParser) -> None:
    selectors = parser.add_mutually_exclusive_group(required=True)
    selectors.add_argument("--all", action="store_true", help="everything of the tenant")
    selectors.add_argument("--revision", metavar="R", help="answers of this revision of a model's weights")
    selectors.add_argument("--tag", metavar="T", help="entries with this tag")
    selectors.add_argument("--digest", metavar="HEX", help="entries whose digest begins with these hex digits")


def run(arguments: Namespace) -> int:
    asyncio.run(_run(arguments))
    return ExitCode.OK


async def _run(arguments: Namespace) -> None:
    from google.protobuf.json_format import MessageToDict

    from meshctl.cache_asking import cache_at

    address = arguments.cache or f"127.0.0.1:{options.ports_of(arguments).cache}"
    async with cache_at(address, arguments.tenant) as cache:
        reply, text = await arguments.ask(cache, arguments)
    if arguments.json:
        shown = MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        print(json.dumps(shown, indent=2))
    else:
        print(text)


async def _stats(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from mesh.cache.v1 import cache_service_pb2 as pb
    from meshctl import cache_report

    reply = await cache.ask("Stats", pb.StatsRequest())
    return reply, cache_report.stats(reply)


async def _invalidate(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from mesh.cache.v1 import cache_service_pb2 as pb
    from meshctl import cache_asking, cache_report
    from meshctl.progress import Progress

    if arguments.apply and not arguments.reason:
        raise CommandFailed("--apply needs --reason TEXT, for the record", ExitCode.USAGE)
    request = pb.InvalidateRequest(
        **_selector(arguments),
        apply=arguments.apply,
        reason=arguments.reason,
        idempotency_key=arguments.idempotency_key or "",
    )
    with Progress().step("looking at every entry"):
        reply = await cache.ask("Invalidate", request, timeout_s=cache_asking.SWEEP_S)
    return reply, cache_report.invalidated(reply, is_applied=arguments.apply)


def _selector(arguments: Namespace) -> dict[str, Any]:
    if arguments.digest is not None:
        try:
            return {"digest_prefix": bytes.fromhex(arguments.digest)}
        except ValueError:
            raise CommandFailed("--digest needs hex digits, two for each byte", ExitCode.USAGE) from None
    if arguments.all:
        return {"whole_tenant": True}
    return {"tag": arguments.tag} if arguments.tag is not None else {"revision": arguments.revision}


async def _bump(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from mesh.cache.v1 import cache_service_pb2 as pb
    from meshctl import cache_report

    request = pb.BumpEpochRequest(reason=arguments.reason, idempotency_key=arguments.idempotency_key or "")
    reply = await cache.ask("BumpEpoch", request)
    return reply, cache_report.bumped(reply)


async def _audit(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from mesh.cache.v1 import cache_service_pb2 as pb
    from meshctl import cache_report

    reply = await cache.ask("ListInvalidations", pb.ListInvalidationsRequest())
    return reply, cache_report.audit(reply)


async def _export(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from google.protobuf.struct_pb2 import Struct

    from meshctl.cache_asking import megabytes
    from meshctl.progress import Progress

    if arguments.file.exists():
        raise CommandFailed(f"{arguments.file} exists: remove it or name another file", ExitCode.USAGE)
    written = await cache.export(arguments.file, Progress())
    reply = Struct()
    reply.update({"entry_count": written.count, "size_bytes": written.size_bytes})
    return reply, f"{written.count:,} entries, {megabytes(written.size_bytes)}, in {arguments.file}"


async def _warm(cache: "Cache", arguments: Namespace) -> tuple[Any, str]:
    from meshctl import cache_report
    from meshctl.progress import Progress

    reply = await cache.warm(arguments.file, Progress(), as_new=arguments.as_new)
    return reply, cache_report.warmed(reply)
