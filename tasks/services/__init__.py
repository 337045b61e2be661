"""The services of a team on one machine, from packages and without containers: PostgreSQL, an S3-compatible store,
MLflow and Prefect. Everything listens on 127.0.0.1 alone.

- `process`: start a server that outlives this process, know it again, end it;
- `postgres`, `object_store`, `mlflow_server`, `prefect_server`: how each one starts and when it is healthy;
- `secrets`: passwords, made once and kept in a file that only its owner reads;
- `stack`: all of them together.
"""

from tasks.services.process import ServiceError
from tasks.services.stack import Ports, Stack

__all__ = ["Ports", "ServiceError", "Stack"]
