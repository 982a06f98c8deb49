"""What the owner of a bucket of logs does in another account, as text to paste."""

from __future__ import annotations


def commands_of_owner(bucket: str) -> tuple[str, ...]:
    """Commands that turn the switch for EventBridge on and keep all other notifications."""
    return (
        f"aws s3api get-bucket-notification-configuration --bucket {bucket} "
        "| jq '. + {EventBridgeConfiguration: {}}' > notifications.json",
        f"aws s3api put-bucket-notification-configuration --bucket {bucket} "
        "--notification-configuration file://notifications.json",
    )


def template_of_owner(bucket: str, prefix: str, *, region: str, stage: str) -> str:
    """CloudFormation template that hands the bucket's events on to the account of the stage.

    A bucket sends its events to the event bus of its own account. The template holds no bucket policy, because a bucket
    has one only, and a template would replace it; the statement stands in its description.
    """
    return f"""\
Description: >-
  Hands the events of {bucket} on to metering {stage}. Add to the bucket's policy, for arn:aws:iam::ACCOUNT:root:
  Allow s3:GetObject and s3:GetObjectVersion on arn:aws:s3:::{bucket}/{prefix}*, and s3:ListBucket on
  arn:aws:s3:::{bucket}. If it has a KMS key of its own, add kms:Decrypt to the policy of that key.
Resources:
  HandOn:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement:
          - {{Effect: Allow, Action: "sts:AssumeRole", Principal: {{Service: events.amazonaws.com}}}}
      Policies:
        - PolicyName: put-events
          PolicyDocument:
            Statement:
              - Effect: Allow
                Action: events:PutEvents
                Resource: !Sub "arn:${{AWS::Partition}}:events:{region}:ACCOUNT:event-bus/default"
  Logs:
    Type: AWS::Events::Rule
    Properties:
      EventPattern:
        source: [aws.s3]
        detail-type: [Object Created]
        detail: {{bucket: {{name: [{bucket}]}}, object: {{key: [{{prefix: "{prefix}"}}]}}}}
      Targets:
        - Id: metering
          Arn: !Sub "arn:${{AWS::Partition}}:events:{region}:ACCOUNT:event-bus/default"
          RoleArn: !GetAtt HandOn.Arn
"""
