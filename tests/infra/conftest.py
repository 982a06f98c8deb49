import os

from infra.cdk_cli import node_path

# This must be set before the CDK is imported, because the CDK's Python library would start the first Node in the PATH.
os.environ.setdefault("JSII_NODE", str(node_path()))
