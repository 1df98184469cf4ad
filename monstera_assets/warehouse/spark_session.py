"""Connect to a Spark Connect server. The module needs the extra `spark`."""

from __future__ import annotations

from socket import create_connection
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from monstera_assets.warehouse.errors import WarehouseError

_PORT = 15002
_SECONDS_TO_CONNECT = 10


def connect_spark(remote: str) -> SparkSession:
    """Connect to a Spark Connect server, in a session of its own.

    Args:
        remote: the server, such as `sc://host:15002`.

    Raises:
        WarehouseError: If the server cannot be reached, or refuses the connection.
    """
    url = urlsplit(remote)
    place = f"{url.hostname}:{url.port or _PORT}"
    advice = "Start the server (see docs/how-to/spark.md), or correct spark_remote."
    try:
        # The client itself would try for several minutes.
        create_connection((url.hostname, url.port or _PORT), _SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = error.strerror or error
        raise WarehouseError(
            f"The Spark Connect server {place} cannot be reached: {reason}. {advice}"
        ) from error
    try:
        return prepare_session(SparkSession.builder.remote(remote).create())
    except Exception as error:  # of grpc and pyspark
        reason = str(error).partition("\n")[0]
        raise WarehouseError(
            f"The Spark Connect server {place} refused a session: {reason}. {advice}"
        ) from error


def prepare_session(spark: SparkSession) -> SparkSession:
    """Apply the settings that the compiled SQL requires to a session, and return the session."""
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    # Iceberg does not accept files with INT96 timestamps, which are Spark's default.
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    # A recursion has as many steps as an account has billing events.
    spark.conf.set("spark.sql.cteRecursionLevelLimit", "-1")
    spark.conf.set("spark.sql.cteRecursionRowLimit", "-1")
    return spark
