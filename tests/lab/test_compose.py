"""docker-compose.yml, Dockerfile and .env.example: well-formed, pinned, and agreeing with the settings and the switch's configuration.

No container is started here. The same configuration with the same variables runs on a real switch in test_starts.py.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from app.config import PREFIX, Settings, load_settings
from tests.support.pbx import Site

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
# A default may hold another variable: the inner ones match first.
VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}$]*))?\}")
NAME = re.compile(r"\$\{(\w+)")


class Strict(BaseModel):
    """Nothing but these keys, as the Compose specification has them."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Healthcheck(Strict):
    """https://github.com/compose-spec/compose-spec/blob/main/05-services.md#healthcheck"""

    test: list[str]
    interval: str
    timeout: str
    retries: int


class Condition(Strict):
    """What a service waits for."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class EnvFile(Strict):
    """A file of variables."""

    path: str
    required: bool


class Service(Strict):
    """A service of the lab."""

    image: str
    build: str | None = None
    user: str | None = None
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    environment: dict[str, str] = {}
    env_file: list[EnvFile] = []
    volumes: list[str] = []
    ports: list[str] = []
    healthcheck: Healthcheck | None = None
    depends_on: dict[str, Condition] = {}
    networks: list[str] = []
    network_mode: Literal["none"] | None = None
    restart: Literal["unless-stopped"] | None = None
    stop_grace_period: str | None = None
    init: bool = False
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    tmpfs: list[str] = []


class Compose(Strict):
    """The whole file."""

    name: str
    services: dict[str, Service]
    volumes: dict[str, None]
    networks: dict[str, dict[str, Any]]


def example(*, all_lines: bool = False) -> dict[str, str]:
    """The variables that .env.example sets, and with ``all_lines`` those it only names."""
    pattern = r"^#?([A-Z][A-Z0-9_]*)=(.*)$" if all_lines else r"^([A-Z][A-Z0-9_]*)=(.*)$"
    return dict(re.findall(pattern, EXAMPLE, re.MULTILINE))


def interpolated(found: Any, variables: dict[str, str]) -> Any:
    """What ``docker compose config`` makes of the file. Raises ``LookupError`` with the file's own words where a variable is missing."""
    if isinstance(found, dict):
        return {name: interpolated(value, variables) for name, value in found.items()}
    if isinstance(found, list):
        return [interpolated(value, variables) for value in found]
    if not isinstance(found, str):
        return found

    def value(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if how == ":?":
            raise LookupError(rest)
        assert how == ":-", f"{name} has no default"
        return str(rest)

    while (text := VARIABLE.sub(value, found)) != found:
        found = text
    return found


@pytest.fixture(scope="module")
def compose() -> Compose:
    return Compose.model_validate(interpolated(yaml.safe_load(TEXT), example()))


def mounts(service: Service) -> dict[str, tuple[str, bool]]:
    """Of each mount its volume or folder, by its place in the container, and whether it may be written."""
    found = {}
    for mount in service.volumes:
        source, target, *mode = mount.split(":")
        found[target] = (source, mode != ["ro"])
    return found


def test_it_holds_what_the_specification_knows_and_every_name_is_defined(compose: Compose) -> None:
    used = {
        source
        for service in compose.services.values()
        for source, _ in mounts(service).values()
        if not source.startswith((".", "/"))
    }
    assert used == set(compose.volumes)
    assert {network for service in compose.services.values() for network in service.networks} == set(compose.networks)
    for service in compose.services.values():
        assert set(service.depends_on) <= set(compose.services)
        for name, wait in service.depends_on.items():
            assert wait.condition != "service_healthy" or compose.services[name].healthcheck


def test_without_an_env_file_it_says_what_to_do() -> None:
    with pytest.raises(LookupError, match=r"copy \.env\.example to \.env first"):
        interpolated(yaml.safe_load(TEXT), {})


def test_every_variable_is_in_the_example() -> None:
    named = example(all_lines=True)
    assert set(NAME.findall(TEXT)) <= set(named)
    assert {PREFIX + name.upper() for name in Settings.model_fields} <= set(named)
    switch = re.findall(r'cmd="env-set" data="[a-z_]+=\$([A-Z_]+)"', (ROOT / "freeswitch_conf/vars.xml").read_text())
    assert set(switch) <= set(named)
    for line in EXAMPLE.splitlines():
        assert not line or line.startswith("#") or "=" in line


def test_the_example_names_nothing_that_nobody_reads() -> None:
    read = set(NAME.findall(TEXT)) | {PREFIX + name.upper() for name in Settings.model_fields}
    read |= set(re.findall(r"\$([A-Z_]+)\"", (ROOT / "freeswitch_conf/vars.xml").read_text()))

    assert set(example(all_lines=True)) <= read


def test_the_defaults_of_the_lab_are_those_that_the_example_tells() -> None:
    told = example(all_lines=True)
    for name, how, default in VARIABLE.findall(TEXT):
        if how == ":-" and not name.startswith("VOICEMAIL_"):
            assert told[name] == default, name


def test_the_switch_is_told_every_variable_of_its_configuration_that_a_container_needs(compose: Compose) -> None:
    known = set(re.findall(r"\$([A-Z_]+)\"", (ROOT / "freeswitch_conf/vars.xml").read_text()))

    assert set(compose.services["freeswitch"].environment) <= known


def test_every_image_is_pinned_by_its_digest(compose: Compose) -> None:
    """What the image is made of, and what the lab starts: never what somebody pushed under the same tag later."""
    images = [service.image for service in compose.services.values() if service.build is None]
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    further = re.findall(r"--from=(\S+)|^# syntax=(\S+)", DOCKERFILE, re.MULTILINE)

    assert len(stages) == 2
    assert further == [("build", "")]
    for image in images + stages:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+[0-9a-z.-]*@sha256:[0-9a-f]{64}", image), image


def test_the_service_s_settings_are_right(compose: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    service = compose.services["voicemail"]
    for name, value in (
        {name: value for name, value in example().items() if name.startswith(PREFIX)} | service.environment
    ).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    switch, places = compose.services["freeswitch"].environment, mounts(service)
    assert settings.domain == switch["VOICEMAIL_DOMAIN"]
    assert settings.esl_host == "freeswitch"
    assert str(settings.esl_port) == switch["VOICEMAIL_ESL_PORT"]
    assert settings.esl_password.get_secret_value() == switch["VOICEMAIL_ESL_PASSWORD"]
    assert settings.database_url
    assert settings.database_url.get_secret_value() == (
        f"postgresql://{switch['FREESWITCH_DB_USER']}:{switch['FREESWITCH_DB_PASSWORD']}@{switch['FREESWITCH_DB_HOST']}:5432/{switch['FREESWITCH_DB_NAME']}"
    )
    assert settings.smtp_host == "mailpit"
    assert str(settings.data_dir) in places
    assert service.ports == [f"127.0.0.1:8080:{settings.http_port}"]
    assert settings.http_host == "0.0.0.0"
    assert settings.public_url == "http://127.0.0.1:8080"


def test_the_switch_and_the_service_share_the_folders(compose: Compose) -> None:
    service, switch = compose.services["voicemail"], compose.services["freeswitch"]
    ours, theirs, prepared = mounts(service), mounts(switch), mounts(compose.services["prepare"])

    assert (
        ours[service.environment["VOICEMAIL_RECORDINGS_PATH"]][0] == theirs[switch.environment["FREESWITCH_RECORDINGS_PATH"]][0]
    )
    assert service.environment["VOICEMAIL_RECORDINGS_SWITCH_PATH"] == switch.environment["FREESWITCH_RECORDINGS_PATH"]
    assert ours[service.environment["VOICEMAIL_DIRECTORY_PATH"]] == ("directory", True)
    assert theirs[switch.environment["FREESWITCH_DIRECTORY_PATH"]] == ("directory", False)
    assert theirs[switch.environment["FREESWITCH_PROMPTS_PATH"]] == ("prompts", False)
    assert theirs["/etc/freeswitch"] == ("./freeswitch_conf", False)
    assert {source for source, _ in prepared.values()} == {"recordings", "directory", "prompts", "state"}
    command = " ".join(compose.services["prepare"].command or [])
    for target in prepared:
        assert target in command
    # FreeSWITCH makes each mailbox's folder with mode 0750: only its own user may remove recordings there.
    assert f"chown {service.user} /recordings /directory /state" in command


def test_nothing_is_reachable_from_outside_the_machine_but_by_choice(compose: Compose) -> None:
    for service in compose.services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.ports)
    assert compose.services["freeswitch"].ports == []
    subnet = compose.networks["lab"]["ipam"]["config"][0]["subnet"]
    assert compose.services["freeswitch"].environment["FREESWITCH_ESL_ALLOW"] == subnet


def test_the_service_runs_without_rights(compose: Compose) -> None:
    service = compose.services["voicemail"]
    assert (service.read_only, service.cap_drop, service.security_opt) == (True, ["ALL"], ["no-new-privileges:true"])
    instructions = [line for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    last = max(number for number, line in enumerate(instructions) if line.startswith("FROM"))
    users = [line for line in instructions[last:] if line.startswith("USER")]
    assert users == ["USER 10001"]
    assert not any(line.startswith(("RUN", "COPY")) for line in instructions[instructions.index(users[0]) :])


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name


async def test_the_healthcheck_of_the_image_tells_a_live_service_from_a_dead_one(stand_in_site: Site, unused_port: int) -> None:
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", DOCKERFILE, re.DOTALL)
    assert found
    _, *arguments = json.loads(found[1])

    async def healthy(port: object) -> bool:
        environment = os.environ | {"VOICEMAIL_HTTP_PORT": str(port)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    assert await healthy(stand_in_site.client._base_url.port)
    assert not await healthy(unused_port)
