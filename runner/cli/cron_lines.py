"""`cron line` and `k8s cronjob`: what other schedulers need to run a job."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from runner import __version__
from runner.cli.command import ExampleGroup, command
from runner.cli.context import Context
from runner.cli.job_argument import job_of
from runner.domain.cron import local_time, next_fire
from runner.domain.job import Job
from runner.domain.schedule import ScheduleSpec
from runner.errors import UsageInvalid

DEFAULT_IMAGE = f"claude-job-runner:{__version__}"
# Ends of a run that the same command would only find again; docs/reference/exit-codes.md.
FINAL_CODES = (2, 3, 4, 5, 6, 8, 9, 10, 12)
DEFAULT_DEADLINE_S = 3_600


def _job_and_spec(job_file: str) -> tuple[Job, ScheduleSpec]:
    job = job_of(job_file, {}, {})
    if job.schedule is None:
        raise UsageInvalid(
            f"{job_file} does not say when it is to run.",
            hints=('in the job: schedule: { cron: "30 2 * * *", timezone: Europe/Berlin }',),
        )
    return job, job.schedule


@click.group("cron", cls=ExampleGroup, examples=("runner cron line jobs/triage.yaml",))
def cron() -> None:
    """For the machine's own cron."""


@command("line", examples=("runner cron line jobs/triage.yaml", "runner cron line jobs/triage.yaml >> crontab.txt"))
@click.argument("job_file", metavar="JOB.yaml")
def line(context: Context, job_file: str) -> None:
    """The lines of crontab that run a job as its `schedule:` says, each time as a run of its own.

    Overlap, catching up and a history are only in `runner schedule`, which needs one line for all jobs.
    """
    job, spec = _job_and_spec(job_file)
    parsed, zone = spec.parsed()
    if any(mark in spec.cron.upper() for mark in ("L", "#")) and not spec.cron.startswith("@"):
        raise UsageInvalid(
            f"{spec.cron!r} is more than the machine's cron understands.",
            hints=(f"runner schedule add {job_file}   and one line: * * * * * runner schedule tick -q",),
        )
    program = shutil.which("runner") or f"{sys.executable} -m runner"
    path = Path(job_file).absolute()
    click.echo(
        f"# {job.name}: next {local_time(next_fire(parsed, zone, context.clock.now_us()), zone):%Y-%m-%d %H:%M}"
    )
    click.echo(f"CRON_TZ={spec.timezone}")
    key = f"{job.name}@$(date +\\%FT\\%H:\\%M)"
    place = shlex.quote(str(Path.cwd())).replace("%", "\\%")
    click.echo(f'{spec.cron} cd {place} && {program} run {shlex.quote(str(path))} --key "{key}" -q'.strip())


@click.group("k8s", cls=ExampleGroup, examples=("runner k8s cronjob jobs/triage.yaml",))
def k8s() -> None:
    """For a Kubernetes cluster."""


@command("cronjob", examples=("runner k8s cronjob jobs/triage.yaml --image registry/runner:1 | kubectl apply -f -",))
@click.argument("job_file", metavar="JOB.yaml")
@click.option("--image", default=DEFAULT_IMAGE, show_default=True, metavar="IMAGE", help="The container image.")
@click.option("--secret", default="runner", show_default=True, metavar="NAME", help="Holds key and database URL.")
@click.option("--config-map", default="runner-jobs", show_default=True, metavar="NAME", help="Holds the job files.")
def cronjob(context: Context, job_file: str, image: str, secret: str, config_map: str) -> None:
    """A CronJob that runs a job as its `schedule:` says. Its pods are tried again only where that helps."""
    del context
    job, spec = _job_and_spec(job_file)
    deadline_s = spec.deadline_s if spec.deadline_s is not None else DEFAULT_DEADLINE_S
    policy = {"skip": "Forbid", "queue": "Forbid", "replace": "Replace", "allow": "Allow"}[spec.overlap]
    name = "".join(c if c.isalnum() else "-" for c in job.name.lower()).strip("-")[:52]
    click.echo(
        MANIFEST.format(
            name=name,
            cron=spec.cron,
            zone=spec.timezone,
            policy=policy,
            deadline_s=deadline_s,
            codes=", ".join(map(str, FINAL_CODES)),
            image=image,
            secret=secret,
            config_map=config_map,
            file=Path(job_file).name,
        ),
        nl=False,
    )


MANIFEST = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: "{cron}"
  timeZone: {zone}
  concurrencyPolicy: {policy}
  startingDeadlineSeconds: {deadline_s}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 3
      # What a person has to mend is not tried again; a node that goes away costs no try.
      podFailurePolicy:
        rules:
          - action: FailJob
            onExitCodes:
              containerName: runner
              operator: In
              values: [{codes}]
          - action: Ignore
            onPodConditions:
              - type: DisruptionTarget
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 120
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            fsGroup: 10001
          containers:
            - name: runner
              image: {image}
              # The job's name is the fire's: a pod that takes over goes on with the same run.
              args: [run, /jobs/{file}, --key, $(FIRE), --progress, plain, -y]
              env:
                - name: FIRE
                  valueFrom:
                    fieldRef:
                      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
              envFrom:
                - secretRef:
                    name: {secret}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: [ALL]
              volumeMounts:
                - name: jobs
                  mountPath: /jobs
                  readOnly: true
                - name: data
                  mountPath: /data
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: jobs
              configMap:
                name: {config_map}
            - name: data
              emptyDir: {{}}
            - name: tmp
              emptyDir: {{}}
"""

cron.add_command(line)
k8s.add_command(cronjob)
