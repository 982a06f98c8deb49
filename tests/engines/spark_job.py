"""Runs queries about a lake with Spark, in Spark's own environment, without the service's code.

    python spark_job.py < questions.json > answers.json

Each question has `setup` (Python code for a `spark` session), `totals` (a folder, read as view `totals`), and `sql`.
"""

import json
import sys

from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # it is in Spark's environment alone


def main() -> None:
    """Answer every question from stdin, in order, in one session."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    answers = []
    for question in json.load(sys.stdin):
        exec(question["setup"], {"spark": spark})  # noqa: S102 - a block of our own documentation
        spark.read.parquet(question["totals"]).createOrReplaceTempView("totals")
        rows = spark.sql(question["sql"]).collect()
        answers.append([{name: str(value) for name, value in row.asDict().items()} for row in rows])
    json.dump({"version": spark.version, "answers": answers}, sys.stdout)
    spark.stop()


if __name__ == "__main__":
    main()
