"""Vector files as options of other commands, and `lab vectors …`: to and from the Hugging Face hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lab.cli.common import app

Vectors = Annotated[
    list[str] | None,
    typer.Option(
        "--vector",
        help="Take the direction from a file instead of extracting it: ours, .pt of persona-vectors or "
        "assistant-axis, .gguf. TRAIT=FILE names its trait. Repeat for more.",
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(
        help="Layer of --vector, 0 after the first block, where the file says none or you want another."
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Take --vector though its fingerprint is not known or another model's."),
]

vectors = typer.Typer(help="Vector files to and from the Hugging Face hub.", no_args_is_help=True)
app.add_typer(vectors, name="vectors")


@vectors.command("push")
def vectors_push(
    file: Annotated[Path, typer.Argument(help="A vector file: .safetensors, .pt or .gguf.")],
    repo: Annotated[str, typer.Argument(help="Your model repository on the hub, owner/name.")],
    name: Annotated[str, typer.Option(help="Its name there; default TRAIT.safetensors.")] = "",
    public: Annotated[bool, typer.Option(help="Make a new repository public, not private.")] = False,
) -> None:
    """Send a vector to a repository on the hub, without what its card may hold of scaffolds and persons."""
    from lab.pipelines.sharing import destination, push

    def announce() -> None:
        print(f"lab: sending {file} to {destination(repo)}", file=sys.stderr)

    sent = push(file, repo, name, public, announce)
    if sent.left_out:
        print(f"lab: left out: {', '.join(sent.left_out)}", file=sys.stderr)
    print(sent.address)


@vectors.command("pull")
def vectors_pull(
    repo: Annotated[str, typer.Argument(help="A repository on the hub, owner/name.")],
    name: Annotated[str, typer.Argument(help="A vector file in it.")],
    file: Annotated[
        Path | None, typer.Argument(help="Where to; default: here, under its name as .safetensors.")
    ] = None,
    dataset: Annotated[bool, typer.Option(help="It is a dataset repository.")] = False,
    layers: Annotated[
        int | None, typer.Option(help="Blocks of the model, where a bare tensor does not tell.")
    ] = None,
) -> None:
    """Get a vector from a repository on the hub, to be steered with or watched along."""
    from lab.pipelines.sharing import pull

    print(pull(repo, name, file, "dataset" if dataset else "model", layers))
