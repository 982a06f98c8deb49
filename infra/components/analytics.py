"""The lake for other query engines: a Glue database with two Athena tables and a view. A stage can omit this database.

Published files are never rewritten, so a query engine that lists the prefix counts each row once. Rows that are still
in `staging/` are not visible to these engines; `metering report` reads them.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from constructs import Construct

from metering.lake.ports import LAKE_COLUMNS, USAGE_COLUMNS
from metering.stores.objects import ATHENA_RESULTS_PREFIX, LAKE_PREFIX, SUMMARIES_PREFIX

if TYPE_CHECKING:
    from infra.components.bucket import DataBucket
    from metering.fleet.stage import StageConfig

# Athena's name of the engine.
_ENGINE = "Athena engine version 3"

_TYPES = {"bytes": "bigint", "start_time": "timestamp", "end_time": "timestamp"}
COLUMNS = {name: _TYPES.get(name, "string") for name in LAKE_COLUMNS}
PARTITIONS = {"dt": "string", "hour": "string"}
TABLE = "transfers"
# With the totals stored for the lake files, a query scans about 300 times less. Column `hour` has the partition's hour.
TOTALS = "totals"
TOTALS_COLUMNS = {
    **dict.fromkeys(USAGE_COLUMNS[:-1], "string"),
    "corrects": "timestamp",
    "bytes": "decimal(38,0)",
    "records": "decimal(38,0)",
}
VIEW = "usage"

# The target load is 1.4e17 bytes per day. After 66 days the sum exceeds the largest bigint, and Athena would fail.
_VIEW_COLUMNS = {
    "dt": ("varchar", "string"),
    "hour": ("varchar", "string"),
    "account_id": ("varchar", "string"),
    "usage_type": ("varchar", "string"),
    "service": ("varchar", "string"),
    "from_location": ("varchar", "string"),
    "to_location": ("varchar", "string"),
    "bytes": ("decimal(38,0)", "decimal(38,0)"),
    "records": ("bigint", "bigint"),
}
_GROUPED = [name for name in _VIEW_COLUMNS if name not in {"bytes", "records"}]
VIEW_SQL = (
    f"SELECT {', '.join(_GROUPED)}, sum(CAST(bytes AS decimal(38,0))) AS bytes, count(*) AS records "  # noqa: S608 - names of ours
    f"FROM {TABLE} GROUP BY {', '.join(_GROUPED)}"
)


class LakeCatalog(Construct):
    """Database `metering_<stage>` with tables `transfers` and `totals`, view `usage`, and a workgroup to query them."""

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig, data: DataBucket) -> None:
        super().__init__(scope, construct_id)
        self._data = data
        self.database_name = f"metering_{config.stage.replace('-', '_')}"
        self._database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=self.database_name, description="Metered data transfers, compacted into lake files."
            ),
        )
        key = config.customer_key_arn or None
        table = self._table("Transfers", self._files(config, TABLE, LAKE_PREFIX, COLUMNS))
        self._table("Totals", self._files(config, TOTALS, SUMMARIES_PREFIX, TOTALS_COLUMNS))
        self._table("UsageView", self._usage_view()).add_resource_dependency(table)
        self.workgroup = athena.CfnWorkGroup(
            self,
            "WorkGroup",
            name=f"metering-{config.stage}",
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                # The lake's timestamps are in microseconds, which engine 2 reads as milliseconds.
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(selected_engine_version=_ENGINE),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{data.bucket.bucket_name}/{ATHENA_RESULTS_PREFIX}",
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_S3" if key is None else "SSE_KMS", kms_key=key
                    ),
                ),
            ),
        )

    def grant_query(self, role: iam.IRole) -> None:
        """Let `role` query the lake in this workgroup."""
        place = f"arn:{Aws.PARTITION}:glue:{Aws.REGION}:{Aws.ACCOUNT_ID}"
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["glue:GetDatabase", "glue:GetTable", "glue:GetTables", "glue:GetPartitions"],
            resource_arns=[
                f"{place}:catalog",
                f"{place}:database/{self.database_name}",
                *(f"{place}:table/{self.database_name}/{name}" for name in (TABLE, TOTALS, VIEW)),
            ],
        )
        iam.Grant.add_to_principal(
            grantee=role,
            actions=[
                "athena:StartQueryExecution",
                "athena:StopQueryExecution",
                "athena:GetQueryExecution",
                "athena:GetQueryResults",
                "athena:GetWorkGroup",
            ],
            resource_arns=[f"arn:{Aws.PARTITION}:athena:{Aws.REGION}:{Aws.ACCOUNT_ID}:workgroup/{self.workgroup.name}"],
        )
        iam.Grant.add_to_principal(
            grantee=role, actions=["s3:GetBucketLocation"], resource_arns=[self._data.bucket.bucket_arn]
        )
        self._data.grant_read(role, ATHENA_RESULTS_PREFIX)
        self._data.grant_write(role, ATHENA_RESULTS_PREFIX)

    def _table(self, construct_id: str, table_input: glue.CfnTable.TableInputProperty) -> glue.CfnTable:
        table = glue.CfnTable(
            self, construct_id, catalog_id=Aws.ACCOUNT_ID, database_name=self.database_name, table_input=table_input
        )
        table.add_resource_dependency(self._database)
        return table

    def _files(
        self, config: StageConfig, name: str, prefix: str, columns: dict[str, str]
    ) -> glue.CfnTable.TableInputProperty:
        """A table over the files below a prefix, partitioned by booked hour."""
        location = f"s3://{self._data.bucket.bucket_name}/{prefix}"
        # Partition projection derives partitions from the clock, so no job has to add a partition per hour.
        projection = {
            "EXTERNAL": "TRUE",
            "classification": "parquet",
            "projection.enabled": "true",
            "projection.dt.type": "date",
            "projection.dt.format": "yyyy-MM-dd",
            "projection.dt.range": f"{config.lake_first_day},NOW+1DAY",
            "projection.dt.interval": "1",
            "projection.dt.interval.unit": "DAYS",
            "projection.hour.type": "integer",
            "projection.hour.range": "0,23",
            "projection.hour.digits": "2",
            "storage.location.template": f"{location}dt=${{dt}}/hour=${{hour}}/",
        }
        return glue.CfnTable.TableInputProperty(
            name=name,
            table_type="EXTERNAL_TABLE",
            parameters=projection,
            partition_keys=_columns(PARTITIONS),
            storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                location=location,
                columns=_columns(columns),
                input_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
                output_format="org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
                serde_info=glue.CfnTable.SerdeInfoProperty(
                    serialization_library="org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
                ),
            ),
        )

    def _usage_view(self) -> glue.CfnTable.TableInputProperty:
        definition = {
            "originalSql": VIEW_SQL,
            "catalog": "awsdatacatalog",
            "schema": self.database_name,
            "columns": [{"name": name, "type": presto} for name, (presto, _) in _VIEW_COLUMNS.items()],
        }
        encoded = base64.b64encode(json.dumps(definition).encode()).decode()
        return glue.CfnTable.TableInputProperty(
            name=VIEW,
            table_type="VIRTUAL_VIEW",
            parameters={"presto_view": "true", "comment": "Presto View"},
            partition_keys=[],
            storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                columns=_columns({name: hive for name, (_, hive) in _VIEW_COLUMNS.items()}),
                location="",
                serde_info=glue.CfnTable.SerdeInfoProperty(),
            ),
            view_original_text=f"/* Presto View: {encoded} */",
            view_expanded_text="/* Presto View */",
        )


def _columns(types: dict[str, str]) -> list[glue.CfnTable.ColumnProperty]:
    return [glue.CfnTable.ColumnProperty(name=name, type=kind) for name, kind in types.items()]
