"""`modelyard apply` and `export`: what there is to be at a server, as documents of YAML.

What reads and compares them is imported by the functions that need it: it loads types and a parser
that no other command needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.console import echo, err, out, refuse

Files = Annotated[list[str], typer.Option("--file", "-f", help="YAML, - for stdin; repeatable.")]


def apply(
    file: Files,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what an earlier apply made and is no more here.")
    ] = False,
    set_: Annotated[
        str | None, typer.Option("--set", help="What belongs together; default: the file's name.")
    ] = None,
) -> None:
    """Make a server hold what the documents of a file say; what they do not name stays as it is.

    For instance: modelyard apply -f models.yaml --dry-run
    """
    from cli.manifests.kinds import Site
    from cli.manifests.plan import planned
    from cli.manifests.reading import read

    mark = set_ or Path(file[0]).stem
    documents = [each for name in file for each in read(name)]
    changes = planned(Site(Client()), documents, mark if prune else None)
    needed = [each for each in changes if each.is_needed]
    for change in needed:
        for line in change.shown():
            echo(out, *line)
    echo(err, f"{len(needed)} to change, {len(changes) - len(needed)} as they should be.")
    if dry_run or not needed:
        return
    _require_yes(yes)
    for change in needed:
        try:
            echo(err, f"{change.title}: {change.carry_out(mark)}")
        except typer.Exit:
            place = f"{change.document.place}: " if change.document else ""
            echo(err, f"{place}{change.title} is not done, see above; nor what comes after it.")
            raise


def export(
    kind: Annotated[
        list[str] | None, typer.Option(help="For instance Deployment; again for more.")
    ] = None,
) -> None:
    """Print documents of what there is, which `apply` takes. Secrets are named, never their values.

    For instance: modelyard export > models.yaml
    """
    import yaml

    from cli.manifests.kinds import KINDS, Site, exported

    if unknown := set(kind or []) - KINDS.keys():
        raise typer.BadParameter(f"there is no {', '.join(unknown)}; known: {', '.join(KINDS)}.")
    site = Site(Client())
    documents = [
        document
        for title, each in KINDS.items()
        if not kind or title in kind
        for document in exported(each(site))
    ]
    yaml.safe_dump_all(documents, sys.stdout, sort_keys=False, allow_unicode=True)


def _require_yes(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        refuse("Nothing is changed without a yes.", "Give --yes, or look with --dry-run.")
    typer.confirm("Make these changes?", abort=True, err=True)
