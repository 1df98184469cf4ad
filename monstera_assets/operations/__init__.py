"""Operations on the asset graph: partitions, runs, storage, status, exports, erasure and alerts.

This package controls when and how assets are materialized. Other packages define what the assets
contain.
"""
