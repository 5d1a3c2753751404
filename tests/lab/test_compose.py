"""docker-compose.yml, the Dockerfiles and .env.example: well-formed, pinned, hardened, and agreeing with settings and switch.

No container is started here. The same configuration with the same variables runs on a real switch in test_starts.py, and the
demonstration in test_demo.py.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from app.config import PREFIX, Settings, load_settings
from tests.support.pbx import Site

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SWITCH_DOCKERFILE = (ROOT / "deploy/freeswitch.Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
# A default may hold another variable: the inner ones match first.
VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}$]*))?\}")
NAME = re.compile(r"\$\{(\w+)")
INSTRUCTIONS = {
    "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip
USER = "10001"  # of both images of ours


class Strict(BaseModel):
    """Nothing but these keys, as the Compose specification has them."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Healthcheck(Strict):
    """https://github.com/compose-spec/compose-spec/blob/main/05-services.md#healthcheck"""

    test: list[str] = []
    interval: str = ""
    timeout: str = ""
    retries: int = 0
    disable: bool = False


class Condition(Strict):
    """What a service waits for."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class EnvFile(Strict):
    """A file of variables."""

    path: str
    required: bool


class Build(Strict):
    """An image of ours."""

    context: str
    dockerfile: str


class Service(Strict):
    """A service of the lab."""

    image: str
    build: str | Build | None = None
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
    restart: Literal["unless-stopped", "no"] | None = None
    stop_grace_period: str | None = None
    init: bool = False
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    tmpfs: list[str] = []
    mem_limit: str | None = None
    pids_limit: int | None = None


class Compose(Strict):
    """The whole file."""

    name: str
    services: dict[str, Service]
    volumes: dict[str, None]
    networks: dict[str, dict[str, Any]]
    hardened: dict[str, Any] = Field(alias="x-hardened")


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
            check = compose.services[name].healthcheck
            assert wait.condition != "service_healthy" or (check and check.test)


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


def test_the_switch_s_image_is_made_of_one_image_with_a_digest() -> None:
    assert re.findall(r"^FROM (\S+)|--from=(\S+)|^# syntax=(\S+)", SWITCH_DOCKERFILE, re.MULTILINE) == [
        ("alpine:3.24.1@sha256:28bd5fe8b56d1bd048e5babf5b10710ebe0bae67db86916198a6eec434943f8b", "", "")
    ]


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
    ours, theirs = mounts(service), mounts(switch)

    assert (
        ours[service.environment["VOICEMAIL_RECORDINGS_PATH"]][0] == theirs[switch.environment["FREESWITCH_RECORDINGS_PATH"]][0]
    )
    assert service.environment["VOICEMAIL_RECORDINGS_SWITCH_PATH"] == switch.environment["FREESWITCH_RECORDINGS_PATH"]
    assert ours[service.environment["VOICEMAIL_DIRECTORY_PATH"]] == ("directory", True)
    assert theirs[switch.environment["FREESWITCH_DIRECTORY_PATH"]] == ("directory", False)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of the last stage, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    assert {name for name, _ in lines} <= INSTRUCTIONS
    last = max(number for number, (name, _) in enumerate(lines) if name == "FROM")
    return [(name, " ".join(rest.split())) for name, rest in lines[last:]]


def test_a_new_volume_belongs_to_the_user_of_both_images(compose: Compose) -> None:
    """Docker gives a new volume the owner and the mode of the image's folder below it, so nothing must be run as root first."""
    images = {"voicemail": (DOCKERFILE, "voicemail"), "freeswitch": (SWITCH_DOCKERFILE, "freeswitch")}
    for name, (dockerfile, user) in images.items():
        runs = " ".join(rest for instruction, rest in instructions(dockerfile) if instruction == "RUN")
        assert re.search(rf"(--uid|-u) {USER} ", runs)
        made = re.search(rf"install -d -o {user} -g {user} -m 0750 ([^&]*)", runs)
        assert made
        assert set(mounts(compose.services[name])) <= set(made[1].split())


def test_what_the_switch_writes_goes_to_memory_or_to_its_volume(compose: Compose) -> None:
    switch = compose.services["freeswitch"]
    [line] = [json.loads(rest) for name, rest in instructions(SWITCH_DOCKERFILE) if name == "ENTRYPOINT"]
    options = dict(zip(line[5::2], line[6::2], strict=True))
    memory = [place.partition(":")[0] for place in switch.tmpfs]

    assert line[:5] == ["/usr/bin/freeswitch", "-nf", "-nc", "-nonat", "-np"]
    assert {options.pop("-recordings"), f"{options.pop('-storage')}/voicemail/default"} == {
        switch.environment["FREESWITCH_RECORDINGS_PATH"]
    }
    assert options.pop("-conf") == "/etc/freeswitch"
    assert set(options) == {"-log", "-db", "-run", "-temp", "-certs", "-cache"}
    assert all(any(path.startswith(f"{place}/") for place in memory) for path in options.values())
    assert switch.entrypoint is None


def test_nothing_is_reachable_from_outside_the_machine_but_by_choice(compose: Compose) -> None:
    for service in compose.services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.ports)
    assert {name for name, service in compose.services.items() if service.ports} == {"voicemail", "mailpit"}
    subnet = compose.networks["lab"]["ipam"]["config"][0]["subnet"]
    assert compose.services["freeswitch"].environment["FREESWITCH_ESL_ALLOW"] == subnet
    assert compose.networks["lab"]["internal"] is True
    assert {name for name, service in compose.services.items() if "outside" in service.networks} == {"voicemail", "mailpit"}


@pytest.mark.parametrize("name", yaml.safe_load(TEXT)["services"])
def test_every_service_is_hardened(compose: Compose, name: str) -> None:
    service = compose.services[name]

    assert (service.read_only, service.cap_drop, service.security_opt) == (True, ["ALL"], ["no-new-privileges:true"])
    assert service.init
    assert "/tmp:mode=1777" in service.tmpfs
    assert re.fullmatch(r"[1-9]\d{1,2}m", service.mem_limit or "")
    assert 1 < (service.pids_limit or 0) <= 1000
    if service.build is None:
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.user or "")
    else:
        assert service.user is None  # the image's own, which is not root
    if service.restart == "no":
        assert service.healthcheck
        assert service.healthcheck.disable
    else:
        assert service.healthcheck
        assert service.healthcheck.test


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, SWITCH_DOCKERFILE], ids=["voicemail", "freeswitch"])
def test_our_images_run_without_rights(dockerfile: str) -> None:
    lines = instructions(dockerfile)
    users = [number for number, (name, _) in enumerate(lines) if name == "USER"]

    assert [lines[number] for number in users] == [("USER", USER)]
    assert not any(name in ("RUN", "COPY") for name, _ in lines[users[0] :])
    assert any(name == "HEALTHCHECK" for name, _ in lines)


def test_every_shell_step_of_the_images_can_be_read_by_a_shell() -> None:
    steps = [rest for text in (DOCKERFILE, SWITCH_DOCKERFILE) for name, rest in instructions(text) if name == "RUN"]
    steps.append((ROOT / "deploy/freeswitch_modules.sh").read_text())

    for step in steps:
        done = subprocess.run(["sh", "-n"], input=step, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), step


def test_the_build_of_the_switch_ends_with_a_look_for_every_module() -> None:
    runs = [rest for name, rest in instructions(SWITCH_DOCKERFILE) if name == "RUN"]
    copies = dict(rest.split() for name, rest in instructions(SWITCH_DOCKERFILE) if name == "COPY")

    assert copies == {"deploy/freeswitch_modules.sh": "/usr/local/bin/freeswitch_modules", "freeswitch_conf": "/etc/freeswitch"}
    assert "&& freeswitch_modules files /etc/freeswitch /usr/lib/freeswitch/mod &&" in runs[-1]


def test_what_the_images_copy_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE + SWITCH_DOCKERFILE, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name


def test_the_demonstration_reaches_every_service_it_talks_to(compose: Compose) -> None:
    demo, service = compose.services["demo"], compose.services["voicemail"]
    read = set(re.findall(r'env\["([A-Z_]+)"\]', (ROOT / "app/lab/demo.py").read_text()))

    assert read == set(demo.environment)
    assert demo.image == service.image
    assert demo.environment["LAB_API_URL"] == f"http://voicemail:{service.environment['VOICEMAIL_HTTP_PORT']}"
    assert demo.environment["VOICEMAIL_PUBLIC_URL"] == service.environment["VOICEMAIL_PUBLIC_URL"]
    assert demo.environment["VOICEMAIL_API_TOKEN"] == example()["VOICEMAIL_API_TOKEN"]
    assert demo.environment["LAB_MAIL_PUBLIC_URL"] == "http://127.0.0.1:8025"
    assert compose.services["mailpit"].ports == ["127.0.0.1:8025:8025"]
    assert {name: wait.condition for name, wait in demo.depends_on.items()} == dict.fromkeys(
        ("voicemail", "freeswitch", "mailpit"), "service_healthy"
    )


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
