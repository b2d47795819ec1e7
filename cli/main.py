"""The `modelyard` command: one module per noun, joined here."""

from __future__ import annotations

import typer

from cli import (
    containers,
    dead_letters,
    demo,
    doctor,
    events,
    images,
    nodes,
    processes,
    secrets,
    stack,
    token,
)

app = typer.Typer(
    name="modelyard",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Takes in model container images, proves that they work, and runs them on GPU nodes.",
)

RUN_IT = "Run it"
USE_IT = "Use it"

for command in (demo.demo, stack.up, stack.down, doctor.doctor):
    app.command(rich_help_panel=RUN_IT)(command)
for command in (processes.api, processes.worker, processes.agent):
    app.command(rich_help_panel=RUN_IT)(command)

app.command(rich_help_panel=USE_IT)(events.events)
app.command(rich_help_panel=USE_IT)(containers.logs)
for name, group in {
    "images": images.app,
    "containers": containers.app,
    "nodes": nodes.app,
    "secrets": secrets.app,
    "token": token.app,
    "dead-letters": dead_letters.app,
}.items():
    app.add_typer(group, name=name, rich_help_panel=USE_IT)

if __name__ == "__main__":
    app()
