from __future__ import annotations

import os

from infra.cdk_cli import node_path

# Before anything imports the CDK, whose Python side would start the first Node on the path, whatever its age.
os.environ.setdefault("JSII_NODE", str(node_path()))
