"""`configure`: what the standard variables ask for is set up, and what cannot be is said in one line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

# Prints what was raised as a user of the toolkit would see it, and which providers there are.
PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.WARNING)
from opentelemetry import metrics, trace
from tensorix_api.errors import SettingsError
from tensorix_tracing import configure
{before}
try:
    configure({arguments})
except SettingsError as error:
    print("SettingsError", error)
print(type(trace.get_tracer_provider()).__name__, type(metrics.get_meter_provider()).__name__)
{after}
"""
NOTHING = "ProxyTracerProvider _ProxyMeterProvider"
BLOCKED = """
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({name!r}):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
"""
QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}


def _program(arguments: str = "", before: str = "", after: str = "") -> str:
    return PROGRAM.format(arguments=arguments, before=before, after=after)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json': write http/protobuf or grpc",
        ),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "GRPC"},
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is 'GRPC': write http/protobuf or grpc",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "zipkinn"},
            "OTEL_TRACES_EXPORTER names 'zipkinn', and no exporter of that name is installed: "
            "write otlp, console or none",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "none,otlp"},
            "OTEL_METRICS_EXPORTER names 'none', and no exporter of that name is installed: "
            "write otlp, console or none",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "5"},
            "OpenTelemetry does not take what one of the variables OTEL_* says (ValueError: max_export_batch",
        ),
        (
            {"OTEL_METRIC_EXPORT_INTERVAL": "-5"},
            "OpenTelemetry does not take what one of the variables OTEL_* says (ValueError: interval value -5.0 is",
        ),
    ],
)
def test_a_variable_that_is_wrong(run_service: Run, variables: dict[str, str], said: str) -> None:
    """One line names the variable and what it may be, and nothing is set up."""
    ran = run_service(_program(), variables=variables)
    assert (ran.returncode, ran.stderr) == (0, "")
    error, providers = ran.stdout.splitlines()
    assert error.startswith(f"SettingsError {said}")
    assert providers == NOTHING


@pytest.mark.parametrize(("arguments", "shown"), [("''", "''"), ("' '", "' '"), ("3", "3")])
def test_a_name_that_is_none(run_service: Run, arguments: str, shown: str) -> None:
    """A service's name is a text with something in it."""
    ran = run_service(_program(arguments), variables=QUIET)
    assert ran.stdout.splitlines() == [
        f"SettingsError service_name is {shown}: write the name that your service shall have in traces",
        NOTHING,
    ]


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp"])
def test_without_its_extra(run_service: Run, missing: str) -> None:
    """Without the SDK, or without its exporter, one line says what to install."""
    ran = run_service(_program(before=BLOCKED.format(name=missing)))
    assert (ran.returncode, ran.stderr) == (0, "")
    error, providers = ran.stdout.splitlines()
    assert error.startswith("SettingsError ")
    install = "pip install 'tensorix-toolkit[tracing]', or in a clone pip install '.[tracing]'"
    assert error.endswith(f"is not installed: {install}")
    assert providers == NOTHING


def test_an_exporter_that_is_half_installed(run_service: Run) -> None:
    """One that is there, and lacks what it needs, is told apart from one that is not there."""
    ran = run_service(
        _program(before=BLOCKED.format(name="prometheus_client")), variables={"OTEL_METRICS_EXPORTER": "prometheus"}
    )
    assert ran.stdout.splitlines() == [
        "SettingsError OTEL_METRICS_EXPORTER names 'prometheus', whose package is not whole (prometheus_client)",
        NOTHING,
    ]


def test_a_second_time(run_service: Run) -> None:
    """Called again it says that a provider is there, and leaves it."""
    ran = run_service(
        _program(
            "'first'",
            after="before = trace.get_tracer_provider(); configure('second')\n"
            "print(trace.get_tracer_provider() is before, before.resource.attributes['service.name'])",
        ),
        variables=QUIET,
    )
    assert ran.stdout.splitlines() == ["TracerProvider MeterProvider", "True first"]
    assert ran.stderr == "a tracer provider is there already: configure() changes nothing\n"


@pytest.mark.parametrize(
    ("before", "said", "left"),
    [
        (
            "from opentelemetry.sdk.trace import TracerProvider; trace.set_tracer_provider(TracerProvider())",
            "a tracer provider is there already: configure() changes nothing\n",
            "TracerProvider _ProxyMeterProvider",
        ),
        (
            "from opentelemetry.sdk.metrics import MeterProvider; metrics.set_meter_provider(MeterProvider())",
            "a meter provider is there already: configure() changes nothing\n",
            "ProxyTracerProvider MeterProvider",
        ),
    ],
)
def test_a_service_with_a_set_up_of_its_own(run_service: Run, before: str, said: str, left: str) -> None:
    """Where either provider is there, both stay as they are."""
    ran = run_service(_program(before=before))
    assert (ran.stdout, ran.stderr) == (f"{left}\n", said)


def test_disabled(run_service: Run) -> None:
    """OTEL_SDK_DISABLED leaves everything as it is, without a word."""
    ran = run_service(_program(), variables={"OTEL_SDK_DISABLED": "TRUE"})
    assert (ran.stdout, ran.stderr) == (f"{NOTHING}\n", "")


def test_the_variables_that_the_sdk_reads(run_service: Run) -> None:
    """Sampler, resource and a service's name are the variables'; an argument goes before them."""
    show = (
        "provider = trace.get_tracer_provider()\n"
        "attributes = provider.resource.attributes\n"
        "print(provider.sampler.get_description(), attributes['service.name'], attributes['deployment'])"
    )
    variables = {
        **QUIET,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
        "OTEL_SERVICE_NAME": "named",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment=here,service.name=lesser",
    }
    for arguments, name in (("", "named"), ("'argued'", "argued")):
        ran = run_service(_program(arguments, after=show), variables=variables)
        assert ran.stderr == ""
        described = ran.stdout.splitlines()[-1]
        assert "TraceIdRatioBased{0.25}" in described
        assert described.endswith(f" {name} here")


def test_on_the_console(run_service: Run) -> None:
    """`console` writes to standard output: what is held when the process ends too."""
    ran = run_service(
        _program(
            after="trace.get_tracer('a').start_span('one').end(); metrics.get_meter('a').create_counter('c').add(1)"
        ),
        variables={"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert '"name": "one"' in ran.stdout
    assert '"name": "c"' in ran.stdout


def test_nobody_is_there_to_take_it(run_service: Run, free_port: Callable[[], int]) -> None:
    """Without a collector the program runs and ends as ever; what the SDK logs of it is all there is to see."""
    ran = run_service(
        _program(after="trace.get_tracer('a').start_span('one').end()"),
        variables={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    )
    assert (ran.returncode, ran.stdout) == (0, "TracerProvider MeterProvider\n")
    assert "Traceback" not in ran.stderr


def test_what_it_returns(run_service: Run) -> None:
    """Called, it ends what is open and sends what is held; where nothing was set up it does nothing."""
    before = "ended = configure('shop')\n"
    program = (
        "import os\nfrom opentelemetry import trace\nfrom tensorix_tracing import configure\n"
        + before
        + "trace.get_tracer('a').start_span('one').end()\n"
        + "ended()\nended()\nos._exit(0)"
    )
    ran = run_service(program, variables={"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"})
    assert '"name": "one"' in ran.stdout
    unsent = run_service(
        program.replace("ended()\n", ""), variables={"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    )
    assert (unsent.returncode, unsent.stdout) == (0, "")
    disabled = run_service(program, variables={"OTEL_SDK_DISABLED": "true"})
    assert (disabled.returncode, disabled.stdout, disabled.stderr) == (0, "", "")
