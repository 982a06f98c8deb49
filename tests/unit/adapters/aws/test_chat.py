"""An alert in the form that AWS's chat service accepts, as its documentation states it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.stub import Stubber

from metering.adapters.aws.alerts import SnsAlerts, custom_notification
from tests.unit.adapters.aws.stubs import client as made_client

# Members of a custom notification (Amazon Q Developer in chat applications, event schema), with their forms.
CONTENT = {"textType": str, "title": str, "description": str, "nextSteps": list, "keywords": list}
METADATA = {
    "threadId": str, "summary": str, "eventType": str, "relatedResources": list, "additionalContext": dict,
}  # fmt: skip
SCHEMA = {"version": str, "source": str, "id": str, "content": dict, "metadata": dict}


def accepted(document: dict[str, Any]) -> bool:
    """Whether the service accepts a notification."""
    parts = ((document, SCHEMA), (document["content"], CONTENT), (document.get("metadata", {}), METADATA))
    fits = all(isinstance(value, schema.get(name, ())) for part, schema in parts for name, value in part.items())
    fixed = (document["version"], document["source"], document["content"]["textType"])
    said = 0 < len(document["content"]["description"]) <= 8_000
    return fits and said and fixed == ("1.0", "custom", "client-markdown")


@pytest.mark.parametrize("fields", [{}, {"batch": "b-1", "bytes": 12}, {"text": "x" * 20_000}])
def test_every_alert_has_the_form_that_the_service_accepts(fields: dict[str, str | int]) -> None:
    document = json.loads(custom_notification("page", "Totals differ" * 40, fields))
    assert accepted(document)
    assert len(document["content"]["title"]) == 250
    # The gate can fail: today's form is another.
    assert not accepted({**document, "severity": "page"})


def test_text_that_a_sender_chose_mentions_nobody_and_links_nowhere() -> None:
    document = json.loads(
        custom_notification("ticket", "A <b>", {"batch": "<!channel> *x* `y` & <https://e.com|ok>\\n"})
    )
    assert document["content"]["title"] == "ticket: A &lt;b&gt;"
    assert not set("<>`") & set(document["content"]["description"])
    assert document["content"]["description"].count("*") == 2


def test_a_topic_with_a_chat_channel_gets_both_forms_and_another_topic_the_one_it_always_got() -> None:
    client = made_client("sns")
    alone = json.dumps({"severity": "page", "subject": "Totals differ", "hour": 3}, indent=1)
    both = json.dumps({"default": alone, "https": custom_notification("page", "Totals differ", {"hour": 3})})
    for chat, message, more in ((False, alone, {}), (True, both, {"MessageStructure": "json"})):
        asked = {
            "TopicArn": "arn:page",
            "Subject": "page: Totals differ",
            "Message": message,
            "MessageAttributes": {"severity": {"DataType": "String", "StringValue": "page"}},
            **more,
        }
        with Stubber(client) as stubber:
            stubber.add_response("publish", {"MessageId": "1"}, asked)
            alerts = SnsAlerts(client, None, page_topic_arn="arn:page", ticket_topic_arn="arn:ticket", chat=chat)
            alerts.send("page", "Totals differ", {"hour": 3})
            stubber.assert_no_pending_responses()
