"""compose.yaml against the schema of the Compose specification (compose-spec/compose-spec, Apache 2.0), and against
this project's rules. No container engine is used: these tests do not start the services of compose.yaml.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.team.project import PROJECT

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAYING = [name for name, service in SERVICES.items() if service["restart"] != "no"]


def test_it_is_valid() -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    schema["properties"]["name"] = {"type": "string"}  # added in a later edition of the schema
    errors = [f"{list(error.path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(COMPOSE)]
    assert errors == []


@pytest.mark.parametrize("name", STAYING)
def test_each_service_is_watched_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"]), "an exact version"
    for port in service.get("ports", []):
        assert port.startswith("${GFPET_ADDRESS:-127.0.0.1}:")
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (PROJECT / source).is_file()
    for needed, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed]
        else:
            assert SERVICES[needed]["restart"] == "no", "it ends"


@pytest.mark.parametrize("name", STAYING)
def test_health_is_asked_for_by_a_command_that_can_be_read(name: str) -> None:
    kind, *command = SERVICES[name]["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL")
    if command[:2] == ["python", "-c"]:
        compile(command[2], name, "exec")


@pytest.mark.filterwarnings("ignore::UserWarning")  # importing mlflow.cli gives one
def test_variables_are_those_that_the_pinned_programs_know() -> None:
    import mlflow.cli
    from mlflow import environment_variables
    from prefect import settings

    options = {option.envvar for option in mlflow.cli.server.params}
    for name in SERVICES["mlflow"]["environment"]:
        if name.startswith("MLFLOW_"):
            assert name in options or hasattr(environment_variables, name)
    for name in SERVICES["prefect"]["environment"]:
        if name.startswith("PREFECT_"):
            assert hasattr(settings, name)


def test_the_image_starts_mlflow_as_make_services_does() -> None:
    """Options and account settings are the same; hosts, ports and paths differ."""
    script = (PROJECT / "compose" / "mlflow.sh").read_text()
    server = (PROJECT / "tasks" / "services" / "mlflow_server.py").read_text()
    options = re.findall(r"--[a-z-]+", script)
    assert sorted(options) == sorted(re.findall(r"--[a-z-]+", server))
    settings = re.findall(r"^([a-z_]+) = ", script, re.MULTILINE)
    assert settings == re.findall(r"^([a-z_]+) = ", server, re.MULTILINE)


def test_what_keeps_data_has_a_volume() -> None:
    assert {volume.partition(":")[0] for name in STAYING for volume in SERVICES[name].get("volumes", [])} >= set(
        COMPOSE["volumes"]
    )


def test_each_password_is_asked_for_by_name() -> None:
    text = (PROJECT / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)(?::[?-][^}]*)?\}", text))
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", (PROJECT / "compose" / "env.example").read_text(), re.MULTILINE))
    assert asked - {"GFPET_ADDRESS"} == named
    assert "/.env\n" in (PROJECT / ".gitignore").read_text()


def test_images_are_of_the_pinned_versions() -> None:
    pins = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().split())
    assert SERVICES["mlflow"]["image"].endswith(f":{pins['mlflow']}")
    assert f":{pins['prefect']}-" in SERVICES["prefect"]["image"]
    docker = (PROJECT / "compose" / "mlflow.Dockerfile").read_text()
    for path in re.findall(r"^COPY (\S+)", docker, re.MULTILINE):
        assert (PROJECT / path).is_file()
