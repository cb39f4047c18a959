"""Imports what a run needs of MLflow: once, in a process that runs are forked from.

Nothing is opened here: a connection, or a thread, would not survive the fork.
"""

from __future__ import annotations

import warnings

from .quiet import prepare

__all__: list[str] = []

prepare()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.store.tracking.rest_store
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_workspace_store  # noqa: F401
    import sqlalchemy.dialects.sqlite  # noqa: F401
    from mlflow import MlflowClient  # noqa: F401
