"""The container files say what they are to say; nothing here starts a container."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from runner.cli.root import COMMANDS, root
from runner.engine.parts import GRACE_S
from tests.environment import clean_environment

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
IMAGE = (DOCKER / "Dockerfile").read_text()


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all((DOCKER / name).read_text()))


def test_the_image_has_two_stages_and_ships_without_what_built_it() -> None:
    assert len(re.findall(r"^FROM ", IMAGE, re.MULTILINE)) == 2
    last = IMAGE.rpartition("\nFROM ")[2]
    assert "pip" not in last
    assert "COPY --from=build" in last


def test_the_program_is_process_one_and_nobody_special() -> None:
    assert 'ENTRYPOINT ["runner"]' in IMAGE
    assert re.search(r"^USER 10001:10001$", IMAGE, re.MULTILINE)
    assert "RUNNER_HOME=/data" in IMAGE


def test_dependencies_are_locked_by_hash_and_are_those_of_the_project() -> None:
    lock = (DOCKER / "requirements.lock").read_text()
    assert "--require-hashes" in IMAGE
    pinned = {name.replace(".", "-") for name in re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["fleet"], *extras["postgres"], *extras["metrics"]]
    names = {re.split(r"[^a-z0-9.-]", one)[0].replace(".", "-") for one in wanted}
    assert names - {project["name"]} <= pinned
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock.replace("https://pypi.org", "")


def test_compose_waits_for_the_database_and_the_upgrade() -> None:
    services = documents("compose.yaml")[0]["services"]
    assert set(services) == {"db", "migrate", "scheduler", "worker-1", "worker-2"}
    assert services["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"
    for name in ("scheduler", "worker-1", "worker-2"):
        waits = services[name]["depends_on"]["migrate"]["condition"]
        assert waits == "service_completed_successfully", name
        assert services[name]["read_only"], name
        assert int(services[name]["stop_grace_period"].rstrip("s")) > GRACE_S, name


@pytest.mark.parametrize("service", ["migrate", "scheduler", "worker-1", "worker-2"])
def test_every_command_and_option_in_compose_is_one_of_ours(service: str) -> None:
    check_words([str(word) for word in documents("compose.yaml")[0]["services"][service]["command"]])


def test_every_command_and_option_for_kubernetes_is_one_of_ours() -> None:
    for document in documents("kubernetes/workers.yaml"):
        pod = document["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        check_words([str(word) for word in container["args"]])
        if document["kind"] == "Deployment":
            assert pod["terminationGracePeriodSeconds"] > GRACE_S
            assert container["securityContext"]["readOnlyRootFilesystem"]


def linted(*words: str) -> None:
    linter = Path(sysconfig.get_path("scripts")) / words[0]
    done = subprocess.run([linter, *words[1:]], cwd=DOCKER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()


def test_the_linters_find_nothing_in_the_image_nor_in_compose() -> None:
    linted("hadolint", "Dockerfile")
    linted("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_what_is_for_kubernetes_is_what_its_api_takes() -> None:
    linted("kubernetes-validate", "--strict", *sorted(str(path) for path in DOCKER.glob("kubernetes/*.yaml")))


def test_the_cronjob_that_is_printed_is_what_the_api_of_kubernetes_takes(tmp_path: Path) -> None:
    job = "version: 1\nname: nightly\nmodel: claude-haiku-5-5\ninput: { path: rows.jsonl }\nprompt: Say {{ text }}\n"
    (tmp_path / "job.yaml").write_text(job + 'schedule: { cron: "30 2 * * *", timezone: Europe/Berlin }\n')
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n')
    words = [sys.executable, "-m", "runner", "k8s", "cronjob", str(tmp_path / "job.yaml")]
    env = clean_environment(RUNNER_HOME=str(tmp_path / "home"))
    printed = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=True).stdout
    (tmp_path / "cronjob.yaml").write_bytes(printed)
    linted("kubernetes-validate", "--strict", str(tmp_path / "cronjob.yaml"))


def check_words(words: list[str]) -> None:
    import click

    assert words[0] in COMMANDS
    context = click.Context(root)
    command = root.get_command(context, words[0])
    rest = words[1:]
    if isinstance(command, click.Group):
        command, rest = command.get_command(context, rest[0]), rest[1:]
    assert command is not None
    command.make_context(words[0], rest)
