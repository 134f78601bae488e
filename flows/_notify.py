"""Automations on the Prefect server that tell people what went wrong, and of what did not happen at all.

Three rules, made anew by each call: a run of ours failed or crashed; a run stopped giving signs of life (it
is marked as crashed, which the first rule then tells); no night began for longer than it should. Where the
message goes is a block on the server: its secrets are there and nowhere else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.blocks.webhook import Webhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from flows._deployments import TAG
from flows._summary import OUT_OF_TIME, WITH_FAILURES
from flows.nightly import NIGHT
from sage_core.errors import ConfigError

WEBHOOK_URL = "SAGE_NOTIFY_URL"
"""Environment variable: the address that is called. Such an address is a secret."""

BLOCK = "sage-notify"
FAILED, SILENT, MISSED = "sage: a run failed", "sage: a run is silent", "sage: no night"

_PREFIX = "prefect.flow-run"
_BEAT = f"{_PREFIX}.heartbeat"
_BEGUN = f"{_PREFIX}.Running"
_BAD = {f"{_PREFIX}.{name}" for name in ("Failed", "Crashed", "TimedOut")}
_ENDS = _BAD | {
    f"{_PREFIX}.{name}"
    for name in ("Completed", WITH_FAILURES, OUT_OF_TIME, "Cancelled", "Cancelling", "Paused")
}
_SUBJECT = "SAGE: {{ flow_run.name }} is {{ flow_run.state.name }}"
_BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
_NO_NIGHT = "SAGE: no night began in time"


@dataclass(frozen=True)
class Rules:
    """How long silence may last.

    Attributes:
        silent_s: without a heartbeat, before a run counts as crashed; at least three heartbeats.
        night_h: without a night that begins, before somebody is told.
    """

    silent_s: float = 600.0
    night_h: float = 25.0


def make_automations(block: str | None, rules: Rules) -> list[str]:
    """Make the three automations, in place of those that there are; their names.

    Args:
        block: a notification block on the server as ``TYPE/NAME`` (``slack-webhook/ops``), or None for a
            webhook at the address in ``SAGE_NOTIFY_URL``.
        rules: how long silence may last.

    Raises:
        ConfigError: there is no such block, or the variable is not set.
    """
    target = _webhook() if block is None else _loaded(block)
    for automation in automations(target, rules):
        _remove(automation.name)
        automation.create()
    return [FAILED, SILENT, MISSED]


def automations(target: Block, rules: Rules) -> list[Automation]:
    """The three rules, which tell ``target``."""
    ours = _tagged(TAG)
    return [
        Automation(
            name=FAILED,
            description="A run of one of SAGE's deployments ended as Failed or Crashed.",
            trigger=EventTrigger(expect=_BAD, match=_runs(), match_related=ours),
            actions=[_tell(target, _SUBJECT, _BODY)],
        ),
        Automation(
            name=SILENT,
            description="A run gave signs of life and stopped: it is marked as Crashed.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={_BEAT},
                expect={_BEAT} | _ENDS,
                match=_runs(),
                match_related=_tagged(TAG, NIGHT),
                for_each={"prefect.resource.id"},
                within=timedelta(seconds=rules.silent_s),
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message=f"no sign of life for {rules.silent_s:.0f} s: its process, or its host, is gone",
                )
            ],
        ),
        Automation(
            name=MISSED,
            description="No night began: the schedule is paused, or nobody serves the deployment.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                # Each night begins the wait for the next. Without `after`, Prefect's windows stand one
                # behind the other, and after one with a night in it comes one in which nobody looks.
                after={_BEGUN},
                expect={_BEGUN},
                match=_runs(),
                match_related=_tagged("nightly"),
                within=timedelta(hours=rules.night_h),
            ),
            actions=[_tell(target, _NO_NIGHT, f"For {rules.night_h:g} hours no night has begun.")],
        ),
    ]


def _runs() -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": f"{_PREFIX}.*"})


def _tagged(*names: str) -> ResourceSpecification:
    tags: list[str] = [f"prefect.tag.{name}" for name in names]
    return ResourceSpecification({"prefect.resource.id": tags, "prefect.resource.role": "tag"})


def _tell(target: Block, subject: str, body: str) -> CallWebhook | SendNotification:
    block_id = target._block_document_id
    assert block_id is not None, "a saved block has an id"
    if isinstance(target, Webhook):
        return CallWebhook(block_document_id=block_id, payload=f"{subject}\n{body}")
    return SendNotification(block_document_id=block_id, subject=subject, body=body)


def _webhook() -> Webhook:
    url = os.environ.get(WEBHOOK_URL)
    if not url:
        raise ConfigError(
            f"whom to tell? Set {WEBHOOK_URL} to the webhook's address (a block of the server will keep it), "
            "or name a notification block of the server with --block TYPE/NAME"
        )
    hook = Webhook(method="POST", url=SecretStr(url))
    hook.save(BLOCK, overwrite=True)
    return hook


def _loaded(slug: str) -> Block:
    try:
        block = Block.load(slug)
    except ValueError as error:
        raise ConfigError(
            f"the server has no block {slug!r}: make it in the UI under Blocks, and name it TYPE/NAME"
        ) from error
    assert isinstance(block, Block), "no event loop is running here, so it is no coroutine"
    return block


def _remove(name: str) -> None:
    try:
        found = Automation.read(name=name)
    except ValueError:
        return
    assert isinstance(found, Automation), "no event loop is running here, so it is no coroutine"
    found.delete()
