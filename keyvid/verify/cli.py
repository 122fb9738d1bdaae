"""`keyvid-verify`: the command line around `keyvid.verify`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from keyvid.command import CONTEXT, common_options, run_command

NOT_AS_SAID = 3  # exit code

_PATH = click.Path(path_type=Path)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-verify` and give its exit code, see `keyvid.command`."""
    return run_command(_verify, "keyvid-verify", args)


@click.command(context_settings=CONTEXT)
@click.argument("clip", type=_PATH)
@click.option("--image", type=_PATH, help="The picture: makes the clip again, with --audio")
@click.option("--audio", type=_PATH, help="The sound: makes the clip again, with --image")
@click.option("--end", type=_PATH, help="The picture of the last frame, if that was given, too")
@click.option("--bundle", help="Model  [default: the packaged one that the receipt names]")
@click.option("--engine", help="Engine  [default: the receipt's, or auto where it does not work]")
@click.option(
    "--report", type=_PATH, help="The clip's report: takes the receipt from it, not from the clip"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@common_options
def _verify(
    clip: Path,
    image: Path | None,
    audio: Path | None,
    end: Path | None,
    bundle: str | None,
    engine: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Is CLIP what its receipt says?

    Without more, receipt, file, pictures and sound are compared with each other, and content
    credentials are checked: this tells a clip that was cut or encoded anew from one that was
    changed. It does not tell whether the receipt is true. With the picture and the sound, the clip
    is made again, which does.

    Lines with - tell of something that contradicts nothing, lines with ! of what is not as the
    receipt says; then the exit code is 3.
    """
    if (image is None) != (audio is None):
        raise click.UsageError("--image and --audio go together.")

    from keyvid.verify.finding import format_findings, summary
    from keyvid.verify.verification import AtHand, verify_clip

    findings = []
    for finding in verify_clip(clip, AtHand(image, audio, end, bundle, engine, report)):
        findings.append(finding)
        if not as_json:
            click.echo(format_findings([finding]), nl=False)
    if as_json:
        result = {"summary": summary(findings), "findings": [asdict(one) for one in findings]}
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo(summary(findings))
    if any(finding.verdict == "bad" for finding in findings):
        click.get_current_context().exit(NOT_AS_SAID)
