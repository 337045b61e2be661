"""A team's services on one machine, from packages and without containers: PostgreSQL, an S3-compatible store, MLflow
and Prefect. All listen on 127.0.0.1 only.

- `process`: starts servers that outlive this process, finds them again, ends them;
- `postgres`, `object_store`, `mlflow_server`, `prefect_server`: start one service each, and check its health;
- `secrets`: generates the passwords once, in a file that only its owner can read;
- `stack`: all services together.
"""

from tasks.services.process import ServiceError
from tasks.services.stack import Ports, Stack

__all__ = ["Ports", "ServiceError", "Stack"]
