"""The switch of a bucket that sends its events to EventBridge, turned without touching its other notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

_SWITCH = "EventBridgeConfiguration"
# S3 puts what it says about the answer beside the configuration.
_NO_CONFIGURATION = ("ResponseMetadata",)


class S3BucketEvents:
    """Notification configurations of buckets."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def region_of(self, bucket: str) -> str:
        """The region of a bucket.

        Raises:
            OperationFailedError: The bucket does not exist, or is of another account.
            UnavailableError: S3 gives no answer.
        """
        try:
            with translated("s3.GetBucketLocation"):
                answer = self._client.get_bucket_location(Bucket=bucket)
        except ClientError as error:
            raise _refused(bucket, error) from error
        # S3 has no word for its first region, and an old one for its second.
        named = str(answer.get("LocationConstraint") or "us-east-1")
        return "eu-west-1" if named == "EU" else named

    def configuration(self, bucket: str) -> Mapping[str, Any]:
        """The bucket's notification configuration, as S3 has it.

        Raises:
            OperationFailedError: The bucket does not exist, or is of another account.
            UnavailableError: S3 gives no answer.
        """
        try:
            with translated("s3.GetBucketNotificationConfiguration"):
                answer = self._client.get_bucket_notification_configuration(Bucket=bucket)
        except ClientError as error:
            raise _refused(bucket, error) from error
        return {name: value for name, value in answer.items() if name not in _NO_CONFIGURATION}

    def turn_on(self, bucket: str, before: Mapping[str, Any]) -> None:
        """Send the bucket's events to EventBridge, too.

        S3 can only replace a configuration whole, and takes no condition. So it is read again just before, and looked
        at just after.

        Args:
            bucket: Name of the bucket.
            before: Its configuration as the person saw it.

        Raises:
            OperationFailedError: It was changed meanwhile, or this account may not change it. Then nothing was changed,
                or the sentence says what was.
            UnavailableError: S3 gives no answer.
        """
        if self.configuration(bucket) != before:
            raise OperationFailedError(
                f"Somebody else changed the notifications of {bucket} just now; nothing was changed.",
                "Run the command again, and look at the change that it shows.",
            )
        wanted = {**before, _SWITCH: {}}
        try:
            with translated("s3.PutBucketNotificationConfiguration"):
                self._client.put_bucket_notification_configuration(
                    Bucket=bucket, NotificationConfiguration=cast("Any", wanted), SkipDestinationValidation=True
                )
        except ClientError as error:
            raise _refused(bucket, error) from error
        if self.configuration(bucket) != wanted:
            raise OperationFailedError(
                f"The notifications of {bucket} are not those that were written: somebody else changed them just now.",
                f"Look at them: aws s3api get-bucket-notification-configuration --bucket {bucket}",
            )


def _refused(bucket: str, error: ClientError) -> OperationFailedError:
    code = error_code(error)
    if code == "NoSuchBucket":
        return OperationFailedError(f"There is no bucket {bucket}.", "Name one as s3://bucket/prefix.")
    return OperationFailedError(
        f"S3 does not let this account look at the notifications of {bucket}, or change them ({code}).",
        "If the bucket is of another account, add --print: it prints what its owner types.",
    )
