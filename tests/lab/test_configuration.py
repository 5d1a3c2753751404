"""freeswitch_conf without a switch: well-formed, complete, and agreeing with itself, the service and the prompts."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from app.sandbox.prompts import names, write_prompts

ROOT = Path(__file__).parents[2] / "freeswitch_conf"
FILES = sorted(ROOT.rglob("*.xml"))
# A real switch was seen to drop what shares a line with one of these.
DROPPED = ("<include>", "</include>", "<?")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_is_well_formed(path: Path) -> None:
    ElementTree.parse(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_directives_stand_alone_on_their_lines(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "X-PRE-PROCESS" in line:
            assert re.fullmatch(r"\s*<X-PRE-PROCESS [^<>]*/>\s*", line), line
        for tag in DROPPED:
            if tag in line and not line.startswith("<?xml"):
                assert line.strip() == tag, line


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_says_why(path: Path) -> None:
    assert "<!--" in path.read_text()


def test_every_variable_that_is_used_is_set_first() -> None:
    defined = set(re.findall(r'cmd="set" data="([a-z_]+)=', (ROOT / "vars.xml").read_text()))
    lines = (line for path in FILES for line in path.read_text().splitlines())
    used = {name for line in lines for name in re.findall(r"\$\$\{([^}]*)\}", line)}

    assert used <= defined


def test_every_setting_of_the_environment_has_a_default() -> None:
    text = (ROOT / "vars.xml").read_text()
    defaults = set(re.findall(r'cmd="set" data="([a-z_]+)=', text))

    from_environment = re.findall(r'cmd="env-set" data="([a-z_]+)=\$([A-Z_]+)"', text)

    assert {name for name, _ in from_environment} <= defaults
    assert all(variable.startswith(("VOICEMAIL_", "FREESWITCH_")) for _, variable in from_environment)


def test_mod_xml_curl_is_off() -> None:
    modules = [element.get("module") for element in ElementTree.parse(ROOT / "autoload_configs/modules.conf.xml").iter("load")]

    assert "mod_voicemail" in modules
    assert "mod_xml_curl" not in modules


def test_there_is_a_tone_for_every_prompt_of_the_phrases(tmp_path: Path) -> None:
    asked = {
        action.get("data", "") for action in ElementTree.parse(ROOT / "lang/en.xml").iter("action")
        if action.get("function") == "play-file"
    }  # fmt: skip
    fixed = {data.removesuffix(".wav") for data in asked if "$" not in data}
    arguments = {f"voicemail/vm-{word}" for word in ("new", "saved", "urgent-new", "urgent-saved", "deleted", "marked-urgent")}

    assert fixed | arguments <= set(names())
    assert write_prompts(tmp_path) == len(list(tmp_path.rglob("*.wav"))) > 200
    assert write_prompts(tmp_path) == 0


def test_prompts_that_are_there_are_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "voicemail" / "8000" / "vm-press.wav"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real prompt")

    write_prompts(tmp_path)

    assert real.read_bytes() == b"a real prompt"
    assert not (tmp_path / "voicemail" / "vm-press.wav").exists()
