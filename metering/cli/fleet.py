"""The fleet that region commands work with, as their options name it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from metering.cli.command import Session, say
from metering.cli.connecting import no_answer
from metering.cli.failures import WrongUsageError
from metering.errors import UnavailableError
from metering.fleet.stage import StageConfig
from metering.wiring.fleet import Fleet, silent


def fleet_of(session: Session, *, settings: Sequence[str] = (), no_pager: bool = False, verbose: bool = False) -> Fleet:
    """Build the fleet of a session's stage. A region that `--region` names is the home region of this run.

    Args:
        session: Stage and endpoint.
        settings: Fields of the stage's configuration, each as `field=value`.
        no_pager: A region may be ready although its page topic has no confirmed subscription.
        verbose: Say each resource.

    Raises:
        WrongUsageError: One of `settings` is not of the form `field=value`.
        SettingsError: The stage or one of its fields is wrong.
    """
    wrong = [setting for setting in settings if "=" not in setting]
    if wrong:
        raise WrongUsageError(f"--set {wrong[0]}: not FIELD=VALUE.", "The fields are in metering/fleet/stage.py.")
    config = StageConfig.load(session.stage, dict(setting.partition("=")[::2] for setting in settings))
    named = session.named_region
    rules = config.rollout if named in {None, "all"} else config.rollout.model_copy(update={"home": named})
    return Fleet(
        config=config,
        rules=rules,
        endpoint=session.endpoint,
        environ=os.environ,
        settings=tuple(settings),
        no_pager=no_pager,
        say=say_of,
        say_resource=say_of if verbose else silent,
        reaching_home=partial(_reaching, session.endpoint, rules.home),
    )


def say_of(region: str, message: str) -> None:
    """Tell people one line about a region, or about all if it is empty."""
    say(f"{region}: {message}" if region else message)


@contextmanager
def _reaching(endpoint: str | None, region: str) -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        raise no_answer(error, endpoint=endpoint, region=region) from error
