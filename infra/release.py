"""Outputs that say which release a stack was deployed from.

They are outputs and no tags: CloudFormation gives a stack's tags to each of its resources, so a new version would
change all of them.
"""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack

from metering.fleet.ports import REHEARSAL_OUTPUT, Release


def put_out(stack: Stack, release: Release, *, rehearsal: bool) -> None:
    """Let a stack say its release, and that it is a rehearsal if it is one."""
    for name, value in release.outputs.items():
        CfnOutput(stack, name, value=value)
    if rehearsal:
        CfnOutput(stack, REHEARSAL_OUTPUT, value="true")
