"""An S3-compatible server: moto, in its own Python environment, since its pinned versions conflict with ours.

It keeps everything in memory and loses it when it stops, so it serves only to try and test the S3 remote. The S3 store
of compose.yaml keeps its data.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.services.process import HOST, ServiceError, answers, require_free, running, start, wait_healthy

PACKAGES = ("moto[server,s3]==5.2.5",)
ACCESS_KEY = "gfpet"
BUCKET = "gfpet"
REGION = "us-east-1"


def start_object_store(folder: Path, environments: Path, port: int, secret: str) -> None:
    """Start the server, and create the bucket if it is missing.

    Args:
        folder: Folder of log and process id.
        environments: Folder of the server's Python environment, created if missing.
        port: Port on 127.0.0.1.
        secret: The secret key. moto accepts any, but other servers check it.

    Raises:
        ServiceError: it cannot be installed, or does not start.
    """
    program = install(environments)
    if running("s3", folder) is None:
        require_free("s3", port)
        environment = {"PATH": os.environ.get("PATH", ""), "AWS_EC2_METADATA_DISABLED": "true"}
        start("s3", [str(program), "-H", HOST, "-p", str(port)], folder, environment)
    wait_healthy("s3", folder, lambda: answers(f"http://{HOST}:{port}/moto-api/"))
    make_bucket(f"http://{HOST}:{port}", secret)


def install(environments: Path) -> Path:
    """Path of the server's program, installed with pip if missing.

    Raises:
        ServiceError: pip failed.
    """
    environment = environments / "moto"
    program = environment / "bin" / "moto_server"
    if program.is_file():
        return program
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(environment)],
        [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServiceError(f"{PACKAGES[0]} could not be installed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return program


def make_bucket(endpoint: str, secret: str) -> None:
    """Create the bucket for data and artifacts if it is missing."""
    client = s3_client(endpoint, secret)
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)


def s3_client(endpoint: str, secret: str) -> Any:
    """A boto3 client of the store.

    Raises:
        ServiceError: boto3 is not installed.
    """
    try:
        import boto3
    except ImportError:
        raise ServiceError(
            "boto3 is not installed; it comes with: pip install -c constraints.txt -e '.[team]'."
        ) from None
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        region_name=REGION,
    )
